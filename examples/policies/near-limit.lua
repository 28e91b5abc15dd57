-- Near the end of a day's budget the cheaper model answers, instead of nobody.
return {
	name = "near-limit",
	version = "1",
	schema = {
		limit = { type = "usd", default = "20" },
		share = { type = "number", default = 0.8, min = 0, max = 1, description = "of the limit, from which on" },
		cheaper = { type = "list", default = { "gpt-4o-mini" }, items = { type = "string" } },
	},
	request = function(conf, call)
		local asked = { budget({ account = "agent", window = "day", limit = conf.limit }) }
		local near = spent("agent", "day") >= conf.share * tonumber(conf.limit)
		if not table.find(conf.cheaper, call.model) then
			local when = if near then "always" else "over_budget"
			table.insert(asked, route({ alternatives = conf.cheaper, when = when }))
		end
		return asked
	end,
}
