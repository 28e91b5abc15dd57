-- Spending limits on any account, in any window and unit. Copy this file to `policies/` beside your config to change what it
-- does: a file of the same name replaces the built-in one.
--
-- The config section `budgets` gives the first three, by calendar day and month, in UTC:
--   default   holds for every key by itself, not for all together
--   rules     with an api_key_pattern: the first that matches the key counts; what it leaves out (or sets to 0) comes
--             from the default. With a tenant_id and no pattern: the first for the request's tenant counts, beside the
--             key's rule. It has no limits but its own; how to act it takes from the default where it says nothing.
--   global    holds for everything together
-- A limit left out or 0 is none. `action: block` refuses, anything else warns. soft_limit_pct 0.8 warns from 80 %.
--
-- `policies.conf.budget` gives the rest:
--   limits        { account, window, limit, unit, soft, action, zone }. account: a kind alone (`session`: each session by
--                 itself), one account (`tenant:acme`, `tag:team=ml`, `global`), or a pattern (`agent:ci-*`: each agent that
--                 matches, by itself). All kinds count together, so a run's limit lies within its team's within the company's.
--                 Of the accounts of one kind the first that fits counts, the kind alone last.
--                 action: block, warn, clamp (the answer is shortened to what is left), downgrade (see alternatives).
--   top_ups       { account or api_key_pattern, amount, window, unit, from, until }: raises limits for a while. account: as a
--                 limit names it (`key`: the default of each key), or one account that a limit holds for (`key:FINGERPRINT`).
--   alternatives  { model, to }: where a limit with `downgrade` is used up, the models to go to, cheapest last.
--   unpriced      what a model without a price costs: refuse, dearest, free, or default_price { input, output }.

local rule_fields = {
	daily_limit_usd = { type = "usd", description = "USD for each calendar day, 0 for none" },
	monthly_limit_usd = { type = "usd", description = "USD for each calendar month, 0 for none" },
	soft_limit_pct = { type = "number", min = 0, max = 1, description = "share of the limit from which to warn" },
	action = { type = "string", description = "block, or anything else to warn" },
}

local named_fields = table.clone(rule_fields)
named_fields.api_key_pattern = { type = "glob", description = "matched against the whole key: sk-dev-*" }
named_fields.tenant_id = { type = "string" }

local windows = { "minute", "hour", "day", "week", "month", "total" }
local units = { "usd", "tokens", "requests" }
local limit_fields = {
	account = { type = "string", required = true, description = "agent, tenant:acme, tag:team=ml, agent:ci-*, global" },
	window = { type = "string", required = true, one_of = windows },
	limit = { type = "amount", required = true, description = "in the unit; 0 lets nothing through" },
	unit = { type = "string", default = "usd", one_of = units },
	soft = { type = "list", default = {}, items = { type = "number", min = 0, max = 1 } },
	action = { type = "string", default = "block", one_of = { "block", "warn", "clamp", "downgrade" } },
	zone = { type = "zone", description = "time zone of the window; the tenant's where left out" },
}
local top_up_fields = {
	account = { type = "string", description = "as a limit names it, or one account" },
	api_key_pattern = { type = "glob", description = "as a rule names it" },
	amount = { type = "amount", required = true, description = "in the unit, on top of each limit it fits" },
	window = { type = "string", one_of = windows, description = "all windows where left out" },
	unit = { type = "string", default = "usd", one_of = units },
	from = { type = "time", default = 0 },
	["until"] = { type = "time", required = true },
}

-- Nil where a limit is left out or 0.
local function given(limit)
	return if limit ~= nil and tonumber(limit) ~= 0 then limit else nil
end

-- The limits of a rule of the config section, as terms; nil for none. `how` fills in the way to act, `base` the limits.
local function terms_of(rule, how, base)
	local soft = rule.soft_limit_pct or 0
	soft = if soft > 0 then soft else how.soft_limit_pct or 0
	local action = rule.action or ""
	action = if action ~= "" then action else how.action or ""
	action = if action == "block" then "block" else "warn"
	local terms = {}
	for _, each in { { "day", "daily_limit_usd" }, { "month", "monthly_limit_usd" } } do
		local limit = given(rule[each[2]]) or given(base[each[2]])
		if limit then
			local term = { window = each[1], limit = limit, unit = "usd", soft = soft, action = action, zone = "UTC" }
			table.insert(terms, term)
		end
	end
	return if #terms > 0 then terms else nil
end

