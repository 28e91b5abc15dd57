//! Which model a path means, and what is known of it by its name.

/// The model behind an ARN where the ARN names it, else what was given. A profile or deployment of the caller's own
/// (`application-inference-profile/…`, `provisioned-model/…`) does not tell its model: its last part stands for it.
pub fn of_path(given: &str) -> &str {
    match given.strip_prefix("arn:") {
        Some(arn) => arn.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(given),
        None => given,
    }
}

/// A router chooses among models, and a stored prompt names its own: the path does not tell which one serves.
/// <https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-routing.html>,
/// <https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-management.html>
pub fn is_chosen_elsewhere(given: &str) -> bool {
    let resource = given.strip_prefix("arn:").and_then(|arn| arn.splitn(5, ':').nth(4));
    let kind = resource.and_then(|resource| resource.split('/').next());
    kind.is_some_and(|kind| matches!(kind, "prompt-router" | "default-prompt-router" | "prompt"))
}

/// Models that rank documents.
pub fn ranks(model: &str) -> bool {
    model.contains("rerank")
}

/// Models that give no text: their output is not held.
pub fn gives_no_text(model: &str) -> bool {
    ["embed", "rerank", "image", "canvas", "stability."]
        .iter()
        .any(|word| model.contains(word))
}

/// Where the body of a model's own dialect limits its output. `None`: the name does not tell.
pub fn output_limit(model: &str) -> Option<&'static str> {
    let families = [
        ("anthropic.", "max_tokens"),
        ("amazon.nova", "inferenceConfig.maxTokens"),
        ("amazon.titan-t", "textGenerationConfig.maxTokenCount"),
        ("meta.", "max_gen_len"),
        ("mistral.", "max_tokens"),
        ("cohere.", "max_tokens"),
        ("ai21.", "max_tokens"),
        ("deepseek.", "max_tokens"),
        ("openai.", "max_completion_tokens"),
        ("qwen.", "max_tokens"),
    ];
    let family = families.iter().find(|(name, _)| model.contains(name));
    family.map(|(_, path)| *path)
}
