-- Sessions grown old, busy and dear, as the config section `agent` gives them (ghost_max_age_mins, ghost_min_calls,
-- ghost_min_cost_usd): an agent that nobody looks after any more. All three must be reached while the session is active. The
-- gateway shows each active session now and then, whether or not a call comes, and never again once it raised an alert.

-- Seconds as Go writes durations: 1h5m0s.
local function shown(seconds)
	local hours, minutes, rest = seconds // 3600, seconds % 3600 // 60, seconds % 60
	if hours > 0 then
		return `{hours}h{minutes}m{rest}s`
	end
	return if minutes > 0 then `{minutes}m{rest}s` else `{rest}s`
end

return {
	name = "ghost",
	version = "1",
	priority = 90,
	description = "finds sessions that have run for long, called often and cost much",
	events = { "session" },
	schema = {
		max_age_mins = { type = "integer", default = 0, min = 0, description = "age from which on; 0 is off" },
		min_calls = { type = "integer", default = 50, min = 0 },
		min_cost_usd = { type = "usd", default = "1" },
	},

	setup = function(conf)
		return conf.max_age_mins > 0
	end,

	alert = function(conf, event)
		if event.kind ~= "session" or event.status ~= "active" then
			return nil
		end
		local cost = tonumber(event.cost_usd)
		local is_old = event.age_s >= conf.max_age_mins * 60
		if not is_old or event.calls < conf.min_calls or cost < tonumber(conf.min_cost_usd) then
			return nil
		end
		return alert({
			type = "ghost_detected",
			severity = "critical",
			message = string.format("session active %s, %d calls, $%.2f spent", shown(event.age_s), event.calls, cost),
			details = { session_id = event.session, agent_id = event.agent },
			about = event.session,
		})
	end,
}
