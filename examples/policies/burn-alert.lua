-- Says so, once a day, when the month's money will not last the month at the pace so far.
return {
	name = "burn-alert",
	version = "1",
	schema = {
		monthly = { type = "usd", default = "1000" },
		from_share = { type = "number", default = 0.1, min = 0, max = 1, description = "quiet until so much is spent" },
	},
	request = function(conf, call)
		local at, monthly, so_far = call.at, tonumber(conf.monthly), spent("global", "month")
		local days = at.day - 1 + at.hour / 24
		if so_far <= monthly * conf.from_share or days < 1 then
			return nil
		end
		local ends = math.floor(days * monthly / so_far) + 1
		if ends >= 30 then
			return nil
		end
		local message = string.format("$%.2f of $%s spent: at this pace it ends on day %d", so_far, conf.monthly, ends)
		local day = `{at.year}-{at.month}-{at.day}`
		return alert({ type = "burning_fast", message = message, about = day, cooldown_mins = 1440 })
	end,
}