-- `limits`, made once for terms that say the same: ten thousand rules mostly come in a few sizes.
local function made_of(made, terms)
	local said = {}
	for _, term in terms do
		local soft = if type(term.soft) == "table" then table.concat(term.soft, "/") else term.soft
		local plus = table.concat(term.plus or {}, "+")
		local fields = { term.window, term.limit, term.unit, soft, term.action, tostring(term.zone), plus }
		for _, field in fields do
			table.insert(said, tostring(field))
		end
	end
	local same = table.concat(said, "|")
	made[same] = made[same] or limits(terms)
	return made[same]
end

-- Limits as they are from one moment to another, and `base` at all other times; the limits themselves without top-ups.
local function over_time(made, terms, top_ups)
	local base = made_of(made, terms)
	local moments = {}
	for _, top_up in top_ups do
		table.insert(moments, top_up.from)
		table.insert(moments, top_up["until"])
	end
	table.sort(moments)
	local raised = {}
	for at = 1, #moments - 1 do
		local from, till = moments[at], moments[at + 1]
		local higher, changed = {}, false
		for _, term in terms do
			local plus = {}
			for _, top_up in top_ups do
				local now = top_up.from <= from and till <= top_up["until"]
				local fits = top_up.unit == term.unit and (top_up.window == nil or top_up.window == term.window)
				if from < till and now and fits then
					table.insert(plus, top_up.amount)
					changed = true
				end
			end
			local copy = table.clone(term)
			copy.plus = plus
			table.insert(higher, copy)
		end
		if changed then
			table.insert(raised, { from = from, till = till, limits = made_of(made, higher) })
		end
	end
	return if #raised > 0 then { base = base, raised = raised } else base
end

-- The kind and the name of an account: `agent` and `ci-*`, `tag:team` and `ml`; no name for a kind alone.
local function parts(account)
	local tag, value = account:match("^(tag:[^=]+)=(.*)$")
	if tag then
		return tag, value
	end
	if account:sub(1, 4) == "tag:" then
		return account, nil
	end
	local kind, name = account:match("^(%a+):(.*)$")
	return kind or account, name
end

local account_kinds = { "key", "tenant", "user", "agent", "session", "task", "model", "provider" }

-- Patterns over models cross `/` and look past what stands around a name; all others are as in Go.
local function over(kind)
	return if kind == "model" then "models" else nil
end

-- Rules by account, in their order, grouped by kind: `{ kind, names, terms, each }`.
local function kinds_of(rules, top_ups)
	local kinds, by_kind = {}, {}
	local function group(kind)
		if not by_kind[kind] then
			by_kind[kind] = { kind = kind, names = {}, rules = {} }
			table.insert(kinds, by_kind[kind])
		end
		return by_kind[kind]
	end
	for _, rule in rules do
		local kind, name = parts(rule.account)
		local of_kind = group(kind)
		if name then
			table.insert(of_kind.names, name)
			table.insert(of_kind.rules, rule)
		else
			of_kind.each = rule
		end
	end
	-- One account of many that a top-up names gets a rule of its own, of what holds for it anyway.
	local own = {}
	for account in top_ups do
		local kind, name = parts(account)
		local of_kind = by_kind[kind]
		if of_kind and name then
			local of_own = own[kind]
			if not of_own then
				of_own = { known = {}, names = {}, rules = {}, patterns = globs(of_kind.names, over(kind)) }
				for _, known in of_kind.names do
					of_own.known[known] = true
				end
				own[kind] = of_own
			end
			local place = of_own.patterns:first(name)
			local like = if place then of_kind.rules[place] else of_kind.each
			if like and not of_own.known[name] then
				local rule = table.clone(like)
				rule.account = account
				table.insert(of_own.names, name)
				table.insert(of_own.rules, rule)
			end
		end
	end
	for kind, of_own in own do
		local of_kind = by_kind[kind]
		for at, name in of_kind.names do
			table.insert(of_own.names, name)
			table.insert(of_own.rules, of_kind.rules[at])
		end
		of_kind.names, of_kind.rules = of_own.names, of_own.rules
	end
	return kinds
end

-- Terms by the account they are on, and whether one of them says `downgrade`.
local function rules_of(conf)
	local rules, by_account = {}, {}
	local function add(account, terms, downgrade)
		local rule = by_account[account]
		if not rule then
			rule = { account = account, terms = {}, downgrade = false }
			by_account[account] = rule
			table.insert(rules, rule)
		end
		for _, term in terms do
			table.insert(rule.terms, term)
		end
		rule.downgrade = rule.downgrade or downgrade
	end
	local global = terms_of(conf.global, conf.default, {})
	if global then
		add("global", global, false)
	end
	for _, limit in conf.limits do
		local term = table.clone(limit)
		term.account = nil
		local downgrade = limit.action == "downgrade"
		if downgrade then
			term.action = "block"
		end
		add(limit.account, { term }, downgrade)
	end
	return rules
end

