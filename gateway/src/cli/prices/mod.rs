//! `agentledger prices`: the price book as a configuration makes it. `list`, `show`, `check` and `diff` read files only;
//! `reprice` also reads the entries, and changes none.

mod in_force;
mod in_use;
mod reprice;
mod update;

use std::collections::BTreeMap;
use std::path::PathBuf;

use agentledger_ledger::{Clock, Kind, SystemClock};
use clap::{Args, Subcommand};
use serde_json::json;

use super::ask::{AskArgs, ConfigArgs, Elsewhere};
use super::client::ClientError;
use super::form::{self, Form, FormArgs};
use super::style::Style;
use super::table::{Cell, Table};
use super::view::{Column, Is, View};
use super::{CliError, Done};
use crate::config::{Config, nearest};
use crate::control::methods::prices::{find, row};
use crate::control::wire::{PriceRow, Prices};
use crate::estimate_reason;
use crate::launch::LaunchError;
use crate::price::check::check;
use crate::price::diff::{Difference, differences};
use crate::price::update::LoadError;
use crate::price::{PriceBook, PriceError, Unpriced, day_ms};
use reprice::RepriceArgs;
use update::UpdateArgs;

#[derive(Debug, Subcommand)]
pub enum PricesCommand {
    /// Print all rows in force, one line each
    List(ListArgs),
    /// Print all that the book knows of one model
    Show(ShowArgs),
    /// Look for contradictions, overlaps, missing cache prices and rows that are too old
    Check(CheckArgs),
    /// Put a row over those of all files, in force with the next request
    Put(in_force::PutArgs),
    /// Take such a row away: the files' counts again
    Delete(in_force::DeleteArgs),
    /// Print what price files would change
    Diff(DiffArgs),
    /// Compare the book with lists that others keep; with --apply, write a price file of what changed
    Update(UpdateArgs),
    /// Print what the past would cost at other prices; nothing is changed
    Reprice(RepriceArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// One provider only
    #[arg(long, default_value = "", hide_default_value = true)]
    provider: String,
    /// Prices that hold on this day (YYYY-MM-DD); today without it
    #[arg(long, value_name = "DATE")]
    at: Option<String>,
    /// The running gateway's prices, with the rows that were put at run time, in place of those of the files
    #[arg(long)]
    in_force: bool,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// A model's name, as a request may have it
    model: String,
    /// One provider only
    #[arg(long, default_value = "", hide_default_value = true)]
    provider: String,
    /// Prices that hold on this day (YYYY-MM-DD); today without it
    #[arg(long, value_name = "DATE")]
    at: Option<String>,
    /// The running gateway's prices, with the rows that were put at run time, in place of those of the files
    #[arg(long)]
    in_force: bool,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    format: FormArgs,
    /// Rows that were compared with their source longer ago than so many days are a fault
    #[arg(long, value_name = "DAYS")]
    max_age: Option<u32>,
    /// Tell how many rows were compared with their source longer ago than so many days
    #[arg(long, value_name = "DAYS", default_value_t = 180)]
    stale: u32,
}

#[derive(Debug, Args)]
pub struct DiffArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    format: FormArgs,
    /// Price files, later ones over earlier ones
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Why a command about prices failed.
#[derive(Debug, thiserror::Error)]
pub enum PricesError {
    #[error("{0:?} is no date: YYYY-MM-DD")]
    Date(String),
    #[error("no book has a price of {model}: {instead}")]
    Unpriced { model: String, instead: String },
    #[error("no book has prices of the provider {provider:?}{meant}")]
    NoBook { provider: String, meant: String },
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("an entry of the ledger cannot be read: {0}")]
    Entry(serde_json::Error),
    #[error("nothing is changed: {0}")]
    Source(LoadError),
    #[error("name a source: --from litellm, genai-prices, models.dev, an https address or a file")]
    NoSource,
    #[error("nothing is changed: {}: {error}", path.display())]
    Write { path: PathBuf, error: std::io::Error },
    #[error("runtime: {0}")]
    Runtime(std::io::Error),
}

impl PricesError {
    pub const fn is_usage(&self) -> bool {
        match self {
            PricesError::Date(_) | PricesError::NoSource => true,
            PricesError::Client(error) => error.is_usage(),
            _ => false,
        }
    }
}

