-- my-policy: a daily budget for each agent, and a cheaper model when most of it is spent.
--
-- A policy is a table of pure functions: facts of the call go in, what is asked for comes out. What there is to ask for:
-- deny, budget, rate, parallel, clamp, route, delay, tag, header, alert, unpriced, bind, allow (sdk/lua/agentledger.d.luau).

return {
	name = "my-policy",
	version = "1",
	description = "a daily budget for each agent",

	-- What the configuration may say under policies.conf.my-policy; the types are checked, the defaults filled in.
	schema = {
		limit = { type = "usd", default = "5.00", description = "USD for each agent and day" },
		cheaper = { type = "string", default = "gpt-4o-mini" },
		from = { type = "number", default = 0.8, min = 0, max = 1, description = "share of the limit from which on" },
	},

	request = function(conf, call)
		if call.agent == "" then
			return deny({ status = 400, code = "agent_missing", message = "say who you are: send X-Agent-Id" })
		end
		local asked = { budget({ account = "agent", window = "day", limit = conf.limit }) }
		if spent("agent", "day") >= conf.from * tonumber(conf.limit) then
			table.insert(asked, route({ alternatives = { conf.cheaper } }))
		end
		return asked
	end,
}