-- Top-ups by the account, or by the pattern, that they name.
local function top_ups_of(conf)
	local by_account, by_pattern = {}, {}
	for _, top_up in conf.top_ups do
		local into = if top_up.account then by_account else by_pattern
		local name = top_up.account or top_up.api_key_pattern
		into[name] = into[name] or {}
		table.insert(into[name], top_up)
	end
	return by_account, by_pattern
end

-- Top-ups of single keys by their fingerprints; nil where there are none.
local function topped_up_keys(by_account)
	local keys = {}
	for account, top_ups in by_account do
		local fingerprint = account:match("^key:(.+)$")
		if fingerprint then
			keys[fingerprint] = top_ups
		end
	end
	return if next(keys) then keys else nil
end

-- What the config section's rules say of keys and tenants.
local function sections(made, conf, by_account, by_pattern)
	local default = terms_of(conf.default, {}, {})
	local patterns, of_keys, tenants, of_tenants = {}, {}, {}, {}
	for _, rule in conf.rules do
		local pattern, tenant = rule.api_key_pattern or "", rule.tenant_id or ""
		-- A rule for a tenant alone is no rule for requests without a key, whose empty key its empty pattern fits.
		if pattern == "" and tenant ~= "" then
			local terms = terms_of(rule, conf.default, {})
			table.insert(tenants, tenant)
			table.insert(of_tenants, terms and over_time(made, terms, by_account["tenant:" .. tenant] or {}) or false)
		else
			local terms = terms_of(rule, conf.default, conf.default)
			table.insert(patterns, pattern)
			table.insert(of_keys, terms and over_time(made, terms, by_pattern[pattern] or {}) or false)
		end
	end
	return {
		default = default and over_time(made, default, by_account.key or {}) or false,
		keys = choose(patterns, of_keys),
		-- One key's own, by its fingerprint: which of the rules is its rule only the call says.
		topped_up = topped_up_keys(by_account),
		tenants = if #tenants > 0 then choose(tenants, of_tenants, "exact") else nil,
	}
end

-- The limits that hold at a moment.
local function now(limits, call)
	if type(limits) == "table" then
		local ms = call.at.ms
		for _, raised in limits.raised do
			if raised.from <= ms and ms < raised.till then
				return raised.limits
			end
		end
		return limits.base
	end
	return limits
end

-- The top-ups that raise limits at the moment of a call.
local function running(top_ups, call)
	local found, ms = {}, call.at.ms
	for _, top_up in top_ups do
		if top_up.from <= ms and ms < top_up["until"] then
			table.insert(found, top_up)
		end
	end
	return found
end

-- The call's own name of a kind.
local function name_of(call, of_kind)
	if of_kind.tag then
		return call.tags[of_kind.tag] or ""
	end
	return if of_kind.kind == "key" then call.key.fingerprint else call[of_kind.kind]
end

local money = { type = "usd", default = "0" }

