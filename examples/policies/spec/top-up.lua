local conf = { limit = "100.10", extra = "0.20", till = "2026-03-15T18:00:00Z" }

return {
	policy = "top-up",
	specs = {
		{
			name = "while it lasts",
			conf = conf,
			call = { tenant = "acme", at = "2026-03-15T17:59:59Z" },
			expect = { "budget tenant:acme month 100.3 usd block" },
		},
		{
			name = "from its end on",
			conf = conf,
			call = { tenant = "acme", at = "2026-03-15T18:00:00Z" },
			expect = { "budget tenant:acme month 100.1 usd block" },
		},
	},
}
