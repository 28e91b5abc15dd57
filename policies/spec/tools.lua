local function tool(server, name, more)
	return with({
		operation = "tool",
		provider = "mcp",
		dialect = "mcp",
		model = `{server}:{name}`,
		path = "tools/call",
		tags = { server = server, tool = name },
	}, more or {})
end

local function denied(server, name)
	return { `deny 403 tool_denied: the tool {name} of {server} may not be called` }
end

return {
	policy = "tools",
	specs = {
		{ name = "it sleeps where nothing is listed", call = tool("hub", "search"), expect = {} },
		{ name = "a denied tool is refused", conf = { deny = { "hub:del*" } }, call = tool("hub", "delete"), expect = denied("hub", "delete") },
		{
			name = "no spelling gets around a denial",
			conf = { deny = { "hub:del*" } },
			call = tool("hub", "DELETE/all"),
			expect = denied("hub", "DELETE/all"),
		},
		{ name = "other tools pass", conf = { deny = { "hub:del*" } }, call = tool("hub", "search"), expect = {} },
		{ name = "other servers pass", conf = { deny = { "hub:*" } }, call = tool("files", "search"), expect = {} },
		{ name = "of a list of what is allowed nothing else is", conf = { allow = { "hub:*" } }, call = tool("files", "read"), expect = denied("files", "read") },
		{ name = "what is allowed passes", conf = { allow = { "hub:*" } }, call = tool("hub", "read"), expect = {} },
		{
			name = "a denial counts before what is allowed",
			conf = { allow = { "hub:*" }, deny = { "hub:del*" } },
			call = tool("hub", "delete"),
			expect = denied("hub", "delete"),
		},
		{
			name = "a model is no tool, whatever its name",
			conf = { allow = { "hub:*" } },
			call = { model = "gpt-4o" },
			expect = {},
		},
		{
			name = "the first rule that fits the caller counts, by its key",
			conf = { deny = { "hub:*" }, rules = { { api_key_pattern = "sk-ops-*", allow = { "*:*" } } } },
			call = tool("hub", "delete", { key = "sk-ops-1" }),
			expect = {},
		},
		{
			name = "the rule of another key does not",
			conf = { deny = { "hub:*" }, rules = { { api_key_pattern = "sk-ops-*", allow = { "*:*" } } } },
			call = tool("hub", "delete"),
			expect = denied("hub", "delete"),
		},
		{
			name = "a rule by tenant and agent",
			conf = { rules = { { tenant = "acme", agent = "crawler-*", deny = { "files:*" } } } },
			call = tool("files", "read", { agent = "crawler-7", tenant = "acme" }),
			expect = denied("files", "read"),
		},
		{
			name = "all that a rule names must fit",
			conf = { rules = { { tenant = "acme", agent = "crawler-*", deny = { "files:*" } } } },
			call = tool("files", "read", { agent = "crawler-7" }),
			expect = {},
		},
		{
			name = "a rule by user",
			conf = { rules = { { user = "eve", deny = { "*:*" } } } },
			call = tool("files", "read", { user = "eve" }),
			expect = denied("files", "read"),
		},
		{ name = "a broken pattern is refused", conf = { deny = { "[" } }, call = tool("a", "b"), fails = "conf.deny[1] is a malformed glob" },
	},
}
