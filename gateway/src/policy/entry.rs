//! The facts of the phase `settled`: an entry, read as its JSON reads.

use agentledger_ledger::{Entry, Kind};
use mlua::{Error as LuaError, Lua, LuaString, MetaMethod, UserData, UserDataMethods, Value};

use super::facts::{AtHandle, Ticket, count, handle, text};
use super::fields::no_field;

pub(super) struct EntryHandle(pub Ticket);
struct UsageHandle(Ticket);

impl UserData for EntryHandle {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |lua, this, name: LuaString| {
            let shared = this.0.check()?;
            let wanted = name.as_bytes();
            match &*wanted {
                b"at" => return handle(lua, AtHandle::new(this.0.clone(), shared.zone()?)),
                b"usage" => return handle(lua, UsageHandle(this.0.clone())),
                _ => {}
            }
            let entry = shared.entry.borrow();
            let Some(entry) = entry.as_deref() else {
                return Err(no_field("entry", &name));
            };
            entry_field(lua, entry, &wanted)?.ok_or_else(|| no_field("entry", &name))
        });
    }
}

impl UserData for UsageHandle {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        // `entry.usage.cache_read`: units of one kind, 0 where none were used.
        methods.add_meta_method(MetaMethod::Index, |_, this, name: LuaString| {
            let entry = this.0.check()?.entry.borrow();
            let kind = name.to_str().ok().and_then(|name| Kind::from_name(&name));
            match (entry.as_deref(), kind) {
                (Some(entry), Some(kind)) => Ok(count(entry.settlement.usage.get(kind))),
                _ => Err(no_field("entry.usage", &name)),
            }
        });
    }
}

/// Fields of an entry, named as in its JSON. Money is decimal text, as there.
fn entry_field(lua: &Lua, entry: &Entry, name: &[u8]) -> Result<Option<Value>, LuaError> {
    let (facts, settlement) = (&entry.facts, &entry.settlement);
    let found: &str = match name {
        b"provider" => &facts.provider,
        b"operation" => &facts.operation,
        b"requested_model" => &facts.requested_model,
        b"model" => &settlement.model,
        b"key" => &facts.key,
        b"tenant" => &facts.tenant,
        b"agent" => &facts.agent,
        b"session" => &facts.session,
        b"user" => &facts.user,
        b"task" => &facts.task,
        b"path" => &facts.path,
        b"outcome" => settlement.outcome.name(),
        b"overage_reason" => entry.overage_reason.as_deref().unwrap_or_default(),
        b"estimate_reason" => settlement.estimate_reason.as_deref().unwrap_or_default(),
        b"response_id" => settlement.response_id.as_deref().unwrap_or_default(),
        b"request_id" => settlement.request_id.as_deref().unwrap_or_default(),
        b"id" => return text(lua, &facts.id.to_string()).map(Some),
        b"cost_usd" => return text(lua, &settlement.cost.to_string()).map(Some),
        b"held_usd" => return text(lua, &entry.held.to_string()).map(Some),
        b"overage_usd" => return text(lua, &entry.overage.to_string()).map(Some),
        b"stream" => return Ok(Some(Value::Boolean(facts.stream))),
        b"estimated" => return Ok(Some(Value::Boolean(settlement.estimate_reason.is_some()))),
        b"status" => return Ok(Some(count(u64::from(settlement.status)))),
        b"reasoning" => return Ok(Some(count(settlement.reasoning))),
        b"duration_ms" => return Ok(Some(count(settlement.duration_ms))),
        b"ttfb_ms" => return Ok(Some(settlement.ttfb_ms.map_or(Value::Nil, count))),
        b"tags" => {
            let tags = lua.create_table()?;
            for (name, value) in &facts.tags {
                tags.raw_set(&**name, &**value)?;
            }
            tags.set_readonly(true);
            return Ok(Some(Value::Table(tags)));
        }
        _ => return Ok(None),
    };
    text(lua, found).map(Some)
}
