//! One thread's VM: the sandbox with all policies of one [`PolicySet`](super::PolicySet) loaded, ready to be asked.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use agentledger_ledger::{Entry, Name, Unit, Window};
use mlua::chunk::{ChunkMode, Compiler};
use mlua::{AnyUserData, Error as LuaError, Function, Lua, LuaString, Table, Value};

use super::balances::Balances;
use super::choose;
use super::conf::{self, LAZY_CONF_BYTES, LazyConf};
use super::engine::{Cause, Lookups, PolicyFailure};
use super::event::Event;
use super::facts::{CallFacts, CallHandle, Shared};
use super::file::Compiled;
use super::intent::{IntentCollector, host_table};
use super::memo::{Kept, Memo, Remembered};
use super::message::{is_memory, message_of};
use super::prepared::Prepared;
use super::sandbox::{self, Stopwatch, uncapped};
use super::set::{GlobCache, Options, Phase, PolicyMode};
use super::tally::Tally;
use super::terms::limits_function;
use super::verdict::{RequestedAlert, Shadow, Verdict};

const PRELUDE: &str = include_str!("prelude.luau");
/// Loading reads whole rule lists: it may take this many deadlines and this much memory beyond the cap for calls.
const LOAD_DEADLINES: u32 = 40;
const LOAD_MAX: Duration = Duration::from_secs(10);
const LOAD_MEMORY_BYTES_MAX: usize = 256 << 20;

/// The prelude's bytecode, compiled once for all VMs; a thread that takes over a swapped set has no time to lose.
fn prelude() -> Option<&'static [u8]> {
    static COMPILED: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| {
        let compiler = Compiler::new().set_optimization_level(1).set_debug_level(1);
        compiler.compile(PRELUDE).ok()
    });
    compiled.as_deref()
}

pub(super) struct Vm {
    /// The set that is loaded.
    pub set_id: u64,
    /// By phase, in the order in which they run.
    phases: [Vec<Member>; Phase::COUNT],
    shared: Rc<Shared>,
    collector: Rc<RefCell<IntentCollector>>,
    watch: Rc<Stopwatch>,
    deadline: Duration,
    /// `None`: every policy runs each time.
    memo: Option<RefCell<Memo>>,
    /// Declared last, so that it goes after the functions that live in it.
    lua: Lua,
}

/// One policy's function for a phase.
struct Member {
    name: Name,
    /// `name@version`.
    versioned_name: Name,
    /// Evaluated and recorded, never enforced.
    shadow: bool,
    /// It runs beside the policy of its name.
    is_candidate: bool,
    /// What it does is counted here.
    tally: Option<Arc<Tally>>,
    /// By which the memo knows it.
    number: u32,
    /// As far as its file shows, and while nothing speaks against it, its answer is a function of what it reads.
    is_function: Cell<bool>,
    function: Function,
}

impl Member {
    fn count(&self, phase: Phase, failed: bool, denied: bool) {
        match &self.tally {
            Some(tally) if failed => tally.failed(Some(phase)),
            Some(tally) => tally.answered(phase, denied),
            None => {}
        }
    }
}

/// A policy file as it loaded: what it says of itself, and its phases.
pub(super) struct LoadedPolicy {
    pub table: Table,
    pub phases: [Option<Function>; Phase::COUNT],
    pub check: Option<Function>,
    pub setup: Option<Function>,
}

/// A sandbox in which policies can be loaded one after the other.
pub(super) struct Bench {
    pub lua: Lua,
    pub watch: Rc<Stopwatch>,
    pub shared: Rc<Shared>,
    pub collector: Rc<RefCell<IntentCollector>>,
    /// Ties a phase's function to what stays the same between calls.
    pub bind: Function,
    /// The intents, each with its fields.
    pub intents: Table,
    /// Whether code runs that may compile glob sets: at load only, never during a call.
    loading: Rc<Cell<bool>>,
    deadline: Duration,
}

