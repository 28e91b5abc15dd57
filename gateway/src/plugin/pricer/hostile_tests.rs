//! Pricers that misbehave: a call of theirs costs what was held, and nothing else happens.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use super::*;
use crate::plugin::assembler::{ENDLESS, GREEDY, I32, I64, Module, TRAP, address, function, word};
use crate::plugin::engine::{self, compile};
use crate::plugin::pool::Caps;

const CAPS: Caps = Caps {
    deadline: Duration::from_millis(50),
    memory_bytes_max: 16 << 20,
};
const UNKNOWN: Usd = Usd::from_nanos(777);
const DONE: &[u8] = br#"{"content":[]}"#;

/// Where the guest keeps its answers.
const INFO: usize = 1_024;
const NAME: usize = 2_048;
const TARIFFS: usize = 3_072;
const HOLD: usize = 4_096;
const COST: usize = 5_120;
const PARTS: usize = 6_144;
const PROBLEMS: usize = 7_168;

/// A guest with one tariff for every tool. Each body returns one i32: the address of its answer.
struct Guest {
    info: Vec<u8>,
    quote: Vec<u8>,
    price: Vec<u8>,
    /// Which hold, and how much.
    hold: (usize, u64),
    /// Name, units, cost.
    parts: Vec<(&'static str, u64, u64)>,
    /// How many parts it claims.
    claimed: Option<usize>,
}

impl Default for Guest {
    fn default() -> Guest {
        Guest {
            info: address(INFO),
            quote: address(HOLD),
            price: address(COST),
            hold: (0, 9_000),
            parts: vec![("call", 1, 8_000)],
            claimed: None,
        }
    }
}

impl Guest {
    fn wasm(&self) -> Vec<u8> {
        let long = |value: u64| value.to_le_bytes().to_vec();
        let text = |index: usize| NAME + 64 * (index + 1);
        let mut data = vec![
            (
                INFO,
                [
                    word(0),
                    word(NAME),
                    word(7),
                    word(NAME),
                    word(7),
                    word(TARIFFS),
                    word(1),
                ]
                .concat(),
            ),
            (NAME, b"hostile".to_vec()),
            (HOLD, [word(self.hold.0), word(0), long(self.hold.1)].concat()),
            (
                COST,
                [word(PARTS), word(self.claimed.unwrap_or(self.parts.len()))].concat(),
            ),
            // Says that its configuration is wrong, without a word why.
            (PROBLEMS, [word(1), word(0), word(0)].concat()),
        ];
        let mut parts = Vec::new();
        for (index, (name, units, cost)) in self.parts.iter().enumerate() {
            data.push((text(index), name.as_bytes().to_vec()));
            parts.extend([word(text(index)), word(name.len()), long(*units), long(*cost)].concat());
        }
        data.push((PARTS, parts));
        let call = [&[I32; 7][..], &[I64], &[I32; 2]].concat();
        Module {
            functions: vec![
                function("cabi_realloc", &[I32; 4], &address(32_768)),
                function("info", &[I32; 2], &self.info),
                function("quote", &call, &self.quote),
                // Its arguments are too many for registers.
                function("price", &[I32], &self.price),
            ],
            data,
            import: None,
            world: (ToolPricing::BUILT_IN, "tool-pricer"),
        }
        .wasm()
    }

    fn start(&self) -> Result<PricerHost, String> {
        let component = compile("hostile", &self.wasm()).unwrap();
        assert!(engine::is_pricer(&component));
        PricerHost::start("hostile", &component, CAPS, "null".to_owned()).map_err(|error| match error {
            Unusable::Load(error) => error.to_string(),
            Unusable::Conf(problems) => problems[0].message.clone(),
        })
    }

