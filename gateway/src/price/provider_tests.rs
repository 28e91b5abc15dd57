//! Costs worked out by hand, for each kind of row and each provider with a form of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use agentledger_ledger::{Kind, Usage};

use super::tests::{CHECKED_MS, builtin, in_out};
use super::*;

/// Nano-dollars. Products in the comments are micro-dollars: tokens × USD per million.
fn cost(provider: &str, model: &str, tier: Option<&str>, kinds: &[(Kind, u64)]) -> i64 {
    reasoned(provider, model, tier, kinds, 0)
}

fn reasoned(provider: &str, model: &str, tier: Option<&str>, kinds: &[(Kind, u64)], reasoning: u64) -> i64 {
    let book = builtin();
    let quote = book
        .find(provider, model, CHECKED_MS)
        .unwrap_or_else(|| panic!("{provider} {model} is unpriced"));
    let usage: Usage = kinds.iter().copied().collect();
    let fallbacks = quote.fallbacks(&usage, tier);
    assert!(fallbacks.is_empty(), "{provider} {model}: {fallbacks}");
    quote.cost_of(&usage, reasoning, tier).nanos()
}

#[test]
fn gemini_has_audio_tiers_long_context_and_grounding() {
    use Kind::*;
    let talk = [
        (Input, 1_000),
        (CacheRead, 2_000),
        (AudioInput, 500),
        (Output, 300),
        (WebSearch, 1),
    ];
    // 300 + 60 + 500 + 750 + 35000
    assert_eq!(cost("gemini", "gemini-2.5-flash", None, &talk), 36_610_000);
    let text = [(Input, 1_000), (CacheRead, 1_000), (Output, 1_000)];
    assert_eq!(
        cost("gemini", "models/gemini-2.5-flash", Some("flex"), &text),
        1_430_000
    ); // 150 + 30 + 1250
    assert_eq!(cost("gemini", "gemini-2.5-flash", Some("priority"), &text), 5_094_000); // 540 + 54 + 4500
    assert_eq!(cost("gemini", "gemini-2.5-flash", Some("batch"), &text), 1_430_000);
    // 200,000 exactly is short; one token more and the whole request costs more, thoughts (inside output) too.
    assert_eq!(
        cost(
            "gemini",
            "gemini-2.5-pro",
            None,
            &[(Input, 199_000), (CacheRead, 1_000), (Output, 10)]
        ),
        248_975_000
    );
    assert_eq!(
        cost(
            "gemini",
            "gemini-2.5-pro",
            None,
            &[(Input, 199_001), (CacheRead, 1_000), (Output, 10)]
        ),
        497_902_500
    );
    // An image of 1,290 tokens: 30 + 38700
    assert_eq!(
        cost(
            "gemini",
            "gemini-2.5-flash-image",
            None,
            &[(Input, 100), (ImageOutput, 1_290)]
        ),
        38_730_000
    );
    assert_eq!(cost("gemini", "gemini-embedding-001", None, &[(Input, 1_000)]), 150_000);
}

#[test]
fn perplexity_bills_searches_by_request_and_reasoning_apart() {
    use Kind::*;
    let asked = [(Input, 100), (Output, 200), (Request, 1), (WebSearch, 1)];
    assert_eq!(cost("perplexity", "sonar-pro", None, &asked), 9_300_000); // 300 + 3000 + 6000
    assert_eq!(cost("perplexity", "sonar-pro", Some("search_low"), &asked), 9_300_000);
    assert_eq!(
        cost("perplexity", "sonar-pro", Some("search_medium"), &asked),
        13_300_000
    );
    assert_eq!(cost("perplexity", "sonar-pro", Some("search_high"), &asked), 17_300_000);
    // Where the fee does not go by it, a size is no tier.
    assert_eq!(cost("openai", "gpt-4o", Some("search_high"), &[(Input, 100)]), 250_000);
    // 40,000 of 42,000 output tokens are reasoning: 200 + 16000 + 120000 + 30 × 5000
    let research = [(Input, 100), (Output, 42_000), (WebSearch, 30)];
    assert_eq!(
        reasoned("perplexity", "sonar-deep-research", None, &research, 40_000),
        286_200_000
    );
    // Never more reasoning than output.
    assert_eq!(
        reasoned("perplexity", "sonar-deep-research", None, &[(Output, 10)], 50),
        30_000
    );
    // Elsewhere reasoning is output like any other.
    assert_eq!(reasoned("openai", "gpt-5.4", None, &[(Output, 10)], 10), 150_000);
}

