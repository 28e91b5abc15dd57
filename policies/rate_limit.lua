-- Rates: requests and tokens in any second, minute, hour or day, and requests at one time, as the config section
-- `rate_limits` gives them. The windows slide: in no minute, wherever it begins, go more than `requests_per_minute`. Copy
-- this file to `policies/` beside your config to change what it does: a file of the same name replaces the built-in one.
--
--   default   holds for every key by itself
--   rules     the first whose api_key_pattern matches the key counts; what it leaves out (or sets to 0) comes from the default
--   limits    the same for other accounts: `account: agent` is each agent by itself, `account: "tenant:acme"` one tenant,
--             `account: "tag:team"` each team, `account: global` all together
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

return {
	name = "rate_limit",
	version = "1",
	priority = 30,
	description = "requests and tokens by sliding windows, and requests at one time",
	schema = {
		default = { type = "table", default = {}, fields = rate_fields },
		rules = { type = "list", default = {}, items = { type = "table", fields = rule_fields } },
		limits = { type = "list", default = {}, items = { type = "table", fields = limit_fields } },
	},

	setup = function(conf)
		local made, patterns, of_rules, others = {}, {}, {}, {}
		local default = limits_of(made, conf.default, {})
		for at, rule in conf.rules do
			patterns[at] = rule.api_key_pattern or ""
			of_rules[at] = limits_of(made, rule, conf.default)
		end
		for _, limit in conf.limits do
			local of_account = limits_of(made, limit, {})
			if of_account then
				table.insert(others, { account = limit.account, limits = of_account })
			end
		end
		if next(made) == nil then
			return false
		end
		return { default = default, rules = choose(patterns, of_rules), others = others }
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
		for _, other in book.others do
			table.insert(asked, other.limits:on(other.account))
		end
		return asked
	end,
}
