//! What a pricer of tool calls is written with: implement [`Pricer`] and end with
//! `agentledger_guest::export_pricer!(ItsType);`. The contract is `sdk/wit/v1/tool-pricer.wit`.

/// The generated bindings of the world `tool-pricer`; see [`crate::bindings`].
#[allow(
    unsafe_code,
    missing_docs,
    clippy::all,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit/v1",
        world: "tool-pricer",
        pub_export_macro: true,
        export_macro_name: "export_pricer_bindings",
        default_bindings_module: "agentledger_guest::pricer::bindings",
        with: { "agentledger:plugin/types@0.1.0": crate::bindings::agentledger::plugin::types },
        additional_derives: [PartialEq],
    });
}

pub use bindings::agentledger::plugin::tools::{Answer, Call, Ending, Hold, Info, Part, Problem, Tariff};

/// Pico-dollars of one US dollar.
pub const USD: u64 = 1_000_000_000_000;

/// Prices tool calls. It is made once in each instance and never changes: the same call has the same price.
pub trait Pricer: Sized + Send + Sync + 'static {
    /// Reads its configuration, JSON text, `null` where there is none. Tells all that is wrong with it at once.
    fn configure(config: &str) -> Result<(Self, Info), Vec<Problem>>;
    /// What to hold before the call is passed on.
    fn quote(&self, call: &Call) -> Hold;
    /// What the call costs. No parts: nothing.
    fn price(&self, call: &Call, answer: &Answer) -> Vec<Part>;
}

/// Makes a type that implements [`Pricer`] the plugin of its crate. Only for WebAssembly; on the host it is checked.
#[macro_export]
macro_rules! export_pricer {
    ($pricer:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::pricer::{Answer, Call, Hold, Info, Part, Pricer, Problem};

            static CONFIGURED: std::sync::OnceLock<$pricer> = std::sync::OnceLock::new();

            /// The host has every instance read its configuration first. One that did not must not price anything.
            fn configured() -> &'static $pricer {
                CONFIGURED.get().unwrap_or_else(|| std::process::abort())
            }

            struct Plugin;

            impl $crate::pricer::bindings::Guest for Plugin {
                fn info(config: String) -> Result<Info, Vec<Problem>> {
                    let (pricer, info) = <$pricer as Pricer>::configure(&config)?;
                    let _ = CONFIGURED.set(pricer);
                    Ok(info)
                }
                fn quote(call: Call) -> Hold {
                    configured().quote(&call)
                }
                fn price(call: Call, answer: Answer) -> Vec<Part> {
                    configured().price(&call, &answer)
                }
            }

    $crate::pricer::bindings::export_pricer_bindings!(Plugin with_types_in $crate::pricer::bindings);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = || {
            fn prices<P: $crate::pricer::Pricer>() {}
            prices::<$pricer>();
        };
    };
}

/// A tariff of the tools that the names or patterns fit. What it needs to see is set with `..tariff(server, tool)`.
pub fn tariff(server: &str, tool: &str) -> Tariff {
    Tariff {
        server: server.to_owned(),
        tool: tool.to_owned(),
        argument_paths: vec![],
        result_paths: vec![],
        argument_counts: vec![],
        result_counts: vec![],
        prices_tool_errors: false,
        prices_protocol_errors: false,
    }
}

/// A fault of the configuration.
pub fn problem(path: impl Into<String>, message: impl Into<String>) -> Problem {
    Problem {
        path: path.into(),
        message: message.into(),
    }
}

/// So many units, and what they cost together in pico-dollars. More than a `u64` holds is as much as one holds, which the
/// host refuses: no cost becomes small by being large.
pub fn part(name: &str, units: u64, cost: u128) -> Part {
    Part {
        name: name.to_owned(),
        units,
        cost: u64::try_from(cost).unwrap_or(u64::MAX),
    }
}

/// Dollars as decimal text (`0.02`, `3`) in pico-dollars, exactly. `None`: no such amount, or one finer than a pico-dollar.
pub fn picos(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || text.ends_with('.') {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 12 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let below: u64 = format!("{fraction:0<12}").parse().ok()?;
    whole.checked_mul(USD)?.checked_add(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_exactly() {
        for (text, expected) in [
            ("0", Some(0)),
            ("3", Some(3 * USD)),
            ("0.02", Some(20_000_000_000)),
            ("0.000000000001", Some(1)),
            ("1.50", Some(1_500_000_000_000)),
            ("0.0000000000001", None),
            ("18446744.073709551615", Some(u64::MAX)),
            ("18446744.073709551616", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(picos(text), expected, "{text}");
        }
        for text in ["", ".", ".5", "5.", "-1", "+1", "1e3", "1,5", " 1", "0x1", "١"] {
            assert_eq!(picos(text), None, "{text:?}");
        }
    }

    #[test]
    fn no_cost_becomes_small_by_being_large() {
        assert_eq!(part("call", 1, u128::MAX).cost, u64::MAX);
        assert_eq!(part("call", 1, u128::from(u64::MAX) + 1).cost, u64::MAX);
        assert_eq!(part("call", 1, 7).cost, 7);
    }
}
