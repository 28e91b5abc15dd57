local call = { agent = "coder", session = "run-7", history = { tool_repeats = 5 } }
local said = "the same tool call, 5 times on end: coder goes round in circles"

return {
	policy = "break-loop",
	specs = {
		{
			name = "five times the same",
			call = call,
			expect = { `deny 429 in_circles: {said}`, `alert warning agent_in_circles: {said}` },
		},
		{ name = "four times may be patience", call = with(call, { history = { tool_repeats = 4 } }), expect = {} },
		{ name = "no session, no history", call = {}, expect = {} },
		{ name = "once is no repeat", conf = { times = 1 }, call = call, fails = "conf.times is 1, below 2" },
	},
}
