local conf = { keys = { { pattern = "sk-web-*", team = "web" }, { pattern = "sk-*", team = "other" } } }

return {
	policy = "key-tags",
	specs = {
		{ name = "the first pattern that fits counts", conf = conf, call = { key = "sk-web-1" }, expect = { "tag team=web" } },
		{ name = "the next one takes the rest", conf = conf, call = { key = "sk-1" }, expect = { "tag team=other" } },
		{ name = "the client's own tag does not count", conf = conf, call = { key = "sk-1", tags = { team = "web" } }, expect = { "tag team=other" } },
		{ name = "a key of nobody's", conf = conf, call = { key = "x" }, expect = {} },
	},
}