#[test]
fn fees_are_by_the_second_character_image_page_and_search() {
    use Kind::*;
    assert_eq!(cost("groq", "whisper-large-v3", None, &[(Second, 60)]), 1_849_800); // 60 × 30.83
    assert_eq!(cost("openai", "whisper-1", None, &[(Second, 60)]), 6_000_000);
    assert_eq!(
        cost("groq", "canopylabs/orpheus-v1-english", None, &[(Character, 100)]),
        2_200_000
    );
    assert_eq!(cost("xai", "grok-imagine-image", None, &[(Image, 3)]), 60_000_000);
    assert_eq!(cost("mistral", "mistral-ocr-4-1", None, &[(Page, 7)]), 28_000_000);
    assert_eq!(
        cost("mistral", "mistral-ocr-4-1", Some("batch"), &[(Page, 7)]),
        14_000_000
    );
    assert_eq!(cost("cohere", "rerank-v3.5", None, &[(Request, 2)]), 4_000_000);
    assert_eq!(
        cost("openai", "gpt-4o-search-preview", None, &[(Input, 4), (Request, 1)]),
        25_010_000
    );
    assert_eq!(
        cost("cohere", "embed-v4.0", None, &[(Input, 1_000), (ImageInput, 1_000)]),
        590_000
    );
}

#[test]
fn every_other_provider_to_the_nano_dollar() {
    use Kind::*;
    let both = [(Input, 1_000), (Output, 1_000)];
    let cached = [(Input, 1_000), (CacheRead, 1_000), (Output, 1_000)];
    assert_eq!(cost("groq", "openai/gpt-oss-120b", Some("on_demand"), &cached), 825_000); // 150 + 75 + 600
    assert_eq!(cost("mistral", "mistral-large-latest", None, &cached), 2_050_000); // 500 + 50 + 1500
    assert_eq!(cost("deepseek", "deepseek-v4-flash", None, &cached), 1_506_000); // 300 + 6 + 1200
    assert_eq!(cost("cohere", "command-r7b-12-2024", None, &both), 187_500); // 37.5 + 150
    assert_eq!(cost("together", "zai-org/GLM-5.3", None, &cached), 6_060_000); // 1400 + 260 + 4400
    let fireworks = "accounts/fireworks/models/kimi-k3";
    assert_eq!(cost("fireworks", fireworks, None, &cached), 18_300_000); // 3000 + 300 + 15000
    assert_eq!(cost("fireworks", "kimi-k3", Some("priority"), &cached), 22_875_000);
    assert_eq!(cost("cerebras", "gpt-oss-120b", None, &both), 1_100_000);
    assert_eq!(cost("sambanova", "DeepSeek-V3.1", None, &both), 7_500_000);
    assert_eq!(cost("openrouter", "openai/gpt-4o", None, &both), 12_500_000);
    assert_eq!(
        cost("openrouter", "agentica-org/deepcoder-14b-preview:free", None, &both),
        0
    );
    assert_eq!(cost("xai", "grok-4.3", None, &cached), 3_950_000); // 1250 + 200 + 2500
    let long = [(Input, 200_001), (Output, 1_000)];
    assert_eq!(cost("xai", "grok-4.3", None, &long), 505_002_500); // 500002.5 + 5000
    assert_eq!(cost("xai", "grok-4.3", Some("batch"), &long), 404_002_000);
    let azure = [(Input, 272_001), (CacheRead, 0), (Output, 1_000)];
    assert_eq!(cost("azure", "gpt-5.4-2026-03-05", None, &azure), 1_382_505_000); // 1360005 + 22500
    assert_eq!(cost("azure", "gpt-5.4", Some("priority"), &both), 35_000_000);
}

