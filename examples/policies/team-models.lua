-- Each team may use the models on its list, and no other. The team is the tag `team` of the call.
return {
	name = "team-models",
	version = "1",
	schema = {
		teams = { type = "map", default = {}, items = { type = "list", items = { type = "glob" } } },
	},
	setup = function(conf)
		local allowed = {}
		for team, models in conf.teams do
			allowed[team] = globs(models)
		end
		return allowed
	end,
	request = function(_, call, allowed)
		local team = call.tags.team or "(none)"
		local models = allowed[team]
		-- Where a router chooses the model nobody knows whether it is on the list.
		if call.free or (models and not call.any_model and models:first(call.model)) then
			return nil
		end
		return deny({ code = "model_not_allowed", message = `team {team} may not use {call.model}` })
	end,
}
