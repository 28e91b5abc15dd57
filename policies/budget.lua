-- Spending limits by calendar day and month, in UTC, as the config section `budgets` gives them. Copy this file to
-- `policies/` beside your config to change what it does: a file of the same name replaces the built-in one.
--
--   default   holds for every key by itself, not for all together
--   rules     with an api_key_pattern: the first that matches the key counts; what it leaves out (or sets to 0) comes
--             from the default. With a tenant_id and no pattern: the first for the request's tenant counts, beside the
--             key's rule. It has no limits but its own; how to act it takes from the default where it says nothing.
--   global    holds for everything together
--
-- A limit left out or 0 is none. `action: block` refuses, anything else warns. soft_limit_pct 0.8 warns from 80 %.

local rule_fields = {
	daily_limit_usd = { type = "usd", description = "USD for each calendar day, 0 for none" },
	monthly_limit_usd = { type = "usd", description = "USD for each calendar month, 0 for none" },
	soft_limit_pct = { type = "number", min = 0, max = 1, description = "share of the limit from which to warn" },
	action = { type = "string", description = "block, or anything else to warn" },
}

local named_fields = table.clone(rule_fields)
named_fields.api_key_pattern = { type = "glob", description = "matched against the whole key: sk-dev-*" }
named_fields.tenant_id = { type = "string" }

-- Nil where a limit is left out or 0.
local function given(limit)
	return if limit ~= nil and tonumber(limit) ~= 0 then limit else nil
end

-- What a rule limits, ready to be asked for once the account is known. `how` fills in the way to act, `limits` the limits.
local function bounds(rule, how, limits)
	local soft = rule.soft_limit_pct or 0
	local action = rule.action or ""
	soft = if soft > 0 then soft else how.soft_limit_pct or 0
	action = if action ~= "" then action else how.action or ""
	local list = {}
	for _, by in { { "day", "daily_limit_usd" }, { "month", "monthly_limit_usd" } } do
		local limit = given(rule[by[2]]) or given(limits[by[2]])
		if limit then
			table.insert(list, { window = by[1], limit = limit, soft = soft, action = if action == "block" then "block" else "warn" })
		end
	end
	return list
end

local function ask(asked, list, account)
	for _, bound in list do
		table.insert(asked, budget{
			account = account,
			window = bound.window,
			limit = bound.limit,
			soft = bound.soft,
			action = bound.action,
			zone = "UTC",
		})
	end
end

return {
	name = "budget",
	version = "1",
	priority = 50,
	description = "spending limits for keys, tenants and everything together",
	schema = {
		default = { type = "table", default = {}, fields = rule_fields },
		rules = { type = "list", default = {}, items = { type = "table", fields = named_fields } },
		global = { type = "table", default = {}, fields = rule_fields },
	},

	-- Runs once: sorts the rules out, so that a request costs the same with one rule and with ten thousand.
	setup = function(conf)
		local book = {
			default = bounds(conf.default, {}, {}),
			global = bounds(conf.global, conf.default, {}),
			keys = {},
			tenants = {},
		}
		local patterns = {}
		local limits = #book.default + #book.global
		for _, rule in conf.rules do
			local pattern, tenant = rule.api_key_pattern or "", rule.tenant_id or ""
			-- A rule for a tenant alone is no rule for requests without a key, whose empty key its empty pattern fits.
			if pattern == "" and tenant ~= "" then
				if not book.tenants[tenant] then
					book.tenants[tenant] = bounds(rule, conf.default, {})
					limits += #book.tenants[tenant]
				end
			else
				table.insert(patterns, pattern)
				table.insert(book.keys, bounds(rule, conf.default, conf.default))
				limits += #book.keys[#book.keys]
			end
		end
		if limits == 0 then
			return false
		end
		book.patterns = globs(patterns)
		return book
	end,

	request = function(_, call, book)
		local asked = {}
		local key = call.key
		local rule = book.patterns:first(key)
		ask(asked, if rule then book.keys[rule] else book.default, "key:" .. key.fingerprint)
		if next(book.tenants) then
			local tenant = call.tenant
			local list = book.tenants[tenant]
			if list and tenant ~= "" then
				ask(asked, list, "tenant:" .. tenant)
			end
		end
		ask(asked, book.global, "global")
		return asked
	end,
}
