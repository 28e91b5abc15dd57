-- Blocks keys, and anything else that an account is named after. Copy this file to `policies/` beside your config to change
-- what it does: a file of the same name replaces the built-in one.
--
--   policies:
--     conf:
--       block:
--         keys: ["sk-leaked-*"]            # patterns over whole keys
--         fingerprints: ["0f3a…"]          # as `agentledger costs --by key` names them
--         agents: ["crawler-*"]            # and users, tenants: patterns over their names
--         models: ["*opus*"]               # patterns over models
--
-- A blocked key is refused everything, what costs nothing included. In patterns over keys and names `*` stops at `/`, as in
-- Go. In those over models it does not, and neither case nor what stands around a name (`openai/`, `us.anthropic.`, `:nitro`,
-- a date) gets around it: `*opus*` blocks `anthropic/Claude-Opus-4.1`. Every model that a request names is looked at, fallbacks
-- and advisors included; where a router or a stored prompt chooses the model unseen, a list of models refuses the request.

local function refused(what)
	return deny({ status = 403, code = what .. "_blocked", message = what .. " is blocked" })
end

local names = { type = "list", default = {}, items = { type = "glob" } }

-- Nil where nothing is listed, so that a call is not asked for what it need not say.
local function patterns(list, over)
	return if #list > 0 then globs(list, over) else nil
end

return {
	name = "block",
	version = "1",
	priority = 10,
	description = "refuses blocked keys, agents, users, tenants and models",
	schema = {
		keys = { type = "list", default = {}, items = { type = "glob" }, description = "patterns over whole keys" },
		fingerprints = { type = "list", default = {}, items = { type = "string" } },
		agents = names,
		users = names,
		tenants = names,
		models = names,
	},

	setup = function(conf)
		local book = {
			keys = patterns(conf.keys),
			agent = patterns(conf.agents),
			user = patterns(conf.users),
			tenant = patterns(conf.tenants),
			model = patterns(conf.models, "models"),
		}
		if #conf.fingerprints > 0 then
			local yes = {}
			for at = 1, #conf.fingerprints do
				yes[at] = true
			end
			book.fingerprints = choose(conf.fingerprints, yes, "exact")
		end
		return if next(book) then book else false
	end,

	request = function(_, call, book)
		if book.keys and book.keys:first(call.key) then
			return deny({ status = 403, code = "key_blocked", message = "API key is blocked" })
		end
		if book.fingerprints and book.fingerprints:of(call.key.fingerprint) then
			return deny({ status = 403, code = "key_blocked", message = "API key is blocked" })
		end
		if book.agent and book.agent:first(call.agent) then
			return refused("agent")
		elseif book.user and book.user:first(call.user) then
			return refused("user")
		elseif book.tenant and book.tenant:first(call.tenant) then
			return refused("tenant")
		elseif book.model and (call.any_model or book.model:first(call.model)) then
			return refused("model")
		end
		return nil
	end,
}
