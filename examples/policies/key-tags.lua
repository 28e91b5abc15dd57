-- Which team a key belongs to, as a tag: costs --by tag:team, budgets on tag:team, and policies that ask for call.tags.team.
return {
	name = "key-tags",
	version = "1",
	priority = 5,
	schema = {
		keys = {
			type = "list",
			default = {},
			items = { type = "table", fields = { pattern = { type = "glob", required = true }, team = { type = "string", required = true } } },
		},
	},
	setup = function(conf)
		local patterns, teams = {}, {}
		for at, key in conf.keys do
			patterns[at], teams[at] = key.pattern, key.team
		end
		return { team_of = choose(patterns, teams) }
	end,
	tenant = function(_, call, book)
		local team = book.team_of:of(call.key)
		return if team then tag({ name = "team", value = team }) else nil
	end,
}
