local conf = { teams = { web = { "gpt-4o-mini", "claude-*" } } }

return {
	policy = "team-models",
	specs = {
		{ name = "on the list", conf = conf, call = { model = "claude-haiku-4-5", tags = { team = "web" } }, expect = {} },
		{
			name = "not on the list",
			conf = conf,
			call = { model = "gpt-4o", tags = { team = "web" } },
			expect = { "deny 403 model_not_allowed: team web may not use gpt-4o" },
		},
		{
			name = "no team, no model",
			conf = conf,
			call = {},
			expect = { "deny 403 model_not_allowed: team (none) may not use gpt-4o" },
		},
		{
			name = "a router may choose anything",
			conf = conf,
			call = { model = "claude-auto", any_model = true, tags = { team = "web" } },
			expect = { "deny 403 model_not_allowed: team web may not use claude-auto" },
		},
		{ name = "a list of models costs nothing", conf = conf, call = { free = true }, expect = {} },
	},
}
