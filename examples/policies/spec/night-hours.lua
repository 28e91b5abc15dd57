-- One spec for each hour that matters: `each` makes them.
local function at(hour, conf, expect)
	return { name = `at {hour} UTC`, conf = conf, call = { at = `2026-03-02T{hour}:30:00Z` }, expect = expect }
end
local night = { "deny 403 night: agents rest from 22 to 6 o'clock, Europe/Berlin" }
local small = { from = 1, till = 5, zone = "UTC" }

return {
	policy = "night-hours",
	specs = join(
		each({ "21", "23", "04" }, function(hour)
			return at(hour, nil, night)
		end),
		each({ "05", "12", "20" }, function(hour)
			return at(hour, nil, {})
		end),
		{
			at("03", small, { "deny 403 night: agents rest from 1 to 5 o'clock, UTC" }),
			at("00", small, {}),
			at("06", small, {}),
		}
	),
}
