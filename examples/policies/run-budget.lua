-- A run (a session) may cost so much in all; an agent that names no run, so much a day.
return {
	name = "run-budget",
	version = "1",
	schema = {
		limit = { type = "usd", default = "2.00", description = "USD for each run" },
	},
	request = function(conf, call)
		if call.session == "" then
			return budget({ account = "agent", window = "day", limit = conf.limit })
		end
		return budget({ account = "session", window = "total", limit = conf.limit, soft = 0.8 })
	end,
}
