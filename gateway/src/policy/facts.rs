//! What a policy may know: the facts of a call as the proxy hands them over, and the handles through which Lua reads them.
//!
//! A VM keeps one set of buffers for the facts and refills it for each call, so a call costs no allocation of ours. Lua gets
//! handles that bear the number of their evaluation: one kept beyond its call raises, also while a later call is running.

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
    fn of_tool(&self, tag: &str) -> &str {
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

/// The owned copy of the facts; buffers are kept from call to call.
#[derive(Default)]
struct Buffers {
    at_ms: i64,
    zone: String,
    texts: [String; TEXTS.len()],
    key: Secret<String>,
    fingerprint: String,
    /// By name, ascending; those of earlier policies included.
    tags: Vec<(Name, Name)>,
    models: Vec<String>,
    any_model: bool,
    stream: bool,
    max_output: Option<u64>,
    estimate: CostEstimate,
    history: Option<History>,
    priced: bool,
    free: bool,
    /// The call's own accounts, each made once it is named.
    own: [Option<Name>; Own::COUNT],
}

/// The operation of a call of an MCP server's tool.
pub const TOOL_OPERATION: &str = "tool";
/// The tags of such a call, which the gateway alone puts: what sums and accounts of servers and tools go by.
pub const SERVER_TAG: &str = "server";
pub const TOOL_TAG: &str = "tool";

/// Text fields of `call`, in the order of `Buffers::texts`.
const TEXTS: [&str; 13] = [
    "provider",
    "dialect",
    "operation",
    "model",
    "tenant",
    "agent",
    "session",
    "user",
    "task",
    "path",
    "claim",
    "server",
    "tool",
];

impl Buffers {
    fn fill(&mut self, facts: &CallFacts<'_>) {
        let texts = [
            facts.provider,
            facts.dialect,
            facts.operation,
            facts.model,
            facts.tenant,
            facts.agent,
            facts.session,
            facts.user,
            facts.task,
            facts.path,
            facts.claim,
            facts.of_tool(SERVER_TAG),
            facts.of_tool(TOOL_TAG),
        ];
        for (buffer, text) in self.texts.iter_mut().zip(texts) {
            refill(buffer, text);
        }
        refill(&mut self.zone, facts.zone);
        refill(&mut self.fingerprint, facts.fingerprint);
        self.key.clone_from(facts.key);
        self.tags.clear();
        self.tags.extend(
            facts
                .tags
                .iter()
                .map(|(name, value)| (Arc::clone(name), Arc::clone(value))),
        );
        self.models.clear();
        self.models.extend_from_slice(facts.models);
        self.any_model = facts.any_model;
        (self.at_ms, self.stream, self.max_output) = (facts.at_ms, facts.stream, facts.max_output);
        (self.estimate, self.priced, self.free) = (facts.estimate, facts.priced, facts.free);
        self.history = facts.history;
        self.own = Default::default();
    }

    /// What the call says of one of its own accounts' names.
    fn own_name(&self, own: Own) -> &str {
        let text = match own {
            Own::Key => return &self.fingerprint,
            Own::Provider => 0,
            Own::Model => 3,
            Own::Tenant => 4,
            Own::Agent => 5,
            Own::Session => 6,
            Own::User => 7,
            Own::Task => 8,
        };
        self.texts.get(text).map_or("", String::as_str)
    }
}

fn refill(buffer: &mut String, text: &str) {
    buffer.clear();
    buffer.push_str(text);
}

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
    buffers: RefCell<Buffers>,
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
            buffers: RefCell::default(),
            entry: RefCell::default(),
            reads: RefCell::default(),
            zones: Zones::default(),
        })
    }

    /// Opens an evaluation on a call and gives the handle for Lua.
    pub(super) fn open_call(self: &Rc<Shared>, facts: &CallFacts<'_>, balances: &Arc<dyn Balances>) -> CallHandle {
        self.buffers.borrow_mut().fill(facts);
        self.reads.borrow_mut().open(balances);
        self.is_call.set(true);
        CallHandle(self.open())
    }

    /// Opens an evaluation on an event.
    pub(super) fn open_event(self: &Rc<Shared>, event: Event, balances: &Arc<dyn Balances>) -> EventHandle {
        {
            let mut buffers = self.buffers.borrow_mut();
            buffers.at_ms = event.at_ms;
            refill(&mut buffers.zone, "UTC");
        }
        self.reads.borrow_mut().open(balances);
        self.is_call.set(false);
        EventHandle(self.open(), Rc::new(event))
    }

    /// Opens an evaluation on a settled entry.
    pub(super) fn open_entry(self: &Rc<Shared>, entry: &Arc<Entry>, balances: &Arc<dyn Balances>) -> EntryHandle {
        {
            let mut buffers = self.buffers.borrow_mut();
            // The start, as in the JSON; its windows are where the hold was placed.
            buffers.at_ms = entry.facts.at_ms;
            refill(&mut buffers.zone, "UTC");
        }
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

    /// What a policy tagged the call with, later ones see as if the client had sent it.
    pub(super) fn tag(&self, tags: &[(Name, Name)]) {
        if tags.is_empty() {
            return;
        }
        let known = &mut self.buffers.borrow_mut().tags;
        for (name, value) in tags {
            match known.binary_search_by(|(known, _)| known.cmp(name)) {
                Ok(at) => {
                    if let Some((_, known)) = known.get_mut(at) {
                        *known = Name::clone(value);
                    }
                }
                Err(at) => known.insert(at, (Name::clone(name), Name::clone(value))),
            }
        }
    }

    /// See [`Reads::count`].
    pub fn reads_count(&self) -> (usize, usize) {
        self.reads.borrow().count()
    }

    /// See [`Reads::forget_since`].
    pub fn forget_reads_since(&self, count: (usize, usize)) {
        self.reads.borrow_mut().forget_since(count);
    }

    /// Ends the evaluation: handles die, the raw key is forgotten, and what was read of the balances is handed out.
    pub(super) fn close(&self) -> EvaluationReads {
        self.live.set(false);
        *self.key.borrow_mut() = None;
        self.buffers.borrow_mut().key = Secret::default();
        *self.entry.borrow_mut() = None;
        self.reads.borrow_mut().close()
    }

    /// The zone that windows and `call.at` follow where a policy names none.
    pub(super) fn zone(&self) -> Result<Zone, LuaError> {
        let buffers = self.buffers.borrow();
        self.zones.named(&buffers.zone).map_err(LuaError::runtime)
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
        let mut buffers = self.buffers.borrow_mut();
        if let Some(tag) = tag {
            let value = buffers.tags.iter().find(|(known, _)| **known == *tag);
            let value = value.map_or("", |(_, value)| value);
            return Ok(account_of("tag", &format!("{tag}={value}")));
        }
        let Some(own) = own else {
            return Err("is no account".to_owned());
        };
        if let Some(Some(known)) = buffers.own.get(own.place()) {
            return Ok(Name::clone(known));
        }
        let made = account_of(said, buffers.own_name(own));
        if let Some(slot) = buffers.own.get_mut(own.place()) {
            *slot = Some(Name::clone(&made));
        }
        Ok(made)
    }

    /// What `spent` (with a window) and `held` (without one) answer; the same value all through one evaluation.
    pub(super) fn balance(&self, named: &str, window: Option<Window>, unit: Unit) -> Result<f64, LuaError> {
        let what = if window.is_some() { "spent" } else { "held" };
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
    pub(super) fn check(&self) -> Result<&Shared, LuaError> {
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
        let shared = self.0.check()?;
        let answer = match shared.reads.borrow().recorded_key(question) {
            Some(recorded) => recorded.map_err(LuaError::runtime)?,
            None => question.answer(shared.buffers.borrow().key.expose()),
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

impl UserData for CallHandle {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |lua, this, name: LuaString| {
            let ticket = &this.0;
            let shared = ticket.check()?;
            let wanted = name.as_bytes();
            let wanted: &[u8] = &wanted;
            match wanted {
                b"key" => {
                    let mut made = shared.key.borrow_mut();
                    if made.is_none() {
                        *made = Some(uncapped(lua, |lua| lua.create_userdata(KeyHandle(ticket.clone())))?);
                    }
                    return Ok(made.clone().map_or(Value::Nil, Value::UserData));
                }
                b"at" => return handle(lua, AtHandle(ticket.clone(), shared.zone()?)),
                b"tags" => return handle(lua, TagsHandle(ticket.clone())),
                b"estimate" => return handle(lua, EstimateHandle(ticket.clone())),
                _ => {}
            }
            let buffers = shared.buffers.borrow();
            match wanted {
                b"history" => match buffers.history {
                    Some(history) => handle(lua, HistoryHandle(ticket.clone(), history)),
                    None => Ok(Value::Nil),
                },
                b"models" => uncapped(lua, |lua| {
                    lua.create_sequence_from(buffers.models.iter().map(String::as_str))
                })
                .map(Value::Table),
                b"any_model" => Ok(Value::Boolean(buffers.any_model)),
                b"stream" => Ok(Value::Boolean(buffers.stream)),
                b"priced" => Ok(Value::Boolean(buffers.priced)),
                b"free" => Ok(Value::Boolean(buffers.free)),
                b"max_output" => Ok(buffers.max_output.map_or(Value::Nil, count)),
                _ => {
                    let at = TEXTS.iter().position(|known| known.as_bytes() == wanted);
                    match at.and_then(|at| buffers.texts.get(at)) {
                        Some(found) => text(lua, found),
                        None => Err(no_field("call", &name)),
                    }
                }
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
            let shared = this.0.check()?;
            let buffers = shared.buffers.borrow();
            match &*name.as_bytes() {
                b"fingerprint" => text(lua, &buffers.fingerprint),
                b"present" => Ok(Value::Boolean(
                    !(buffers.key.expose().is_empty() && buffers.fingerprint.is_empty()),
                )),
                _ => Err(no_field("call.key", &name)),
            }
        });
        // Equal fingerprints are all that a policy may learn by printing.
        methods.add_meta_method(MetaMethod::ToString, |lua, this, ()| {
            let shared = this.0.check()?;
            text(lua, &shared.buffers.borrow().fingerprint)
        });
    }
}

impl UserData for TagsHandle {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        // A tag that was not sent is nil: any name is a field.
        methods.add_meta_method(MetaMethod::Index, |lua, this, name: LuaString| {
            let buffers = this.0.check()?.buffers.borrow();
            let wanted = name.as_bytes();
            let found = buffers.tags.iter().find(|(known, _)| known.as_bytes() == &*wanted);
            found.map_or(Ok(Value::Nil), |(_, value)| text(lua, value))
        });
        // `for name, value in call.tags do`: over a copy, in the order of the names.
        methods.add_meta_method(MetaMethod::Iter, |lua, this, ()| {
            let buffers = this.0.check()?.buffers.borrow();
            let tags = lua.create_table()?;
            for (name, value) in &buffers.tags {
                tags.raw_set(&**name, &**value)?;
            }
            let next: mlua::Function = lua.globals().get("next")?;
            Ok((next, tags))
        });
    }
}

impl UserData for EstimateHandle {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |_, this, name: LuaString| {
            let estimate = this.0.check()?.buffers.borrow().estimate;
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
            let at_ms = shared.buffers.borrow().at_ms;
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
