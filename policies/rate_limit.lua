-- Rates: requests and tokens in any second, minute, hour or day, and requests at one time, as the config section
-- `rate_limits` gives them. The windows slide: in no minute, wherever it begins, go more than `requests_per_minute`. Copy
-- this file to `policies/` beside your config to change what it does: a file of the same name replaces the built-in one.
--
--   default   holds for every key by itself
--   rules     the first whose api_key_pattern matches the key counts; what it leaves out (or sets to 0) comes from the default
--   limits    the same for other accounts: `account: agent` is each agent by itself, `account: "tenant:acme"` one tenant,
--             `account: "agent:ci-*"` each agent that matches, `account: "tag:team"` each team, `account: global` all together.
--             All kinds count together; of the accounts of one kind the first that fits counts, the kind alone last.
--
-- A rate left out or 0 is none. A refused request takes nothing from any rate.

local rate_fields = {
	requests_per_second = { type = "integer", min = 0 },
	requests_per_minute = { type = "integer", min = 0 },
	requests_per_hour = { type = "integer", min = 0 },
	requests_per_day = { type = "integer", min = 0 },
	tokens_per_minute = { type = "integer", min = 0, description = "input and output, held at first, then as billed" },
	tokens_per_hour = { type = "integer", min = 0 },
	tokens_per_day = { type = "integer", min = 0 },
	parallel = { type = "integer", min = 0, description = "requests that run at one time" },
}

local rule_fields = table.clone(rate_fields)
rule_fields.api_key_pattern = { type = "glob", description = "matched against the whole key: sk-dev-*" }

local limit_fields = table.clone(rate_fields)
limit_fields.account = { type = "string", required = true }

local kinds = {
	{ field = "requests_per_second", per = "second", unit = "requests" },
	{ field = "requests_per_minute", per = "minute", unit = "requests" },
	{ field = "requests_per_hour", per = "hour", unit = "requests" },
	{ field = "requests_per_day", per = "day", unit = "requests" },
	{ field = "tokens_per_minute", per = "minute", unit = "tokens" },
	{ field = "tokens_per_hour", per = "hour", unit = "tokens" },
	{ field = "tokens_per_day", per = "day", unit = "tokens" },
}

local function given(number, base)
	if number and number > 0 then
		return number
	end
	return if base and base > 0 then base else nil
end

-- The rates of a rule, what it leaves out filled in from `base`; false for none. Rules that say the same share theirs.
local function limits_of(made, rule, base)
	local list, said = {}, {}
	for _, kind in kinds do
		local limit = given(rule[kind.field], base[kind.field])
		if limit then
			table.insert(list, { per = kind.per, limit = limit, unit = kind.unit })
		end
		table.insert(said, tostring(limit))
	end
	local parallel = given(rule.parallel, base.parallel)
	if parallel then
		table.insert(list, { parallel = parallel })
	end
	if #list == 0 then
		return false
	end
	local same = table.concat(said, " ") .. " " .. tostring(parallel)
	if not made[same] then
		made[same] = limits(list)
	end
	return made[same]
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

-- The rates of accounts, grouped by kind, so that a request looks at each kind once, however many limits there are.
local function kinds_of(made, conf)
	local of_kinds, by_kind, by_account = {}, {}, {}
	for _, limit in conf.limits do
		local kind, name = parts(limit.account)
		local of_kind = by_kind[kind]
		if not of_kind then
			of_kind = { kind = kind, tag = kind:match("^tag:(.+)$"), accounts = {}, values = {} }
			by_kind[kind] = of_kind
			table.insert(of_kinds, of_kind)
		end
		local rates = limits_of(made, limit, {})
		local known = by_account[limit.account]
		if not rates then
			continue
		elseif known then
			-- Several for one account hold all together.
			table.insert(known, rates)
		else
			known = { rates }
			by_account[limit.account] = known
			if name then
				table.insert(of_kind.accounts, name)
				table.insert(of_kind.values, known)
			else
				of_kind.each = known
			end
		end
	end
	local kept = {}
	for _, of_kind in of_kinds do
		local names = if #of_kind.accounts > 0 then choose(of_kind.accounts, of_kind.values, over(of_kind.kind)) else nil
		if names or of_kind.each then
			table.insert(kept, { kind = of_kind.kind, tag = of_kind.tag, names = names, each = of_kind.each })
		end
	end
	return kept
end

-- The call's own name of a kind.
local function name_of(call, of_kind)
	if of_kind.tag then
		return call.tags[of_kind.tag] or ""
	end
	return if of_kind.kind == "key" then call.key.fingerprint else call[of_kind.kind]
end

return {
	name = "rate_limit",
	version = "2",
	priority = 30,
	description = "requests and tokens by sliding windows, and requests at one time",
	schema = {
		default = { type = "table", default = {}, fields = rate_fields },
		rules = { type = "list", default = {}, items = { type = "table", fields = rule_fields } },
		limits = { type = "list", default = {}, items = { type = "table", fields = limit_fields } },
	},

	check = function(conf)
		local wrong = {}
		for at, limit in conf.limits do
			local kind = parts(limit.account)
			local known = limit.account == "global" or kind:match("^tag:.") or table.find(account_kinds, kind)
			if not known then
				local message = `must be global, or a kind ({table.concat(account_kinds, ", ")}, tag:NAME) alone or with a name`
				table.insert(wrong, { key = `limits[{at}].account`, message = message })
			end
		end
		return wrong
	end,

	setup = function(conf)
		local made, patterns, of_rules = {}, {}, {}
		local default = limits_of(made, conf.default, {})
		for at, rule in conf.rules do
			patterns[at] = rule.api_key_pattern or ""
			of_rules[at] = limits_of(made, rule, conf.default)
		end
		local kinds = kinds_of(made, conf)
		if next(made) == nil then
			return false
		end
		return { default = default, rules = choose(patterns, of_rules), kinds = kinds }
	end,

	request = function(_, call, book)
		local asked = {}
		local of_key = book.rules:of(call.key)
		if of_key == nil then
			of_key = book.default
		end
		if of_key then
			asked[1] = of_key:on("key")
		end
		for _, of_kind in book.kinds do
			if of_kind.kind == "global" then
				for _, rates in of_kind.each do
					table.insert(asked, rates:on("global"))
				end
				continue
			end
			local named = of_kind.names and of_kind.names:of(name_of(call, of_kind)) or of_kind.each
			for _, rates in named or {} do
				table.insert(asked, rates:on(of_kind.kind))
			end
		end
		return asked
	end,
}
