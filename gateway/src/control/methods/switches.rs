//! What operators change beside rules: rows of the price book, and providers that are switched off.

use jsonrpsee::server::RegisterMethodError;
use serde_json::{Value, json};

use crate::control::error::RpcError;
use crate::control::methods::rules::change::decision_ms;
use crate::control::methods::rules::shortcuts::needed;
use crate::control::rpc::call::{Call, Changed, Role};
use crate::control::rpc::table::{Method, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;
use crate::runtime::prices::PriceRow;
use crate::runtime::{InForce, PRICE, PROVIDER, Refused, Wanted, change_id};

pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    let method = |name, summary, example| Method::new(name, Role::Admin, Scope::Whole, summary, example);
    table.add(
        method(
            "price.put",
            "Puts a row over those of all price files; it counts from the next request on.",
            r#"{"provider": "openai", "row": {"id": "gpt-4o", "prices": {"always": {"standard": {"input": 2.5, "output": 10}}}}, "dry_run": true}"#,
        ),
        put_price,
    )?;
    table.add(
        method(
            "price.delete",
            "Takes a row of `price.put` away: the files' counts again.",
            r#"{"provider": "openai", "model": "gpt-4o", "dry_run": true}"#,
        ),
        delete_price,
    )?;
    table.add(
        method(
            "provider.enable",
            "Has a provider serve again.",
            r#"{"provider": "openai"}"#,
        ),
        |state, call, asked| switch(state, call, &asked, true),
    )?;
    table.add(
        method(
            "provider.disable",
            "Refuses requests to a provider; those that run end as they would.",
            r#"{"provider": "openai", "note": "its prices rose"}"#,
        ),
        |state, call, asked| switch(state, call, &asked, false),
    )
}

fn put_price(state: &ControlState, call: &Call, asked: wire::PricePutParams) -> Result<wire::PriceChanged, RpcError> {
    needed("provider", &asked.provider)?;
    let id = asked
        .row
        .get("id")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    needed("row.id", &id)?;
    let row = PriceRow {
        provider: asked.provider,
        row: asked.row,
    };
    change_price(
        state,
        call,
        id,
        row.provider.clone(),
        Some(row),
        &asked.note,
        asked.dry_run,
    )
}

fn delete_price(
    state: &ControlState,
    call: &Call,
    asked: wire::PriceDeleteParams,
) -> Result<wire::PriceChanged, RpcError> {
    needed("provider", &asked.provider)?;
    needed("model", &asked.model)?;
    change_price(
        state,
        call,
        asked.model,
        asked.provider,
        None,
        &asked.note,
        asked.dry_run,
    )
}

fn change_price(
    state: &ControlState,
    call: &Call,
    model: String,
    provider: String,
    row: Option<PriceRow>,
    note: &str,
    dry_run: bool,
) -> Result<wire::PriceChanged, RpcError> {
    let name = format!("{provider}/{model}");
    let change = change_id(decision_ms(state));
    let mut answer = wire::PriceChanged {
        change: (!dry_run).then(|| change.to_string()),
        after: row.as_ref().map(|row| row.row.clone()),
        before: None,
        provider,
        model,
        dry_run,
    };
    let served = |provider: &str| {
        let config = state.config.load();
        config
            .providers
            .iter()
            .any(|known| known.book == provider || known.name == provider)
    };
    let mut plan = |in_force: &InForce| {
        if row.is_none() && !in_force.parts.prices.contains_key(&name) {
            return Err(RpcError::NotFound(format!("no price of {name} was put at runtime")));
        }
        if row.as_ref().is_some_and(|row| !served(&row.provider)) {
            return Err(Refused::unfit("provider", "is none that this gateway serves").into());
        }
        Ok(Wanted::Price(name.clone(), row.clone()))
    };
    let mut record = |in_force: &InForce, _: &[_]| {
        let before = in_force.parts.prices.get(&name);
        answer.before = before.map(|before| before.row.clone());
        if dry_run {
            return Ok(None);
        }
        let document = |row: &PriceRow| serde_json::to_value(row).unwrap_or_default();
        let changed = Changed {
            subject: format!("{PRICE}{name}"),
            note: note.to_owned(),
            before: before.map(document),
            after: row.as_ref().map(document),
            kept: true,
            ..Changed::default()
        };
        call.enter(&state.ledger, change, &[changed], &answer).map(Some)
    };
    state.change(&mut plan, &mut record)?;
    Ok(answer)
}

fn switch(
    state: &ControlState,
    call: &Call,
    asked: &wire::ProviderSwitchParams,
    enabled: bool,
) -> Result<wire::ProviderSwitched, RpcError> {
    needed("provider", &asked.provider)?;
    let name = asked.provider.clone();
    let change = change_id(decision_ms(state));
    let mut answer = wire::ProviderSwitched {
        provider: name.clone(),
        enabled,
        change: None,
    };
    let known = state
        .config
        .load()
        .providers
        .iter()
        .any(|provider| provider.name == name);
    let mut plan = |in_force: &InForce| {
        // One that is gone from the file can be forgotten, too.
        let is_forgotten = enabled && in_force.parts.disabled.contains(&name);
        if !known && !is_forgotten {
            return Err(RpcError::NotFound(format!("there is no provider {name:?}")));
        }
        Ok(Wanted::Provider {
            name: name.clone(),
            enabled,
        })
    };
    let mut record = |in_force: &InForce, _: &[_]| {
        let was_enabled = !in_force.parts.disabled.contains(&name);
        if was_enabled == enabled {
            return Ok(None);
        }
        answer.change = Some(change.to_string());
        let off = || Some(json!({ "enabled": false }));
        let changed = Changed {
            subject: format!("{PROVIDER}{name}"),
            note: asked.note.clone(),
            before: if was_enabled { None } else { off() },
            after: if enabled { None } else { off() },
            kept: true,
            ..Changed::default()
        };
        call.enter(&state.ledger, change, &[changed], &answer).map(Some)
    };
    state.change(&mut plan, &mut record)?;
    Ok(answer)
}
