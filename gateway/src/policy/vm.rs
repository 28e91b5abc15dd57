//! One thread's VM: the sandbox with all policies of one [`PolicySet`](super::PolicySet) loaded, ready to be asked.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use agentledger_ledger::{Entry, Name, Unit, Window};
use mlua::chunk::ChunkMode;
use mlua::{AnyUserData, Error as LuaError, Function, Lua, LuaString, Table, UserData, UserDataMethods, Value};

use super::engine::{Cause, PolicyFailure};
use super::facts::{Balances, CallFacts, KeyHandle, Shared};
use super::glob::GlobSet;
use super::intent::{Asked, host_table, limits_function};
use super::sandbox::{self, Stopwatch};
use super::set::{Compiled, GlobCache, Options, Phase};
use super::verdict::Verdict;

const PRELUDE: &str = include_str!("prelude.luau");
/// Loading reads whole rule lists: it may take this many deadlines and this much memory beyond the cap for calls.
const LOAD_DEADLINES: u32 = 40;
const LOAD_MEMORY_BYTES_MAX: usize = 256 << 20;
/// Longest error text that leaves the engine, in characters.
const ERROR_CHARS_MAX: usize = 500;

pub(super) struct Vm {
    /// The set that is loaded.
    pub set_id: u64,
    request: Vec<(Name, Name, Function)>,
    settled: Vec<(Name, Name, Function)>,
    shared: Rc<Shared>,
    asked: Rc<RefCell<Asked>>,
    watch: Rc<Stopwatch>,
    deadline: Duration,
    /// Declared last, so that it goes after the functions that live in it.
    lua: Lua,
}

/// A policy file as it loaded: what it says of itself, and its phases.
pub(super) struct Loaded {
    pub table: Table,
    pub request: Option<Function>,
    pub settled: Option<Function>,
    pub setup: Option<Function>,
}

/// A sandbox in which policies can be loaded one after the other.
pub(super) struct Bench {
    pub lua: Lua,
    pub watch: Rc<Stopwatch>,
    shared: Rc<Shared>,
    asked: Rc<RefCell<Asked>>,
    bind: Function,
    /// Whether code runs that may compile glob sets: at load only, never during a call.
    loading: Rc<Cell<bool>>,
    deadline: Duration,
}

impl Bench {
    pub fn new(options: &Options, globs: &Arc<GlobCache>) -> Result<Bench, LuaError> {
        let (lua, watch) = sandbox::open(LOAD_MEMORY_BYTES_MAX)?;
        let (shared, asked, loading) = (Shared::new(), Rc::<RefCell<Asked>>::default(), Rc::new(Cell::new(true)));
        let host = host_table(&lua, &shared, &asked)?;
        let prelude = lua.load(PRELUDE).set_name("=prelude");
        let (bind, constructors): (Function, Table) = prelude.call(host)?;
        let globals = lua.globals();
        for pair in constructors.pairs::<LuaString, Function>() {
            let (name, constructor) = pair?;
            globals.raw_set(name, constructor)?;
        }
        add_balances(&lua, &shared)?;
        add_globs(&lua, Arc::clone(globs), Rc::clone(&loading))?;
        globals.raw_set("limits", limits_function(&lua, &shared, &asked, Rc::clone(&loading))?)?;
        sandbox::close(&lua)?;
        Ok(Bench {
            lua,
            watch,
            shared,
            asked,
            bind,
            loading,
            deadline: options.deadline.saturating_mul(LOAD_DEADLINES),
        })
    }

    /// Runs a policy's file and takes the phases out of the table that it returns.
    pub fn load(&self, chunk_name: &str, bytecode: &[u8]) -> Result<Loaded, String> {
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
        let (request, settled, setup) = (phase("request")?, phase("settled")?, phase("setup")?);
        Ok(Loaded {
            request,
            settled,
            setup,
            table,
        })
    }

    /// Runs `setup`, if there is one, on the compiled conf. `None`: with this conf the policy has nothing to do.
    pub fn set_up(&self, loaded: &Loaded, conf: &[u8]) -> Result<Option<(Value, Value)>, String> {
        self.watch.start(self.deadline);
        let run = || -> Result<_, LuaError> {
            let conf: Value = self
                .lua
                .load(conf)
                .set_mode(ChunkMode::Binary)
                .set_name("=conf")
                .eval()?;
            let prepared = match &loaded.setup {
                Some(setup) => setup.call::<Value>(&conf)?,
                None => Value::Nil,
            };
            if let Value::Table(prepared) = &prepared {
                prepared.set_readonly(true);
            }
            Ok((conf, prepared))
        };
        let (conf, prepared) = run().map_err(|error| message_of(&error, &self.watch))?;
        if self.watch.is_late() {
            return Err("setup ran longer than its deadline".to_owned());
        }
        Ok((prepared != Value::Boolean(false)).then_some((conf, prepared)))
    }

