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

-- The limits of a rule, to be put on an account by each request; nil for none. `how` fills in the way to act, `base` the
-- limits. Rules that say the same share theirs: ten thousand rules mostly come in a few sizes.
local function limits_of(made, rule, how, base)
	local soft = rule.soft_limit_pct or 0
	soft = if soft > 0 then soft else how.soft_limit_pct or 0
	local action = rule.action or ""
	action = if action ~= "" then action else how.action or ""
	action = if action == "block" then "block" else "warn"
	local day = given(rule.daily_limit_usd) or given(base.daily_limit_usd)
	local month = given(rule.monthly_limit_usd) or given(base.monthly_limit_usd)
	if not day and not month then
		return nil
	end
	local same = `{day} {month} {soft} {action}`
	if not made[same] then
		local list = {}
		for window, limit in { day = day, month = month } do
			table.insert(list, { window = window, limit = limit, soft = soft, action = action, zone = "UTC" })
		end
		table.sort(list, function(a, b)
			return a.window < b.window
		end)
		made[same] = limits(list)
	end
	return made[same]
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
		local made = {}
		local book = {
			default = limits_of(made, conf.default, {}, {}),
			global = limits_of(made, conf.global, conf.default, {}),
			keys = {},
			tenants = {},
		}
		local patterns = {}
		for _, rule in conf.rules do
			local pattern, tenant = rule.api_key_pattern or "", rule.tenant_id or ""
			-- A rule for a tenant alone is no rule for requests without a key, whose empty key its empty pattern fits.
			if pattern == "" and tenant ~= "" then
				if book.tenants[tenant] == nil then
					book.tenants[tenant] = limits_of(made, rule, conf.default, {}) or false
				end
			else
				table.insert(patterns, pattern)
				book.keys[#patterns] = limits_of(made, rule, conf.default, conf.default) or false
			end
		end
		if next(made) == nil then
			return false
		end
		book.patterns = globs(patterns)
		return book
	end,

	request = function(_, call, book)
		local asked = {}
		local key = call.key
		local rule = book.patterns:first(key)
		local of_key = if rule then book.keys[rule] else book.default
		if of_key then
			table.insert(asked, of_key:on("key:" .. key.fingerprint))
		end
		local tenant = call.tenant
		local of_tenant = tenant ~= "" and book.tenants[tenant]
		if of_tenant then
			table.insert(asked, of_tenant:on("tenant:" .. tenant))
		end
		if book.global then
			table.insert(asked, book.global:on("global"))
		end
		return asked
	end,
}