#[test]
fn bedrock_and_vertex_price_their_regional_and_dated_ids() {
    use Kind::*;
    let writes = [
        (Input, 1_000),
        (CacheRead, 1_000),
        (CacheWrite5m, 1_000),
        (CacheWrite1h, 1_000),
        (Output, 1_000),
    ];
    // 3000 + 300 + 3750 + 6000 + 15000, and a tenth more in a region
    let global = "global.anthropic.claude-sonnet-4-5-20250929-v1:0";
    assert_eq!(cost("bedrock", global, None, &writes), 28_050_000);
    for regional in [
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "jp.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "anthropic.claude-sonnet-4-5-20250929-v1:0",
        "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-sonnet-4-5-20250929-v1:0",
    ] {
        assert_eq!(cost("bedrock", regional, None, &writes), 30_855_000, "{regional}");
    }
    for claude in [
        "claude-sonnet-4-5@20250929",
        "publishers/anthropic/models/claude-sonnet-4-5",
    ] {
        assert_eq!(cost("vertex", claude, None, &writes), 28_050_000, "{claude}");
    }
    assert_eq!(
        cost(
            "vertex",
            "google/gemini-2.5-pro",
            None,
            &[(Input, 1_000), (Output, 1_000)]
        ),
        11_250_000
    );
    assert_eq!(
        cost(
            "bedrock",
            "us.amazon.nova-lite-v1:0",
            None,
            &[(Input, 1_000), (Output, 1_000)]
        ),
        300_000
    );
}

/// An embedding model that no book knows is unpriced: it never takes the row of a chat model whose name it begins with.
#[test]
fn embeddings_are_never_priced_as_chat() {
    let book = builtin();
    for (provider, model) in [
        ("openai", "text-embedding-4-large"),
        ("openai", "gpt-4o-embedding"),
        ("gemini", "gemini-embedding-3"),
        ("gemini", "gemini-2.5-flash-embedding"),
        ("mistral", "mistral-small-embed"),
        ("cohere", "embed-v4.0-mini"),
        ("cohere", "command-r-embed"),
        ("bedrock", "amazon.titan-embed-text-v9:0"),
        ("azure", "gpt-4o-embedding"),
        ("fireworks", "kimi-k3-embedding"),
    ] {
        assert!(book.row(provider, model).is_none(), "{model}");
    }
    for (provider, model) in [
        ("openai", "text-embedding-3-small"),
        ("gemini", "gemini-embedding-001"),
        ("mistral", "mistral-embed"),
        ("cohere", "embed-v4.0"),
        ("bedrock", "amazon.titan-embed-text-v2:0"),
        ("azure", "text-embedding-3-small"),
        ("vertex", "text-embedding-005"),
        ("fireworks", "nomic-ai/nomic-embed-text-v1.5"),
    ] {
        // No output is held for it.
        assert_eq!(book.row(provider, model).unwrap().max_output(), Some(0), "{model}");
    }
}

