-- What people are notified of beside budgets, loops and ghosts: the facts that the gateway notices by itself. This policy alone
-- turns them into alerts: where it is off, or a copy of it says nothing, nobody is notified of them. (Where it fails, and where no
-- policy listens to `version`, the gateway notifies people itself.) Copy this file to
-- `policies/` beside your config to change wording, severities or what is worth an alert.
--
-- Where alerts go is no business of a policy: see the config section `alerts`.
--
-- `policies.conf.alert` gives:
--   off                types that are not raised: [plugin_error, price_drift]
--   severities         { type, severity }: other severities than those below
--   hold_stuck_mins    from which age on an open hold is stuck; 0 is never
--   price_drift_share  from which share on a cost that the provider reports differs from ours
--   burn_rate          how many times the even pace is too fast; 0 is never

local severity_names = { "info", "warning", "critical" }

local function percent(share)
	return string.format("%.1f %%", share * 100)
end

-- Cents are not enough for the costs of one call.
local function usd(amount)
	local number = tonumber(amount)
	return if number < 1 then string.format("$%.6f", number) else string.format("$%.2f", number)
end

-- By event: what to say of it; nil for nothing.
local facts = {}

function facts.breaker(_, event)
	return {
		type = "circuit_open",
		severity = "critical",
		message = `{event.provider}: the circuit breaker is open; calls are refused for {event.timeout_s} s`,
		details = { provider = event.provider, failures = event.failures },
		about = `provider:{event.provider}`,
	}
end

function facts.policy(_, event)
	return {
		type = "policy_error",
		severity = "critical",
		message = `policy {event.policy} failed: {event.message}`,
		details = { policy = event.policy, cause = event.cause },
		about = `policy:{event.policy}`,
	}
end

-- What became by itself of a version of a policy.
local version_types = {
	rolled_back = "policy_rolled_back",
	refused = "policy_version_refused",
	not_activated = "policy_not_activated",
}

function facts.version(_, event)
	local details = { policy = event.policy, version = event.version }
	if event.state == "rolled_back" then
		details.calls, details.failures, details.in_force = event.calls, event.failures, event.in_force
	end
	return {
		type = version_types[event.state],
		severity = "critical",
		message = event.message,
		details = details,
		about = `{event.policy}@{event.version:sub(1, 12)}`,
	}
end

function facts.plugin(_, event)
	return {
		type = "plugin_error",
		severity = "warning",
		message = `plugin {event.plugin} failed on an answer of {event.provider}: what was held is entered, as an estimate`,
		details = { plugin = event.plugin, provider = event.provider, calls = event.count },
		about = `plugin:{event.plugin}`,
	}
end

function facts.unpriced(_, event)
	local what = `{event.provider} {event.model}`
	return {
		type = "unpriced_model",
		severity = "warning",
		message = `{what}: no price is known; it is billed as {event.row}, as an estimate ({event.reason})`,
		details = { provider = event.provider, model = event.model, billed_as = event.row },
		about = what,
		cooldown_mins = 7 * 24 * 60,
	}
end

function facts.drift(conf, event)
	if event.share < conf.price_drift_share then
		return nil
	end
	local costs = `{usd(event.cost_usd)} by our prices, {usd(event.reported_usd)} as it reports`
	return {
		type = "price_drift",
		severity = "warning",
		message = `{event.provider} {event.model}: a call costs {costs}: {percent(event.share)} apart`,
		details = {
			provider = event.provider,
			model = event.model,
			cost_usd = event.cost_usd,
			reported_usd = event.reported_usd,
			entry = event.entry,
		},
		about = `{event.provider} {event.model}`,
		cooldown_mins = 60,
	}
end

function facts.ledger(_, event)
	return {
		type = "ledger_fault",
		severity = "critical",
		message = `the ledger: {event.message}`,
		details = { state = event.state },
		about = `ledger:{event.state}`,
		cooldown_mins = 15,
	}
end

function facts.hold(conf, event)
	if conf.hold_stuck_mins == 0 or event.age_s < conf.hold_stuck_mins * 60 then
		return nil
	end
	return {
		type = "hold_stuck",
		severity = "warning",
		message = string.format(
			"a hold of %s for %s %s is open for %d minutes",
			usd(event.usd),
			event.provider,
			event.model,
			event.age_s // 60
		),
		details = { hold = event.hold, api_key_hash = event.key, agent_id = event.agent, session_id = event.session },
		about = `hold:{event.hold}`,
		cooldown_mins = 60,
	}
end

function facts.burn(conf, event)
	if conf.burn_rate == 0 or event.rate < conf.burn_rate then
		return nil
	end
	local key = event.account:match("^key:(.*)$")
	local who = if key then "API key " .. key else event.account
	return {
		type = "burn_rate",
		severity = "warning",
		message = `{who}: at this pace the {event.window}'s budget ends {event.ends}`,
		details = {
			account = event.account,
			window = event.window,
			ends_at = event.ends_at,
			rate = string.format("%.1f", event.rate),
			spent = string.format("%.2f", tonumber(event.spent)),
			limit = string.format("%.2f", tonumber(event.limit)),
		},
		about = `{event.account} {event.window}`,
		cooldown_mins = 360,
	}
end

return {
	name = "alert",
	version = "1",
	priority = 90,
	description = "notifies people of what the gateway notices by itself",
	events = { "breaker", "policy", "version", "plugin", "unpriced", "drift", "ledger", "hold", "burn" },
	schema = {
		cooldown_mins = { type = "integer", default = 5, min = 0, description = "of the config section; the gateway keeps it" },
		off = { type = "list", default = {}, items = { type = "string" } },
		severities = {
			type = "list",
			default = {},
			items = {
				type = "table",
				fields = {
					type = { type = "string", required = true },
					severity = { type = "string", required = true, one_of = severity_names },
				},
			},
		},
		hold_stuck_mins = { type = "integer", default = 30, min = 0 },
		price_drift_share = { type = "number", default = 0.02, min = 0 },
		burn_rate = { type = "number", default = 2, min = 0 },
	},

	setup = function(conf)
		local severities, off = {}, {}
		for _, one in conf.severities do
			severities[one.type] = one.severity
		end
		for _, kind in conf.off do
			off[kind] = true
		end
		return { severities = severities, off = off }
	end,

	alert = function(conf, event, book)
		local fact = facts[event.kind]
		local said = fact and fact(conf, event)
		if not said or book.off[said.type] then
			return nil
		end
		said.severity = book.severities[said.type] or said.severity
		return alert(said)
	end,
}