impl Bench {
    pub fn new(options: &Options, globs: &Arc<GlobCache>) -> Result<Bench, LuaError> {
        let (lua, watch) = sandbox::open(LOAD_MEMORY_BYTES_MAX)?;
        let (shared, collector, loading) = (
            Shared::new(),
            Rc::<RefCell<IntentCollector>>::default(),
            Rc::new(Cell::new(true)),
        );
        let host = host_table(&lua, &shared, &collector)?;
        let (bind, constructors, intents): (Function, Table, Table) = match prelude() {
            Some(bytecode) => lua
                .load(bytecode)
                .set_mode(ChunkMode::Binary)
                .set_name("=prelude")
                .call(host)?,
            None => lua.load(PRELUDE).set_name("=prelude").call(host)?,
        };
        let globals = lua.globals();
        for pair in constructors.pairs::<LuaString, Function>() {
            let (name, constructor) = pair?;
            globals.raw_set(name, constructor)?;
        }
        add_balances(&lua, &shared)?;
        choose::add(&lua, globs, &loading)?;
        globals.raw_set(
            "limits",
            limits_function(&lua, &shared, &collector, Rc::clone(&loading))?,
        )?;
        if let Some(coverage) = &options.coverage {
            coverage.add(&lua)?;
        }
        sandbox::close(&lua)?;
        Ok(Bench {
            lua,
            watch,
            shared,
            collector,
            bind,
            intents,
            loading,
            deadline: options
                .deadline
                .saturating_mul(LOAD_DEADLINES)
                .min(LOAD_MAX.max(options.deadline)),
        })
    }

    /// Runs a policy's file and takes the phases out of the table that it returns.
    pub fn load(&self, chunk_name: &str, bytecode: &[u8]) -> Result<LoadedPolicy, String> {
        self.watch.start(self.deadline);
        let chunk = self
            .lua
            .load(bytecode)
            .set_mode(ChunkMode::Binary)
            .set_name(format!("={chunk_name}"));
        let table = match chunk.eval::<Value>().map_err(|error| message_of(&error, &self.watch))? {
            Value::Table(table) => table,
            Value::Nil => return Err("the file returns nothing; a policy file returns a table".to_owned()),
            other => {
                return Err(format!(
                    "the file returns a {}; a policy file returns a table",
                    other.type_name()
                ));
            }
        };
        let phase = |name: &str| match table.raw_get::<Value>(name) {
            Ok(Value::Nil) => Ok(None),
            Ok(Value::Function(function)) => Ok(Some(function)),
            Ok(other) => Err(format!("{name} must be a function, not a {}", other.type_name())),
            Err(error) => Err(error.to_string()),
        };
        let mut phases: [Option<Function>; Phase::COUNT] = Default::default();
        for (slot, of) in phases.iter_mut().zip(Phase::ALL) {
            *slot = phase(of.name())?;
        }
        let (check, setup) = (phase("check")?, phase("setup")?);
        Ok(LoadedPolicy {
            phases,
            check,
            setup,
            table,
        })
    }

    /// A conf for `check` and `set_up`.
    pub fn conf(&self, conf: &serde_json::Value) -> Result<Value, String> {
        conf::build(&self.lua, conf).map_err(|error| format!("the conf is too large: {error}"))
    }

    /// Runs `check`, if there is one: what is wrong between the fields of the conf, by the key of each.
    pub fn check(&self, loaded: &LoadedPolicy, conf: &Value) -> Result<Vec<(String, String)>, String> {
        let Some(check) = &loaded.check else {
            return Ok(Vec::new());
        };
        self.watch.start(self.deadline);
        let run = || -> Result<Vec<(String, String)>, LuaError> {
            let found: Option<Vec<Table>> = check.call(conf)?;
            let found = found.unwrap_or_default().into_iter();
            let wrong = found.map(|wrong| Ok((wrong.raw_get::<String>("key")?, wrong.raw_get::<String>("message")?)));
            wrong.collect()
        };
        let wrong = run().map_err(|error| message_of(&error, &self.watch))?;
        if self.watch.is_late() {
            return Err("check ran longer than its deadline".to_owned());
        }
        Ok(wrong)
    }

    /// Runs `setup`, if there is one, on the conf. `None`: with this conf the policy has nothing to do.
    pub fn set_up(&self, loaded: &LoadedPolicy, conf: &Value) -> Result<Option<Prepared>, String> {
        self.watch.start(self.deadline);
        let run = || -> Result<Value, LuaError> {
            match &loaded.setup {
                Some(setup) => setup.call::<Value>(conf),
                None => Ok(Value::Nil),
            }
        };
        let prepared = run().map_err(|error| message_of(&error, &self.watch))?;
        if self.watch.is_late() {
            return Err("setup ran longer than its deadline".to_owned());
        }
        if prepared == Value::Boolean(false) {
            return Ok(None);
        }
        Prepared::read(&prepared).map(Some)
    }

    fn load_and_bind(&self, policy: &Compiled, prepared: &Prepared) -> Result<Vec<(Phase, Function)>, String> {
        let loaded = self.load(&policy.file.source.origin, &policy.file.bytecode)?;
        let bound = self.bind(&loaded, policy, prepared);
        bound.map_err(|error| message_of(&error, &self.watch))
    }

