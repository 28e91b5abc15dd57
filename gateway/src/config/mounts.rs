//! Hosts that speak another dialect than their own at some of their paths, as data.

/// At `from`, behind the provider's prefix, the host speaks `dialect`, whose own paths begin with `to` there. What goes
/// upstream is the path as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The type or the name of the providers that have it.
    of: &'static str,
    /// Whole segments; `{any}` takes any one.
    from: &'static str,
    /// The plugin that reads it.
    pub dialect: &'static str,
    to: &'static str,
}

const fn mount(of: &'static str, from: &'static str, dialect: &'static str, to: &'static str) -> Mount {
    Mount { of, from, dialect, to }
}

const MOUNTS: [Mount; 13] = [
    // https://ai.google.dev/gemini-api/docs/openai
    mount("gemini", "/v1beta/openai", "openai", "/v1"),
    // Claude on Vertex: Anthropic's answers at Google's paths, which Anthropic's plugin knows by itself.
    // https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai
    mount("vertex", "", "anthropic", ""),
    // https://cloud.google.com/vertex-ai/generative-ai/docs/start/openai
    mount(
        "vertex",
        "/v1/projects/{any}/locations/{any}/endpoints/openapi",
        "openai",
        "/v1",
    ),
    // https://docs.cohere.com/docs/compatibility-api
    mount("cohere", "/compatibility/v1", "openai", "/v1"),
    // Perplexity's own paths: https://docs.perplexity.ai/api-reference/sonar-post and the one before it, without a version.
    mount("perplexity", "/v1/sonar", "openai", "/v1/chat/completions"),
    mount("perplexity", "", "openai", "/v1"),
    // Fill-in-the-middle is a completion: https://docs.mistral.ai/api/endpoint/fim
    mount("mistral", "/v1/fim", "openai", "/v1"),
    // https://api-docs.deepseek.com/api/create-chat-completion, /api/create-completion, /guides/anthropic_api
    mount("deepseek", "", "openai", "/v1"),
    mount("deepseek", "/beta", "openai", "/v1"),
    mount("deepseek", "/anthropic", "anthropic", ""),
    // Hosts that answer `/v1/messages` too: https://openrouter.ai/docs/api/api-reference/anthropic-messages,
    // https://docs.fireworks.ai/tools-sdks/anthropic-compatibility, https://docs.ollama.com/api/anthropic-compatibility
    mount("openrouter", "", "anthropic", ""),
    mount("fireworks", "", "anthropic", ""),
    mount("ollama", "", "anthropic", ""),
];

/// The mounts of a provider, by its type and its name.
pub fn of(kind: &str, name: &str) -> Vec<&'static Mount> {
    MOUNTS
        .iter()
        .filter(|mount| mount.of == kind || mount.of == name)
        .collect()
}

impl Mount {
    /// The path as the mounted dialect knows it; `None`: it lies outside.
    pub fn inside(&self, path: &str) -> Option<String> {
        let mut rest = path;
        for wanted in self.from.split('/').skip(1) {
            let (segment, after) = rest.strip_prefix('/').map(cut)?;
            if segment.is_empty() || (wanted != "{any}" && wanted != segment) {
                return None;
            }
            rest = after;
        }
        (rest.is_empty() || rest.starts_with('/')).then(|| format!("{}{rest}", self.to))
    }
}

/// The first segment, and what follows it.
fn cut(path: &str) -> (&str, &str) {
    path.find('/')
        .and_then(|at| path.split_at_checked(at))
        .unwrap_or((path, ""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_are_those_of_the_mounted_dialect() {
        let inside = |kind: &str, path: &str| -> Vec<(&str, String)> {
            let mounts = of(kind, kind).into_iter();
            mounts
                .filter_map(|mount| Some((mount.dialect, mount.inside(path)?)))
                .collect()
        };
        let openai = |path: &str| vec![("openai", path.to_owned())];
        assert_eq!(
            inside("gemini", "/v1beta/openai/chat/completions"),
            openai("/v1/chat/completions")
        );
        assert_eq!(inside("gemini", "/v1beta/openaix/chat/completions"), []);
        assert_eq!(inside("gemini", "/v1beta/openai"), openai("/v1"));
        assert_eq!(
            inside("cohere", "/compatibility/v1/embeddings"),
            openai("/v1/embeddings")
        );
        assert_eq!(
            inside("perplexity", "/chat/completions"),
            openai("/v1/chat/completions")
        );
        assert_eq!(inside("mistral", "/v1/fim/completions"), openai("/v1/completions"));
        assert_eq!(inside("mistral", "/v1/chat/completions"), []);
        assert_eq!(
            inside("perplexity", "/v1/sonar").first(),
            openai("/v1/chat/completions").first()
        );
        assert!(inside("deepseek", "/anthropic/v1/messages").contains(&("anthropic", "/v1/messages".to_owned())));
        let on_vertex = inside(
            "vertex",
            "/v1/projects/p/locations/global/endpoints/openapi/chat/completions",
        );
        assert_eq!(on_vertex.last(), openai("/v1/chat/completions").first());
        assert_eq!(
            inside("vertex", "/v1/projects//locations/x/endpoints/openapi/models").len(),
            1
        );
    }
}
