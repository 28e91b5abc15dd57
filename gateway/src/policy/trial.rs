//! A sandbox to try single things in: the same that policies run in, with a made-up call at hand. `check` asks it what exists and
//! what an intent may say, so that the answers are the gateway's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentledger_ledger::Name;
use mlua::{AnyUserData, Error as LuaError, Function, LuaString, MultiValue, ObjectLike, Table, Value};
use serde_json::json;

use super::balances::{Balances, NoBalances};
use super::conf;
use super::lint::{Literal, Sandbox, meant};
use super::message::message_of;
use super::probe::{entry, with_call};
use super::set::{GlobCache, Options, Phase};
use super::vm::Bench;

pub(super) struct Trial {
    bench: Bench,
    /// Each global, and its members where it is a library.
    globals: BTreeMap<String, Option<Vec<String>>>,
    intents: BTreeMap<String, Vec<String>>,
}

/// The names that a table has.
fn names(table: &Table) -> Result<Vec<String>, LuaError> {
    let pairs = table.pairs::<LuaString, Value>();
    pairs.map(|pair| Ok(pair?.0.to_string_lossy())).collect()
}

impl Trial {
    pub fn new() -> Result<Trial, LuaError> {
        let bench = Bench::new(&Options::default(), &Arc::new(GlobCache::default()))?;
        let mut globals = BTreeMap::new();
        // A closed sandbox has its globals behind an empty table that nothing can be written to.
        let closed = bench.lua.globals().metatable();
        let behind: Table = match closed {
            Some(closed) => closed.raw_get("__index")?,
            None => bench.lua.globals(),
        };
        for pair in behind.pairs::<LuaString, Value>() {
            let (name, value) = pair?;
            let members = value.as_table().map(names).transpose()?;
            globals.insert(name.to_string_lossy(), members);
        }
        let mut intents = BTreeMap::new();
        for pair in bench.intents.pairs::<String, Table>() {
            let (name, of) = pair?;
            intents.insert(name, names(&of)?);
        }
        Ok(Trial {
            bench,
            globals,
            intents,
        })
    }

    /// The intents, each with its fields.
    #[cfg(test)]
    pub fn intents(&self) -> &BTreeMap<String, Vec<String>> {
        &self.intents
    }

    /// The facts that a phase is asked about, of the made-up call.
    fn facts(&self, phase: Phase) -> Result<AnyUserData, LuaError> {
        let (shared, lua) = (&self.bench.shared, &self.bench.lua);
        let balances: Arc<dyn Balances> = Arc::new(NoBalances);
        // Ends the evaluation before.
        shared.close();
        match phase {
            Phase::Tenant | Phase::Request => {
                let handle = with_call(0, |facts| shared.open_call(facts, &balances));
                lua.create_userdata(handle)
            }
            Phase::Settled => lua.create_userdata(shared.open_entry(&Arc::new(entry(0)), &balances)),
            Phase::Alert => lua.create_userdata(shared.open_event(super::Event::new("probe", 0), &balances)),
        }
    }

    fn message(&self, error: &LuaError) -> String {
        let message = message_of(error, &self.bench.watch);
        // It is the only one here.
        message.strip_prefix("intent 1: ").map(str::to_owned).unwrap_or(message)
    }

    fn intent(&self, intent: &str, given: &[(String, Literal)]) -> Result<Table, LuaError> {
        let table = self.bench.lua.create_table()?;
        table.raw_set("intent", intent)?;
        for (name, literal) in given {
            let value = match literal {
                Literal::Known(value) => value.clone(),
                Literal::Unknown => stand_in(intent, name),
            };
            table.raw_set(name.as_str(), conf::build(&self.bench.lua, &value)?)?;
        }
        Ok(table)
    }

    fn run(&self, phase: Phase, asked: Table) -> Result<(), LuaError> {
        let answer = self
            .bench
            .lua
            .create_function(move |_, _: MultiValue| Ok(asked.clone()))?;
        let function: Function = self.bench.bind.call((answer, Value::Nil, Value::Nil))?;
        self.bench.collector.borrow_mut().begin(&Name::from("check"), phase);
        self.bench.watch.start(Options::default().deadline);
        function.call::<()>(self.facts(phase)?)
    }
}

