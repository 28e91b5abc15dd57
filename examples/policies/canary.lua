-- A new model answers a share of the sessions. One session stays with one model: its name decides, not chance. A call without a
-- session stays with the old one.
return {
	name = "canary",
	version = "1",
	schema = {
		model = { type = "string", default = "gpt-4o" },
		canary = { type = "string", default = "gpt-5.1" },
		percent = { type = "integer", default = 5, min = 0, max = 100 },
	},
	request = function(conf, call)
		if call.model ~= conf.model or call.session == "" then
			return nil
		end
		local place = 0
		for at = 1, #call.session do
			place = (place * 31 + string.byte(call.session, at)) % 100
		end
		if place >= conf.percent then
			return nil
		end
		return { route({ alternatives = { conf.canary } }), tag({ name = "canary", value = conf.canary }) }
	end,
}