    fn host(&self) -> Arc<PricerHost> {
        Arc::new(self.start().unwrap())
    }
}

/// What a call of it holds and costs, why that is an estimate, and how often the guest failed.
fn outcome(guest: &Guest) -> (i64, i64, Option<&'static str>, u64) {
    let host = guest.host();
    let pricer: Arc<dyn Pricer> = Arc::clone(&host) as Arc<dyn Pricer>;
    let pricers = ToolPricers::new(&[("hostile", pricer)], UNKNOWN, Bounds::from(64)).unwrap();
    let call = ToolCall {
        server: "s",
        tool: "t",
        arguments: Some(b"{\"a\":1}"),
    };
    let quoted = pricers.quote(&call).unwrap();
    let priced = quoted.price(ToolEnding::Success, Some(DONE), 0, 1);
    (
        quoted.hold.nanos(),
        priced.cost.nanos(),
        priced.estimated,
        host.failures(),
    )
}

const FAILED: Option<&str> = Some(estimate_reason::PLUGIN_FAILED);

#[test]
fn a_well_behaved_guest_of_this_assembler_works() {
    let guest = Guest::default();
    assert_eq!(guest.host().info().name, "hostile");
    assert_eq!(outcome(&guest), (9, 8, None, 0));
    let about = Guest {
        hold: (1, 9_000),
        ..Guest::default()
    };
    assert_eq!(outcome(&about), (9, 8, None, 0));
    let unknown = Guest {
        hold: (2, 9_000),
        ..Guest::default()
    };
    assert_eq!(outcome(&unknown), (777, 8, None, 0));
}

#[test]
fn a_quote_that_traps_loops_or_takes_all_memory_holds_what_is_unknown() {
    for quote in [&TRAP[..], &ENDLESS, &GREEDY] {
        let guest = Guest {
            quote: quote.to_vec(),
            ..Guest::default()
        };
        assert_eq!(outcome(&guest), (777, 8, None, 1), "{quote:?}");
    }
}

#[test]
fn a_price_that_traps_loops_or_takes_all_memory_costs_the_hold() {
    for price in [&TRAP[..], &ENDLESS, &GREEDY] {
        let guest = Guest {
            price: price.to_vec(),
            ..Guest::default()
        };
        assert_eq!(outcome(&guest), (9, 9, FAILED, 1), "{price:?}");
    }
    let neither = Guest {
        quote: TRAP.to_vec(),
        price: ENDLESS.to_vec(),
        ..Guest::default()
    };
    assert_eq!(outcome(&neither), (777, 777, FAILED, 2));
}

#[test]
fn nonsense_is_a_failure_and_no_price() {
    let outside = address(1 << 19);
    let of_letters = address(NAME);
    for bytes in [&outside, &of_letters] {
        let quote = Guest {
            quote: bytes.clone(),
            ..Guest::default()
        };
        assert_eq!(outcome(&quote), (777, 8, None, 1));
        let price = Guest {
            price: bytes.clone(),
            ..Guest::default()
        };
        assert_eq!(outcome(&price), (9, 9, FAILED, 1));
    }
    for claimed in [2_800, 1 << 28, u32::MAX as usize] {
        let guest = Guest {
            claimed: Some(claimed),
            ..Guest::default()
        };
        assert_eq!(outcome(&guest), (9, 9, FAILED, 1), "{claimed} parts");
    }
}

#[test]
fn sums_beyond_a_million_dollars_are_no_prices() {
    const MILLION: u64 = 1_000_000_000_000_000_000;
    for picos in [MILLION + 1, 1 << 63, u64::MAX] {
        let hold = Guest {
            hold: (0, picos),
            ..Guest::default()
        };
        assert_eq!(outcome(&hold), (777, 8, None, 1));
        let price = Guest {
            parts: vec![("call", 1, picos)],
            ..Guest::default()
        };
        assert_eq!(outcome(&price), (9, 9, FAILED, 1));
    }
    let together = Guest {
        parts: vec![("call", 1, MILLION), ("items", 1, 1)],
        ..Guest::default()
    };
    assert_eq!(outcome(&together), (9, 9, FAILED, 1));
    let just = Guest {
        hold: (0, MILLION),
        parts: vec![("call", 1, MILLION - 1_000), ("items", 1, 1_000)],
        ..Guest::default()
    };
    assert_eq!(outcome(&just), (1_000_000_000_000_000, 1_000_000_000_000_000, None, 0));
}

#[test]
fn parts_are_few_and_have_plain_names() {
    let with = |parts: Vec<(&'static str, u64, u64)>| Guest {
        parts,
        ..Guest::default()
    };
    for name in ["", "Call", "a b", "a\n", "é", "abcdefghijklmnopqrstuvwxyz_0123456789"] {
        assert_eq!(outcome(&with(vec![(name, 1, 8_000)])), (9, 9, FAILED, 1), "{name:?}");
    }
    assert_eq!(outcome(&with(vec![("a", 1, 500); 16])), (9, 8, None, 0));
    assert_eq!(outcome(&with(vec![("a", 1, 1); 17])), (9, 9, FAILED, 1));
    assert_eq!(outcome(&with(vec![])), (9, 0, None, 0), "no parts: it is free");
}

#[test]
fn a_pricer_that_does_not_read_its_configuration_is_no_pricer() {
    for info in [&TRAP[..], &ENDLESS, &GREEDY] {
        let guest = Guest {
            info: info.to_vec(),
            ..Guest::default()
        };
        let refused = guest.start().err().unwrap();
        assert!(refused.contains("plugin hostile cannot be used"), "{refused}");
    }
    let silent = Guest {
        info: address(PROBLEMS),
        ..Guest::default()
    };
    let refused = silent.start().err().unwrap();
    assert!(refused.contains("does not say why"), "{refused}");
}
