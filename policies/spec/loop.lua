local on = { threshold = 8 }
local tool = { session = "s1", agent = "coder", history = { repeats = 8, tool_repeats = 8, stretch = 8, distinct = 1 } }
local said = "loop detected: the same tool call with the same arguments, 8 times on end within 5m0s (threshold: 8)"
local warning = "header x-agentledger-loop-warning: "

return {
	policy = "loop",
	specs = {
		{ name = "it sleeps without a threshold", call = tool, expect = {} },
		{ name = "a call without a session repeats nothing", conf = on, call = {}, expect = {} },
		{
			name = "the eighth time is warned of, with the evidence",
			conf = on,
			call = tool,
			expect = { warning .. said, "alert warning loop_detected: " .. said },
		},
		{
			name = "the seventh is none",
			conf = on,
			call = { session = "s1", history = { repeats = 7, tool_repeats = 7, stretch = 7, distinct = 1 } },
			expect = {},
		},
		{
			name = "blocked, and told what it cost",
			conf = { threshold = 8, action = "block" },
			call = {
				session = "s1",
				history = {
					repeats = 9,
					tool_repeats = 9,
					stretch = 9,
					distinct = 1,
					repeats_usd = 0.42,
					cost_slope = 1.8,
				},
			},
			expect = {
				"deny 429 loop_detected: loop detected: the same tool call with the same arguments, 9 times on end within 5m0s"
					.. " (threshold: 8); $0.4200 went into it, the last call cost 1.8 times the first",
				"alert warning loop_detected: loop detected: the same tool call with the same arguments, 9 times on end"
					.. " within 5m0s (threshold: 8); $0.4200 went into it, the last call cost 1.8 times the first",
			},
		},
		{
			name = "held back, longer each time",
			conf = { threshold = 8, action = "delay" },
			call = { session = "s1", history = { repeats = 10, stretch = 10, distinct = 1 } },
			expect = {
				"delay 4 s",
				warning .. "loop detected: the same request, 10 times in 5m0s (threshold: 8)",
				"alert warning loop_detected: loop detected: the same request, 10 times in 5m0s (threshold: 8)",
			},
		},
		{
			name = "the same look again between other work is progress",
			conf = on,
			call = { session = "s1", history = { repeats = 10, tool_repeats = 1, stretch = 37, distinct = 28 } },
			expect = {},
		},
		{
			name = "polling is a loop unless one says otherwise",
			conf = { threshold = 8, changed_results = "progress" },
			call = { session = "s1", history = { repeats = 1, tool_repeats = 12, stretch = 1, distinct = 1 } },
			expect = {},
		},
		{
			name = "once is no repeat, whatever the threshold",
			conf = { threshold = 1 },
			call = { session = "s1", history = { repeats = 1, tool_repeats = 1, stretch = 1, distinct = 1 } },
			expect = {},
		},
		{
			name = "by path it counts what the original counted",
			conf = { threshold = 20, action = "block", by = "path" },
			call = { session = "s1", history = { repeats = 1, stretch = 1, distinct = 1, path_calls = 21 } },
			expect = {
				'deny 429 loop_detected: loop detected: path "/v1/chat/completions" called 21 times in 5m0s (threshold: 20)',
				'alert warning loop_detected: loop detected: path "/v1/chat/completions" called 21 times in 5m0s (threshold: 20)',
			},
		},
		{
			name = "an action that is none is refused",
			conf = { threshold = 8, action = "shout" },
			call = {},
			fails = "conf.action",
		},
		{
			name = "by path, fewer calls are none",
			conf = { threshold = 20, by = "path" },
			call = { session = "s1", history = { path_calls = 19 } },
			expect = {},
		},
		{
			name = "the same result again, at a price that does not rise",
			conf = on,
			call = { session = "s1", history = { repeats = 8, tool_repeats = 1, stretch = 8, distinct = 1, repeats_usd = 0.5, window_s = 3900 } },
			expect = {
				warning .. "loop detected: the same tool call with the same result, 8 times in 1h5m0s (threshold: 8); $0.5000 went into it",
				"alert warning loop_detected: loop detected: the same tool call with the same result, 8 times in 1h5m0s (threshold: 8); $0.5000 went into it",
			},
		},
		{
			name = "within seconds",
			conf = { threshold = 2, by = "path", action = "block" },
			call = { session = "s1", history = { path_calls = 2, window_s = 30 } },
			expect = {
				'deny 429 loop_detected: loop detected: path "/v1/chat/completions" called 2 times in 30s (threshold: 2)',
				'alert warning loop_detected: loop detected: path "/v1/chat/completions" called 2 times in 30s (threshold: 2)',
			},
		},
	},
}
