#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use agentledger_ledger::{Kind, UnitPrice, Usage, Usd};
use proptest::prelude::*;

use super::row::Tier;
use super::*;
use crate::estimate_reason;

/// 2026-11-22, the day on which the built-in rows were checked.
pub(super) const CHECKED_MS: i64 = 1_795_305_600_000;

fn ms(day: &str) -> i64 {
    let day: jiff::civil::Date = day.parse().unwrap();
    day.to_zoned(jiff::tz::TimeZone::UTC)
        .unwrap()
        .timestamp()
        .as_millisecond()
}

pub(super) fn builtin() -> PriceBook {
    PriceBook::builtin().unwrap()
}

fn usage(kinds: &[(Kind, u64)]) -> Usage {
    kinds
        .iter()
        .fold(Usage::default(), |usage, (kind, units)| usage.with(*kind, *units))
}

/// Nano-dollars of a usage that has no stand-in in it.
fn exact(provider: &str, model: &str, tier: Option<&str>, kinds: &[(Kind, u64)]) -> i64 {
    let book = builtin();
    let quote = book.find(provider, model, CHECKED_MS).unwrap();
    let usage = usage(kinds);
    assert!(
        quote.fallbacks(&usage, tier).is_empty(),
        "{model}: {}",
        quote.fallbacks(&usage, tier)
    );
    quote.cost(&usage, tier).nanos()
}

fn id_of(book: &PriceBook, provider: &str, model: &str) -> Option<String> {
    book.row(provider, model).map(|row| row.id().to_owned())
}

/// Input and output in USD per million tokens.
pub(super) fn in_out(book: &PriceBook, provider: &str, model: &str) -> (String, String) {
    let quote = book
        .find(provider, model, CHECKED_MS)
        .unwrap_or_else(|| panic!("{model} is unpriced"));
    let price = |kind| quote.unit_price(kind, 0, None).per_million();
    (price(Kind::Input), price(Kind::Output))
}

#[test]
fn golden_costs_to_the_nano_dollar() {
    use Kind::*;
    // Products are micro-dollars: tokens × USD per million.
    let cached = [(Input, 1_000), (CacheRead, 4_000), (Output, 500)];
    assert_eq!(exact("openai", "gpt-5.4", None, &cached), 11_000_000); // 2500 + 1000 + 7500
    let writes = [
        (Input, 100),
        (CacheRead, 20_000),
        (CacheWrite5m, 3_000),
        (CacheWrite1h, 1_000),
        (Output, 700),
    ];
    // 300 + 6000 + 11250 + 6000 + 10500
    assert_eq!(
        exact("anthropic", "claude-sonnet-4-5-20250929", None, &writes),
        34_050_000
    );
    let three = [(Input, 1_000), (CacheRead, 1_000), (Output, 1_000)];
    assert_eq!(exact("openai", "gpt-5.4", Some("default"), &three), 17_750_000); // 2500 + 250 + 15000
    assert_eq!(exact("openai", "gpt-5.4", Some("flex"), &three), 8_880_000); // 1250 + 130 + 7500
    assert_eq!(exact("openai", "gpt-5.4", Some("batch"), &three), 8_880_000);
    assert_eq!(exact("openai", "gpt-5.4", Some("priority"), &three), 35_500_000); // 5000 + 500 + 30000
    assert_eq!(exact("openai", "gpt-5.4", Some("Fast"), &three), 35_500_000);
    assert_eq!(exact("anthropic", "claude-opus-5", Some("fast"), &three), 61_000_000); // 10000 + 1000 + 50000
    let search = [(Input, 10), (Output, 10), (WebSearch, 3)];
    assert_eq!(exact("anthropic", "claude-opus-4-6", None, &search), 30_300_000); // 50 + 250 + 3 × 10000
    assert_eq!(
        exact("anthropic", "claude-opus-4-6", Some("batch"), &search),
        30_150_000
    ); // the fee stays
    let audio = [(Input, 200), (AudioInput, 300), (Output, 100), (AudioOutput, 400)];
    assert_eq!(exact("openai", "gpt-audio-2025-08-28", None, &audio), 36_700_000); // 500 + 9600 + 1000 + 25600
    assert_eq!(exact("openai", "text-embedding-3-small", None, &[(Input, 7)]), 140);
    assert_eq!(exact("openai", "omni-moderation-latest", None, &[(Input, 7)]), 0);
}

