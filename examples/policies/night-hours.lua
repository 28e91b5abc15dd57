-- Agents rest at night, in the office's own time.
return {
	name = "night-hours",
	version = "1",
	schema = {
		from = { type = "integer", default = 22, min = 0, max = 23 },
		till = { type = "integer", default = 6, min = 0, max = 23 },
		zone = { type = "zone", default = "Europe/Berlin" },
	},
	request = function(conf, call)
		local hour = call.at:in_zone(conf.zone).hour
		local late, early = hour >= conf.from, hour < conf.till
		if (late and early) or (conf.from > conf.till and (late or early)) then
			local message = `agents rest from {conf.from} to {conf.till} o'clock, {conf.zone}`
			return deny({ status = 403, code = "night", message = message })
		end
		return nil
	end,
}