    /// Ties a policy's phases to its conf and to what its setup prepared.
    fn bind(
        &self,
        loaded: &LoadedPolicy,
        policy: &Compiled,
        prepared: &Prepared,
    ) -> Result<Vec<(Phase, Function)>, LuaError> {
        let conf = if policy.conf_bytes > LAZY_CONF_BYTES {
            Value::UserData(self.lua.create_userdata(LazyConf::new(&policy.conf))?)
        } else {
            conf::build(&self.lua, &policy.conf)?
        };
        let prepared = prepared.build(&self.lua, &self.shared, &self.collector)?;
        let mut bound = Vec::new();
        for (phase, function) in Phase::ALL.into_iter().zip(&loaded.phases) {
            if let Some(function) = function {
                bound.push((phase, self.bind.call((function, &conf, &prepared))?));
            }
        }
        Ok(bound)
    }
}

impl Vm {
    /// Loads the awake policies of a set. They all loaded once before, when the set was made, so an error is rare: no
    /// memory, or a policy that does not load the same twice.
    pub fn load(
        set_id: u64,
        policies: &[Arc<Compiled>],
        options: &Options,
        globs: &Arc<GlobCache>,
    ) -> Result<Vm, PolicyFailure> {
        let no_vm = |error: LuaError| PolicyFailure::new("sandbox", Cause::Load, error.to_string());
        let bench = Bench::new(options, globs).map_err(no_vm)?;
        let mut phases: [Vec<Member>; Phase::COUNT] = Default::default();
        let mut number = 0;
        for policy in policies {
            let Some(prepared) = &policy.prepared else { continue };
            let bound = match bench.load_and_bind(policy, prepared) {
                Ok(bound) => bound,
                Err(message) => {
                    let failure = PolicyFailure::new(&policy.file.name, Cause::Load, message);
                    if let Some(tally) = &policy.role.tally {
                        tally.failed(None);
                    }
                    // Nobody's request fails for what only runs beside.
                    if policy.role.is_candidate {
                        tracing::warn!("a version in shadow does not load: {failure}");
                        continue;
                    }
                    return Err(failure);
                }
            };
            for (phase, function) in bound {
                if let Some(members) = phases.get_mut(phase.place()) {
                    number += 1;
                    members.push(Member {
                        name: Name::clone(&policy.file.name),
                        versioned_name: policy.label(),
                        shadow: policy.mode == PolicyMode::Shadow,
                        is_candidate: policy.role.is_candidate,
                        tally: policy.role.tally.clone(),
                        number,
                        is_function: Cell::new(policy.file.keeps_nothing),
                        function,
                    });
                }
            }
        }
        bench.loading.set(false);
        bench.lua.gc_collect().map_err(no_vm)?;
        // The collector lets garbage grow to the size of what lives before it has gone round once.
        let loaded_bytes = bench.lua.used_memory();
        bench
            .lua
            .set_memory_limit(loaded_bytes.saturating_mul(2) + options.memory_bytes_max)
            .map_err(no_vm)?;
        let Bench {
            lua,
            watch,
            shared,
            collector,
            ..
        } = bench;
        Ok(Vm {
            set_id,
            phases,
            shared,
            collector,
            watch,
            deadline: options.deadline,
            memo: None,
            lua,
        })
    }

    /// Answers are remembered from now on.
    pub fn remembering(mut self) -> Vm {
        self.memo = Some(RefCell::new(Memo::new()));
        self
    }

    /// For calls that are made up: what they come to says nothing of a version.
    pub fn uncounted(mut self) -> Vm {
        for member in self.phases.iter_mut().flatten() {
            member.tally = None;
        }
        self
    }

    fn members(&self, phase: Phase) -> &[Member] {
        self.phases.get(phase.place()).map_or(&[], Vec::as_slice)
    }

