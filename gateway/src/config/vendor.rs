//! Whose API an upstream has. Hosts that share a dialect differ in what they serve and what they bill: the routes of a
//! plugin, and what its requests name, go by this.

/// Domains of the vendors that are known by name: an upstream below one of them has that vendor's API, whatever the file
/// calls it.
const DOMAINS: [(&str, &str); 22] = [
    ("openai.com", "openai"),
    ("anthropic.com", "anthropic"),
    ("groq.com", "groq"),
    ("mistral.ai", "mistral"),
    ("deepseek.com", "deepseek"),
    ("generativelanguage.googleapis.com", "gemini"),
    ("aiplatform.googleapis.com", "vertex"),
    ("cohere.com", "cohere"),
    ("cohere.ai", "cohere"),
    ("openai.azure.com", "azure"),
    ("cognitiveservices.azure.com", "azure"),
    ("services.ai.azure.com", "azure"),
    ("together.xyz", "together"),
    ("together.ai", "together"),
    ("fireworks.ai", "fireworks"),
    ("perplexity.ai", "perplexity"),
    ("openrouter.ai", "openrouter"),
    ("x.ai", "xai"),
    ("cerebras.ai", "cerebras"),
    ("sambanova.ai", "sambanova"),
    ("amazonaws.com", "bedrock"),
    ("moonshot.ai", "moonshot"),
];

/// The vendor of a provider: by its upstream's domain, else by its own name, else by the book whose prices it has. `known`
/// says which names are vendors'. Empty where nothing tells: then only rows that hold everywhere count.
pub fn of(name: &str, host: &str, book: &str, known: impl Fn(&str) -> bool) -> String {
    let below = |domain: &str| {
        host.strip_suffix(domain).is_some_and(|rest| {
            rest.is_empty() || rest.ends_with('.') || (domain.starts_with("aiplatform") && rest.ends_with('-'))
        })
    };
    let by_domain = DOMAINS
        .iter()
        .find(|(domain, _)| below(domain))
        .map(|(_, vendor)| *vendor);
    let named = || [name, book].into_iter().find(|one| known(one));
    by_domain.or_else(named).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendor_is_known_by_its_domain_then_by_name_then_by_book() {
        let known = |name: &str| ["openai", "mistral", "openrouter"].contains(&name);
        for (name, host, book, vendor) in [
            ("openai", "openrouter.ai", "openai", "openrouter"),
            ("corp", "eu.api.openai.com", "corp", "openai"),
            ("v", "europe-west4-aiplatform.googleapis.com", "v", "vertex"),
            ("mistral", "127.0.0.1", "mistral", "mistral"),
            ("lab", "127.0.0.1", "mistral", "mistral"),
            ("lab", "notopenai.com", "lab", ""),
        ] {
            assert_eq!(of(name, host, book, known), vendor, "{name} {host}");
        }
    }
}
