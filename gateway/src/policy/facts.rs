//! What a policy may know: the facts of a call as the proxy hands them over, and the handles through which Lua reads them.
//!
//! A VM keeps one set of buffers for the facts and refills it for each call, so a call costs no allocation of ours. Lua gets
//! handles that bear the number of their evaluation: one kept beyond its call raises, also while a later call is running. What a
//! handle gives of what is a [`Fact`] goes through [`Ticket::read`]; whatever else it gives keeps the answer from being remembered.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use agentledger_ledger::{Entry, Name, Unit, Usd, Window, Zone};
use mlua::{AnyUserData, Error as LuaError, Lua, LuaString, MetaMethod, UserData, UserDataMethods, Value};

use super::account::{Own, account_of, check_account};
use super::balances::{Balances, READS_MAX, Reads};
use super::entry::EntryHandle;
use super::event::{Event, EventHandle};
use super::fact::{Fact, FactValue, HeldQuestion, KnownFacts};
use super::fields::no_field;
use super::glob::Glob;
use super::history::History;
use super::question::KeyQuestion;
use super::read::{At, name_text, wrong};
use super::sandbox::uncapped;
use super::verdict::EvaluationReads;
use super::zones::{Moment, Zones};
use crate::secret::Secret;

/// What the proxy knows of a request when it asks the policies. Empty text: not said.
#[derive(Clone, Copy)]
pub struct CallFacts<'a> {
    /// Start of the request, milliseconds since the epoch.
    pub at_ms: i64,
    /// IANA name of the zone in which `call.at` speaks and windows turn unless a policy says otherwise; `UTC`.
    pub zone: &'a str,
    pub provider: &'a str,
    pub dialect: &'a str,
    pub operation: &'a str,
    pub model: &'a str,
    /// Every model that may serve the call or be billed with it, as its request names them; `model` is the one at hand.
    pub models: &'a [String],
    /// Which model serves is chosen elsewhere: by a router, or a prompt that the provider keeps.
    pub any_model: bool,
    pub stream: bool,
    /// The most output tokens that the request itself names.
    pub max_output: Option<u64>,
    /// The raw key, empty for none. Only globs are matched against it, natively; Lua never gets it.
    pub key: &'a Secret<String>,
    pub fingerprint: &'a str,
    /// The tenant that the client claims to be; what counts is `tenant`, once the phase `tenant` has run.
    pub claim: &'a str,
    pub tenant: &'a str,
    pub agent: &'a str,
    pub session: &'a str,
    pub user: &'a str,
    pub task: &'a str,
    /// The request's path as the client sent it, without its query.
    pub path: &'a str,
    pub tags: &'a BTreeMap<Name, Name>,
    pub estimate: CostEstimate,
    /// `None` for a call without a session.
    pub history: Option<History>,
    /// The model has a price of its own: the estimate stands on no stand-in.
    pub priced: bool,
    /// It costs nothing and is not held: of a verdict on it only a deny and headers count.
    pub free: bool,
}

impl CallFacts<'_> {
    /// What the tags say of the tool that is called; empty where none is.
    pub(super) fn of_tool(&self, tag: &str) -> &str {
        let tags = (self.operation == TOOL_OPERATION).then_some(self.tags);
        tags.and_then(|tags| tags.get(tag)).map_or("", |value| value)
    }
}

/// What the request may take at most, whatever its hold begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CostEstimate {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub usd: Usd,
    /// The part of `usd` that the output may cost.
    pub output_usd: Usd,
}

/// The operation of a call of an MCP server's tool.
pub const TOOL_OPERATION: &str = "tool";
/// The tags of such a call, which the gateway alone puts: what sums and accounts of servers and tools go by.
pub const SERVER_TAG: &str = "server";
pub const TOOL_TAG: &str = "tool";