    /// Asks the policies about a call, in `tenant` or `request`. A policy that fails ends it; one in shadow that fails is
    /// told beside the answer. Where it takes the VM with it, the others are to be asked again in another one, `without_shadow`.
    pub fn ask(
        &self,
        phase: Phase,
        facts: &CallFacts<'_>,
        balances: &Arc<dyn Balances>,
        without_shadow: bool,
    ) -> Answer {
        let mut call = AskedCall {
            handle: Some(self.shared.open_call(facts, balances)),
            made: None,
        };
        let mut answer = Answer::default();
        let members = self.members(phase).iter();
        for member in members.filter(|member| !(without_shadow && member.shadow)) {
            let mut own = Verdict::default();
            let into = if member.shadow { &mut own } else { &mut answer.verdict };
            let reads = member.is_candidate.then(|| self.shared.reads_count());
            let outcome = self.answer(member, phase, &mut call, into, &mut answer.lookups);
            if let Some(reads) = reads {
                self.shared.forget_reads_since(reads);
            }
            member.count(phase, outcome.is_err(), into.deny.is_some());
            self.shared.facts.tag(&answer.verdict.tags);
            match outcome {
                Err(failed) if member.shadow => {
                    if !answer.tell(failed) {
                        answer.is_cut_short = true;
                        break;
                    }
                }
                Err(failed) => {
                    answer.stop(failed);
                    break;
                }
                Ok(()) if member.shadow && !own.is_empty() => answer.verdict.shadow.push(Shadow {
                    policy: Name::clone(&member.versioned_name),
                    is_candidate: member.is_candidate,
                    verdict: own,
                }),
                Ok(()) => {}
            }
            if answer.verdict.deny.is_some() {
                break;
            }
        }
        answer.verdict.reads = self.shared.close();
        answer
    }

    /// Tells the policies of a settled entry; one that fails does not keep it from the others.
    pub fn settled(&self, entry: &Arc<Entry>, balances: &Arc<dyn Balances>) -> Answer {
        let handle = self.shared.open_entry(entry, balances);
        self.tell(Phase::Settled, uncapped(&self.lua, |lua| lua.create_userdata(handle)))
    }

    /// Tells the policies of an event.
    pub fn alert(&self, event: Event, balances: &Arc<dyn Balances>) -> Answer {
        let handle = self.shared.open_event(event, balances);
        self.tell(Phase::Alert, uncapped(&self.lua, |lua| lua.create_userdata(handle)))
    }

    fn tell(&self, phase: Phase, told: Result<AnyUserData, LuaError>) -> Answer {
        let mut answer = Answer::default();
        match told {
            Err(error) => answer.stop(self.failure("sandbox", &error)),
            Ok(told) => {
                for member in self.members(phase) {
                    let mut own = Verdict::default();
                    let outcome = self.run(member, phase, &told);
                    if outcome.is_ok() {
                        self.collector.borrow_mut().merge_into(&mut own);
                    }
                    member.count(phase, outcome.is_err(), false);
                    match outcome {
                        Err(failed) => {
                            if !answer.tell(failed) {
                                break;
                            }
                        }
                        Ok(()) if member.shadow => {}
                        Ok(()) => answer.verdict.alerts.append(&mut own.alerts),
                    }
                }
            }
        }
        self.shared.close();
        answer
    }

    /// Has a member answer about a call: as it did when it read the same, else by running it.
    fn answer(
        &self,
        member: &Member,
        phase: Phase,
        call: &mut AskedCall,
        verdict: &mut Verdict,
        lookups: &mut Lookups,
    ) -> Result<(), Failed> {
        let facts = &self.shared.facts;
        let memo = self.memo.as_ref().filter(|_| member.is_function.get());
        let found = memo.and_then(|memo| memo.borrow_mut().find(member.number, facts));
        if let Some(remembered) = found {
            lookups.hits += 1;
            self.shared.answer_keys_again(&remembered.keys);
            let mut collector = self.collector.borrow_mut();
            collector.repeat(&member.versioned_name, phase, &remembered.intents);
            collector.merge_into(verdict);
            return Ok(());
        }
        let call = call.made(&self.lua).map_err(|error| self.failure("sandbox", &error))?;
        let before = self.shared.reads_count();
        if memo.is_some() {
            facts.follow();
        }
        let outcome = self.run(member, phase, call);
        let read = memo.and_then(|_| facts.followed());
        outcome?;
        let mut collector = self.collector.borrow_mut();
        let kept = match (memo, read) {
            (Some(memo), Some(read)) => {
                let answer = Remembered {
                    intents: collector.intents().to_vec(),
                    keys: self.shared.keys_since(before),
                };
                memo.borrow_mut().keep(member.number, read, facts, answer)
            }
            _ => Kept::No,
        };
        match kept {
            Kept::Yes => lookups.misses += 1,
            Kept::No => lookups.unkept += 1,
            Kept::Contradicted => {
                lookups.unkept += 1;
                member.is_function.set(false);
            }
        }
        collector.merge_into(verdict);
        Ok(())
    }