/// Whether a command asks a gateway: of those that read files none does.
fn asks(command: &PricesCommand) -> bool {
    match command {
        PricesCommand::List(args) => args.in_force,
        PricesCommand::Show(args) => args.in_force,
        PricesCommand::Put(_) | PricesCommand::Delete(_) => true,
        _ => false,
    }
}

pub fn run(command: PricesCommand, elsewhere: &Elsewhere) -> Result<Done, CliError> {
    if !asks(&command) {
        elsewhere.refuse()?;
    }
    match command {
        PricesCommand::List(args) if args.in_force => {
            let ask = elsewhere.ask(&args.ask)?;
            let given = [
                ("provider", args.provider.as_str()),
                ("at", args.at.as_deref().unwrap_or_default()),
            ];
            in_force::read(&ask, "price.list", given.into(), list).map(Done::well)
        }
        PricesCommand::Show(args) if args.in_force => {
            let ask = elsewhere.ask(&args.ask)?;
            let at = args.at.as_deref().unwrap_or_default();
            let given = [
                ("provider", args.provider.as_str()),
                ("model", args.model.as_str()),
                ("at", at),
            ];
            in_force::read(&ask, "price.show", given.into(), show).map(Done::well)
        }
        PricesCommand::List(args) => {
            let book = book(&args.ask.config.load()?)?;
            let rows = rows(&book, &args.provider, moment(args.at.as_deref())?);
            if rows.is_empty() {
                return Err(no_book(&book, &args.provider).into());
            }
            Ok(Done::well(printed(&args.ask, rows, list)?))
        }
        PricesCommand::Show(args) => {
            let config = args.ask.config.load()?;
            let (book, at_ms) = (book(&config)?, moment(args.at.as_deref())?);
            let rows = found(&config, &book, &args.model, &args.provider, at_ms)?;
            Ok(Done::well(printed(&args.ask, rows, show)?))
        }
        PricesCommand::Put(args) => in_force::put(&args, elsewhere).map(Done::well),
        PricesCommand::Delete(args) => in_force::delete(&args, elsewhere).map(Done::well),
        PricesCommand::Check(args) => {
            let config = args.config.load()?;
            let book = book(&config)?;
            let (verdict, well) = checked(&book, now_ms(), args.max_age);
            let stale = in_use::stale(&book, now_ms(), args.stale);
            let retired = in_use::retired(&config, &book, now_ms())?;
            let notices: Vec<String> = stale.into_iter().chain(retired).collect();
            let faults: Vec<&str> = verdict.lines().rev().skip(1).collect();
            let found = faults.iter().rev().map(|fault| json!({"kind": "fault", "text": fault}));
            let noticed = notices.iter().map(|notice| json!({"kind": "notice", "text": notice}));
            let result = json!({"ok": well, "findings": noticed.chain(found).collect::<Vec<_>>()});
            let text = args.format.list(&result, "findings", &FOUND, || {
                let notices = notices.iter().map(|notice| format!("notice: {notice}\n"));
                notices.collect::<String>() + &verdict
            });
            Ok(Done { text, well })
        }
        PricesCommand::Diff(args) => {
            let before = book(&args.config.load()?)?;
            let after = before.with_files(&args.files).map_err(unreadable)?;
            let found = differences(&before, &after);
            let lines = found.iter().map(|difference| json!({"text": difference.to_string()}));
            let result = json!({ "differences": lines.collect::<Vec<_>>() });
            let columns = [Column("DIFFERENCE", "text", Is::Text)];
            let text = args.format.list(&result, "differences", &columns, || diff(&found));
            Ok(Done::well(text))
        }
        PricesCommand::Update(args) => update::run(&args).map(Done::well),
        PricesCommand::Reprice(args) => {
            let config = args.config.load()?;
            let book = book(&config)?.with_files(&args.prices).map_err(unreadable)?;
            reprice::run(&config, &book, &args).map(Done::well)
        }
    }
}

/// What `check` finds, for programs.
const FOUND: [Column; 2] = [Column("KIND", "kind", Is::Text), Column("TEXT", "text", Is::Text)];