/// A value that the intent takes, for a field whose own is made when the policy runs.
fn stand_in(intent: &str, field: &str) -> serde_json::Value {
    match (intent, field) {
        (_, "account") => json!("global"),
        (_, "window") => json!("day"),
        ("rate", "unit") => json!("requests"),
        (_, "unit") => json!("usd"),
        (_, "per") => json!("minute"),
        (_, "action") => json!("block"),
        (_, "zone") => json!("UTC"),
        (_, "status") => json!(403),
        (_, "soft") => json!(0.5),
        (_, "alternatives") => json!(["model"]),
        (_, "when") => json!("always"),
        (_, "severity") => json!("info"),
        (_, "details") => json!({}),
        (_, "as") => json!("dearest"),
        (_, "limit" | "retry_after" | "max_output" | "seconds" | "cooldown_mins" | "input" | "output") => json!(1),
        _ => json!("x"),
    }
}

impl Sandbox for Trial {
    fn has_global(&self, name: &str) -> bool {
        self.globals.contains_key(name)
    }

    fn globals(&self) -> Vec<&str> {
        self.globals.keys().map(String::as_str).collect()
    }

    fn members(&self, library: &str) -> Option<Vec<&str>> {
        let members = self.globals.get(library)?.as_ref()?;
        Some(members.iter().map(String::as_str).collect())
    }

    fn read(&self, phase: Phase, wanted: &[&str]) -> Result<(), (usize, String)> {
        let at = |place: usize| move |error: LuaError| (place, self.message(&error));
        let mut held = Value::UserData(self.facts(phase).map_err(at(0))?);
        for (place, name) in wanted.iter().enumerate() {
            held = match &held {
                Value::UserData(held) => held.get(*name).map_err(at(place))?,
                Value::Table(held) => held.raw_get(*name).map_err(at(place))?,
                // Texts have the methods of `string`, and nil is what a call may not have said.
                Value::Nil | Value::String(_) => return Ok(()),
                other => {
                    let owner = wanted.get(place.wrapping_sub(1)).unwrap_or(&"this");
                    let message = format!("{owner} is a {} and has no field {name:?}", other.type_name());
                    return Err((place, message));
                }
            };
        }
        Ok(())
    }

    fn is_intent(&self, name: &str) -> bool {
        self.intents.contains_key(name)
    }

    fn ask(&self, phase: Phase, intent: &str, given: &[(String, Literal)]) -> Result<(), String> {
        let known = self.intents.get(intent).map_or(&[][..], Vec::as_slice);
        if let Some((unknown, _)) = given.iter().find(|(name, _)| !known.contains(name)) {
            let meant = meant(known.iter().map(String::as_str), unknown);
            let has = if meant.is_empty() {
                format!("; it has {}", known.join(", "))
            } else {
                meant
            };
            return Err(format!("{intent} has no field {unknown}{has}"));
        }
        let asked = self.intent(intent, given).map_err(|error| self.message(&error))?;
        self.run(phase, asked).map_err(|error| self.message(&error))
    }

    fn balance(&self, phase: Phase, function: &str, arguments: &[Literal]) -> Result<(), String> {
        let stand_ins = ["account", "window", "unit"].into_iter();
        let stand_ins = stand_ins.filter(|name| function != "held" || *name != "window");
        let mut given = Vec::new();
        for (argument, name) in arguments.iter().zip(stand_ins) {
            let value = match argument {
                Literal::Known(value) => value.clone(),
                Literal::Unknown => stand_in(function, name),
            };
            given.push(conf::build(&self.bench.lua, &value).map_err(|error| self.message(&error))?);
        }
        let called = || -> Result<(), LuaError> {
            let of: Function = self.bench.lua.globals().get(function)?;
            let _facts = self.facts(phase)?;
            self.bench.watch.start(Options::default().deadline);
            of.call::<()>(MultiValue::from_vec(given))
        };
        called().map_err(|error| self.message(&error))
    }
}
