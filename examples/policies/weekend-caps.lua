-- Less to spend at weekends: nobody is there to look.
return {
	name = "weekend-caps",
	version = "1",
	schema = {
		weekday = { type = "usd", default = "50", description = "USD for each key and day" },
		weekend = { type = "usd", default = "5" },
		zone = { type = "zone", default = "UTC" },
	},
	request = function(conf, call)
		-- 1 is Monday, 7 is Sunday.
		local is_weekend = call.at:in_zone(conf.zone).weekday >= 6
		local limit = if is_weekend then conf.weekend else conf.weekday
		return budget({ account = "key", window = "day", limit = limit, zone = conf.zone })
	end,
}
