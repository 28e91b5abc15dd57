local mapped = {
	enabled = true,
	key_mappings = {
		{ api_key_pattern = "sk-acme-*", tenant_id = "acme" },
		{ api_key_pattern = "sk-acme-*", tenant_id = "acme-labs" },
		{ api_key_pattern = "sk-beta-*", tenant_id = "beta" },
	},
	zones = { acme = "Asia/Tokyo" },
}

return {
	policy = "tenant",
	specs = {
		{ name = "it sleeps while tenants are off", call = { claim = "acme" }, expect = {} },
		{
			name = "a key's first mapping is its tenant, in the tenant's zone",
			conf = mapped,
			call = { key = "sk-acme-1" },
			expect = { "bind tenant=acme zone=Asia/Tokyo" },
		},
		{
			name = "by header it may be another of the key's tenants",
			conf = mapped,
			call = { key = "sk-acme-1", claim = "acme-labs" },
			expect = { "bind tenant=acme-labs" },
		},
		{
			name = "and no tenant of others",
			conf = mapped,
			call = { key = "sk-beta-1", claim = "acme" },
			expect = { 'deny 403 tenant_not_allowed: this key may not act for tenant "acme"' },
		},
		{
			name = "a key without a mapping may claim none, and has none",
			conf = mapped,
			call = { key = "sk-other", claim = "beta" },
			expect = { 'deny 403 tenant_not_allowed: this key may not act for tenant "beta"' },
		},
		{ name = "without a claim it just has none", conf = mapped, call = { key = "sk-other" }, expect = {} },
		{
			name = "where only trusted servers can reach us, claims may be believed",
			conf = { enabled = true, claims = "any" },
			call = { claim = "anyone" },
			expect = { "bind tenant=anyone" },
		},
		{
			name = "a user bound to a key is that user, whatever the client says",
			conf = { bindings = { { api_key_pattern = "sk-alice", user = "alice" } } },
			call = { key = "sk-alice", user = "bob" },
			expect = { "bind user=alice" },
		},
		{ name = "a zone that is none is refused", conf = { zones = { acme = "Mars/Base" } }, call = {}, fails = "conf.zones.acme is no time zone" },
		{
			name = "claims that are believed have their zone, too",
			conf = { enabled = true, claims = "any", zones = { acme = "Asia/Tokyo" } },
			call = { claim = "acme" },
			expect = { "bind tenant=acme zone=Asia/Tokyo" },
		},
		{
			name = "two patterns of one tenant, and a user bound beside it",
			conf = {
				enabled = true,
				key_mappings = {
					{ api_key_pattern = "sk-a-*", tenant_id = "acme" },
					{ api_key_pattern = "sk-b-*", tenant_id = "acme" },
				},
				bindings = { { api_key_pattern = "sk-b-*", user = "alice" } },
			},
			call = { key = "sk-b-1" },
			expect = { "bind tenant=acme user=alice" },
		},
	},
}