#[test]
fn the_whole_request_costs_more_above_the_threshold_only() {
    use Kind::*;
    let sonnet = |read| {
        exact(
            "anthropic",
            "claude-sonnet-4-5",
            None,
            &[(Input, 150_000), (CacheRead, read), (Output, 1_000)],
        )
    };
    assert_eq!(sonnet(50_000), 480_000_000); // 450000 + 15000 + 15000
    assert_eq!(sonnet(50_001), 952_500_600); // 900000 + 30000.6 + 22500
    let gpt = |input| exact("openai", "gpt-5.4-2026-03-05", None, &[(Input, input), (Output, 10)]);
    assert_eq!(gpt(272_000), 680_150_000);
    assert_eq!(gpt(272_001), 1_360_230_000);
    let haiku = |input| {
        exact(
            "anthropic",
            "claude-haiku-5-5",
            Some("batch"),
            &[(Input, input), (CacheWrite1h, 1)],
        )
    };
    assert_eq!(haiku(99_999), 5_000_050); // 99999 × 0.05 + 0.1
    assert_eq!(haiku(100_000), 25_000_500); // 100000 × 0.25 + 0.5
}

#[test]
fn half_a_nano_dollar_rounds_up_once() {
    // 0.0025 micro-dollars are 2.5 nano-dollars.
    assert_eq!(exact("openai", "gpt-5-nano", Some("flex"), &[(Kind::CacheRead, 1)]), 3);
    assert_eq!(exact("openai", "gpt-5-nano", Some("flex"), &[(Kind::CacheRead, 2)]), 5);
    // 0.0125 + 0.0125: rounded once, not twice.
    let two = [(Kind::CacheRead, 1), (Kind::Input, 1)];
    assert_eq!(exact("openai", "gpt-5-mini", Some("batch"), &two), 138); // 12.5 + 125
}

#[test]
fn absurd_counts_end_at_the_maximum() {
    let book = builtin();
    let quote = book.find("openai", "o1-pro", CHECKED_MS).unwrap();
    let all = Kind::ALL
        .into_iter()
        .fold(Usage::default(), |usage, kind| usage.with(kind, u64::MAX));
    assert_eq!(quote.cost(&all, None).nanos(), i64::MAX);
}

#[test]
fn prices_hold_by_their_days() {
    let book = builtin();
    let price = |model, day: &str, kind| {
        let provider = if model == "o3" { "openai" } else { "anthropic" };
        let quote = book.find(provider, model, ms(day)).unwrap();
        (
            quote.unit_price(kind, 300_000, None).per_million(),
            quote.reference(None).effective.to_string(),
        )
    };
    assert_eq!(
        price("o3", "2025-06-09", Kind::Input),
        ("10".into(), "2025-04-16".into())
    );
    assert_eq!(
        price("o3", "2025-06-10", Kind::Input),
        ("2".into(), "2025-06-10".into())
    );
    assert_eq!(price("o3", "2024-01-01", Kind::Input).0, "10"); // before the first: the earliest that is known
    assert_eq!(price("claude-opus-4-6", "2026-03-12", Kind::Output).0, "37.5");
    assert_eq!(price("claude-opus-4-6", "2026-03-13", Kind::Output).0, "25");
    assert_eq!(price("claude-sonnet-5-5", "2026-10-06", Kind::CacheRead).0, "0.2");
    assert_eq!(price("claude-sonnet-5-5", "2026-10-07", Kind::CacheRead).0, "0.1");
    // A day begins at midnight UTC.
    let at = |at| {
        book.find("openai", "o3", at)
            .unwrap()
            .unit_price(Kind::Output, 0, None)
            .per_million()
    };
    assert_eq!(
        (at(ms("2025-06-10") - 1).as_str(), at(ms("2025-06-10")).as_str()),
        ("40", "8")
    );
}