/// What one VM's handles share with the engine.
pub(super) struct Shared {
    /// Number of the evaluation, from 1; handles of other evaluations are dead.
    evaluation: Cell<u64>,
    live: Cell<bool>,
    /// A call is at hand, with accounts of its own.
    is_call: Cell<bool>,
    global: Name,
    /// `call.key` of this evaluation, made once: every shipped policy asks for it.
    key: RefCell<Option<AnyUserData>>,
    pub(super) facts: KnownFacts,
    /// The call's own accounts, each made once it is named.
    own: RefCell<[Option<Name>; Own::COUNT]>,
    pub(super) entry: RefCell<Option<Arc<Entry>>>,
    reads: RefCell<Reads>,
    pub(super) zones: Zones,
}

impl Shared {
    pub(super) fn new() -> Rc<Shared> {
        Rc::new(Shared {
            evaluation: Cell::new(0),
            live: Cell::new(false),
            is_call: Cell::new(false),
            global: Name::from("global"),
            key: RefCell::default(),
            facts: KnownFacts::default(),
            own: RefCell::default(),
            entry: RefCell::default(),
            reads: RefCell::default(),
            zones: Zones::default(),
        })
    }

    /// Opens an evaluation on a call and gives the handle for Lua.
    pub(super) fn open_call(self: &Rc<Shared>, facts: &CallFacts<'_>, balances: &Arc<dyn Balances>) -> CallHandle {
        self.facts.fill(facts);
        *self.own.borrow_mut() = Default::default();
        self.reads.borrow_mut().open(balances);
        self.is_call.set(true);
        CallHandle(self.open())
    }

    /// Opens an evaluation on an event.
    pub(super) fn open_event(self: &Rc<Shared>, event: Event, balances: &Arc<dyn Balances>) -> EventHandle {
        self.facts.fill_without_call(event.at_ms);
        self.reads.borrow_mut().open(balances);
        self.is_call.set(false);
        EventHandle(self.open(), Rc::new(event))
    }

    /// Opens an evaluation on a settled entry.
    pub(super) fn open_entry(self: &Rc<Shared>, entry: &Arc<Entry>, balances: &Arc<dyn Balances>) -> EntryHandle {
        // The start, as in the JSON; its windows are where the hold was placed.
        self.facts.fill_without_call(entry.facts.at_ms);
        *self.entry.borrow_mut() = Some(Arc::clone(entry));
        self.reads.borrow_mut().open(balances);
        self.is_call.set(false);
        EntryHandle(self.open())
    }

    fn open(self: &Rc<Shared>) -> Ticket {
        self.evaluation.set(self.evaluation.get() + 1);
        self.live.set(true);
        Ticket {
            shared: Rc::clone(self),
            evaluation: self.evaluation.get(),
        }
    }

    /// See [`Reads::count`].
    pub fn reads_count(&self) -> (usize, usize) {
        self.reads.borrow().count()
    }

    /// Answers about the raw key that were recorded since a [`Reads::count`].
    pub fn keys_since(&self, (_, keys): (usize, usize)) -> Vec<u32> {
        self.reads.borrow().keys_since(keys)
    }

    /// Records answers about the raw key as they were once given to the same questions.
    pub fn answer_keys_again(&self, answers: &[u32]) {
        self.reads.borrow_mut().take_keys(answers);
    }

    /// See [`Reads::forget_since`].
    pub fn forget_reads_since(&self, count: (usize, usize)) {
        self.reads.borrow_mut().forget_since(count);
    }

    /// Ends the evaluation: handles die, the raw key is forgotten, and what was read of the balances is handed out.
    pub(super) fn close(&self) -> EvaluationReads {
        self.live.set(false);
        *self.key.borrow_mut() = None;
        self.facts.forget_key();
        *self.entry.borrow_mut() = None;
        self.reads.borrow_mut().close()
    }

    /// The zone that windows and `call.at` follow where a policy names none.
    pub(super) fn zone(&self) -> Result<Zone, LuaError> {
        let named = self.facts.read(Fact::Zone, |zone| self.zones.named(zone.text()));
        named.map_err(LuaError::runtime)
    }

    /// The account that a policy names: whole, or by its kind alone.
    pub(super) fn account(&self, at: At, field: &str, said: &Value) -> Result<Name, LuaError> {
        let said = name_text(at, field, said)?;
        self.account_named(&said).map_err(|why| wrong(at, field, why))
    }