/// The contract's table: each of its models has a row, under its provider, at its price of today (input, output).
#[test]
fn every_model_of_the_contracts_table_is_priced() {
    let book = builtin();
    let openai = "gpt-4.1 2 8, gpt-4.1-mini 0.4 1.6, gpt-4.1-nano 0.1 0.4, gpt-4o 2.5 10, gpt-4o-mini 0.15 0.6, o3 2 8, \
        o3-pro 20 80, o3-mini 1.1 4.4, o4-mini 1.1 4.4, o1 15 60, o1-pro 150 600, o1-mini 1.1 4.4, gpt-5.4-pro 30 180, \
        gpt-5.4 2.5 15, gpt-5.3-codex 1.75 14, gpt-5.3-chat 1.75 14, gpt-5.2-pro 21 168, gpt-5.2-codex 1.75 14, \
        gpt-5.2-chat 1.75 14, gpt-5.2 1.75 14, gpt-5.1-codex-max 1.25 10, gpt-5.1-codex-mini 0.25 2, gpt-5.1-codex 1.25 10, \
        gpt-5.1-chat 1.25 10, gpt-5.1 1.25 10, gpt-5-pro 15 120, gpt-5-codex 1.25 10, gpt-5-chat 1.25 10, gpt-5-mini 0.25 2, \
        gpt-5-nano 0.05 0.4, gpt-5 1.25 10, gpt-4-turbo 10 30, gpt-4 30 60, gpt-3.5-turbo 0.5 1.5";
    let anthropic = "claude-opus-4.6 5 25, claude-opus-4.5 5 25, claude-sonnet-4.6 3 15, claude-sonnet-4.5 3 15, \
        claude-haiku-4.5 1 5, claude-opus-4.1 15 75, claude-opus-4 15 75, claude-sonnet-4 3 15, claude-3.7-sonnet 3 15, \
        claude-3.5-sonnet 3 15, claude-3.5-haiku 0.8 4, claude-3-opus 15 75, claude-3-haiku 0.25 1.25";
    let others = [
        (
            "gemini",
            "gemini-2.5-pro 1.25 10, gemini-2.5-flash 0.3 2.5, gemini-2.0-flash 0.1 0.4, gemini-1.5-pro 1.25 5, gemini-1.5-flash 0.075 0.3",
        ),
        (
            "mistral",
            "mistral-large-latest 0.5 1.5, mistral-small-latest 0.15 0.6, codestral-latest 0.3 0.9, open-mistral-nemo 0.15 0.15",
        ),
        (
            "groq",
            "llama-3.3-70b-versatile 0.59 0.79, llama-3.1-8b-instant 0.05 0.08, mixtral-8x7b-32768 0.24 0.24, gemma2-9b-it 0.2 0.2",
        ),
        ("deepseek", "deepseek-chat 0.28 0.42, deepseek-reasoner 0.28 0.42"),
        (
            "cohere",
            "command-r-plus 2.5 10, command-r 0.15 0.6, command-light 0.3 0.6",
        ),
        ("xai", "grok-3 3 15, grok-3-mini 0.3 0.5, grok-2 2 10"),
        ("perplexity", "sonar-pro 3 15, sonar 1 1, sonar-reasoning 1 5"),
        (
            "together",
            "meta-llama/Llama-3.3-70B-Instruct-Turbo 1.04 1.04, meta-llama/Meta-Llama-3.1-405B-Instruct-Turbo 3.5 3.5, meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo 0.18 0.18, Qwen/Qwen2.5-72B-Instruct-Turbo 1.2 1.2, deepseek-ai/DeepSeek-V3 1.25 1.25",
        ),
        (
            "fireworks",
            "accounts/fireworks/models/llama-v3p3-70b-instruct 0.9 0.9, accounts/fireworks/models/llama-v3p1-8b-instruct 0.1 0.1, accounts/fireworks/models/qwen2p5-72b-instruct 0.9 0.9",
        ),
        ("cerebras", "llama-3.3-70b 0.85 1.2, llama-3.1-8b 0.1 0.1"),
        (
            "sambanova",
            "Meta-Llama-3.3-70B-Instruct 0.6 1.2, Meta-Llama-3.1-8B-Instruct 0.1 0.2",
        ),
    ];
    let mut rows = 0;
    for (provider, table) in [("openai", openai), ("anthropic", anthropic)].into_iter().chain(others) {
        for line in table.split(", ") {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (model, want) = (words[0], (words[1].to_owned(), words[2].to_owned()));
            assert_eq!(in_out(&book, provider, model), want, "{model}");
            assert_eq!(in_out(&book, provider, &model.replace('.', "-")), want, "{model}");
            rows += 1;
        }
    }
    assert_eq!(rows, 83, "all rows of the contract's table");
}

/// A price is found by hashing: with ten thousand rows no more is compared than with ten.
#[test]
fn a_book_of_ten_thousand_rows_answers_like_a_small_one() {
    let mut yaml = String::from("provider: p\nmodels:\n");
    for row in 0..10_000 {
        yaml.push_str(&format!(
            "- {{id: model-{row}, prices: {{always: {{standard: {{input: {row}, output: 1}}}}}}}}\n"
        ));
    }
    let book = PriceBook::empty().with_texts(&[("p.yaml", &yaml)]).unwrap();
    for row in [0, 1, 4_999, 9_999] {
        let quote = book.find("p", &format!("Model-{row}-2026-01-01"), CHECKED_MS).unwrap();
        assert_eq!(quote.unit_price(Kind::Input, 0, None).per_million(), row.to_string());
    }
    assert!(book.find("p", "model-10000", CHECKED_MS).is_none());
    assert_eq!(book.dearest("p", CHECKED_MS).unwrap().row().id(), "model-9999");
}
