-- Noon of the 11th: ten days and a half have gone.
local call = { at = "2026-03-11T12:00:00Z" }

return {
	policy = "burn-alert",
	specs = {
		{
			name = "too fast",
			call = call,
			spent = { ["global month"] = 600 },
			expect = { "alert warning burning_fast: $600.00 of $1000 spent: at this pace it ends on day 18" },
		},
		{ name = "in time", call = call, spent = { ["global month"] = 300 }, expect = {} },
		{ name = "hardly anything is spent", call = call, spent = { ["global month"] = 100 }, expect = {} },
		{
			name = "the first day says nothing yet",
			call = { at = "2026-03-01T20:00:00Z" },
			spent = { ["global month"] = 600 },
			expect = {},
		},
	},
}
