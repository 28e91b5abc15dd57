//! The methods `price.list` and `price.show`: the book as it is in force.

use std::collections::BTreeMap;

use agentledger_ledger::Kind;

use jsonrpsee::server::RegisterMethodError;

use crate::control::error::RpcError;
use crate::control::ledger_view::now_ms;
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::params::Nothing;
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;
use crate::price::check::named;
use crate::price::diff::{day, shown};
use crate::price::{Level, PriceBook, PriceSet, Row};

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    // As they were called first.
    table.add(
        Method::new(
            "prices.list",
            Role::Read,
            Scope::Tenant,
            "The price book in force: `price.list`.",
            r#"{"provider": "openai"}"#,
        ),
        list,
    )?;
    table.add(
        Method::new(
            "prices.show",
            Role::Read,
            Scope::Tenant,
            "What a model costs: `price.show`.",
            r#"{"model": "gpt-4o"}"#,
        ),
        show,
    )?;
    table.add(
        Method::new(
            "price.list",
            Role::Read,
            Scope::Tenant,
            "The price book in force.",
            r#"{"provider": "openai"}"#,
        ),
        list,
    )?;
    table.add(
        Method::new(
            "price.show",
            Role::Read,
            Scope::Tenant,
            "What a model costs.",
            r#"{"model": "gpt-4o"}"#,
        ),
        show,
    )?;
    table.add(
        Method::new(
            "price.drift",
            Role::Read,
            Scope::Tenant,
            "Where the price book differed from its sources when they were compared last.",
            r#"{}"#,
        ),
        drift,
    )
}

fn drift(state: &ControlState, _: &Call, _: Nothing) -> Result<wire::PriceDriftRow, RpcError> {
    Ok(state.data_plane.price_drift().unwrap_or_default())
}

/// Rows in one answer of `prices.list`.
const ROWS_MAX: usize = 10_000;

pub(in crate::control) fn list(
    state: &ControlState,
    _: &Call,
    asked: wire::PricesParams,
) -> Result<wire::Prices, RpcError> {
    let book = book(state)?;
    let at_ms = moment(asked.at.as_deref())?;
    let providers = book.providers();
    let wanted = providers
        .iter()
        .filter(|name| asked.provider.is_empty() || **name == asked.provider);
    let rows = wanted.flat_map(|name| book.rows(name)).map(|found| row(found, at_ms));
    Ok(wire::Prices {
        rows: rows.take(ROWS_MAX).collect(),
    })
}

pub(in crate::control) fn show(
    state: &ControlState,
    _: &Call,
    asked: wire::PricesParams,
) -> Result<wire::Prices, RpcError> {
    if asked.model.is_empty() {
        return Err(RpcError::InvalidParams("model: name one".to_owned()));
    }
    let at_ms = moment(asked.at.as_deref())?;
    let rows = find(&book(state)?, &asked.model, &asked.provider, at_ms);
    if rows.is_empty() {
        return Err(RpcError::NotFound(format!("no book has a price of {}", asked.model)));
    }
    Ok(wire::Prices { rows })
}

fn moment(at: Option<&str>) -> Result<i64, RpcError> {
    match at {
        None => Ok(now_ms()),
        Some(day) => crate::price::day_ms(day)
            .ok_or_else(|| RpcError::InvalidParams(format!("at: {day:?} is no date (YYYY-MM-DD)"))),
    }
}

/// The running gateway's book; where none runs, that of the configuration.
fn book(state: &ControlState) -> Result<PriceBook, RpcError> {
    if let Some(book) = state.data_plane.prices() {
        return Ok(book);
    }
    let built_in = PriceBook::builtin().map_err(|error| RpcError::NotFound(error.to_string()))?;
    built_in
        .with_files(&state.config.load().price_files())
        .map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            RpcError::NotFound(lines.join("\n"))
        })
}

/// The rows that a model's name finds, in one provider's book or in all.
pub fn find(book: &PriceBook, model: &str, provider: &str, at_ms: i64) -> Vec<wire::PriceRow> {
    book.providers()
        .into_iter()
        .filter(|name| provider.is_empty() || *name == provider)
        .filter_map(|name| book.row(name, model))
        .map(|found| row(found, at_ms))
        .collect()
}

/// A row as it is told: the prices that hold at a time, and the days of all others.
pub fn row(row: &Row, at_ms: i64) -> wire::PriceRow {
    let (file, line) = row.origin();
    let quote = row.quote(at_ms);
    wire::PriceRow {
        provider: row.provider().to_owned(),
        id: row.id().to_owned(),
        aliases: row.aliases().map(str::to_owned).collect(),
        from: quote.set().from().to_owned(),
        days: row.sets().map(|set| set.from().to_owned()).collect(),
        max_output: row.max_output(),
        retired: row.retired_ms().map(day),
        source: row.source().to_owned(),
        checked: row.checked().map(str::to_owned),
        note: row.note().map(str::to_owned),
        file: file.to_owned(),
        line,
        prices: prices(quote.set()),
    }
}

/// What a set states, by tier and kind.
fn prices(set: &PriceSet) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut tiers = BTreeMap::new();
    // What the book says of all its models: in the base of the standard tier as in every other place.
    let base = set.tiers().next().and_then(|standard| standard.levels().next());
    let fees = base.into_iter().flat_map(Level::common);
    let fees: BTreeMap<String, String> = fees
        .map(|(kind, fee)| (kind.name().to_owned(), shown(kind, fee)))
        .collect();
    if !fees.is_empty() {
        tiers.insert("fees".to_owned(), fees);
    }
    for tier in set.tiers() {
        for level in tier.levels() {
            let stated = |kind: Kind| Some((kind.name().to_owned(), shown(kind, level.stated(kind)?)));
            let mut kinds: BTreeMap<String, String> = Kind::ALL.into_iter().filter_map(stated).collect();
            kinds.extend(
                level
                    .reasoning()
                    .map(|price| ("reasoning".to_owned(), price.per_million())),
            );
            if !kinds.is_empty() {
                tiers.insert(named(tier, level), kinds);
            }
        }
    }
    tiers
}
