local version = {
	kind = "version",
	state = "rolled_back",
	policy = "p",
	version = "5f0c7d1b34a9aaaa",
	message = "policy p: version 5f0c7d1b34a9 is rolled back",
	calls = 20,
	failures = 20,
	in_force = "",
}
local drift = {
	kind = "drift",
	provider = "openrouter",
	model = "gpt-4o",
	entry = "01",
	cost_usd = "0.010000",
	reported_usd = "0.0125",
	share = 0.2,
}
local hold = {
	kind = "hold",
	hold = "7",
	provider = "openai",
	model = "gpt-4o",
	usd = "1.5",
	age_s = 1800,
	key = "f1",
	agent = "coder",
	session = "s1",
}
local burn = {
	kind = "burn",
	account = "key:f1",
	window = "month",
	ends = "on the 19th",
	ends_at = "2026-03-19T08:00:00Z",
	rate = 2.4,
	spent = "1000",
	limit = "3000",
}

local function with(event, fields)
	local copy = table.clone(event)
	for name, value in fields do
		copy[name] = value
	end
	return copy
end

return {
	policy = "alert",
	specs = {
		{
			name = "a breaker opens",
			event = { kind = "breaker", provider = "openai", state = "open", failures = 5, timeout_s = 30 },
			expect = { "alert critical circuit_open: openai: the circuit breaker is open; calls are refused for 30 s" },
		},
		{
			name = "a policy fails",
			event = { kind = "policy", policy = "mine", cause = "error", message = "mine.lua:3: oops" },
			expect = { "alert critical policy_error: policy mine failed: mine.lua:3: oops" },
		},
		{
			name = "a version is rolled back",
			event = version,
			expect = { "alert critical policy_rolled_back: policy p: version 5f0c7d1b34a9 is rolled back" },
		},
		{
			name = "a version is refused",
			event = with(version, { state = "refused", message = "version 5f0c7d1b34a9 of the policy p is refused" }),
			expect = { "alert critical policy_version_refused: version 5f0c7d1b34a9 of the policy p is refused" },
		},
		{
			name = "a version does not come into force after its time in shadow",
			event = with(version, { state = "not_activated", message = "it stays in shadow" }),
			expect = { "alert critical policy_not_activated: it stays in shadow" },
		},
		{
			name = "conf turns what becomes of versions down, or off",
			conf = { severities = { { type = "policy_rolled_back", severity = "info" } } },
			event = version,
			expect = { "alert info policy_rolled_back: policy p: version 5f0c7d1b34a9 is rolled back" },
		},
		{ name = "and off", conf = { off = { "policy_rolled_back" } }, event = version, expect = {} },
		{
			name = "a plugin fails",
			event = { kind = "plugin", plugin = "openai", provider = "groq", count = 2 },
			expect = {
				"alert warning plugin_error: plugin openai failed on an answer of groq: what was held is entered, as an estimate",
			},
		},
		{
			name = "a model without a price",
			event = { kind = "unpriced", provider = "openai", model = "gpt-99", row = "gpt-5", reason = "family_price" },
			expect = {
				"alert warning unpriced_model: openai gpt-99: no price is known; it is billed as gpt-5, as an estimate (family_price)",
			},
		},
		{
			name = "a reported cost that differs",
			event = drift,
			expect = {
				"alert warning price_drift: openrouter gpt-4o: a call costs $0.010000 by our prices, $0.012500 as it reports: 20.0 % apart",
			},
		},
		{ name = "a reported cost that hardly differs", event = with(drift, { share = 0.019 }), expect = {} },
		{
			name = "the ledger stops",
			event = { kind = "ledger", state = "stopped", message = "it was closed" },
			expect = { "alert critical ledger_fault: the ledger: it was closed" },
		},
		{
			name = "a hold is stuck",
			event = hold,
			expect = { "alert warning hold_stuck: a hold of $1.50 for openai gpt-4o is open for 30 minutes" },
		},
		{ name = "a hold is young", event = with(hold, { age_s = 1799 }), expect = {} },
		{ name = "no hold is ever stuck", conf = { hold_stuck_mins = 0 }, event = hold, expect = {} },
		{
			name = "a budget burns",
			event = burn,
			expect = { "alert warning burn_rate: API key f1: at this pace the month's budget ends on the 19th" },
		},
		{
			name = "a tenant's budget burns",
			event = with(burn, { account = "tenant:acme" }),
			expect = { "alert warning burn_rate: tenant:acme: at this pace the month's budget ends on the 19th" },
		},
		{ name = "a budget burns slowly", event = with(burn, { rate = 1.9 }), expect = {} },
		{
			name = "a type that is off",
			conf = { off = { "burn_rate" } },
			event = burn,
			expect = {},
		},
		{
			name = "another severity",
			conf = { severities = { { type = "hold_stuck", severity = "critical" } } },
			event = hold,
			expect = { "alert critical hold_stuck: a hold of $1.50 for openai gpt-4o is open for 30 minutes" },
		},
		{ name = "what is another policy's", event = { kind = "budget", state = "reached" }, expect = {} },
	},
}
