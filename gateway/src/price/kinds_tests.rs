//! Cases from public bug reports, by their names, and the kinds of fault that they are of: names that find no row, floors,
//! regions, routers, fees, and reasoning that is not shown.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use agentledger_ledger::{Kind, Usage};
use proptest::prelude::*;

use super::tests::{CHECKED_MS, builtin};
use super::*;

fn used(kinds: &[(Kind, u64)]) -> Usage {
    kinds.iter().copied().collect()
}

fn row_of(provider: &str, model: &str) -> Option<String> {
    builtin().row(provider, model).map(|row| row.id().to_owned())
}

fn book(yaml: &str) -> PriceBook {
    PriceBook::empty().with_texts(&[("p.yaml", yaml)]).unwrap()
}

#[test]
fn openrouter_routing_variant() {
    let book = builtin();
    let usage = used(&[(Kind::Input, 10_000), (Kind::Output, 500)]);
    for variant in ["", ":nitro", ":floor", ":exacto", ":NITRO", ":nitro:floor"] {
        let quote = book
            .find("openrouter", &format!("openai/gpt-4o-mini{variant}"), CHECKED_MS)
            .unwrap();
        assert_eq!(quote.cost(&usage, None).nanos(), 1_800_000, "{variant}");
        assert!(quote.fallbacks(&usage, None).is_empty() && quote.added().is_none());
    }
    // A search beside the model, once a request, also beside a free one.
    let online = book
        .find("openrouter", "openai/gpt-4o-mini:online", CHECKED_MS)
        .unwrap();
    assert_eq!(online.added(), Some((Kind::WebSearch, 1)));
    let searched = usage.with(Kind::WebSearch, 1);
    assert_eq!(online.cost(&searched, None).nanos(), 21_800_000);
    assert!(online.fallbacks(&searched, None).is_empty());
    // Free entries without a row of their own, whether or not their base has one.
    for free in [
        "z-ai/glm-4.5-air:free",
        "nobody/new-model:free",
        "z-ai/glm-4.5-air:free:online",
    ] {
        let quote = book.find("openrouter", free, CHECKED_MS).unwrap();
        assert_eq!(quote.cost(&usage, None).nanos(), 0, "{free}");
        assert!(quote.fallbacks(&usage, None).is_empty());
        assert_eq!(quote.added().is_some(), free.ends_with(":online"));
    }
    // Entries of the catalogue have prices of their own: without a row they are none of the base's.
    for own in [":thinking", ":extended", ":batch", ":beta"] {
        assert_eq!(row_of("openrouter", &format!("openai/gpt-4o-mini{own}")), None, "{own}");
    }
    // What is neutral with one provider is not with the next.
    assert_eq!(row_of("openai", "gpt-4o-mini:nitro"), None);
    assert_eq!(row_of("openai", "gpt-4o-mini:free"), None);
}

