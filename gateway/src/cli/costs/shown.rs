//! Sums as they are printed: the contract's table, the whole one, and CSV.

use agentledger_ledger::Usd;

use super::sums::{SumRow, Sums, add, cache_read, cache_write};
use super::{HeldByKey, NOTHING};
use crate::cli::form;
use crate::cli::style::{Style, Tone};
use crate::cli::table::{Cell, Table};
use crate::control::wire::CostRow;
use crate::thousands::thousands;

/// What a table shows.
pub struct Shown<'a, R: Fn() -> u64> {
    pub sums: &'a Sums,
    pub held: &'a HeldByKey,
    /// How many requests were refused in the same time.
    pub refused: R,
}

/// A column of figures: its header, its field for programs, and what stands in it.
struct Figure(&'static str, &'static str, fn(&CostRow) -> Cell);

const FIGURES: [Figure; 8] = [
    Figure("REQUESTS", "requests", |row| row.requests.into()),
    Figure("ERRORS", "errors", |row| row.errors.into()),
    Figure("ESTIMATED", "estimated", |row| row.estimated.into()),
    Figure("INPUT TOKENS", "input_tokens", |row| row.input_tokens.into()),
    Figure("CACHE READ", "cache_read_tokens", |row| cache_read(&row.usage).into()),
    Figure("CACHE WRITE", "cache_write_tokens", |row| {
        cache_write(&row.usage).into()
    }),
    Figure("OUTPUT TOKENS", "output_tokens", |row| row.output_tokens.into()),
    Figure("COST (USD)", "cost_usd", |row| row.cost_usd.into()),
];

/// What the contract's table has of them.
const CONTRACT: [&str; 4] = ["requests", "input_tokens", "output_tokens", "cost_usd"];

impl<R: Fn() -> u64> Shown<'_, R> {
    /// The contract's table. What its original got wrong is right: `--by key` names the key, and `--by provider` is one row a
    /// provider.
    pub fn contract(&self, style: Style) -> String {
        if self.sums.rows.is_empty() {
            return format!("{NOTHING}\n");
        }
        let figures = FIGURES.iter().filter(|figure| CONTRACT.contains(&figure.1));
        self.table(&figures.collect::<Vec<_>>()).render_contract(style)
    }

    /// The table with all that there is to say, and under it the time it is of.
    pub fn whole(&self, style: Style) -> String {
        let total = self.total();
        let is_there = |figure: &&Figure| CONTRACT.contains(&figure.1) || (figure.2)(&total) != Cell::Count(0);
        let figures: Vec<&Figure> = FIGURES.iter().filter(is_there).collect();
        let table = if self.sums.rows.is_empty() {
            format!("{NOTHING}\n")
        } else {
            self.table(&figures).render(style)
        };
        format!("{table}{}\n", style.paint(Tone::Faint, &self.caption(&total)))
    }

    /// What the contract's table has no columns for, in one line: of which time it is, caches, estimates and refusals.
    pub fn beside(&self) -> String {
        let total = self.total();
        let mut said = self.caption(&total);
        for (count, what) in [
            (cache_read(&total.usage), "read from caches"),
            (cache_write(&total.usage), "written to caches"),
        ] {
            if count > 0 {
                said.push_str(&format!("; {} tokens {what}", thousands(count)));
            }
        }
        said + "\n"
    }

    fn total(&self) -> CostRow {
        let mut total = CostRow::default();
        self.sums.rows.iter().for_each(|row| add(&mut total, &row.sums));
        total
    }

    fn caption(&self, total: &CostRow) -> String {
        let minute = |at: &str| at.get(..16).unwrap_or(at).replace('T', " ");
        let count = |count: u64| thousands(count);
        let mut said = vec![format!("{} to {} UTC", minute(&self.sums.from), minute(&self.sums.to))];
        match total.estimated {
            0 => {}
            1 => said.push(format!("1 of {} requests is an estimate", count(total.requests))),
            more => said.push(format!(
                "{} of {} requests are estimates",
                count(more),
                count(total.requests)
            )),
        }
        match (self.refused)() {
            0 => {}
            1 => said.push("1 request was refused (agentledger denials)".to_owned()),
            more => said.push(format!("{} requests were refused (agentledger denials)", count(more))),
        }
        said.join("; ")
    }

    fn table(&self, figures: &[&Figure]) -> Table {
        let Sums { by, rows, .. } = self.sums;
        let fields = by.fields();
        // What is held now, and what was billed beyond holds, is told where budgets are: by key.
        let with_holds = by.single() == Some("key");
        let mut header: Vec<String> = by.period.iter().map(|period| period.name().to_uppercase()).collect();
        header.extend(
            fields
                .iter()
                .map(|field| field.trim_start_matches("tag:").to_uppercase()),
        );
        let names = header.len();
        header.extend(figures.iter().map(|figure| figure.0.to_owned()));
        if with_holds {
            header.extend(["HELD (USD)", "OVERAGE (USD)"].map(String::from));
        }
        let mut table = Table::new(header);
        let cells_of = |row: &CostRow, held: Usd| {
            let mut cells: Vec<Cell> = figures.iter().map(|figure| (figure.2)(row)).collect();
            if with_holds {
                cells.extend([held, row.overage_usd].map(Cell::from));
            }
            cells
        };
        for row in rows {
            let mut cells: Vec<Cell> = by.period.iter().map(|_| row.period.as_str().into()).collect();
            cells.extend(fields.iter().map(|field| Cell::from(row.shown_name(field))));
            cells.extend(cells_of(
                &row.sums,
                self.held.get(&row.sums.key).copied().unwrap_or_default(),
            ));
            table.row(cells);
        }
        let mut cells: Vec<Cell> = vec!["".into(); names];
        if let Some(first) = cells.first_mut() {
            *first = "TOTAL".into();
        }
        let held = self
            .held
            .values()
            .fold(Usd::ZERO, |sum, held| sum.saturating_add(*held));
        cells.extend(cells_of(&self.total(), held));
        table.footer(cells);
        table
    }
}

