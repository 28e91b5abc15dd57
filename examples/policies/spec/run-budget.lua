return {
	policy = "run-budget",
	specs = {
		{
			name = "a run has its own budget",
			call = { session = "run-7" },
			expect = { "budget session:run-7 total 2 usd block soft 0.8" },
		},
		{
			name = "without a run it is the agent's, by day",
			conf = { limit = "5.50" },
			call = { agent = "coder" },
			expect = { "budget agent:coder day 5.5 usd block" },
		},
	},
}
