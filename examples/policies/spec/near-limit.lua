local budget = "budget agent:coder day 20 usd block"
local coder = { agent = "coder" }

return {
	policy = "near-limit",
	specs = {
		{
			name = "far from the limit only what would not fit goes elsewhere",
			call = coder,
			spent = { ["agent:coder day"] = 15.99 },
			expect = { budget, "route over_budget gpt-4o-mini" },
		},
		{
			name = "near it everything does",
			call = coder,
			spent = { ["agent:coder day"] = 16 },
			expect = { budget, "route always gpt-4o-mini" },
		},
		{ name = "the cheaper model stays", call = with(coder, { model = "gpt-4o-mini" }), expect = { budget } },
	},
}