/// All columns, for programs.
pub fn csv(sums: &Sums) -> String {
    let fields = sums.by.fields();
    let period = || sums.by.period.iter();
    let names = fields.iter().map(|field| (*field).to_owned());
    let header = period().map(|period| period.name().to_owned()).chain(names);
    let mut out = form::line(header.chain(FIGURES.iter().map(|figure| figure.1.to_owned())));
    for row in &sums.rows {
        let names = fields.iter().map(|field| row.name(field).to_owned());
        let cells = period().map(|_| row.period.clone()).chain(names);
        out.push_str(&form::line(
            cells.chain(FIGURES.iter().map(|figure| digits(figure, row))),
        ));
    }
    out
}

/// Every digit, and nothing else.
fn digits(figure: &Figure, row: &SumRow) -> String {
    match (figure.2)(&row.sums) {
        Cell::Count(count) => count.to_string(),
        Cell::Usd(usd, _) => usd.to_string(),
        Cell::Text(text) | Cell::State(text, _) | Cell::Digits(text) => text,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use agentledger_ledger::{Kind, Usage};

    use super::super::by::By;
    use super::*;
    use crate::cli::style::Style;
    use crate::control::wire::CostRow;

    fn row(provider: &str, model: &str, requests: u64, nanos: i64) -> CostRow {
        CostRow {
            provider: provider.into(),
            model: model.into(),
            requests,
            input_tokens: 1_000 * requests,
            output_tokens: 10 * requests,
            cost_usd: Usd::from_nanos(nanos),
            ..CostRow::default()
        }
    }

    fn summary(by: &str, rows: Vec<CostRow>) -> Sums {
        let row = |sums| SumRow {
            sums,
            ..SumRow::default()
        };
        Sums {
            from: "2026-11-28T10:00:00.000Z".into(),
            to: "2026-11-29T10:00:00.000Z".into(),
            by: By::parse(&[by]).unwrap(),
            rows: rows.into_iter().map(row).collect(),
        }
    }

    fn held_and_shown(sums: &Sums, held: &HeldByKey) -> String {
        let refused = || 0;
        Shown { sums, held, refused }.contract(Style::PLAIN)
    }

    fn shown(sums: &Sums) -> String {
        held_and_shown(sums, &HeldByKey::new())
    }

    #[test]
    fn what_the_contracts_table_lacks_is_said_beside_it() {
        let mut cached = row("openai", "gpt", 12, 1);
        cached.estimated = 2;
        cached.usage = Usage::from_iter([(Kind::CacheRead, 1_200), (Kind::CacheWrite5m, 7)]);
        let sums = summary("model", vec![cached]);
        let refused = || 3;
        let held = &HeldByKey::new();
        let shown = Shown {
            sums: &sums,
            held,
            refused,
        };
        assert_eq!(
            shown.beside(),
            "2026-11-28 10:00 to 2026-11-29 10:00 UTC; 2 of 12 requests are estimates; 3 requests were refused (agentledger \
             denials); 1,200 tokens read from caches; 7 tokens written to caches\n"
        );
    }

    #[test]
    fn the_table_by_model_is_the_contracts() {
        let rows = vec![
            row("anthropic", "claude-opus-4-5", 3, 1_234_567_890),
            row("openai", "", 12, 49_999),
        ];
        let expected = "\
PROVIDER    MODEL             REQUESTS   INPUT TOKENS   OUTPUT TOKENS   COST (USD)
---------   ---------------   --------   ------------   -------------   ----------
anthropic   claude-opus-4-5   3          3000           30              $1.2346
openai      (none)            12         12000          120             $0.0000
---------   ---------------   --------   ------------   -------------   ----------
TOTAL                         15         15000          150             $1.2346
";
        assert_eq!(shown(&summary("model", rows)), expected);
    }

    #[test]
    fn by_key_has_a_key_column() {
        let key = CostRow {
            key: "0123456789abcdef01234567".into(),
            overage_usd: Usd::from_nanos(100_000),
            ..row("", "", 1, 250_000_000)
        };
        let expected = "\
KEY                        REQUESTS   INPUT TOKENS   OUTPUT TOKENS   COST (USD)   HELD (USD)   OVERAGE (USD)
------------------------   --------   ------------   -------------   ----------   ----------   -------------
0123456789abcdef01234567   1          1000           10              $0.2500      $0.5000      $0.0001
(none)                     1          1000           10              $0.1000      $0.0000      $0.0000
------------------------   --------   ------------   -------------   ----------   ----------   -------------
TOTAL                      2          2000           20              $0.3500      $0.5000      $0.0001
";
        let held = HeldByKey::from([("0123456789abcdef01234567".to_owned(), Usd::from_nanos(500_000_000))]);
        let rows = vec![key, row("", "", 1, 100_000_000)];
        assert_eq!(held_and_shown(&summary("key", rows), &held), expected);
    }

    #[test]
    fn by_provider_has_no_arbitrary_model() {
        let text = shown(&summary("provider", vec![row("openai", "", 2, 0)]));
        assert_eq!(
            text.lines().next(),
            Some("PROVIDER   REQUESTS   INPUT TOKENS   OUTPUT TOKENS   COST (USD)")
        );
        assert_eq!(
            text.lines().nth(2),
            Some("openai     2          2000           20              $0.0000")
        );
    }

    #[test]
    fn sessions_come_with_their_agent() {
        let session = CostRow {
            agent: "crawler".into(),
            session: "s1".into(),
            ..row("", "", 1, 0)
        };
        let text = shown(&summary("session", vec![session]));
        assert!(text.starts_with("AGENT     SESSION   REQUESTS"), "{text}");
        assert!(text.contains("\ncrawler   s1        1"), "{text}");
        let agents = shown(&summary("agent", vec![row("", "", 1, 0)]));
        assert!(agents.contains("\n(none)   1"), "{agents}");
        assert!(shown(&summary("user", vec![row("", "", 1, 0)])).starts_with("USER"));
        let tenant = CostRow {
            tenant: "acme".into(),
            ..row("", "", 1, 0)
        };
        assert!(shown(&summary("tenant", vec![tenant])).contains("\nacme     1"));
        assert!(shown(&summary("tag:team", vec![row("", "", 1, 0)])).starts_with("TEAM"));
    }

    #[test]
    fn the_whole_table_has_caches_estimates_its_time_and_what_was_refused() {
        let spent = CostRow {
            usage: Usage::default()
                .with(Kind::CacheRead, 700)
                .with(Kind::CacheReadAudio, 50)
                .with(Kind::CacheWrite1h, 9),
            estimated: 1,
            ..row("openai", "gpt-4o", 2, 1_500_000_000)
        };
        let mut sums = summary("model", vec![spent]);
        let held = HeldByKey::new();
        let whole = |sums: &Sums, refused: u64| {
            let refused = || refused;
            let held = &held;
            Shown { sums, held, refused }.whole(Style::PLAIN)
        };
        let expected = "\
PROVIDER   MODEL    REQUESTS   ESTIMATED   INPUT TOKENS   CACHE READ   CACHE WRITE   OUTPUT TOKENS   COST (USD)
--------   ------   --------   ---------   ------------   ----------   -----------   -------------   ----------
openai     gpt-4o          2           1          2,000          750             9              20      $1.5000
--------   ------   --------   ---------   ------------   ----------   -----------   -------------   ----------
TOTAL                      2           1          2,000          750             9              20      $1.5000
2026-11-28 10:00 to 2026-11-29 10:00 UTC; 1 of 2 requests is an estimate; 3 requests were refused (agentledger denials)
";
        assert_eq!(whole(&sums, 3), expected);
        sums.rows.clear();
        assert_eq!(
            whole(&sums, 0),
            "No usage recorded in the given time window.\n2026-11-28 10:00 to 2026-11-29 10:00 UTC\n"
        );
        assert_eq!(shown(&sums), "No usage recorded in the given time window.\n");
    }

    #[test]
    fn a_period_is_the_first_column_in_tables_and_csv() {
        let mut sums = summary("day,agent", vec![row("", "", 1, 2_000_000_000)]);
        sums.rows[0].period = "2026-11-29".into();
        sums.rows[0].sums.agent = "a,b".into();
        let held = HeldByKey::new();
        let text = Shown {
            sums: &sums,
            held: &held,
            refused: || 0,
        }
        .whole(Style::PLAIN);
        assert!(text.starts_with("DAY          AGENT   REQUESTS"), "{text}");
        assert!(text.contains("\n2026-11-29   a,b            1"), "{text}");
        let expected = "day,agent,requests,errors,estimated,input_tokens,cache_read_tokens,cache_write_tokens,output_tokens,cost_usd\n\
                        2026-11-29,\"a,b\",1,0,0,1000,0,0,10,2\n";
        assert_eq!(csv(&sums), expected);
    }
}