#[test]
fn names_of_snapshots_places_and_tools_find_their_models() {
    for (provider, model, row) in [
        ("anthropic", "claude-opus-4-5[1m]", "claude-opus-4-5"),
        ("anthropic", "claude-opus-4-5-20251101-v2:0", "claude-opus-4-5"),
        ("anthropic", "claude-opus-4-5:20251101-v1", "claude-opus-4-5"),
        ("bedrock", "apac.anthropic.claude-opus-4-6", "anthropic.claude-opus-4-6"),
        (
            "bedrock",
            "ca.anthropic.claude-opus-4-1-20250805-v1:0",
            "anthropic.claude-opus-4-1",
        ),
        (
            "bedrock",
            "anthropic.claude-opus-4-5-20251101-v3:0",
            "anthropic.claude-opus-4-5",
        ),
        (
            "vertex",
            "projects/p/locations/europe-west4/publishers/google/models/gemini-2.5-pro",
            "gemini-2.5-pro",
        ),
        ("vertex", "publishers/mistralai/models/codestral-2501", "codestral-2501"),
        ("gemini", "models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("fireworks", "accounts/fireworks/models/kimi-k3", "kimi-k3"),
        ("openrouter", "openrouter/openai/gpt-4o", "openai/gpt-4o"),
        ("groq", "Groq/Compound", "groq/compound"),
    ] {
        assert_eq!(row_of(provider, model).as_deref(), Some(row), "{model}");
    }
    for (provider, model) in [
        // Another price in another place.
        ("bedrock", "ca.amazon.nova-lite-v1:0"),
        ("bedrock", "us-gov.anthropic.claude-opus-4-1"),
        // The next version of the model, not of its snapshot.
        ("bedrock", "amazon.titan-embed-text-v7:0"),
        // Somebody's own, of which no name tells the base.
        ("fireworks", "accounts/acme/models/kimi-k3"),
        ("gemini", "tunedModels/mine"),
        ("vertex", "projects/p/locations/l/endpoints/123"),
    ] {
        assert_eq!(row_of(provider, model), None, "{model}");
    }
}

#[test]
fn a_model_of_the_release_day_is_priced_as_its_family() {
    let book = builtin();
    let stand_in = |provider: &str, model: &str| {
        let found = book.stand_in(provider, model, CHECKED_MS).unwrap();
        let output = found.quote.output_price(0, None).per_million();
        (found.quote.row().id().to_owned(), output, found.reason)
    };
    for (provider, model, row, output) in [
        ("openai", "gpt-6.3-sol", "gpt-6-rosalind", "75"),
        ("openai", "openai/GPT-6.1-sol-ultra-2026-12-01", "gpt-6.1-sol", "10"),
        ("anthropic", "claude-haiku-6", "claude-haiku-4-5", "5"),
        (
            "bedrock",
            "eu.anthropic.claude-haiku-6-20261201-v1:0",
            "anthropic.claude-haiku-4-5",
            "5.5",
        ),
        (
            "openrouter",
            "openai/gpt-4o-mini:thinking",
            "openai/gpt-4o-mini-search-preview",
            "0.6",
        ),
        ("deepseek", "deepseek-v9:nobody", "deepseek-r1", ""),
    ] {
        let (found, price, reason) = stand_in(provider, model);
        assert_eq!(reason, estimate_reason::FAMILY_PRICE, "{model}");
        if !output.is_empty() {
            assert_eq!((found.as_str(), price.as_str()), (row, output), "{model}");
        }
    }
    for (provider, model) in [
        ("openai", "o9"),
        ("openai", "zeta"),
        ("openai", "ft:zeta:acme::1"),
        ("bedrock", "us.zeta.one"),
        ("gemini", "tunedModels/mine"),
        ("openai", ""),
    ] {
        let (found, _, reason) = stand_in(provider, model);
        assert_eq!(reason, estimate_reason::UNPRICED_MODEL, "{model}");
        assert_eq!(found, book.dearest(provider, CHECKED_MS).unwrap().row().id());
    }
    assert!(book.stand_in("nobody", "gpt-4o", CHECKED_MS).is_none());
}

#[test]
fn a_family_is_never_free_and_prices_tokens_too() {
    let yaml = "provider: p
models:
- {id: \"gift-one\", prices: {always: {standard: {input: 0, output: 0}}}}
- {id: hear-1, prices: {always: {standard: {second: 0.001}}}}
- {id: hear-2, retired: 2026-01-01, prices: {always: {standard: {second: 0.5}}}}
- {id: chat-large, prices: {always: {standard: {input: 5, output: 9}}, 2027-01-01: {standard: {input: 6, output: 99}}}}
- {id: chat-small, prices: {always: {standard: {input: 1, output: 10}}}}
";
    let book = book(yaml);
    let of = |model: &str, at_ms: i64| book.stand_in("p", model, at_ms).unwrap();
    // All of its family is free: the provider's dearest.
    assert_eq!(of("gift-two", CHECKED_MS).reason, estimate_reason::UNPRICED_MODEL);
    let heard = of("hear-3", CHECKED_MS);
    assert_eq!(
        (heard.quote.row().id(), heard.reason),
        ("hear-1", estimate_reason::FAMILY_PRICE)
    );
    let tokens = used(&[(Kind::Input, 1_000), (Kind::Output, 1_000)]);
    assert_eq!(
        heard.quote.cost(&tokens, None).nanos(),
        105_000_000,
        "tokens cost as the provider's dearest"
    );
    assert_eq!(heard.quote.cost(&used(&[(Kind::Second, 60)]), None).nanos(), 60_000_000);
    // The dearest by the day.
    assert_eq!(of("chat-new", CHECKED_MS).quote.row().id(), "chat-small");
    assert_eq!(
        of("chat-new", day_ms("2027-01-01").unwrap()).quote.row().id(),
        "chat-large"
    );
}

#[test]
fn groq_whisper_floor() {
    let book = builtin();
    for (model, picos_a_second) in [("whisper-large-v3-turbo", 11_110_000), ("whisper-large-v3", 30_830_000)] {
        let quote = book.find("groq", model, CHECKED_MS).unwrap();
        let nanos = |seconds: u64| quote.cost(&used(&[(Kind::Second, seconds)]), None).nanos();
        assert_eq!(nanos(4), 10 * picos_a_second / 1_000, "{model}");
        assert_eq!(nanos(10), nanos(4));
        assert_eq!(nanos(11), 11 * picos_a_second / 1_000);
        assert_eq!(nanos(0), 0, "a request that used none is not billed for ten");
        let billed = quote.billed(&used(&[(Kind::Second, 4)]));
        assert_eq!(billed.get(Kind::Second), 10);
    }
    assert_eq!(
        builtin()
            .find("openai", "whisper-1", CHECKED_MS)
            .unwrap()
            .billed(&used(&[(Kind::Second, 4)])),
        used(&[(Kind::Second, 4)])
    );
}

#[test]
fn mistral_audio_seconds() {
    let quote = builtin();
    let quote = quote.find("mistral", "voxtral-mini-2602", CHECKED_MS).unwrap();
    assert_eq!(quote.cost(&used(&[(Kind::Second, 203)]), None).nanos(), 10_150_000);
}

#[test]
fn openai_regional_host() {
    let book = builtin();
    let at = |provider: &str, model: &str, host: &str, tier: Option<&str>, usage: &Usage| {
        let quote = book.find(provider, model, CHECKED_MS).unwrap().at_host(host);
        let tier_entered = quote.reference(tier).tier.map(|tier| tier.to_string());
        (quote.cost(usage, tier).nanos(), tier_entered)
    };
    let usage = used(&[(Kind::Input, 100_000), (Kind::Output, 1_000)]);
    let regional = Some("regional".to_owned());
    for host in ["eu.api.openai.com", "US.api.openai.com", "jp.api.openai.com"] {
        let found = at("openai", "gpt-5.4-2026-03-05", host, None, &usage);
        assert_eq!(found, (291_500_000, regional.clone()), "{host}");
    }
    for host in ["api.openai.com", "eu.api.openai.com.evil.example", "127.0.0.1"] {
        assert_eq!(
            at("openai", "gpt-5.4", host, None, &usage),
            (265_000_000, None),
            "{host}"
        );
    }
    // An older model costs the same everywhere; fees by the unit do too.
    assert_eq!(at("openai", "gpt-4o", "eu.api.openai.com", None, &usage).1, None);
    let searched = usage.with(Kind::WebSearch, 1);
    assert_eq!(
        at("openai", "gpt-5.4", "eu.api.openai.com", None, &searched).0,
        301_500_000
    );
    let (cost, tier) = at("openai", "gpt-5.4", "eu.api.openai.com", Some("priority"), &usage);
    assert_eq!((cost, tier.as_deref()), (583_000_000, Some("priority_regional")));
    // An entry's tier is priced again as it was.
    let quote = book.find("openai", "gpt-5.4", CHECKED_MS).unwrap();
    for (entered, nanos) in [
        (None, 265_000_000),
        (Some("priority"), 530_000_000),
        (Some("regional"), 291_500_000),
        (Some("priority_regional"), 583_000_000),
    ] {
        let (quote, tier) = quote.as_entered(entered);
        assert_eq!(quote.cost(&usage, tier).nanos(), nanos, "{entered:?}");
    }
    let claude = at(
        "vertex",
        "claude-opus-5",
        "europe-west4-aiplatform.googleapis.com",
        None,
        &usage,
    );
    assert_eq!(claude, (577_500_000, regional)); // 500000 + 25000, and a tenth
    assert_eq!(
        at("vertex", "claude-opus-5", "aiplatform.googleapis.com", None, &usage).1,
        None
    );
    assert_eq!(
        at(
            "vertex",
            "gemini-2.5-pro",
            "europe-west4-aiplatform.googleapis.com",
            None,
            &usage
        )
        .1,
        None
    );
    // Holds take it too.
    let held = quote.at_host("eu.api.openai.com");
    assert_eq!(held.output_price(0, None).per_million(), "16.5");
}

#[test]
fn routers_cost_what_serves_and_their_fee() {
    let book = builtin();
    let usage = used(&[(Kind::Input, 1_000_000), (Kind::Output, 1_000)]);
    let held = book.find("azure", "model-router", CHECKED_MS).unwrap();
    assert_eq!(
        held.fallbacks(&usage, None).reason(),
        Some(estimate_reason::PRICE_FALLBACK)
    );
    assert_eq!(
        held.fallbacks(&usage, None).to_string(),
        "no price for the model that its router chose"
    );
    let Some(Router {
        serves: Serves::Models(models),
        fee,
    }) = book.router("azure", "model-router-2025-11-18", CHECKED_MS)
    else {
        panic!("no router")
    };
    assert_eq!(fee.per_million(), "0.14");
    for model in models {
        let one = book.find("azure", model, CHECKED_MS).unwrap();
        assert!(one.output_price(0, None) <= held.output_price(0, None), "{model}");
    }
    // The answer names the model that served: 0.1 + 0.14 a million, and 0.4 of output.
    let served = book
        .find_answered("azure", "model-router", "gpt-4.1-nano-2025-04-14", CHECKED_MS)
        .unwrap();
    assert_eq!(served.cost(&usage, None).nanos(), 240_400_000);
    assert!(served.fallbacks(&usage, None).is_empty());
    assert_eq!(&*served.reference(None).id, "gpt-4.1-nano");
    // An answer that names the router tells nothing.
    let unnamed = book
        .find_answered("azure", "model-router", "model-router", CHECKED_MS)
        .unwrap();
    assert!(!unnamed.fallbacks(&usage, None).is_empty());
    assert!(book.router("azure", "gpt-4.1", CHECKED_MS).is_none());

    let auto = book.find("openrouter", "openrouter/auto:online", CHECKED_MS).unwrap();
    assert_eq!(auto.added(), Some((Kind::WebSearch, 1)));
    assert!(auto.output_price(0, None) < book.dearest("openrouter", CHECKED_MS).unwrap().output_price(0, None));
    let answered = book
        .find_answered("openrouter", "openrouter/auto:online", "openai/gpt-4o", CHECKED_MS)
        .unwrap();
    assert_eq!(
        (answered.row().id(), answered.added()),
        ("openai/gpt-4o", Some((Kind::WebSearch, 1)))
    );
    // A paid model that answers for a free one is paid.
    let paid = book
        .find_answered("openrouter", "openai/gpt-4o:free", "openai/gpt-4o", CHECKED_MS)
        .unwrap();
    assert_eq!(paid.output_price(0, None).per_million(), "10");
    // A router never stands in for a model, whatever its fee.
    for provider in book.providers() {
        assert!(book.dearest(provider, CHECKED_MS).unwrap().row().is_model());
    }
    let all = book_of_router("[\"*\"]");
    assert_eq!(all.find("p", "any", 0).unwrap().row().id(), "dear");
    let told = check::check(&book_of_router("[gone]"), 0, None);
    assert!(
        told[0]
            .to_string()
            .ends_with("p any: it serves `gone`, which this book does not have"),
        "{told:?}"
    );
}

fn book_of_router(serves: &str) -> PriceBook {
    book(&format!(
        "provider: p\nmodels:\n- {{id: any, serves: {serves}, prices: {{always: {{standard: {{input: 900}}}}}}}}\n- {{id: dear, prices: {{always: {{standard: {{input: 1, output: 2}}}}}}}}\n"
    ))
}

#[test]
fn responses_file_search_container_and_other_hosted_tools_have_prices() {
    use Kind::*;
    let book = builtin();
    for (provider, model, kind, picos) in [
        ("openai", "gpt-5.4", FileSearch, 2_500_000_000_i64),
        ("openai", "gpt-4o", Container, 30_000_000_000),
        ("azure", "gpt-5.4", Container, 33_000_000_000),
        ("xai", "grok-4.3", CodeExecution, 5_000_000_000),
        ("xai", "grok-4.3", WebSearch, 5_000_000_000),
        ("xai", "grok-4.3", Attachment, 10_000_000_000),
        ("xai", "grok-4.3", FileSearch, 2_500_000_000),
        ("mistral", "mistral-large-latest", WebSearch, 30_000_000_000),
        ("gemini", "gemini-2.5-flash", Maps, 25_000_000_000),
        ("gemini", "gemini-3-flash-preview", Maps, 14_000_000_000),
        ("gemini", "gemini-3-flash-preview", WebFetch, 0),
        ("anthropic", "claude-opus-5", WebFetch, 0),
        ("groq", "openai/gpt-oss-120b", WebSearch, 5_000_000_000),
        ("groq", "llama-3.3-70b-versatile", WebSearch, 8_000_000_000),
        ("perplexity", "openai/gpt-5.2", WebFetch, 500_000_000),
    ] {
        let quote = book.find(provider, model, CHECKED_MS);
        let Some(quote) = quote else {
            panic!("{provider} {model}")
        };
        assert_eq!(
            quote.unit_price(kind, 0, None).picos(),
            picos,
            "{provider} {model} {kind:?}"
        );
        assert!(
            quote.fallbacks(&used(&[(kind, 1)]), None).is_empty(),
            "{provider} {model} {kind:?}"
        );
        assert!(quote.states(kind, Some("batch")), "the same in every tier");
    }
    // Hosted code of Groq's has no price here, and says so.
    let code = book.find("groq", "openai/gpt-oss-120b", CHECKED_MS).unwrap();
    assert_eq!(
        code.fallbacks(&used(&[(CodeExecution, 1)]), None).reason(),
        Some(estimate_reason::UNPRICED_UNIT)
    );
}

#[test]
fn gemini_maps_grounding_and_chat_image_output_and_responses_image_tool() {
    use Kind::*;
    let book = builtin();
    let cost = |provider: &str, model: &str, kinds: &[(Kind, u64)]| {
        let quote = book.find(provider, model, CHECKED_MS).unwrap();
        assert!(quote.fallbacks(&used(kinds), None).is_empty(), "{model}");
        quote.cost(&used(kinds), None).nanos()
    };
    assert_eq!(
        cost(
            "gemini",
            "gemini-2.5-flash",
            &[(Input, 1_000), (Output, 250), (Maps, 1)]
        ),
        25_925_000
    );
    for (provider, model) in [
        ("gemini", "gemini-2.5-flash-image"),
        ("openrouter", "google/gemini-2.5-flash-image"),
    ] {
        assert_eq!(
            cost(provider, model, &[(Input, 20), (Output, 10), (ImageOutput, 1_290)]),
            38_731_000
        );
    }
    // 60 of text, 4160 of the picture, beside the answer's own 0.0065.
    let picture = cost("openai", "gpt-image-1.5", &[(Input, 60), (ImageOutput, 4_160)]);
    assert_eq!(
        picture + cost("openai", "gpt-5.4", &[(Input, 2_000), (Output, 100)]),
        139_920_000
    );
}

#[test]
fn a_files_fees_are_of_rows_that_state_none_and_a_later_file_changes_them() {
    let list = |fee: &str| format!("provider: p\nfees: {{web_search: {fee}}}\nmodels: []\n");
    let rows = "provider: p\nmodels:\n- {id: own, prices: {always: {standard: {input: 1, web_search: 0.5}}}}\n- {id: plain, prices: {always: {standard: {input: 1}}}}\n";
    let one = PriceBook::empty()
        .with_texts(&[("r.yaml", rows), ("f.yaml", &list("0.1"))])
        .unwrap();
    let two = one.with_texts(&[("g.yaml", &list("0.2"))]).unwrap();
    let fee = |book: &PriceBook, model: &str| {
        let quote = book.find("p", model, 0).unwrap();
        assert!(quote.states(Kind::WebSearch, None), "{model}");
        quote.unit_price(Kind::WebSearch, 0, None).picos()
    };
    assert_eq!(
        (fee(&one, "own"), fee(&one, "plain")),
        (500_000_000_000, 100_000_000_000)
    );
    assert_eq!(
        (fee(&two, "own"), fee(&two, "plain")),
        (500_000_000_000, 200_000_000_000)
    );
}

#[test]
fn models_that_think_unseen_are_told_and_what_is_unknown_is_one() {
    let book = builtin();
    for (provider, model, unseen) in [
        ("openai", "gpt-5.4", true),
        ("openai", "o3-mini", true),
        ("openai", "gpt-9", true),
        ("openai", "gpt-4o-mini-2024-07-18", false),
        ("openai", "openai/gpt-4.1", false),
        ("openai", "gpt-4o5", true),
        ("openai", "gpt-realtime-2.1", true),
        ("openai", "gpt-realtime", false),
        ("openai", "ft:gpt-4o:acme::1", false),
        ("anthropic", "claude-opus-5", true),
        ("anthropic", "claude-3-7-sonnet-latest", false),
        ("gemini", "models/gemini-2.5-flash", true),
        ("gemini", "gemini-2.0-flash", false),
        ("gemini", "gemini-2.0-flash-thinking-exp", true),
        ("bedrock", "eu.anthropic.claude-3-haiku-20240307-v1:0", false),
        ("bedrock", "eu.anthropic.claude-opus-5", true),
        ("deepseek", "deepseek-reasoner", false),
        ("openrouter", "openai/gpt-4o:nitro", false),
        ("openrouter", "anthropic/claude-3.7-sonnet", true),
        ("perplexity", "sonar-deep-research", true),
        ("nobody", "gpt-4o", true),
    ] {
        assert_eq!(book.thinks_unseen(provider, model), unseen, "{provider} {model}");
    }
    assert!(book.thinks_unseen("openai", &"g".repeat(1_000)));
}

fn listed(ids: &[(String, u32, u32)]) -> String {
    let mut yaml = String::from("provider: p\nmodels:\n");
    for (at, (id, input, output)) in ids.iter().enumerate() {
        // The number keeps ids apart.
        yaml.push_str(&format!(
            "- {{id: \"{id}-n{at}\", prices: {{always: {{standard: {{input: {input}, output: {output}}}}}}}}}\n"
        ));
    }
    yaml
}

proptest! {
    /// The family's price is no less than that of any row that begins alike, and at most that of the provider's dearest; rows
    /// that are added make it no cheaper.
    #[test]
    fn a_family_costs_no_less_than_each_of_its_rows(
        ids in prop::collection::vec(("(gpt|claude|ab)(-[1-3])?(-(mini|pro))?", 0u32..50, 1u32..50), 1..12),
        model in "(gpt|claude|ab|zz)(-[1-4])?(-(mini|max))?(:x)?",
    ) {
        let rows = book(&listed(&ids));
        let found = rows.stand_in("p", &model, 0).unwrap();
        let price = found.quote.output_price(0, None);
        prop_assert!(price <= rows.dearest("p", 0).unwrap().output_price(0, None));
        let folded = id::key(&model);
        let longest = (1..=folded.len()).rev().find(|end| {
            let beginning = &folded[..*end];
            let ends = folded.get(*end).is_none_or(|byte| id::is_boundary(*byte));
            ends && rows.rows("p").any(|row| id::begins(&id::key(row.id()), beginning))
        });
        prop_assert_eq!(longest.is_some(), found.reason == estimate_reason::FAMILY_PRICE, "{}", model);
        if let Some(end) = longest {
            for row in rows.rows("p").filter(|row| id::begins(&id::key(row.id()), &folded[..end])) {
                prop_assert!(price >= row.quote(0).output_price(0, None), "{} {}", model, row.id());
            }
        }
        let more: Vec<_> = ids.iter().cloned().chain([(folded_text(&folded), 1, 60)]).collect();
        let grown = book(&listed(&more)).stand_in("p", &model, 0).unwrap().quote.output_price(0, None);
        prop_assert!(grown >= price);
    }

    #[test]
    fn any_name_has_a_stand_in_without_harm(model in "\\PC{0,60}", host in "\\PC{0,40}") {
        let rows = builtin();
        for provider in rows.providers() {
            let found = rows.stand_in(provider, &model, CHECKED_MS).unwrap();
            let _ = (found.quote.at_host(&host), rows.find_answered(provider, &model, &host, CHECKED_MS));
            let _ = (rows.thinks_unseen(provider, &model), rows.router(provider, &model, CHECKED_MS));
        }
    }
}

fn folded_text(folded: &[u8]) -> String {
    String::from_utf8(folded.to_vec()).unwrap()
}
