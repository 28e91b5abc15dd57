-- Which tenant a request belongs to, as the config section `tenants` gives it, and which names its key may go by. Copy this
-- file to `policies/` beside your config to change what it does: a file of the same name replaces the built-in one.
--
--   key_mappings  A key belongs to the tenants of all patterns that match it. A request says which with the header
--                 X-AgentLedger-Tenant; without the header it is the first. A tenant that the key has no mapping to is
--                 refused (403): else any client could spend any tenant's budget.
--   claims        `any` believes the header of whoever sends it, as the original did: for gateways that only trusted
--                 servers can reach.
--   zones         time zones of tenants: in them `call.at` speaks and their windows turn.
--   bindings      the user, agent, session or task of the keys that match, whatever the client says. Names that clients
--                 send are as true as the client; a budget for users should rest on bindings.

local name = { type = "string" }

return {
	name = "tenant",
	version = "1",
	priority = 20,
	description = "tenants by header and key, and names bound to keys",
	schema = {
		enabled = { type = "boolean", default = false },
		key_mappings = {
			type = "list",
			default = {},
			items = {
				type = "table",
				fields = {
					api_key_pattern = { type = "glob", default = "" },
					tenant_id = { type = "string", required = true },
				},
			},
		},
		claims = { type = "string", default = "mapped", one_of = { "mapped", "any" } },
		zones = { type = "map", default = {}, items = { type = "zone" }, description = "tenant: Europe/Berlin" },
		bindings = {
			type = "list",
			default = {},
			items = {
				type = "table",
				fields = {
					api_key_pattern = { type = "glob", required = true },
					user = name,
					agent = name,
					session = name,
					task = name,
				},
			},
		},
	},

	setup = function(conf)
		if not conf.enabled and #conf.bindings == 0 then
			return false
		end
		local book = { enabled = conf.enabled, any = conf.claims == "any" }
		-- What the requests of each tenant are bound to is made here, once; and all patterns of one tenant together answer
		-- whether a key may act for it.
		local patterns, tenants, by_tenant = {}, {}, {}
		for at, mapping in conf.key_mappings do
			local name = mapping.tenant_id
			local tenant = by_tenant[name]
			if not tenant then
				tenant = { bound = bind({ tenant = name, zone = conf.zones[name] }), patterns = {} }
				by_tenant[name] = tenant
			end
			patterns[at], tenants[at] = mapping.api_key_pattern, tenant.bound
			table.insert(tenant.patterns, mapping.api_key_pattern)
		end
		book.tenants = choose(patterns, tenants)
		local names, allowed = {}, {}
		for name, tenant in by_tenant do
			table.insert(names, name)
			table.insert(allowed, { bound = tenant.bound, keys = globs(tenant.patterns) })
		end
		book.allowed = choose(names, allowed, "exact")
		if book.any and next(conf.zones) then
			book.zones = conf.zones
		end
		if #conf.bindings > 0 then
			local keys, bound = {}, {}
			for at, of_key in conf.bindings do
				keys[at] = of_key.api_key_pattern
				bound[at] = bind({ user = of_key.user, agent = of_key.agent, session = of_key.session, task = of_key.task })
			end
			book.bound = choose(keys, bound)
		end
		return book
	end,

	tenant = function(_, call, book)
		local key, tenant = call.key, nil
		if book.enabled then
			local claim = call.claim
			if claim == "" then
				tenant = book.tenants:of(key)
			elseif book.any then
				tenant = bind({ tenant = claim, zone = book.zones and book.zones[claim] })
			else
				local allowed = book.allowed:of(claim)
				if not (allowed and allowed.keys:first(key)) then
					return deny({
						status = 403,
						code = "tenant_not_allowed",
						message = `this key may not act for tenant "{claim}"`,
					})
				end
				tenant = allowed.bound
			end
		end
		local bound = book.bound and book.bound:of(key)
		return if tenant and bound then { tenant, bound } else tenant or bound
	end,
}
