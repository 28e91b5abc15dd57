//! Azure OpenAI: the dialect of OpenAI at other paths
//! (<https://learn.microsoft.com/en-us/azure/ai-foundry/openai/reference>).

/// What a path of Azure's means in OpenAI's terms: the path there, and the deployment where the path names one.
///
/// | Azure | OpenAI |
/// |---|---|
/// | `/openai/deployments/NAME/chat/completions` | `/v1/chat/completions` |
/// | `/openai/v1/responses` | `/v1/responses` |
/// | `/openai/models` | `/v1/models` |
pub fn in_openai_terms(path: &str) -> Option<(String, Option<&str>)> {
    let rest = path.strip_prefix("/openai/")?;
    if let Some(plain) = rest.strip_prefix("v1/") {
        return Some((format!("/v1/{plain}"), None));
    }
    match rest
        .strip_prefix("deployments/")
        .and_then(|deployed| deployed.split_once('/'))
    {
        Some((name, operation)) if is_name(name) => Some((format!("/v1/{operation}"), Some(name))),
        Some(_) => None,
        None => Some((format!("/v1/{rest}"), None)),
    }
}

/// Azure's own rule for the names of deployments; nothing in it needs decoding.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azures_paths_are_openais() {
        for (azure, openai, deployment) in [
            (
                "/openai/deployments/gpt-4o/chat/completions",
                "/v1/chat/completions",
                Some("gpt-4o"),
            ),
            (
                "/openai/deployments/my_dep.2/embeddings",
                "/v1/embeddings",
                Some("my_dep.2"),
            ),
            ("/openai/v1/responses", "/v1/responses", None),
            ("/openai/v1/chat/completions", "/v1/chat/completions", None),
            ("/openai/responses/resp_1", "/v1/responses/resp_1", None),
            ("/openai/deployments", "/v1/deployments", None),
        ] {
            assert_eq!(in_openai_terms(azure), Some((openai.to_owned(), deployment)), "{azure}");
        }
        for path in [
            "/v1/chat/completions",
            "/openai",
            "/openai/deployments//chat",
            "/openai/deployments/a%2Fb/chat",
        ] {
            assert_eq!(in_openai_terms(path), None, "{path}");
        }
    }
}
