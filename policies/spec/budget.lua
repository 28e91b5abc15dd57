local contract = {
	default = { daily_limit_usd = "50", monthly_limit_usd = "500", soft_limit_pct = 0.8, action = "block" },
	rules = {
		{ api_key_pattern = "sk-dev-*", daily_limit_usd = "5" },
		{ tenant_id = "acme", monthly_limit_usd = "1000", action = "warn" },
	},
	global = { monthly_limit_usd = "9000" },
}

return {
	policy = "budget",
	specs = {
		{ name = "it sleeps without limits", call = {}, expect = {} },
		{
			name = "the config section: keys, tenants, everything together",
			conf = contract,
			call = { key = "sk-dev-1", tenant = "acme" },
			expect = {
				"budget key:f1 day 5 usd block soft 0.8",
				"budget key:f1 month 500 usd block soft 0.8",
				"budget tenant:acme month 1000 usd warn soft 0.8",
				"budget global month 9000 usd block soft 0.8",
			},
		},
		{
			name = "a run's budget within its team's within the company's",
			conf = {
				limits = {
					{ account = "session", window = "total", limit = 2 },
					{ account = "tag:team=ml", window = "month", limit = 300, soft = { 0.8, 0.9, 1.0 } },
					{ account = "global", window = "month", limit = 5000 },
				},
			},
			call = { session = "run-7", tags = { team = "ml" } },
			expect = {
				"budget session:run-7 total 2 usd block",
				"budget tag:team=ml month 300 usd block soft 0.8,0.9,1",
				"budget global month 5000 usd block",
			},
		},
		{
			name = "any unit, any window: tokens a minute, requests a day",
			conf = {
				limits = {
					{ account = "agent", window = "minute", limit = 100000, unit = "tokens", action = "clamp" },
					{ account = "model", window = "day", limit = 500, unit = "requests", action = "warn" },
				},
			},
			call = { agent = "coder" },
			expect = {
				"budget agent:coder minute 100000 tokens clamp",
				"budget model:gpt-4o day 500 requests warn",
			},
		},
		{
			name = "of a kind's accounts the first that fits counts, the kind alone last",
			conf = {
				limits = {
					{ account = "agent", window = "day", limit = 1 },
					{ account = "agent:ci-*", window = "day", limit = 10 },
					{ account = "agent:ci-nightly", window = "day", limit = 99 },
				},
			},
			call = { agent = "ci-nightly" },
			expect = { "budget agent:ci-nightly day 10 usd block" },
		},
		{
			name = "those who say no agent share one budget",
			conf = { limits = { { account = "agent", window = "day", limit = 1 } } },
			call = {},
			expect = { "budget agent: day 1 usd block" },
		},
		{
			name = "a top-up raises a limit while it lasts, exactly",
			conf = {
				limits = { { account = "tenant", window = "month", limit = "100.1" } },
				top_ups = {
					{ account = "tenant:acme", amount = "0.2", ["until"] = "2026-03-02" },
					{ account = "tenant:acme", amount = "50", from = "2026-02-01", ["until"] = "2026-04-01" },
				},
			},
			call = { tenant = "acme", at = "2026-03-01T23:59:59Z" },
			expect = { "budget tenant:acme month 150.3 usd block" },
		},
		{
			name = "and no longer",
			conf = {
				limits = { { account = "tenant", window = "month", limit = "100.1" } },
				top_ups = { { account = "tenant:acme", amount = "0.2", ["until"] = "2026-03-02" } },
			},
			call = { tenant = "acme", at = "2026-03-02T00:00:00Z" },
			expect = { "budget tenant:acme month 100.1 usd block" },
		},
		{
			name = "a top-up on a rule of the config section",
			conf = {
				rules = contract.rules,
				top_ups = { { api_key_pattern = "sk-dev-*", amount = 1, window = "day", ["until"] = "2027-01-01" } },
			},
			call = { key = "sk-dev-1" },
			expect = { "budget key:f1 day 6 usd warn" },
		},
		{
			name = "a top-up of one key raises what holds for it by default",
			conf = {
				default = contract.default,
				top_ups = {
					{ account = "key:f1", amount = "0.25", window = "day", ["until"] = "2026-03-02" },
					{ account = "key:f1", amount = 7, from = "2026-03-02", ["until"] = "2026-03-03" },
					{ account = "key:f1", amount = 7, unit = "tokens", ["until"] = "2026-03-02" },
					{ account = "key:f2", amount = 9, ["until"] = "2026-03-02" },
					{ account = "key", amount = 1, ["until"] = "2026-03-02" },
				},
			},
			call = {},
			expect = { "budget key:f1 day 51.25 usd block soft 0.8", "budget key:f1 month 501 usd block soft 0.8" },
		},
		{
			name = "and what a rule sets for it, and its limits",
			conf = {
				rules = contract.rules,
				limits = { { account = "key", window = "week", limit = 20 } },
				top_ups = { { account = "key:f1", amount = 2, ["until"] = "2026-03-02" } },
			},
			call = { key = "sk-dev-1" },
			expect = { "budget key:f1 day 7 usd warn", "budget key:f1 week 22 usd block" },
		},
		{
			name = "downgrade names the alternatives, for when the budget is used up",
			conf = {
				limits = { { account = "agent", window = "day", limit = 1, action = "downgrade" } },
				alternatives = { { model = "gpt-4o*", to = { "gpt-4o-mini", "gpt-4.1-nano" } } },
			},
			call = { agent = "coder" },
			expect = {
				"budget agent:coder day 1 usd block",
				"route over_budget gpt-4o-mini, gpt-4.1-nano",
			},
		},
		{
			name = "a model without a price, by choice",
			conf = { unpriced = "default_price", default_price = { input = "0.5", output = 2 } },
			call = { priced = false },
			expect = { "unpriced input 0.5 output 2" },
		},
		{ name = "one with a price is not concerned", conf = { unpriced = "refuse" }, call = {}, expect = {} },
		{
			name = "what costs nothing is not counted",
			conf = contract,
			call = { free = true },
			expect = {},
		},
		{
			name = "an alert in the contract's words",
			conf = contract,
			event = {
				kind = "budget", state = "reached", share = 0.8, account = "key:f1", key = "f1", window = "day",
				unit = "usd", spent = "40.5", limit = "50",
			},
			expect = { "alert warning budget_warning: API key f1 approaching budget limit" },
		},
		{
			name = "and one when it is used up",
			conf = contract,
			event = {
				kind = "budget", state = "exceeded", share = 1, account = "global", key = "f1", window = "month",
				unit = "usd", spent = "9001", limit = "9000",
			},
			expect = { "alert critical budget_exceeded: global exceeded budget limit" },
		},
		{
			name = "fields that do not go together are refused by their key",
			conf = { limits = { { account = "agent", window = "day", limit = 1, action = "downgrade" } } },
			call = {},
			fails = "conf.limits[1].action is downgrade, and there are no alternatives",
		},
		{
			name = "half a request is no limit",
			conf = { limits = { { account = "agent", window = "day", limit = 1.5, unit = "requests" } } },
			call = {},
			fails = "conf.limits[1].limit must be a whole number of requests",
		},
		{
			name = "nor is less than nothing",
			conf = { limits = { { account = "agent", window = "day", limit = -1 } } },
			call = {},
			fails = "conf.limits[1].limit is negative",
		},
		{
			name = "each team, models by pattern, a key by its fingerprint",
			conf = {
				limits = {
					{ account = "tag:team", window = "day", limit = 1 },
					{ account = "model:gpt-4*", window = "day", limit = 2 },
					{ account = "key:f1", window = "day", limit = 3 },
				},
			},
			call = { tags = { team = "ml" } },
			expect = {
				"budget tag:team=ml day 1 usd block",
				"budget model:gpt-4o day 2 usd block",
				"budget key:f1 day 3 usd block",
			},
		},
		{
			name = "who is none of those that are named has no limit of theirs",
			conf = {
				limits = {
					{ account = "agent:ci-*", window = "day", limit = 1 },
					{ account = "tag:team=ml", window = "day", limit = 1 },
				},
			},
			call = { agent = "coder" },
			expect = {},
		},
		{
			name = "two limits of one account hold both",
			conf = {
				limits = { { account = "agent", window = "day", limit = 1 }, { account = "agent", window = "month", limit = 9 } },
			},
			call = { agent = "coder" },
			expect = { "budget agent:coder day 1 usd block", "budget agent:coder month 9 usd block" },
		},
		{
			name = "rules that set no limit",
			conf = { rules = { { tenant_id = "acme" }, { api_key_pattern = "sk-free-*" } }, global = { daily_limit_usd = 7 } },
			call = { key = "sk-free-1", tenant = "acme" },
			expect = { "budget global day 7 usd warn" },
		},
		{
			name = "a top-up for one of many, for as long as it lasts",
			conf = {
				limits = { { account = "agent:ci-*", window = "day", limit = 10 } },
				top_ups = {
					{ account = "agent:ci-1", amount = 5, ["until"] = "2026-03-02" },
					{ account = "agent:ci-1", amount = 7, from = "2026-06-01", ["until"] = "2026-06-02" },
					{ account = "agent:ci-2", amount = 6, ["until"] = "2026-03-02" },
					{ account = "agent:coder", amount = 6, ["until"] = "2026-03-02" },
					{ account = "agent:ci-*", amount = 1, ["until"] = "2026-03-02" },
					{ account = "tenant:acme", amount = 6, ["until"] = "2026-03-02" },
				},
			},
			call = { agent = "ci-1" },
			expect = { "budget agent:ci-1 day 15 usd block" },
		},
		{
			name = "a model without an alternative stays",
			conf = {
				limits = { { account = "agent", window = "day", limit = 1, action = "downgrade" } },
				alternatives = { { model = "o3", to = { "o4-mini" } } },
			},
			call = { agent = "coder" },
			expect = { "budget agent:coder day 1 usd block" },
		},
		{
			name = "an alert of other windows and units says them as they are",
			conf = contract,
			event = {
				kind = "budget", state = "reached", share = 0.8, account = "agent:ci", key = "f1", window = "week",
				unit = "tokens", spent = "80", limit = "100",
			},
			expect = { "alert warning budget_warning: agent:ci approaching budget limit" },
		},
		{ name = "other events are no concern of budgets", conf = contract, event = { kind = "session" }, expect = {} },
		{
			name = "an account that is none is refused",
			conf = { limits = { { account = "pet:rex", window = "day", limit = 1 } } },
			call = {},
			fails = "conf.limits[1].account must be global, or a kind",
		},
		{
			name = "requests cannot be clamped",
			conf = { limits = { { account = "agent", window = "day", limit = 1, unit = "requests", action = "clamp" } } },
			call = {},
			fails = "conf.limits[1].action cannot clamp a count of requests",
		},
		{
			name = "a top-up of nobody is refused",
			conf = { top_ups = { { amount = 1, ["until"] = "2026-03-02" } } },
			call = {},
			fails = "conf.top_ups[1] needs an account or an api_key_pattern, not both",
		},
		{
			name = "a top-up that ends before it begins is refused",
			conf = { top_ups = { { account = "agent", amount = 1, from = "2026-03-03", ["until"] = "2026-03-02" } } },
			call = {},
			fails = "conf.top_ups[1].until is not after from",
		},
		{
			name = "a default price that is not there is refused",
			conf = { unpriced = "default_price" },
			call = {},
			fails = "conf.default_price and unpriced = default_price need each other",
		},
	},
}
