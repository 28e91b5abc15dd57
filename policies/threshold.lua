-- Spend that people want to hear of and that nothing limits: an alert `threshold_reached` once an account has spent so much. It
-- refuses nothing and holds nothing; a limit with `action: warn` (see budget.lua) also counts what is held.
--
-- `policies.conf.threshold.rules` is a list of
--   account    global; key, tenant, model or provider: each one; or some of them by a pattern: tenant:acme-*, model:*opus*. A key
--              is its fingerprint.
--   window     day, month or total, in UTC
--   limit_usd  from how much on
--   severity   info (default), warning or critical
-- One account, window and amount is one alert, however many calls follow.

local kinds = { key = true, tenant = true, model = true, provider = true }
local minutes = { day = 24 * 60, month = 31 * 24 * 60, total = 366 * 24 * 60 }

-- Cents are not enough for small ones.
local function usd(amount)
	return if amount < 1 then string.format("$%.6f", amount) else string.format("$%.2f", amount)
end

local function parts(account)
	local kind, pattern = account:match("^(%a+):(.+)$")
	return kind or account, pattern
end

local function of(at, window)
	if window == "total" then
		return "in total"
	end
	local day = string.format("%04d-%02d", at.year, at.month)
	return if window == "day" then string.format("on %s-%02d", day, at.day) else `in {day}`
end

return {
	name = "threshold",
	version = "1",
	priority = 90,
	description = "notifies people of accounts that have spent so much",
	schema = {
		rules = {
			type = "list",
			default = {},
			items = {
				type = "table",
				fields = {
					account = { type = "string", required = true },
					window = { type = "string", default = "day", one_of = { "day", "month", "total" } },
					limit_usd = { type = "usd", required = true },
					severity = { type = "string", default = "info", one_of = { "info", "warning", "critical" } },
				},
			},
		},
	},

	check = function(conf)
		local faults = {}
		for at, rule in conf.rules do
			local kind, pattern = parts(rule.account)
			if not kinds[kind] and (kind ~= "global" or pattern) then
				local message = "must be global, or key, tenant, model or provider, alone or with a pattern"
				table.insert(faults, { key = `rules[{at}].account`, message = message })
			end
		end
		return faults
	end,

	setup = function(conf)
		if #conf.rules == 0 then
			return false
		end
		local patterns = {}
		for at, rule in conf.rules do
			local kind, pattern = parts(rule.account)
			patterns[at] = if pattern then globs({ pattern }, if kind == "model" then "models" else nil) else false
		end
		return patterns
	end,

	settled = function(conf, entry, patterns)
		local said = {}
		for at, rule in conf.rules do
			local kind = parts(rule.account)
			local name = if kind == "global" then "" else entry[kind]
			local account = if kind == "global" then kind else `{kind}:{name}`
			local is_meant = kind == "global" or name ~= "" and (not patterns[at] or patterns[at]:first(name) ~= nil)
			local used = if is_meant then spent(account, rule.window) else 0
			if is_meant and used >= tonumber(rule.limit_usd) then
				local when = of(entry.at:in_zone("UTC"), rule.window)
				table.insert(said, alert({
					type = "threshold_reached",
					severity = rule.severity,
					message = `{account} has spent {usd(used)} {when}: ${rule.limit_usd} is the threshold`,
					details = {
						account = account,
						window = rule.window,
						spent = string.format("%.2f", used),
						threshold = rule.limit_usd,
					},
					about = `{account} {when} {rule.limit_usd}`,
					cooldown_mins = minutes[rule.window],
				}))
			end
		end
		return said
	end,
}