    pub(super) fn account_named(&self, said: &str) -> Result<Name, String> {
        if said == "global" {
            return Ok(Name::clone(&self.global));
        }
        if said.contains(':') && !said.starts_with("tag:") {
            return check_account(said).map(|()| Name::from(said));
        }
        let own = Own::from_word(said);
        let tag = said.strip_prefix("tag:").filter(|tag| !tag.contains('='));
        if own.is_none() && tag.is_none() {
            return check_account(said).map(|()| Name::from(said));
        }
        if !(self.live.get() && self.is_call.get()) {
            return Err(format!("{said:?} is the account of a call, and there is none here"));
        }
        if let Some(tag) = tag {
            let account = |value: FactValue<'_>| account_of("tag", &format!("{tag}={}", value.text()));
            return Ok(self.facts.read(Fact::Tag(tag.into()), account));
        }
        let Some(own) = own else {
            return Err("is no account".to_owned());
        };
        let mut accounts = self.own.borrow_mut();
        let known = accounts.get(own.place()).and_then(Option::as_ref);
        let account = |name: FactValue<'_>| known.map_or_else(|| account_of(said, name.text()), Name::clone);
        let made = self.facts.read(Fact::of_own(own), account);
        if let Some(slot) = accounts.get_mut(own.place()) {
            slot.get_or_insert_with(|| Name::clone(&made));
        }
        Ok(made)
    }

    /// What `spent` (with a window) and `held` (without one) answer; the same value all through one evaluation.
    pub(super) fn balance(&self, named: &str, window: Option<Window>, unit: Unit) -> Result<f64, LuaError> {
        let what = if window.is_some() { "spent" } else { "held" };
        self.facts.spoil();
        let mut reads = self.reads.borrow_mut();
        if !(reads.is_open() && self.live.get()) {
            return Err(LuaError::runtime(format!(
                "{what}: balances can be read during a call only"
            )));
        }
        let account = self.account_named(named);
        let account = account.map_err(|wrong| LuaError::runtime(format!("{what}: account {wrong}")))?;
        if let Some(value) = reads.value(&account, window, unit) {
            return Ok(as_number(value, unit));
        }
        if reads.is_full() {
            return Err(LuaError::runtime(format!(
                "{what}: more than {READS_MAX} balances read in one call"
            )));
        }
        if let Some(recorded) = reads.recorded(&account, window, unit) {
            let value = recorded.map_err(LuaError::runtime)?;
            reads.take_recorded(account, window, unit, value);
            return Ok(as_number(value, unit));
        }
        if !reads.knows(&account) {
            let zone = self.zone()?;
            let mut wanted = vec![Name::clone(&account)];
            for expected in reads.expected() {
                // A name that makes no sense here was another call's.
                match self.account_named(&expected) {
                    Ok(expected) if !wanted.contains(&expected) => wanted.push(expected),
                    _ => {}
                }
            }
            reads.read(wanted, &zone);
        }
        Ok(as_number(reads.take(named, account, window, unit), unit))
    }
}

/// For Lua to look at and compare: USD as a number of dollars, counts as they are.
#[allow(clippy::cast_precision_loss)]
fn as_number(value: i64, unit: Unit) -> f64 {
    match unit {
        Unit::Usd => value as f64 / 1e9,
        Unit::Tokens | Unit::Requests => value as f64,
    }
}

/// A right to read the facts of one evaluation.
#[derive(Clone)]
pub(super) struct Ticket {
    shared: Rc<Shared>,
    evaluation: u64,
}

impl Ticket {
    /// For anything but a [`Fact`]: what the policy is told now, no answer of its can be found by again.
    pub(super) fn check(&self) -> Result<&Shared, LuaError> {
        let shared = self.alive()?;
        shared.facts.spoil();
        Ok(shared)
    }

