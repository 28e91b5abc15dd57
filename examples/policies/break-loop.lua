-- An agent that makes the same tool call again and again is stopped, and somebody is told.
return {
	name = "break-loop",
	version = "1",
	schema = {
		times = { type = "integer", default = 5, min = 2 },
	},
	request = function(conf, call)
		local history = call.history
		if history == nil or history.tool_repeats < conf.times then
			return nil
		end
		local message = `the same tool call, {history.tool_repeats} times on end: {call.agent} goes round in circles`
		return {
			alert({ type = "agent_in_circles", message = message, about = call.session }),
			deny({ status = 429, code = "in_circles", message = message }),
		}
	end,
}
