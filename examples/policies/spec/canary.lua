return {
	policy = "canary",
	specs = {
		{
			name = "a session of the share",
			call = { session = "run-7" },
			expect = { "route always gpt-5.1", "tag canary=gpt-5.1" },
		},
		{ name = "a session of the rest", call = { session = "a" }, expect = {} },
		{ name = "a call without a session", conf = { percent = 99 }, call = { session = "" }, expect = {} },
		{ name = "another model is left alone", conf = { percent = 100 }, call = { model = "o3" }, expect = {} },
		{ name = "none at all", conf = { percent = 0 }, call = { session = "run-7" }, expect = {} },
	},
}