    fn read<R>(&self, fact: Fact, look: impl FnOnce(FactValue<'_>) -> R) -> Result<R, LuaError> {
        Ok(self.alive()?.facts.read(fact, look))
    }

    fn alive(&self) -> Result<&Shared, LuaError> {
        if self.shared.live.get() && self.shared.evaluation.get() == self.evaluation {
            Ok(&self.shared)
        } else {
            Err(LuaError::runtime(
                "facts were kept beyond their call: copy the values that are needed",
            ))
        }
    }
}

pub(super) struct CallHandle(Ticket);
/// `call.key`: a key that can be matched and compared, never read.
pub(super) struct KeyHandle(Ticket);
struct TagsHandle(Ticket);
struct EstimateHandle(Ticket);
pub(super) struct AtHandle(Ticket, Zone);
struct HistoryHandle(Ticket, History);

impl AtHandle {
    pub(super) fn new(ticket: Ticket, zone: Zone) -> AtHandle {
        AtHandle(ticket, zone)
    }
}

impl KeyHandle {
    /// Asks about the raw key; the answer is for the record, too.
    pub(super) fn ask(&self, question: KeyQuestion<'_>) -> Result<Option<u32>, LuaError> {
        let shared = self.0.alive()?;
        let recorded = shared.reads.borrow().recorded_key(question);
        let answer = match recorded {
            Some(recorded) => {
                shared.facts.spoil();
                recorded.map_err(LuaError::runtime)?
            }
            None => {
                let asked = Fact::Key(HeldQuestion::new(question));
                shared.facts.read(asked, |value| value.place())
            }
        };
        shared.reads.borrow_mut().take_key(answer);
        Ok(answer)
    }
}

pub(super) fn text(lua: &Lua, text: &str) -> Result<Value, LuaError> {
    uncapped(lua, |lua| lua.create_string(text)).map(Value::String)
}

/// A handle for Lua.
pub(super) fn handle(lua: &Lua, handle: impl UserData + 'static) -> Result<Value, LuaError> {
    uncapped(lua, |lua| lua.create_userdata(handle)).map(Value::UserData)
}

#[allow(clippy::cast_precision_loss)]
pub(super) fn count(count: u64) -> Value {
    Value::Number(count as f64)
}

/// A fact as Lua has it.
fn fact(lua: &Lua, value: FactValue<'_>) -> Result<Value, LuaError> {
    Ok(match value {
        FactValue::Text(of) | FactValue::Tag(Some(of)) => return text(lua, of),
        FactValue::Tag(None) | FactValue::Count(None) | FactValue::Place(None) => Value::Nil,
        FactValue::Flag(flag) => Value::Boolean(flag),
        FactValue::Count(Some(of)) => count(of),
        FactValue::Place(Some(of)) => count(of.into()),
        FactValue::Texts(of) => {
            let list = uncapped(lua, |lua| lua.create_sequence_from(of.iter().map(String::as_str)));
            Value::Table(list?)
        }
        FactValue::Pairs(of) => {
            let table = lua.create_table()?;
            for (name, value) in of {
                table.raw_set(&**name, &**value)?;
            }
            Value::Table(table)
        }
    })
}

impl UserData for CallHandle {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |lua, this, name: LuaString| {
            let ticket = &this.0;
            let wanted = name.as_bytes();
            let wanted: &[u8] = &wanted;
            if let Some(wanted) = Fact::of_call(wanted) {
                return ticket.read(wanted, |value| fact(lua, value))?;
            }
            // These two say nothing by themselves.
            match wanted {
                b"key" => {
                    let mut made = ticket.alive()?.key.borrow_mut();
                    if made.is_none() {
                        *made = Some(uncapped(lua, |lua| lua.create_userdata(KeyHandle(ticket.clone())))?);
                    }
                    return Ok(made.clone().map_or(Value::Nil, Value::UserData));
                }
                b"tags" => {
                    ticket.alive()?;
                    return handle(lua, TagsHandle(ticket.clone()));
                }
                _ => {}
            }
            let shared = ticket.check()?;
            match wanted {
                b"at" => handle(lua, AtHandle(ticket.clone(), shared.zone()?)),
                b"estimate" => handle(lua, EstimateHandle(ticket.clone())),
                b"history" => match shared.facts.passing().history {
                    Some(history) => handle(lua, HistoryHandle(ticket.clone(), history)),
                    None => Ok(Value::Nil),
                },
                _ => Err(no_field("call", &name)),
            }
        });
    }
}

