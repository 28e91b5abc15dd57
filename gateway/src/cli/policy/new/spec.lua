-- What my-policy is to say: `agentledger policy test` asks it, and compares the verdict in words, whole and in order.
-- What a call does not say is as on an ordinary one; `spent` and `held` say how accounts stand.

return {
	policy = "my-policy",
	specs = {
		{
			name = "each agent has a budget for the day",
			call = { agent = "coder" },
			expect = { "budget agent:coder day 5 usd block" },
		},
		{
			name = "near its end the cheaper model is taken",
			conf = { limit = "10.00" },
			call = { agent = "coder" },
			spent = { ["agent:coder day"] = 8 },
			expect = { "budget agent:coder day 10 usd block", "route always gpt-4o-mini" },
		},
		{
			name = "who says no name is refused",
			call = { agent = "" },
			expect = { "deny 400 agent_missing: say who you are: send X-Agent-Id" },
		},
		{
			name = "a limit that is no number is refused",
			conf = { limit = "much" },
			call = { agent = "coder" },
			fails = "conf.limit",
		},
	},
}
