local on = { max_age_mins = 60, min_calls = 50, min_cost_usd = "1.0" }

local function session(fields)
	local event = {
		kind = "session",
		status = "active",
		session = "s1",
		agent = "coder",
		age_s = 3900,
		calls = 53,
		cost_usd = "1.338250001",
	}
	for name, value in fields do
		event[name] = value
	end
	return event
end

return {
	policy = "ghost",
	specs = {
		{ name = "it sleeps without an age", event = session({}), expect = {} },
		{
			name = "old, busy and dear",
			conf = on,
			event = session({}),
			expect = { "alert critical ghost_detected: session active 1h5m0s, 53 calls, $1.34 spent" },
		},
		{ name = "young", conf = on, event = session({ age_s = 3599 }), expect = {} },
		{ name = "idle", conf = on, event = session({ calls = 49 }), expect = {} },
		{ name = "cheap", conf = on, event = session({ cost_usd = "0.999999999" }), expect = {} },
		{ name = "over", conf = on, event = session({ status = "completed" }), expect = {} },
		{ name = "something else", conf = on, event = { kind = "budget", state = "reached" }, expect = {} },
		{
			name = "for minutes only",
			conf = { max_age_mins = 10 },
			event = session({ age_s = 605 }),
			expect = { "alert critical ghost_detected: session active 10m5s, 53 calls, $1.34 spent" },
		},
	},
}