    /// Runs a member. What it asks for is in the collector then.
    fn run(&self, member: &Member, phase: Phase, facts: &AnyUserData) -> Result<(), Failed> {
        self.collector.borrow_mut().begin(&member.versioned_name, phase);
        self.watch.start(self.deadline);
        let outcome = member.function.call::<()>(facts);
        let collector = self.collector.borrow_mut();
        match outcome {
            // A policy can catch the error that stops it; being late is its failure all the same.
            Ok(()) if self.watch.is_late() => Err((
                PolicyFailure::new(&member.name, Cause::Deadline, "ran longer than its deadline".to_owned()),
                Health::Spoiled,
            )),
            Ok(()) => Ok(()),
            Err(error) => {
                let (mut failure, health) = self.failure(&member.name, &error);
                if collector.misplaced && failure.cause == Cause::Error {
                    failure.cause = Cause::Intent;
                }
                Err((failure, health))
            }
        }
    }

    fn failure(&self, name: &str, error: &LuaError) -> Failed {
        let message = message_of(error, &self.watch);
        let (cause, health) = if self.watch.is_late() {
            (Cause::Deadline, Health::Spoiled)
        } else if is_memory(error) {
            (Cause::Memory, Health::Spoiled)
        } else {
            (Cause::Error, Health::Good)
        };
        (PolicyFailure::new(name, cause, message), health)
    }
}

/// A failure, and whether the VM outlives it.
type Failed = (PolicyFailure, Health);

/// The call that the members are asked about; Lua gets it when the first of them runs.
struct AskedCall {
    handle: Option<CallHandle>,
    made: Option<AnyUserData>,
}

impl AskedCall {
    fn made(&mut self, lua: &Lua) -> Result<&AnyUserData, LuaError> {
        if let Some(handle) = self.handle.take() {
            self.made = Some(uncapped(lua, |lua| lua.create_userdata(handle))?);
        }
        let made = self.made.as_ref();
        made.ok_or_else(|| LuaError::runtime("the call could not be made for Lua"))
    }
}

/// What an evaluation came to.
#[derive(Default)]
pub(super) struct Answer {
    pub verdict: Verdict,
    pub lookups: Lookups,
    /// The failure that ended it: of a policy whose word counts.
    pub failure: Option<PolicyFailure>,
    /// Failures that changed nothing else.
    pub told: Vec<PolicyFailure>,
    pub health: Health,
    /// A policy in shadow took the VM with it before all others were asked: this is no answer.
    pub is_cut_short: bool,
}

impl Answer {
    fn stop(&mut self, (failure, health): Failed) {
        self.failure = Some(failure);
        self.health = self.health.max(health);
    }

    /// Whether the others may still be asked.
    fn tell(&mut self, (failure, health): Failed) -> bool {
        self.told.push(failure);
        self.health = self.health.max(health);
        self.health == Health::Good
    }

    /// The alerts that were asked for, and every failure.
    pub fn alerts(self) -> (Vec<RequestedAlert>, Vec<PolicyFailure>) {
        let mut failures = self.told;
        failures.extend(self.failure);
        (self.verdict.alerts, failures)
    }
}

/// Whether a VM may be used after a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    #[default]
    Good,
    /// It was stopped in the middle of something: dropped, and built anew for the next call.
    Spoiled,
}

/// `spent(account, window, unit)` and `held(account, unit)`; the unit is `usd` where none is named.
fn add_balances(lua: &Lua, shared: &Rc<Shared>) -> Result<(), LuaError> {
    fn unit(of: &str, unit: Option<LuaString>) -> Result<Unit, LuaError> {
        let Some(unit) = unit else { return Ok(Unit::Usd) };
        Unit::from_name(&unit.to_str()?)
            .ok_or_else(|| LuaError::runtime(format!("{of}: unit must be usd, tokens or requests")))
    }
    let from = Rc::clone(shared);
    let spent = move |_: &Lua, (account, window, of): (LuaString, LuaString, Option<LuaString>)| {
        let window = Window::from_name(&window.to_str()?)
            .ok_or_else(|| LuaError::runtime("spent: window must be minute, hour, day, week, month or total"))?;
        from.balance(&account.to_str()?, Some(window), unit("spent", of)?)
    };
    lua.globals().raw_set("spent", lua.create_function(spent)?)?;
    let from = Rc::clone(shared);
    let held = move |_: &Lua, (account, of): (LuaString, Option<LuaString>)| {
        from.balance(&account.to_str()?, None, unit("held", of)?)
    };
    lua.globals().raw_set("held", lua.create_function(held)?)
}