/// The columns of rows for programs.
pub const ROWS: View = View {
    rows: "rows",
    columns: &[
        Column("PROVIDER", "provider", Is::Text),
        Column("MODEL", "id", Is::Text),
        Column("ALIASES", "aliases", Is::Json),
        Column("FROM", "from", Is::Text),
        Column("CHECKED", "checked", Is::Text),
        Column("MAX OUTPUT", "max_output", Is::Count),
        Column("RETIRED", "retired", Is::Text),
        Column("PRICES", "prices", Is::Json),
    ],
    nothing: "No price.",
    next: "",
};

/// In the form that was asked for; as `price.list` and `price.show` answer.
fn printed(ask: &AskArgs, rows: Vec<PriceRow>, shown: fn(&[PriceRow]) -> String) -> Result<String, PricesError> {
    let form = ask.form().unwrap_or(Form::Table);
    if form == Form::Table {
        return Ok(shown(&rows));
    }
    let result = serde_json::to_value(Prices { rows }).map_err(PricesError::Entry)?;
    Ok(match form {
        Form::Csv => form::csv(&result, ROWS.rows, ROWS.columns),
        Form::Jsonl => form::jsonl(&result, ROWS.rows),
        _ => format!("{result}\n"),
    })
}

fn no_book(book: &PriceBook, provider: &str) -> PricesError {
    let known = book.providers();
    let meant = nearest(known.iter().copied(), provider);
    PricesError::NoBook {
        provider: provider.to_owned(),
        meant: meant
            .map(|meant| format!("; did you mean {meant}?"))
            .unwrap_or_default(),
    }
}

/// The book of a configuration: what is built in, and its files over that.
fn book(config: &Config) -> Result<PriceBook, CliError> {
    let built_in = PriceBook::builtin().map_err(|error| unreadable(vec![error]))?;
    built_in.with_files(&config.price_files()).map_err(unreadable)
}

fn unreadable(errors: Vec<PriceError>) -> CliError {
    CliError::Launch(LaunchError::Prices(errors))
}

fn now_ms() -> i64 {
    SystemClock::default().now_ms()
}

fn moment(day: Option<&str>) -> Result<i64, PricesError> {
    match day {
        None => Ok(now_ms()),
        Some(text) => day_ms(text).ok_or_else(|| PricesError::Date(text.to_owned())),
    }
}

fn rows(book: &PriceBook, provider: &str, at_ms: i64) -> Vec<PriceRow> {
    let meant = |name: &&str| provider.is_empty() || *name == provider;
    let providers = book.providers().into_iter().filter(meant);
    providers
        .flat_map(|name| book.rows(name).map(|found| row(found, at_ms)))
        .collect()
}

fn list(rows: &[PriceRow]) -> String {
    let header = [
        "PROVIDER", "MODEL", "INPUT", "CACHED", "OUTPUT", "MORE", "SINCE", "CHECKED",
    ];
    let mut table = Table::new(header);
    for row in rows {
        table.row(line(row));
    }
    table.render(Style::of_stdout())
}

fn line(row: &PriceRow) -> [Cell; 8] {
    let standard = row.prices.get("standard");
    let price = |kind: &str| {
        let price = standard.and_then(|prices| prices.get(kind));
        price.map_or_else(String::new, Clone::clone)
    };
    let further = |tier: &&String| !["standard", "fees"].contains(&tier.as_str());
    let mut more: Vec<String> = row.prices.keys().filter(further).cloned().collect();
    let others = standard.into_iter().flatten();
    let others = others.filter(|(kind, _)| !["input", "cache_read", "output"].contains(&kind.as_str()));
    more.extend(others.map(|(kind, price)| format!("{kind} {price}")));
    let since = if row.from == "1970-01-01" { "" } else { &row.from };
    [
        row.provider.as_str().into(),
        row.id.as_str().into(),
        Cell::Digits(price("input")),
        Cell::Digits(price("cache_read")),
        Cell::Digits(price("output")),
        more.join(", ").into(),
        since.into(),
        row.checked.as_deref().unwrap_or_default().into(),
    ]
}

fn show(rows: &[PriceRow]) -> String {
    rows.iter().map(described).collect::<Vec<_>>().join("\n")
}