    fn bind(&self, phase: &Function, tied: &(Value, Value)) -> Result<Function, String> {
        self.bind
            .call((phase, &tied.0, &tied.1))
            .map_err(|error| error.to_string())
    }
}

impl Vm {
    /// Loads the awake policies of a set. They all loaded once before, when the set was made, so an error is rare: no
    /// memory, or a policy that does not load the same twice.
    pub fn load(
        set_id: u64,
        policies: &[Compiled],
        options: &Options,
        globs: &Arc<GlobCache>,
    ) -> Result<Vm, PolicyFailure> {
        let no_vm = |error: LuaError| PolicyFailure::new("sandbox", Cause::Load, error.to_string());
        let bench = Bench::new(options, globs).map_err(no_vm)?;
        let (mut request, mut settled) = (Vec::new(), Vec::new());
        for policy in policies.iter().filter(|policy| policy.awake) {
            let failed = |message: String| PolicyFailure::new(&policy.name, Cause::Load, message);
            let loaded = bench.load(&policy.origin, &policy.bytecode).map_err(failed)?;
            let Some(tied) = bench.set_up(&loaded, &policy.conf).map_err(failed)? else {
                continue;
            };
            for (phase, functions) in [(&loaded.request, &mut request), (&loaded.settled, &mut settled)] {
                if let Some(phase) = phase {
                    let bound = bench.bind(phase, &tied).map_err(failed)?;
                    functions.push((Name::clone(&policy.name), Name::clone(&policy.spoken), bound));
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
            asked,
            ..
        } = bench;
        Ok(Vm {
            set_id,
            request,
            settled,
            shared,
            asked,
            watch,
            deadline: options.deadline,
            lua,
        })
    }

    /// Asks the policies about a call. On failure says whether this VM may be used again.
    pub fn request(
        &self,
        facts: &CallFacts<'_>,
        balances: &Arc<dyn Balances>,
    ) -> Result<Verdict, (PolicyFailure, Health)> {
        let handle = self.shared.open_call(facts, balances);
        let mut verdict = Verdict::default();
        let outcome = self
            .lua
            .create_userdata(handle)
            .map_err(|error| self.failure("sandbox", &error))
            .and_then(|call| {
                for (name, spoken, function) in &self.request {
                    self.run(name, spoken, function, &call, &mut verdict)?;
                    if verdict.deny.is_some() {
                        break;
                    }
                }
                Ok(())
            });
        verdict.reads = self.shared.close();
        outcome.map(|()| verdict)
    }

    /// Tells the policies of a settled entry; one that fails does not keep it from the others.
    pub fn settled(&self, entry: &Arc<Entry>, balances: &Arc<dyn Balances>) -> Vec<(PolicyFailure, Health)> {
        let handle = self.shared.open_entry(entry, balances);
        let mut failures = Vec::new();
        match self.lua.create_userdata(handle) {
            Err(error) => failures.push(self.failure("sandbox", &error)),
            Ok(told) => {
                for (name, spoken, function) in &self.settled {
                    let mut verdict = Verdict::default();
                    match self.run(name, spoken, function, &told, &mut verdict) {
                        Err((failure, Health::Spoiled)) => {
                            failures.push((failure, Health::Spoiled));
                            break;
                        }
                        Err(failure) => failures.push(failure),
                        Ok(())
                            if verdict.deny.is_some()
                                || !verdict.bounds.is_empty()
                                || verdict.clamp.is_some()
                                || !verdict.headers.is_empty() =>
                        {
                            let message = "asked in settled for what only request can have";
                            failures.push((
                                PolicyFailure::new(name, Cause::Intent, message.to_owned()),
                                Health::Good,
                            ));
                        }
                        Ok(()) => {}
                    }
                }
            }
        }
        self.shared.close();
        failures
    }

    fn run(
        &self,
        name: &Name,
        spoken: &Name,
        function: &Function,
        facts: &AnyUserData,
        verdict: &mut Verdict,
    ) -> Result<(), (PolicyFailure, Health)> {
        self.asked.borrow_mut().begin(spoken);
        self.watch.start(self.deadline);
        let outcome = function.call::<()>(facts);
        let mut asked = self.asked.borrow_mut();
        match outcome {
            // A policy can catch the error that stops it; being late is its failure all the same.
            Ok(()) if self.watch.is_late() => Err((
                PolicyFailure::new(name, Cause::Deadline, "ran longer than its deadline".to_owned()),
                Health::Spoiled,
            )),
            Ok(()) => {
                asked.merge_into(verdict);
                Ok(())
            }
            Err(error) => Err(self.failure(name, &error)),
        }
    }

    fn failure(&self, name: &str, error: &LuaError) -> (PolicyFailure, Health) {
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

/// Whether a VM may be used after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    /// It was stopped in the middle of something: dropped, and built anew for the next call.
    Spoiled,
}

fn root(error: &LuaError) -> &LuaError {
    match error {
        LuaError::CallbackError { cause, .. }
        | LuaError::WithContext { cause, .. }
        | LuaError::BadArgument { cause, .. } => root(cause),
        other => other,
    }
}

fn is_memory(error: &LuaError) -> bool {
    match root(error) {
        LuaError::MemoryError(_) => true,
        LuaError::RuntimeError(message) => message.contains("not enough memory"),
        _ => false,
    }
}

/// One line of text for people: file, line and what went wrong, without the traceback.
pub(super) fn message_of(error: &LuaError, watch: &Stopwatch) -> String {
    let found = match root(error) {
        LuaError::RuntimeError(message) | LuaError::MemoryError(message) | LuaError::SyntaxError { message, .. } => {
            message.clone()
        }
        other => other.to_string(),
    };
    let first = found.split("\nstack traceback:").next().unwrap_or_default().trim();
    let place = match error {
        LuaError::CallbackError { traceback, .. } => place_in(traceback),
        _ => None,
    };
    let late = if watch.is_late() && !first.contains("deadline") {
        " (stopped at its deadline)"
    } else {
        ""
    };
    let line = match place {
        Some(place) => format!("{place}: {first}{late}"),
        None => format!("{first}{late}"),
    };
    line.replace('\n', " ").chars().take(ERROR_CHARS_MAX).collect()
}

/// The innermost `file:line` of a traceback that lies in a policy.
fn place_in(traceback: &str) -> Option<&str> {
    traceback.lines().map(str::trim).find_map(|line| {
        let (file, rest) = line.split_once(".lua:")?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        (digits > 0 && !file.contains(' '))
            .then(|| line.get(..file.len() + 5 + digits))
            .flatten()
    })
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

/// What `globs(list)` gives: `:first(text or call.key)` is the place of the first pattern that matches, from 1, or nil.
struct Globs(Arc<GlobSet>);

impl UserData for Globs {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("first", |_, this, of: Value| {
            let found = match &of {
                Value::String(text) => this.0.first(&text.to_str()?),
                Value::UserData(data) => match data.borrow::<KeyHandle>() {
                    Ok(key) => key.with_raw(|key| this.0.first(key))?,
                    Err(_) => return Err(LuaError::runtime("globs:first takes text or call.key")),
                },
                _ => return Err(LuaError::runtime("globs:first takes text or call.key")),
            };
            Ok(found.and_then(|at| u32::try_from(at + 1).ok()))
        });
    }
}

fn add_globs(lua: &Lua, cache: Arc<GlobCache>, loading: Rc<Cell<bool>>) -> Result<(), LuaError> {
    let globs = move |_: &Lua, list: Vec<LuaString>| {
        if !loading.get() {
            return Err(LuaError::runtime("globs: compile patterns in setup, not during a call"));
        }
        let mut patterns = Vec::with_capacity(list.len());
        for pattern in &list {
            patterns.push(pattern.to_str()?.to_owned());
        }
        let set = cache.get(&patterns).map_err(|(at, bad)| {
            let pattern = patterns.get(at).map(String::as_str).unwrap_or_default();
            LuaError::runtime(format!("globs: pattern {} ({pattern:?}) is a {bad}", at + 1))
        })?;
        Ok(Globs(set))
    };
    lua.globals().raw_set("globs", lua.create_function(globs)?)
}

/// Which function of a policy was running.
pub(super) const fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Request => "request",
        Phase::Settled => "settled",
    }
}
