-- More for each tenant until a date, and the usual budget from then on: nobody has to remember to take it back.
return {
	name = "top-up",
	version = "1",
	schema = {
		limit = { type = "usd", default = "100", description = "USD for each tenant and month" },
		extra = { type = "usd", default = "50", description = "on top, exactly" },
		till = { type = "time", default = "2026-12-31" },
	},
	setup = function(conf)
		return {
			usual = limits({ { window = "month", limit = conf.limit } }),
			raised = limits({ { window = "month", limit = conf.limit, plus = { conf.extra } } }),
		}
	end,
	request = function(conf, call, book)
		local now = if call.at.ms < conf.till then book.raised else book.usual
		return now:on("tenant")
	end,
}