fn found(
    config: &Config,
    book: &PriceBook,
    model: &str,
    provider: &str,
    at_ms: i64,
) -> Result<Vec<PriceRow>, PricesError> {
    let rows = find(book, model, provider, at_ms);
    if rows.is_empty() {
        return Err(PricesError::Unpriced {
            model: model.to_owned(),
            instead: instead(config, book, model, provider, at_ms),
        });
    }
    Ok(rows)
}

/// What the gateway would take for a model without a price.
fn instead(config: &Config, book: &PriceBook, model: &str, provider: &str, at_ms: i64) -> String {
    let providers = config
        .providers
        .iter()
        .filter(|known| provider.is_empty() || known.name == provider);
    let said = providers.map(|known| {
        let how = match known.unpriced {
            Unpriced::Refuse => "refused".to_owned(),
            Unpriced::Free => "free".to_owned(),
            Unpriced::Price { input, output } => {
                format!("default_price {} / {}", input.per_million(), output.per_million())
            }
            Unpriced::Dearest => book.stand_in(&known.book, model, at_ms).map_or_else(
                || "nothing".to_owned(),
                |found| {
                    let id = found.quote.row().id();
                    match found.reason {
                        estimate_reason::FAMILY_PRICE => {
                            format!("the dearest row, {id}, of its family, as an estimate")
                        }
                        _ => format!("the dearest row, {id}, as an estimate"),
                    }
                },
            ),
        };
        format!("{}: {how}", known.name)
    });
    let said: Vec<String> = said.collect();
    if said.is_empty() {
        "no such provider is configured".to_owned()
    } else {
        said.join("; ")
    }
}

fn described(row: &PriceRow) -> String {
    let mut lines = vec![format!("{} {}", row.provider, row.id)];
    let mut tell = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("  {name:<16} {value}"));
        }
    };
    tell("aliases", row.aliases.join(", "));
    tell(
        "max output",
        row.max_output.map(|most| most.to_string()).unwrap_or_default(),
    );
    tell("retired", row.retired.clone().unwrap_or_default());
    let since = |day: &str| {
        if day == "1970-01-01" {
            "always".to_owned()
        } else {
            day.to_owned()
        }
    };
    let others: Vec<String> = row
        .days
        .iter()
        .filter(|day| **day != row.from)
        .map(|day| since(day))
        .collect();
    let others = if others.is_empty() {
        String::new()
    } else {
        format!(" (other prices from: {})", others.join(", "))
    };
    tell("since", format!("{}{others}", since(&row.from)));
    let mut tiers: Vec<_> = row.prices.iter().collect();
    tiers.sort_by_key(|(tier, _)| (!tier.starts_with("standard"), tier.len()));
    for (tier, prices) in tiers {
        tell(tier, in_order(prices));
    }
    tell("source", row.source.clone());
    tell("checked", row.checked.clone().unwrap_or_default());
    tell("note", row.note.clone().unwrap_or_default());
    tell("written in", format!("{}:{}", row.file, row.line));
    lines.join("\n") + "\n"
}

/// Prices in the order of the kinds, as price files have them.
fn in_order(prices: &BTreeMap<String, String>) -> String {
    let place = |kind: &str| Kind::from_name(kind).map_or(usize::MAX, |kind| kind as usize);
    let mut sorted: Vec<_> = prices.iter().collect();
    sorted.sort_by_key(|(kind, _)| place(kind));
    let shown: Vec<String> = sorted.iter().map(|(kind, price)| format!("{kind} {price}")).collect();
    shown.join(", ")
}

/// The findings, and whether there are none.
fn checked(book: &PriceBook, now_ms: i64, max_age_days: Option<u32>) -> (String, bool) {
    let findings = check(book, now_ms, max_age_days);
    let providers = book.providers();
    let rows: usize = providers.iter().map(|name| book.rows(name).count()).sum();
    let mut text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    let verdict = match findings.len() {
        0 => "OK".to_owned(),
        1 => "1 fault".to_owned(),
        many => format!("{many} faults"),
    };
    text.push_str(&format!("{rows} rows of {} providers: {verdict}\n", providers.len()));
    (text, findings.is_empty())
}

fn diff(found: &[Difference]) -> String {
    if found.is_empty() {
        return "No difference.\n".to_owned();
    }
    found.iter().map(|difference| format!("{difference}\n")).collect()
}

#[cfg(test)]
mod tests;