impl UserData for KeyHandle {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("matches", |_, this, pattern: LuaString| {
            let pattern = pattern.to_str()?;
            let glob =
                Glob::new(&pattern).map_err(|bad| LuaError::runtime(format!("key:matches({pattern:?}): {bad}")))?;
            Ok(this.ask(KeyQuestion::Glob(&pattern, &glob))?.is_some())
        });
        methods.add_meta_method(MetaMethod::Index, |lua, this, name: LuaString| {
            let wanted = match &*name.as_bytes() {
                b"fingerprint" => Fact::Fingerprint,
                b"present" => Fact::HasKey,
                _ => return Err(no_field("call.key", &name)),
            };
            this.0.read(wanted, |value| fact(lua, value))?
        });
        // Equal fingerprints are all that a policy may learn by printing.
        methods.add_meta_method(MetaMethod::ToString, |lua, this, ()| {
            this.0.read(Fact::Fingerprint, |value| fact(lua, value))?
        });
    }
}

impl UserData for TagsHandle {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        // A tag that was not sent is nil: any name is a field.
        methods.add_meta_method(MetaMethod::Index, |lua, this, name: LuaString| match name.to_str() {
            Ok(name) => this.0.read(Fact::Tag((*name).into()), |value| fact(lua, value))?,
            // No tag has such a name.
            Err(_) => this.0.alive().map(|_| Value::Nil),
        });
        // `for name, value in call.tags do`: over a copy, in the order of the names.
        methods.add_meta_method(MetaMethod::Iter, |lua, this, ()| {
            let tags = this.0.read(Fact::Tags, |value| fact(lua, value))??;
            let next: mlua::Function = lua.globals().get("next")?;
            Ok((next, tags))
        });
    }
}

impl UserData for EstimateHandle {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |_, this, name: LuaString| {
            let estimate = this.0.check()?.facts.passing().estimate;
            match &*name.as_bytes() {
                b"input_tokens" => Ok(count(estimate.input_tokens)),
                b"output_tokens" => Ok(count(estimate.output_tokens)),
                b"usd" => Ok(Value::Number(as_number(estimate.usd.nanos(), Unit::Usd))),
                b"output_usd" => Ok(Value::Number(as_number(estimate.output_usd.nanos(), Unit::Usd))),
                _ => Err(no_field("call.estimate", &name)),
            }
        });
    }
}

impl UserData for HistoryHandle {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |_, this, name: LuaString| {
            this.0.check()?;
            let found = this.1.field(&name.as_bytes());
            found.map(Value::Number).ok_or_else(|| no_field("call.history", &name))
        });
    }
}

impl UserData for AtHandle {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("in_zone", |_, this, zone: LuaString| {
            let shared = this.0.check()?;
            let zone = shared.zones.named(&zone.to_str()?).map_err(LuaError::runtime)?;
            Ok(AtHandle(this.0.clone(), zone))
        });
        methods.add_meta_method(MetaMethod::Index, |lua, this, name: LuaString| {
            let shared = this.0.check()?;
            let at_ms = shared.facts.passing().at_ms;
            let Moment {
                year,
                month,
                day,
                hour,
                minute,
                second,
                weekday,
            } = Moment::of(at_ms, &this.1).map_err(LuaError::runtime)?;
            let number = match &*name.as_bytes() {
                b"year" => i32::from(year),
                b"month" => i32::from(month),
                b"day" => i32::from(day),
                b"hour" => i32::from(hour),
                b"minute" => i32::from(minute),
                b"second" => i32::from(second),
                b"weekday" => i32::from(weekday),
                b"zone" => return text(lua, this.1.name()),
                b"ms" => return Ok(Value::Number(as_number(at_ms, Unit::Requests))),
                _ => return Err(no_field("at", &name)),
            };
            Ok(Value::Number(f64::from(number)))
        });
    }
}
