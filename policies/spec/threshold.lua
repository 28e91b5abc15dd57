local entry = { key = "a1b2", tenant = "acme-eu", model = "claude-opus-4-6", provider = "anthropic", cost_usd = 0.5 }

local function on(account, window, limit)
	return { rules = { { account = account, window = window, limit_usd = limit } } }
end

return {
	policy = "threshold",
	specs = join({
		{ name = "it sleeps without rules", entry = entry, spent = { ["global day"] = 1000 }, expect = {} },
		{
			name = "an account that nothing is said of",
			conf = on("tenant:other-*", "day", 1),
			entry = entry,
			spent = { ["tenant:acme-eu day"] = 50 },
			expect = {},
		},
		{
			name = "a call without a tenant",
			conf = on("tenant", "day", 1),
			entry = with(entry, { tenant = "" }),
			expect = {},
		},
		{
			name = "not yet",
			conf = on("key", "month", "20.50"),
			entry = entry,
			spent = { ["key:a1b2 month"] = 20.49 },
			expect = {},
		},
		{
			name = "as severe as is said",
			conf = { rules = { { account = "global", window = "total", limit_usd = 5, severity = "critical" } } },
			entry = entry,
			spent = { ["global total"] = 5 },
			expect = { "alert critical threshold_reached: global has spent $5.00 in total: $5 is the threshold" },
		},
		{
			name = "of a day, by UTC, and of cents and less",
			conf = on("global", "day", "0.0002"),
			entry = with(entry, { at = "2026-11-29T23:30:00Z" }),
			spent = { ["global day"] = 0.00025 },
			expect = {
				"alert info threshold_reached: global has spent $0.000250 on 2026-11-29: $0.0002 is the threshold",
			},
		},
		{
			name = "of a month",
			conf = on("key", "month", 20),
			entry = with(entry, { at = "2026-11-29T23:30:00Z" }),
			spent = { ["key:a1b2 month"] = 20.5 },
			expect = { "alert info threshold_reached: key:a1b2 has spent $20.50 in 2026-11: $20 is the threshold" },
		},
		{
			name = "what cannot be counted so is refused",
			conf = on("agent", "day", 1),
			entry = entry,
			fails = "must be global, or key, tenant, model or provider",
		},
	}, each({
		{ "key", "key:a1b2" },
		{ "tenant:acme-*", "tenant:acme-eu" },
		{ "model:*opus*", "model:claude-opus-4-6" },
		{ "provider", "provider:anthropic" },
	}, function(row)
		return {
			name = `{row[1]} is counted`,
			conf = on(row[1], "total", 7),
			entry = entry,
			spent = { [`{row[2]} total`] = 7.25 },
			expect = { `alert info threshold_reached: {row[2]} has spent $7.25 in total: $7 is the threshold` },
		}
	end)),
}
