-- Docs writers do well without the dearest models.
return {
	name = "no-dear-models",
	version = "1",
	request = function(_, call)
		if call.agent == "docs-writer" and call.model:find("opus", 1, true) then
			return deny({ status = 403, code = "model_not_allowed", message = "docs-writer may not use opus" })
		end
	end,
}