#[test]
fn ids_are_found_by_every_neutral_spelling() {
    let book = builtin();
    for (provider, model, row) in [
        ("openai", "gpt-4o", "gpt-4o"),
        ("openai", "GPT-4o-2024-11-20", "gpt-4o"),
        ("openai", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("openai", "openai/gpt-4o", "gpt-4o"),
        ("openai", "OpenAI/gpt-4.1-mini-2025-04-14", "gpt-4.1-mini"),
        ("openai", "gpt-4-1-mini", "gpt-4.1-mini"),
        ("openai", "gpt-5.1-chat-latest", "gpt-5.1-chat"),
        ("openai", "gpt-5.6", "gpt-5.6-sol"),
        ("openai", "gpt-4o-audio-preview-2025-06-03", "gpt-4o-audio-preview"),
        ("openai", "gpt-4.5-preview-2025-02-27", "gpt-4.5-preview"),
        ("openai", "codex-mini-latest", "codex-mini"),
        ("openai", "o1-preview-2024-09-12", "o1-preview"),
        ("openai", "gpt-3.5-turbo-1106", "gpt-3.5-turbo-1106"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::Abc123", "ft:gpt-4o-mini"),
        ("openai", "ft:gpt-4o-2024-11-20:acme:tone:Abc123", "ft:gpt-4o"),
        ("anthropic", "claude-3.5-haiku", "claude-3-5-haiku"),
        ("anthropic", "claude-3-5-haiku-20241022", "claude-3-5-haiku"),
        ("anthropic", "claude-3-5-sonnet-latest", "claude-3-5-sonnet"),
        ("anthropic", "claude-opus-4.5", "claude-opus-4-5"),
        ("anthropic", "claude-opus-4-5@20251101", "claude-opus-4-5"),
        ("anthropic", "claude-sonnet-4@default", "claude-sonnet-4"),
        ("anthropic", "claude-opus-4-20250514", "claude-opus-4"),
        ("anthropic", "claude-opus-4-1-20250805", "claude-opus-4-1"),
        ("anthropic", "anthropic/claude-haiku-4.5", "claude-haiku-4-5"),
        ("anthropic", "claude-opus-5-5", "claude-opus-5-5"),
    ] {
        assert_eq!(id_of(&book, provider, model).as_deref(), Some(row), "{model}");
    }
}

#[test]
fn a_prefix_never_stands_for_another_model() {
    let book = builtin();
    let unknown = [
        "gpt-5.9",
        "gpt-5.4-micro",
        "gpt-5-huge",
        "gpt-4o-mini-ultra",
        "gpt-50",
        "gpt-",
        "gpt-4-0125",
        "o3-turbo",
        "gpt-5-preview",
        "gpt-4o-2024-13-01",
        "gpt-4o-2024-1-01",
        "gpt-4o-20240",
        "ft:gpt-5:acme::x",
        "ft:gpt-4o",
        "openai/",
        "",
        "azure/gpt-4o",
        "gpt-4o:free",
        "-2024-05-13",
        "-latest",
        "xgpt-4o",
    ];
    for model in unknown.into_iter().filter(|model| *model != "ft:gpt-4o") {
        assert_eq!(id_of(&book, "openai", model), None, "{model}");
    }
    for model in [
        "claude-opus-4-9",
        "claude-opus-6",
        "claude-sonnet",
        "claude-3",
        "gpt-4o",
        "claude-opus-4-5-thinking",
    ] {
        assert_eq!(id_of(&book, "anthropic", model), None, "{model}");
    }
    assert_eq!(id_of(&book, "openai", "gpt-5.4-mini").as_deref(), Some("gpt-5.4-mini"));
    assert_eq!(id_of(&book, "openai", &"g".repeat(10_000)), None);
    assert_eq!(id_of(&book, "openai", "gpt-4o-\u{661f}"), None);
    assert!(book.find("nobody", "gpt-4o", CHECKED_MS).is_none());
}

#[test]
fn longest_known_prefix_wins() {
    let yaml = "provider: p\nsuffixes: [-v1:0]\nmodels:\n- {id: a, prices: {always: {standard: {input: 1}}}}\n- {id: a-preview, prices: {always: {standard: {input: 2}}}}\n- {id: b, prices: {always: {standard: {input: 3}}}}\n";
    let book = PriceBook::empty().with_texts(&[("p.yaml", yaml)]).unwrap();
    assert_eq!(id_of(&book, "p", "a-preview-05-06").as_deref(), Some("a-preview"));
    assert_eq!(id_of(&book, "p", "b-preview-05-06").as_deref(), Some("b"));
    assert_eq!(id_of(&book, "p", "b-preview-2025-05-06").as_deref(), Some("b"));
    assert_eq!(id_of(&book, "p", "b-preview"), None);
    assert_eq!(id_of(&book, "p", "b-05-06"), None);
    assert_eq!(id_of(&book, "p", "b-20250506-v1:0").as_deref(), Some("b"));
}

#[test]
fn every_built_in_row_says_its_source_and_day() {
    let book = builtin();
    let mut expected: Vec<&str> = built_in_providers().collect();
    expected.sort_unstable();
    assert_eq!(book.providers(), expected);
    assert_eq!(expected.len(), 17, "the contract's 15, Bedrock and Vertex");
    for provider in book.providers() {
        assert!(book.has_provider(provider));
        for row in book.rows(provider) {
            assert!(row.source().len() > 8 && row.checked().is_some(), "{}", row.id());
            assert_eq!(id_of(&book, provider, row.id()).as_deref(), Some(row.id()));
            for alias in row.aliases() {
                assert_eq!(id_of(&book, provider, alias).as_deref(), Some(row.id()), "{alias}");
            }
            let quote = row.quote(CHECKED_MS);
            let unit = Kind::ALL.into_iter().any(|kind| quote.states(kind, None));
            assert!(unit, "{} has no price at all", row.id());
        }
    }
    for row in book
        .rows("anthropic")
        .filter(|row| !["claude-2", "claude-v1"].contains(&row.id()))
    {
        for (set, tier) in row.sets().flat_map(|set| set.tiers().map(move |tier| (set, tier))) {
            for kind in [Kind::CacheRead, Kind::CacheWrite5m, Kind::CacheWrite1h] {
                let stated =
                    tier.levels().all(|level| level.stated(kind).is_some()) || row.id() == "claude-mythos-preview";
                assert!(stated, "{} {} {}: {}", row.id(), set.from(), tier.name(), kind.name());
            }
        }
    }
}

#[test]
fn nothing_that_was_used_costs_nothing_unsaid() {
    let book = builtin();
    for row in book.providers().into_iter().flat_map(|provider| book.rows(provider)) {
        let quote = row.quote(CHECKED_MS);
        for tier in [
            None,
            Some("flex"),
            Some("priority"),
            Some("batch"),
            Some("fast"),
            Some("surprise"),
        ] {
            for kind in Kind::ALL {
                for input in [1, 250_000, 2_000_000] {
                    let usage = Usage::default().with(Kind::Input, input).with(kind, input);
                    let told = quote.fallbacks(&usage, tier).kinds().any(|told| told == kind);
                    let unpriced = quote.unit_price(kind, usage.input_tokens(), tier) == UnitPrice::default();
                    let mut levels = row.sets().flat_map(PriceSet::tiers).flat_map(Tier::levels);
                    let free = levels.any(|level| {
                        let common = level.common().find(|(known, _)| *known == kind);
                        level.stated(kind).or(common.map(|(_, fee)| fee)) == Some(UnitPrice::default())
                    });
                    assert!(!unpriced || told || free, "{} {kind:?} {tier:?} {input}", row.id());
                }
            }
        }
    }
}

#[test]
fn cached_sound_and_pictures_have_prices_of_their_own() {
    let cached = [
        (Kind::CacheRead, 1_000_000),
        (Kind::CacheReadAudio, 1_000_000),
        (Kind::CacheReadImage, 1_000_000),
    ];
    // 0.06 + 0.30 + 0.08, and 0.40 + 0.40 + 0.50.
    assert_eq!(exact("openai", "gpt-realtime-mini", None, &cached), 440_000_000);
    assert_eq!(exact("openai", "gpt-realtime", None, &cached), 1_300_000_000);
    let sound = [(Kind::CacheReadAudio, 1_000_000)];
    assert_eq!(
        exact("openai", "gpt-4o-mini-realtime-preview", None, &sound),
        300_000_000
    );
    assert_eq!(exact("gemini", "gemini-2.5-flash", None, &sound), 100_000_000);
    assert_eq!(
        exact("gemini", "gemini-2.5-flash", Some("priority"), &sound),
        180_000_000
    );
    // One price for all that is cached, where sound costs no more than text.
    let less = [(Kind::CacheReadAudio, 100_000)];
    assert_eq!(exact("gemini", "gemini-2.5-pro", None, &less), 12_500_000);
    let yaml = "provider: p\nmodels:\n- {id: m, prices: {always: {standard: {input: 1, cache_read: 0.1, audio_input: 8, output: 4}}}}\n";
    let book = PriceBook::empty().with_texts(&[("p.yaml", yaml)]).unwrap();
    let quote = book.find("p", "m", 0).unwrap();
    assert_eq!(
        quote.unit_price(Kind::CacheReadAudio, 0, None).per_million(),
        "8",
        "dear, and told"
    );
    let told = quote.fallbacks(&usage(&sound), None);
    assert_eq!(told.reason(), Some(estimate_reason::PRICE_FALLBACK));
    assert!(quote.fallbacks(&usage(&[(Kind::CacheReadImage, 1)]), None).is_empty());
}

#[test]
fn stand_ins_are_dear_enough_and_told() {
    let yaml = "provider: p\nmodels:
- {id: plain, prices: {always: {standard: {input: 1.000001, output: 4}, priority: {input: 2, output: 8}}}}
- id: long
  prices:
    always:
      standard: {input: 1, cache_read: 0.5, output: 4, web_search: 0.02}
      standard >100: {input: 2, output: 6}
      batch: {input: 0.5, output: 2}
      priority: {input: 3, output: 5}
";
    let book = PriceBook::empty().with_texts(&[("p.yaml", yaml)]).unwrap();
    let plain = book.find("p", "plain", 0).unwrap();
    let picos = |kind| plain.unit_price(kind, 0, None).picos();
    assert_eq!(picos(Kind::CacheRead), 1_000_001);
    assert_eq!(picos(Kind::CacheWrite5m), 1_250_002); // rounded up
    assert_eq!(picos(Kind::CacheWrite1h), 2_000_002);
    assert_eq!(picos(Kind::AudioOutput), 4_000_000);
    assert_eq!(picos(Kind::WebSearch), 20_000_000_000); // the provider's dearest
    let used = Usage::default()
        .with(Kind::Input, 1)
        .with(Kind::CacheRead, 1)
        .with(Kind::WebSearch, 1);
    assert_eq!(
        plain.fallbacks(&used, None).to_string(),
        "no price for cache_read, web_search"
    );
    let fees = plain.fallbacks(&Usage::default().with(Kind::Request, 9), None);
    assert_eq!(
        (fees.reason(), picos(Kind::Request)),
        (Some(estimate_reason::UNPRICED_UNIT), 0)
    );
    assert_eq!(
        plain.fallbacks(&used, None).reason(),
        Some(estimate_reason::PRICE_FALLBACK)
    );

    let long = book.find("p", "long", 0).unwrap();
    let at = |kind, tokens, tier| long.unit_price(kind, tokens, tier).per_million();
    assert_eq!(at(Kind::CacheRead, 101, None), "2"); // not the 0.5 of the short context
    assert_eq!(at(Kind::CacheRead, 1, Some("batch")), "0.5");
    assert_eq!(at(Kind::Input, 101, Some("batch")), "2"); // only standard has a long context: the dearer
    assert_eq!(at(Kind::Output, 101, Some("priority")), "6");
    assert_eq!(at(Kind::Input, 101, Some("priority")), "3");
    assert_eq!(
        long.unit_price(Kind::WebSearch, 101, Some("batch")).picos(),
        20_000_000_000
    );
    let input = Usage::default().with(Kind::Input, 101);
    assert!(long.fallbacks(&input, None).is_empty());
    assert!(!long.fallbacks(&input, Some("batch")).is_empty());
    // A tier that is not in the book.
    assert_eq!(
        (at(Kind::Input, 1, Some("flex")), at(Kind::Input, 1, Some("warp"))),
        ("1".into(), "3".into())
    );
    assert_eq!(
        long.fallbacks(&Usage::default(), Some("warp")).to_string(),
        "no price for its service tier"
    );
    assert!(!long.knows_tier(Some("warp")) && long.knows_tier(Some("auto")) && long.knows_tier(None));
}

#[test]
fn holds_take_the_dearest_that_may_come() {
    let book = builtin();
    let quote = book.find("anthropic", "claude-sonnet-4-5", CHECKED_MS).unwrap();
    let ceiling = |tokens, writes| quote.input_ceiling(tokens, None, writes).per_million();
    assert_eq!(ceiling(10, CacheWrites::None), "3");
    assert_eq!(ceiling(10, CacheWrites::FiveMinutes), "3.75");
    assert_eq!(ceiling(10, CacheWrites::OneHour), "6");
    assert_eq!(ceiling(200_001, CacheWrites::OneHour), "12");
    assert_eq!(quote.output_price(200_001, None).per_million(), "22.5");
    assert_eq!(
        quote.dearest_of(&[Kind::Input, Kind::Output], 1, None).per_million(),
        "15"
    );
    assert_eq!(quote.max_output(), Some(64_000));
}

#[test]
fn an_unpriced_model_takes_the_dearest_row_still_served() {
    let book = builtin();
    let dearest = |provider, day| book.dearest(provider, ms(day)).unwrap().row().id().to_owned();
    assert_eq!(dearest("openai", "2026-10-22"), "o1-pro");
    let now = book.dearest("openai", CHECKED_MS).unwrap();
    assert_eq!(now.unit_price(Kind::Output, 0, None).per_million(), "180");
    assert_eq!(
        book.dearest("anthropic", CHECKED_MS)
            .unwrap()
            .unit_price(Kind::Output, 0, None)
            .per_million(),
        "75"
    );
    assert!(book.dearest("nobody", CHECKED_MS).is_none());
}

#[test]
fn config_prices_and_free() {
    let price = |text| UnitPrice::parse_per_million(text).unwrap();
    let row = Row::default_price("groq".into(), price("0.59"), price("0.79"));
    let used = usage(&[(Kind::Input, 1_000), (Kind::Output, 1_000)]);
    assert_eq!(row.quote(0).cost(&used, None).nanos(), 1_380_000);
    assert!(row.quote(0).fallbacks(&used, None).is_empty());
    let reference = row.quote(0).reference(None);
    assert_eq!(
        (&*reference.provider, &*reference.id, &*reference.effective),
        ("groq", "default_price", "")
    );
    // The operator's word covers all that goes in and out; what it leaves out is told.
    let cached = usage(&[
        (Kind::CacheRead, 1_000),
        (Kind::AudioInput, 1_000),
        (Kind::AudioOutput, 1_000),
    ]);
    assert_eq!(row.quote(0).cost(&cached, None).nanos(), 1_970_000);
    assert!(row.quote(0).fallbacks(&cached, None).is_empty());
    for kind in Kind::ALL {
        let expected = match kind {
            Kind::CacheWrite5m | Kind::CacheWrite1h => Some(estimate_reason::PRICE_FALLBACK),
            kind if kind.is_tokens() => None,
            _ => Some(estimate_reason::UNPRICED_UNIT),
        };
        let used = usage(&[(kind, 1)]);
        assert_eq!(row.quote(0).fallbacks(&used, None).reason(), expected, "{kind:?}");
        let costs = row.quote(0).cost_of(&usage(&[(kind, 1_000_000)]), 0, None) > Usd::ZERO;
        assert_eq!(costs, kind.is_tokens(), "{kind:?}");
    }
    assert_eq!(row.quote(0).reference(Some("flex")).tier.as_deref(), Some("flex"));
    let free = Row::free("local".into());
    let all = Kind::ALL
        .into_iter()
        .fold(Usage::default(), |usage, kind| usage.with(kind, 9));
    assert_eq!(free.quote(0).cost(&all, None).nanos(), 0);
    assert!(free.quote(0).fallbacks(&all, None).is_empty());
}

fn any_row() -> impl Strategy<Value = Row> {
    let book = builtin();
    let rows: Vec<Row> = book
        .providers()
        .into_iter()
        .flat_map(|name| book.rows(name))
        .cloned()
        .collect();
    prop::sample::select(rows)
}

proptest! {
    #[test]
    fn cost_is_monotone_in_each_kind(
        row in any_row(),
        counts in prop::collection::vec(0u64..400_000, Kind::COUNT),
        which in 0..Kind::COUNT,
        more in 1u64..300_000,
        tier in prop::sample::select(vec![None, Some("flex"), Some("priority"), Some("batch"), Some("fast"), Some("other")]),
        day in prop::sample::select(vec!["2024-01-01", "2026-03-01", "2026-08-01", "2026-11-22"]),
    ) {
        let quote = row.quote(ms(day));
        let less = Kind::ALL.into_iter().zip(&counts).fold(Usage::default(), |usage, (kind, count)| usage.with(kind, *count));
        let kind = Kind::ALL[which];
        let dearer = less.with(kind, less.get(kind) + more);
        prop_assert!(quote.cost(&dearer, tier) >= quote.cost(&less, tier), "{} {kind:?} {tier:?}", row.id());
    }

    #[test]
    fn any_id_is_looked_up_without_harm(id in "\\PC{0,40}", tail in "(-latest|-2025-01-01|@20250101|:x){0,3}") {
        let book = builtin();
        let _ = book.find("openai", &format!("{id}{tail}"), CHECKED_MS);
        prop_assert_eq!(id_of(&book, "openai", &format!("gpt-4o{}", tail)).is_some(), !tail.contains(':'));
    }
}
