-- Which tools of MCP servers may be called, and by whom. Copy this file to `policies/` beside your config to change what it does.
--
--   policies:
--     conf:
--       tools:
--         deny: ["hub:delete_*"]           # patterns over SERVER:TOOL, as entries name a tool
--         allow: ["hub:*", "files:read"]   # where there are any, nothing else may be called
--         rules:                           # the first that fits the caller counts, in place of the lists above
--           - { api_key_pattern: "sk-ops-*", allow: ["*:*"] }
--           - { tenant: acme, agent: "crawler-*", deny: ["files:*"] }
--
-- A tool that is denied is not listed either: a list of tools reaches the caller without it. In deny, `*` crosses `/` and case does
-- not count, so that no spelling gets around it; in allow a name is taken as it is, and `*` stops at `/`.

local patterns = { type = "list", default = {}, items = { type = "glob" } }
local name = { type = "glob" }

-- What a rule says of tools; nil for a list without patterns.
local function lists(rule)
	return {
		deny = if #rule.deny > 0 then globs(rule.deny, "models") else nil,
		allow = if #rule.allow > 0 then globs(rule.allow) else nil,
	}
end

-- Whether a rule is of this caller.
local function fits(rule, call)
	return (rule.key == nil or call.key:matches(rule.key))
		and (rule.tenant == nil or rule.tenant:first(call.tenant) ~= nil)
		and (rule.agent == nil or rule.agent:first(call.agent) ~= nil)
		and (rule.user == nil or rule.user:first(call.user) ~= nil)
end

return {
	name = "tools",
	version = "1",
	priority = 15,
	description = "which tools of MCP servers may be called, by key, tenant, agent and user",
	schema = {
		deny = patterns,
		allow = patterns,
		rules = {
			type = "list",
			default = {},
			items = {
				type = "table",
				fields = {
					api_key_pattern = name,
					tenant = name,
					agent = name,
					user = name,
					deny = patterns,
					allow = patterns,
				},
			},
		},
	},

	setup = function(conf)
		if #conf.deny + #conf.allow + #conf.rules == 0 then
			return false
		end
		local book = { all = lists(conf), rules = {} }
		local function of(pattern)
			return if pattern then globs({ pattern }) else nil
		end
		for at, rule in conf.rules do
			book.rules[at] = {
				key = rule.api_key_pattern,
				tenant = of(rule.tenant),
				agent = of(rule.agent),
				user = of(rule.user),
				lists = lists(rule),
			}
		end
		return book
	end,

	request = function(_, call, book)
		if call.operation ~= "tool" then
			return nil
		end
		local said = book.all
		for _, rule in book.rules do
			if fits(rule, call) then
				said = rule.lists
				break
			end
		end
		local denied = said.deny and said.deny:first(call.model)
		if denied or (said.allow and not said.allow:first(call.model)) then
			return deny({ status = 403, code = "tool_denied", message = `the tool {call.tool} of {call.server} may not be called` })
		end
		return nil
	end,
}
