//! Prices the calls of a tool by the size of their results: held before by the most that the caller lets it answer, settled
//! after by what came. A pricer to copy.

use agentledger_guest::pricer::{
    Answer, Call, Hold, Info, Part, Pricer, Problem, Tariff, part, picos, problem, tariff,
};
use agentledger_guest::{serde_json, want};
use serde::Deserialize;

/// Bytes of one megabyte, as data is sold.
const MB: u128 = 1_000_000;

struct BySize {
    picos_per_mb: u64,
    max_bytes: u64,
}

agentledger_guest::export_pricer!(BySize);

/// What stands in the gateway's configuration under `mcp.pricers.by-size`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Conf {
    server: String,
    #[serde(default)]
    tool: String,
    /// Decimal text: no float holds money.
    usd_per_mb: String,
    /// The longest result that the tool gives unasked.
    max_bytes: u64,
}

/// The arguments that it wants to see; the host shows it no others.
#[derive(Deserialize)]
struct Arguments {
    max_bytes: Option<u64>,
}

impl Pricer for BySize {
    fn configure(config: &str) -> Result<(BySize, Info), Vec<Problem>> {
        let conf: Conf = serde_json::from_str(config).map_err(|error| vec![problem("", error.to_string())])?;
        let mut problems = Vec::new();
        if conf.server.is_empty() {
            problems.push(problem("server", "must name a server of mcp.servers, or a pattern"));
        }
        let price = picos(&conf.usd_per_mb);
        if price.is_none() {
            problems.push(problem(
                "usd_per_mb",
                "must be an amount of USD as text, such as \"0.02\"",
            ));
        }
        let Some(picos_per_mb) = price.filter(|_| problems.is_empty()) else {
            return Err(problems);
        };
        let info = Info {
            name: "by-size".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            tariffs: vec![Tariff {
                argument_paths: vec![want("max_bytes", 32, 0)],
                ..tariff(&conf.server, &conf.tool)
            }],
        };
        let max_bytes = conf.max_bytes;
        Ok((
            BySize {
                picos_per_mb,
                max_bytes,
            },
            info,
        ))
    }

    /// The caller's own limit, where there is a lower one. One that cannot be read is none.
    fn quote(&self, call: &Call) -> Hold {
        let asked = serde_json::from_str::<Arguments>(&call.arguments).ok();
        let asked = asked.and_then(|arguments| arguments.max_bytes);
        let most = asked.map_or(self.max_bytes, |asked| asked.min(self.max_bytes));
        Hold::AtMost(self.result(most).cost)
    }

    /// What came. More than was promised is a price all the same: the gateway enters the difference as overage.
    fn price(&self, _call: &Call, answer: &Answer) -> Vec<Part> {
        vec![self.result(answer.result_bytes)]
    }
}

impl BySize {
    /// A part of a pico-dollar is one.
    fn result(&self, bytes: u64) -> Part {
        let cost = (u128::from(bytes) * u128::from(self.picos_per_mb)).div_ceil(MB);
        part("result_bytes", bytes, cost)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use agentledger_guest::pricer::Ending;

    use super::*;

    fn by_size() -> BySize {
        let conf = r#"{"server":"files","usd_per_mb":"0.02","max_bytes":65536}"#;
        BySize::configure(conf).unwrap().0
    }

    fn call(arguments: &str) -> Call {
        Call {
            tariff: 0,
            server: "files".to_owned(),
            tool: "read".to_owned(),
            arguments: arguments.to_owned(),
            argument_bytes: 0,
            argument_counts: vec![],
        }
    }

    #[test]
    fn the_callers_limit_is_held_and_the_result_is_paid() {
        let pricer = by_size();
        // 20,000 pico-dollars for each byte.
        for (arguments, held) in [
            (r#"{"max_bytes":1000}"#, 20_000_000),
            ("{}", 1_310_720_000),
            (r#"{"max_bytes":70000}"#, 1_310_720_000),
            (r#"{"max_bytes":"all"}"#, 1_310_720_000),
        ] {
            assert_eq!(pricer.quote(&call(arguments)), Hold::AtMost(held), "{arguments}");
        }
        let answer = Answer {
            ending: Ending::Success,
            result: "{}".to_owned(),
            result_bytes: 750,
            result_counts: vec![],
            milliseconds: 3,
        };
        assert_eq!(
            pricer.price(&call("{}"), &answer),
            [part("result_bytes", 750, 15_000_000)]
        );
    }

    #[test]
    fn all_that_is_wrong_with_a_configuration_is_told() {
        let conf = r#"{"server":"","usd_per_mb":"cheap","max_bytes":1}"#;
        let problems = BySize::configure(conf).err().unwrap();
        let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["server", "usd_per_mb"]);
        assert_eq!(BySize::configure("null").err().unwrap()[0].path, "");
    }
}
