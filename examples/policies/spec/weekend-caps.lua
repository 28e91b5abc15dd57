return {
	policy = "weekend-caps",
	specs = {
		{
			name = "on a Friday",
			call = { at = "2026-03-06T12:00:00Z" },
			expect = { "budget key:f1 day 50 usd block" },
		},
		{
			name = "on a Saturday",
			call = { at = "2026-03-07T00:00:00Z" },
			expect = { "budget key:f1 day 5 usd block" },
		},
		{
			name = "when it is Saturday already in Tokyo",
			conf = { zone = "Asia/Tokyo" },
			call = { at = "2026-03-06T15:00:00Z" },
			expect = { "budget key:f1 day 5 usd block zone Asia/Tokyo" },
		},
	},
}
