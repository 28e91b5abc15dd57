return {
	policy = "rate_limit",
	specs = {
		{ name = "it sleeps without rates", call = {}, expect = {} },
		{
			name = "the default holds for each key",
			conf = { default = { requests_per_minute = 60, requests_per_hour = 1000 } },
			call = {},
			expect = { "rate key:f1 60 requests/minute", "rate key:f1 1000 requests/hour" },
		},
		{
			name = "the first rule that matches counts, and the default fills in",
			conf = {
				default = { requests_per_minute = 60, requests_per_hour = 1000 },
				rules = {
					{ api_key_pattern = "sk-dev-*", requests_per_minute = 5, requests_per_hour = 0 },
					{ api_key_pattern = "sk-*", requests_per_minute = 1 },
				},
			},
			call = { key = "sk-dev-1" },
			expect = { "rate key:f1 5 requests/minute", "rate key:f1 1000 requests/hour" },
		},
		{
			name = "tokens, requests at one time, and other accounts",
			conf = {
				default = { tokens_per_minute = 100000, parallel = 4 },
				limits = {
					{ account = "tag:team", requests_per_second = 10 },
					{ account = "global", requests_per_day = 100000 },
				},
			},
			call = { tags = { team = "ml" } },
			expect = {
				"rate key:f1 100000 tokens/minute",
				"rate tag:team=ml 10 requests/second",
				"rate global 100000 requests/day",
				"parallel key:f1 4",
			},
		},
		{
			name = "a negative rate is refused",
			conf = { default = { requests_per_minute = -1 } },
			call = {},
			fails = "conf.default.requests_per_minute is -1, below 0",
		},
		{
			name = "an account that is none is refused",
			conf = { limits = { { account = "pet:rex", requests_per_day = 1 } } },
			call = {},
			fails = "conf.limits[1].account must be global, or a kind",
		},
		{
			name = "of one kind the first account that fits counts, and all that are said of it",
			conf = {
				limits = {
					{ account = "agent", requests_per_day = 1 },
					{ account = "agent:ci-*", requests_per_day = 2 },
					{ account = "agent:ci-*", requests_per_hour = 3 },
					{ account = "agent:ci-1", requests_per_day = 4 },
					{ account = "tenant:acme", requests_per_day = 5 },
				},
			},
			call = { agent = "ci-1", tenant = "globex" },
			expect = { "rate agent:ci-1 2 requests/day", "rate agent:ci-1 3 requests/hour" },
		},
		{
			name = "the kind alone holds for all others, and one tenant's for nobody else",
			conf = {
				limits = {
					{ account = "agent", requests_per_day = 1 },
					{ account = "agent:ci-*", requests_per_day = 2 },
					{ account = "tenant:acme", parallel = 5 },
					{ account = "tag:team=ml", parallel = 6 },
				},
			},
			call = { agent = "coder", tenant = "acme", tags = { team = "ml" } },
			expect = {
				"rate agent:coder 1 requests/day",
				"parallel tenant:acme 5",
				"parallel tag:team=ml 6",
			},
		},
		{
			name = "a limit that says no rate is none",
			conf = { limits = { { account = "agent" }, { account = "agent:ci-*", parallel = 0 } } },
			call = { agent = "ci-1" },
			expect = {},
		},
		{
			name = "a rule without a pattern, a key by its fingerprint, models by pattern, and a tag that was not sent",
			conf = {
				rules = { { requests_per_day = 9 } },
				limits = {
					{ account = "key:f1", requests_per_day = 7 },
					{ account = "model:gpt-4*", requests_per_day = 7 },
					{ account = "tag:team=ml", requests_per_day = 7 },
					{ account = "agent" },
				},
			},
			call = { key = "" },
			expect = { "rate key:f1 7 requests/day", "rate model:gpt-4o 7 requests/day" },
		},
	},
}