return {
	name = "budget",
	version = "2",
	priority = 50,
	description = "spending limits on any account, in any window and unit",
	events = { "budget" },
	schema = {
		default = { type = "table", default = {}, fields = rule_fields },
		rules = { type = "list", default = {}, items = { type = "table", fields = named_fields } },
		global = { type = "table", default = {}, fields = rule_fields },
		limits = { type = "list", default = {}, items = { type = "table", fields = limit_fields } },
		top_ups = { type = "list", default = {}, items = { type = "table", fields = top_up_fields } },
		alternatives = {
			type = "list",
			default = {},
			items = {
				type = "table",
				fields = {
					model = { type = "glob", required = true },
					to = { type = "list", required = true, items = { type = "string" } },
				},
			},
		},
		unpriced = { type = "string", one_of = { "refuse", "dearest", "free", "default_price" } },
		default_price = {
			type = "table",
			fields = { input = money, output = money },
			description = "USD for a million tokens, with unpriced = default_price",
		},
	},

	check = function(conf)
		local wrong = {}
		for at, limit in conf.limits do
			if limit.action == "downgrade" and #conf.alternatives == 0 then
				local key = `limits[{at}].action`
				table.insert(wrong, { key = key, message = "is downgrade, and there are no alternatives" })
			end
			if limit.unit ~= "usd" and limit.limit:find(".", 1, true) then
				table.insert(wrong, { key = `limits[{at}].limit`, message = `must be a whole number of {limit.unit}` })
			end
			local kind = parts(limit.account)
			local known = limit.account == "global" or kind:match("^tag:.") or table.find(account_kinds, kind)
			if not known then
				local message = `must be global, or a kind ({table.concat(account_kinds, ", ")}, tag:NAME) alone or with a name`
				table.insert(wrong, { key = `limits[{at}].account`, message = message })
			end
			if limit.unit == "requests" and limit.action == "clamp" then
				table.insert(wrong, { key = `limits[{at}].action`, message = "cannot clamp a count of requests" })
			end
		end
		for at, top_up in conf.top_ups do
			if (top_up.account == nil) == (top_up.api_key_pattern == nil) then
				table.insert(wrong, { key = `top_ups[{at}]`, message = "needs an account or an api_key_pattern, not both" })
			end
			if top_up.from >= top_up["until"] then
				table.insert(wrong, { key = `top_ups[{at}].until`, message = "is not after from" })
			end
		end
		if (conf.unpriced == "default_price") ~= (conf.default_price ~= nil) then
			table.insert(wrong, { key = "default_price", message = "and unpriced = default_price need each other" })
		end
		return wrong
	end,

	-- Runs once: sorts the rules out, so that a request costs the same with one rule and with ten thousand.
	setup = function(conf)
		local made = {}
		local by_account, by_pattern = top_ups_of(conf)
		local book = sections(made, conf, by_account, by_pattern)
		book.kinds = {}
		for _, of_kind in kinds_of(rules_of(conf), by_account) do
			local values = {}
			for at, rule in of_kind.rules do
				local timed = over_time(made, rule.terms, by_account[rule.account] or {})
				values[at] = { limits = timed, downgrade = rule.downgrade }
			end
			local each = of_kind.each
			table.insert(book.kinds, {
				kind = of_kind.kind,
				tag = of_kind.kind:match("^tag:(.+)$"),
				names = if #values > 0 then choose(of_kind.names, values, over(of_kind.kind)) else nil,
				each = each and {
					limits = over_time(made, each.terms, by_account[each.account] or {}),
					downgrade = each.downgrade,
				},
			})
		end
		if #conf.alternatives > 0 then
			local models, to = {}, {}
			for at, alternative in conf.alternatives do
				models[at], to[at] = alternative.model, alternative.to
			end
			book.alternatives = choose(models, to, "models")
		end
		if conf.unpriced == "default_price" then
			book.unpriced = { input = conf.default_price.input, output = conf.default_price.output }
		elseif conf.unpriced then
			book.unpriced = { as = conf.unpriced }
		end
		return if next(made) or book.unpriced then book else false
	end,

	request = function(_, call, book)
		if call.free then
			return nil
		end
		local asked = {}
		local of_key = book.keys:of(call.key)
		if of_key == nil then
			of_key = book.default
		end
		if of_key then
			local top_ups = book.topped_up and book.topped_up[call.key.fingerprint]
			asked[1] = now(of_key, call):on("key", top_ups and running(top_ups, call))
		end
		local of_tenant = book.tenants and book.tenants:of(call.tenant)
		if of_tenant then
			table.insert(asked, now(of_tenant, call):on("tenant"))
		end
		local downgrade = false
		for _, of_kind in book.kinds do
			local names = of_kind.names
			local rule = names and names:of(name_of(call, of_kind)) or of_kind.each
			if rule then
				table.insert(asked, now(rule.limits, call):on(of_kind.kind))
				downgrade = downgrade or rule.downgrade
			end
		end
		if downgrade then
			local to = book.alternatives:of(call.model)
			if to then
				table.insert(asked, route({ alternatives = to, when = "over_budget" }))
			end
		end
		if book.unpriced and not call.priced then
			table.insert(asked, unpriced(book.unpriced))
		end
		return asked
	end,

	-- Tells people of limits that are near, and of those that are used up, in the contract's words.
	alert = function(_, event)
		if event.kind ~= "budget" then
			return nil
		end
		local exceeded = event.state == "exceeded" or event.share >= 1
		local key = event.account:match("^key:(.*)$")
		local who = if key then "API key " .. key else event.account
		local span = if event.window == "day" then "daily_" elseif event.window == "month" then "monthly_" else ""
		local function shown(amount)
			return if event.unit == "usd" then string.format("%.2f", tonumber(amount)) else amount
		end
		-- Of a key by day or month, in dollars, that is all: the contract says nothing of anything else.
		local is_of_contract = key and span ~= "" and event.unit == "usd"
		local details = if is_of_contract
			then {}
			else { account = event.account, window = event.window, unit = event.unit }
		details.api_key_hash = event.key
		details[span .. "spent"] = shown(event.spent)
		details[span .. "limit"] = shown(event.limit)
		return alert({
			type = if exceeded then "budget_exceeded" else "budget_warning",
			severity = if exceeded then "critical" else "warning",
			message = if exceeded then who .. " exceeded budget limit" else who .. " approaching budget limit",
			details = details,
			about = if exceeded then event.account else `{event.account} {event.window} {event.share}`,
		})
	end,
}
