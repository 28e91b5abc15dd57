//! How the providers of this book are called elsewhere: in litellm's list (the first), genai-prices (the second) and models.dev
//! (the third), and which of their ids are not theirs.

/// A provider, as the lists of others have it.
pub struct Vendor {
    pub provider: &'static str,
    /// `litellm_provider` of the first list, by its beginning.
    pub first: &'static [&'static str],
    /// What the first list puts before the ids.
    pub prefixes: &'static [&'static str],
    /// The provider's id in the second list; empty: it does not know it.
    pub second: &'static str,
    /// Its ids in the third.
    pub third: &'static [&'static str],
    /// Ids that are not this provider's models.
    pub skip: fn(&str) -> bool,
}

const fn vendor(
    provider: &'static str,
    first: &'static [&'static str],
    prefixes: &'static [&'static str],
    second: &'static str,
    third: &'static [&'static str],
    skip: fn(&str) -> bool,
) -> Vendor {
    Vendor {
        provider,
        first,
        prefixes,
        second,
        third,
        skip,
    }
}

impl Vendor {
    /// Whether an entry of the first list, by its `litellm_provider`, is this provider's.
    pub fn is_first(&self, name: &str) -> bool {
        // Vertex and Azure are several providers there: `vertex_ai-language-models`, `azure_ai`, `azure_text`.
        let family = |known: &str| {
            name.strip_prefix(known)
                .is_some_and(|rest| rest.starts_with(['-', '_']))
        };
        let families = ["vertex", "azure"].contains(&self.provider);
        self.first
            .iter()
            .any(|known| name == *known || families && family(known))
    }

    /// An id of the first list, without what that puts before it.
    pub fn id<'a>(&self, name: &'a str) -> &'a str {
        self.prefixes
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            .unwrap_or(name)
    }
}

const ALL: fn(&str) -> bool = |_| false;

pub const VENDORS: [Vendor; 17] = [
    // Not OpenAI's own service, by the second reference's own comments: imported from a reseller.
    vendor(
        "openai",
        &["openai", "text-completion-openai"],
        &[],
        "openai",
        &["openai"],
        |id| id.starts_with("gpt-oss-") || id.contains("-image") && id.starts_with("gpt-5") || id == "gpt-4o:extended",
    ),
    vendor("anthropic", &["anthropic"], &[], "anthropic", &["anthropic"], ALL),
    // A place or a size before the id prices a deployment, which no answer names; the routers bill what they route to.
    vendor(
        "azure",
        &["azure"],
        &["azure/", "azure_ai/"],
        "azure",
        &["azure"],
        |id| {
            let place = ["eu/", "us/", "apac/", "us-gov/", "global/", "global-standard/"];
            place.iter().any(|place| id.starts_with(place))
                || id.contains("router")
                || id == "container"
                || id.ends_with(":free")
        },
    ),
    vendor("gemini", &["gemini"], &["gemini/"], "google", &["google"], |id| {
        id.starts_with("claude")
    }),
    vendor("groq", &["groq"], &["groq/"], "groq", &["groq"], ALL),
    vendor("mistral", &["mistral"], &["mistral/"], "mistral", &["mistral"], |id| {
        id.ends_with(":free")
    }),
    vendor(
        "deepseek",
        &["deepseek"],
        &["deepseek/"],
        "deepseek",
        &["deepseek"],
        ALL,
    ),
    vendor(
        "cohere",
        &["cohere", "cohere_chat"],
        &["cohere/"],
        "cohere",
        &["cohere"],
        ALL,
    ),
    vendor("xai", &["xai"], &["xai/"], "x-ai", &["xai"], ALL),
    vendor(
        "perplexity",
        &["perplexity"],
        &["perplexity/"],
        "perplexity",
        &["perplexity"],
        ALL,
    ),
    // Prices by size of model are no ids.
    vendor(
        "together",
        &["together_ai"],
        &["together_ai/"],
        "together",
        &["togetherai"],
        |id| id.starts_with("together-ai-"),
    ),
    vendor(
        "fireworks",
        &["fireworks_ai", "fireworks_ai-embedding-models"],
        &["fireworks_ai/"],
        "fireworks",
        &["fireworks-ai"],
        |id| id.starts_with("fireworks-ai-"),
    ),
    vendor(
        "openrouter",
        &["openrouter"],
        &["openrouter/"],
        "openrouter",
        &["openrouter"],
        ALL,
    ),
    vendor(
        "cerebras",
        &["cerebras"],
        &["cerebras/"],
        "cerebras",
        &["cerebras"],
        ALL,
    ),
    vendor("sambanova", &["sambanova"], &["sambanova/"], "", &["sambanova"], ALL),
    // A region, or provisioned capacity, before the id is not in a request's id; bare Claude ids are another platform's.
    vendor(
        "bedrock",
        &["bedrock", "bedrock_converse"],
        &[],
        "aws",
        &["amazon-bedrock"],
        |id| id.contains('/') || id.starts_with("claude") || id.contains('@'),
    ),
    vendor(
        "vertex",
        &["vertex_ai"],
        &["vertex_ai/"],
        "google",
        &["google-vertex", "google-vertex-anthropic"],
        ALL,
    ),
];
