return {
	policy = "block",
	specs = {
		{ name = "it sleeps where nothing is listed", call = {}, expect = {} },
		{
			name = "a leaked key is refused, whatever it does",
			conf = { keys = { "sk-leaked-*", "sk-old" } },
			call = { key = "sk-leaked-7", free = true },
			expect = { "deny 403 key_blocked: API key is blocked" },
		},
		{ name = "other keys pass", conf = { keys = { "sk-leaked-*" } }, call = { key = "sk-fine" }, expect = {} },
		{
			name = "a key by its fingerprint",
			conf = { fingerprints = { "f1" } },
			call = {},
			expect = { "deny 403 key_blocked: API key is blocked" },
		},
		{
			name = "an agent by a pattern over its name",
			conf = { agents = { "crawler-*" }, users = { "eve" } },
			call = { agent = "crawler-9" },
			expect = { "deny 403 agent_blocked: agent is blocked" },
		},
		{
			name = "a tenant and a model",
			conf = { tenants = { "gone" }, models = { "*-preview" } },
			call = { model = "gpt-9-preview" },
			expect = { "deny 403 model_blocked: model is blocked" },
		},
		{
			name = "a model under any of its names",
			conf = { models = { "*opus*" } },
			call = { model = "anthropic/Claude-Opus-4.1:exacto" },
			expect = { "deny 403 model_blocked: model is blocked" },
		},
		{
			name = "a model that is chosen unseen",
			conf = { models = { "*opus*" } },
			call = { model = "openrouter/auto", any_model = true },
			expect = { "deny 403 model_blocked: model is blocked" },
		},
		{ name = "a broken pattern is refused", conf = { keys = { "sk-[" } }, call = {}, fails = "conf.keys[1] is a malformed glob" },
		{ name = "a user", conf = { users = { "eve" } }, call = { user = "eve" }, expect = { "deny 403 user_blocked: user is blocked" } },
		{
			name = "a tenant, and nobody else",
			conf = { users = { "eve" }, tenants = { "gone" } },
			call = { user = "bob", tenant = "gone" },
			expect = { "deny 403 tenant_blocked: tenant is blocked" },
		},
		{ name = "who is not listed passes", conf = { tenants = { "gone" }, models = { "*opus*" } }, call = {}, expect = {} },
	},
}
