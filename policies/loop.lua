-- Agents that go round in circles, as the config section `agent` gives it (loop_threshold, loop_window_mins, loop_action).
-- Copy this file to `policies/` beside your config to change what it does.
--
-- A loop is one and the same thing done again and again within a session and a window of time, and nothing else:
--   * the same last tool calls with the same arguments, on end;
--   * the same last tool calls with the same results, or the same words, while less than half of the calls since the
--     first of them did anything that was not done before.
-- Calling the same path often is none: that is what agents do. (`by: path` in `policies.conf.loop` counts just that.)
-- Calls that run side by side count as one, and those that failed and were tried again do not count.
--
-- What agents did is remembered by keyed digests, in memory alone: no text and no digest of one is ever stored. So a restart
-- of the gateway begins each window anew: a loop that runs across one is found `threshold` calls after it. What a session
-- has called and cost in all is told by the journal, and is known after a restart.
--
--   warn    lets the call through, with a header on its answer and an alert
--   delay   holds it back, longer each time, and raises an alert
--   block   refuses it and raises an alert; so is each further one, until the window has passed

local actions = { "warn", "block", "delay" }

-- Seconds as Go writes durations: 5m0s.
local function shown(seconds)
	local hours, minutes, rest = seconds // 3600, seconds % 3600 // 60, seconds % 60
	if hours > 0 then
		return `{hours}h{minutes}m{rest}s`
	end
	return if minutes > 0 then `{minutes}m{rest}s` else `{rest}s`
end

-- Paths come from clients: what a header cannot bear must not make the policy fail.
local function header_text(text)
	return (string.gsub(string.sub(text, 1, 1000), "[^\32-\126]", "?"))
end

-- What the repeated calls cost, as far as anything is known of it.
local function spending(history)
	if history.repeats_usd <= 0 then
		return ""
	end
	local said = string.format("; $%.4f went into it", history.repeats_usd)
	if history.cost_slope >= 1.1 then
		said ..= string.format(", the last call cost %.1f times the first", history.cost_slope)
	end
	return said
end

-- The evidence, and how often; nil where there is none.
local function found(conf, call, history)
	if conf.by == "path" then
		local calls = history.path_calls
		if calls >= conf.threshold then
			return `path "{call.path}" called {calls} times in {shown(history.window_s)}`, calls, ""
		end
		return nil
	end
	-- Once is no repeat, whatever the threshold.
	local enough = math.max(conf.threshold, 2)
	local repeats, in_a_row = history.repeats, if conf.changed_results == "loop" then history.tool_repeats else 0
	-- Most calls repeat nothing: they are asked no more.
	if repeats >= enough and history.distinct * 2 > history.stretch then
		repeats = 1
	end
	local times = math.max(repeats, in_a_row)
	if times < enough then
		return nil
	end
	local within = shown(history.window_s)
	local what = if in_a_row >= repeats
		then `the same tool call with the same arguments, {times} times on end within {within}`
		elseif history.tool_repeats > 0 then `the same tool call with the same result, {times} times in {within}`
		else `the same request, {times} times in {within}`
	return what, times, spending(history)
end

return {
	name = "loop",
	version = "1",
	priority = 20,
	description = "finds agents that repeat themselves without progress",
	schema = {
		threshold = { type = "integer", default = 0, min = 0, description = "the call that is one too many; 0 is off" },
		window_mins = { type = "integer", default = 5, min = 1, description = "how far back it looks" },
		action = { type = "string", default = "warn", one_of = actions },
		by = {
			type = "string",
			default = "content",
			one_of = { "content", "path" },
			description = "what is compared: what the agent does, or the path alone",
		},
		changed_results = {
			type = "string",
			default = "loop",
			one_of = { "loop", "progress" },
			description = "what it is when the same tool call is repeated and its results change: polling, say",
		},
	},

	setup = function(conf)
		return conf.threshold > 0
	end,

	request = function(conf, call)
		local history = call.history
		if history == nil then
			return nil
		end
		local what, times, more = found(conf, call, history)
		if what == nil then
			return nil
		end
		local message = `loop detected: {what} (threshold: {conf.threshold}){more}`
		local told = alert({
			type = "loop_detected",
			severity = "warning",
			message = message,
			details = { session_id = call.session, agent_id = call.agent },
			about = call.session,
		})
		if conf.action == "block" then
			return { told, deny({ status = 429, code = "loop_detected", message = message }) }
		end
		local warning = header({ name = "X-AgentLedger-Loop-Warning", value = header_text(message) })
		if conf.action == "delay" then
			-- A second, then twice as long with each further repeat.
			return { told, warning, delay({ seconds = math.min(2 ^ (times - conf.threshold), 30) }) }
		end
		return { told, warning }
	end,
}
