//! The sandbox: one Luau VM with nothing in it but what [`GLOBALS`] allows, a memory cap, and a stop-watch that ends
//! what runs too long. The globals, the libraries and the metatables are read-only, so policies cannot meet through them.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::timer::Timer;
use mlua::{Error as LuaError, Lua, LuaOptions, StdLib, VmState};

/// The base functions that stay. What is absent: `print` (I/O), `load`, `loadstring`, `require` (code from elsewhere),
/// `getfenv`, `setfenv` (other people's globals), `newproxy`, `collectgarbage`, `gcinfo`.
const GLOBALS: [&str; 22] = [
    "_VERSION",
    "assert",
    "error",
    "getmetatable",
    "ipairs",
    "next",
    "pairs",
    "pcall",
    "rawequal",
    "rawget",
    "rawlen",
    "rawset",
    "select",
    "setmetatable",
    "tonumber",
    "tostring",
    "type",
    "typeof",
    "unpack",
    "xpcall",
    "bit32",
    "string",
];
const LIBRARIES: [&str; 2] = ["table", "math"];
/// Members of `math` that are no functions of their arguments.
const MATH_REFUSED: [&str; 2] = ["random", "randomseed"];

/// A call that took less wall time than this was not slow, whatever the processor did; no CPU clock is read before.
const GRACE: Duration = Duration::from_millis(5);
/// On a machine so busy that a call gets no processor, its wall time may be this many deadlines before it is stopped.
const WALL_DEADLINES_MAX: u32 = 20;
/// The clock is read at every so-manyeth interrupt.
const INTERRUPTS_PER_LOOK: u32 = 16;

/// Measures one run of Lua code and remembers that it was late: once late, every later interrupt raises too, or a
/// `pcall` in a loop would swallow the first.
pub(super) struct Stopwatch {
    started: Cell<Timer>,
    deadline: Cell<Duration>,
    interrupts: Cell<u32>,
    /// CPU time of the thread when the grace was over, where the machine tells it.
    cpu_after_grace: Cell<Option<Duration>>,
    late: Cell<bool>,
}

impl Stopwatch {
    fn new() -> Stopwatch {
        Stopwatch {
            started: Cell::new(Timer::start()),
            deadline: Cell::new(Duration::MAX),
            interrupts: Cell::new(0),
            cpu_after_grace: Cell::new(None),
            late: Cell::new(false),
        }
    }

    pub fn start(&self, deadline: Duration) {
        self.started.set(Timer::start());
        self.deadline.set(deadline);
        self.interrupts.set(0);
        self.cpu_after_grace.set(None);
        self.late.set(false);
    }

    /// Whether the run since `start` was stopped, also where the policy caught every error.
    pub fn is_late(&self) -> bool {
        self.late.get()
    }

    fn look(&self) -> bool {
        if self.late.get() {
            return true;
        }
        let interrupts = self.interrupts.get().wrapping_add(1);
        self.interrupts.set(interrupts);
        if !interrupts.is_multiple_of(INTERRUPTS_PER_LOOK) {
            return false;
        }
        let wall = self.started.get().elapsed();
        let deadline = self.deadline.get();
        if wall < GRACE.min(deadline) {
            return false;
        }
        if self.cpu_after_grace.get().is_none() {
            self.cpu_after_grace.set(thread_cpu());
        }
        if wall < deadline {
            return false;
        }
        let late = match (self.cpu_after_grace.get(), thread_cpu()) {
            (Some(before), Some(now)) => {
                now.saturating_sub(before) + GRACE >= deadline || wall >= deadline.saturating_mul(WALL_DEADLINES_MAX)
            }
            _ => true,
        };
        self.late.set(late);
        late
    }
}

/// CPU time that this thread has had. `None` where the system has no such file: then wall time alone decides. Read only
/// for calls that are slow already.
pub(super) fn thread_cpu() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}

/// A fresh VM, not closed yet: the caller adds its globals, then calls [`close`].
pub(super) fn open(memory_bytes_max: usize) -> Result<(Lua, Rc<Stopwatch>), LuaError> {
    let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::BIT;
    let lua = Lua::new_with(libraries, LuaOptions::new())?;
    lua.set_memory_limit(memory_bytes_max)?;
    let globals = lua.globals();
    let mut surplus = Vec::new();
    for pair in globals.pairs::<mlua::LuaString, mlua::Value>() {
        let (name, _) = pair?;
        let known = name
            .to_str()
            .is_ok_and(|name| GLOBALS.contains(&&*name) || LIBRARIES.contains(&&*name));
        // `_G` is kept by Luau itself as a way to the globals; it goes too.
        if !known {
            surplus.push(name);
        }
    }
    for name in surplus {
        globals.raw_set(name, mlua::Value::Nil)?;
    }
    let math: mlua::Table = globals.raw_get("math")?;
    for name in MATH_REFUSED {
        math.raw_set(name, mlua::Value::Nil)?;
    }
    let watch = Rc::new(Stopwatch::new());
    let looking = Rc::clone(&watch);
    lua.set_interrupt(move |_| {
        if looking.look() {
            Err(LuaError::runtime("ran longer than its deadline"))
        } else {
            Ok(VmState::Continue)
        }
    });
    Ok((lua, watch))
}

/// Makes one small value for Lua. With a cap in force each would go through a protected call of its own, which costs more
/// than the value; what a policy keeps of them counts against the cap when it next asks for memory itself.
pub(super) fn uncapped<R>(lua: &Lua, make: impl FnOnce(&Lua) -> R) -> R {
    let cap = lua.set_memory_limit(0);
    let made = make(lua);
    if let Ok(cap) = cap {
        // It could be taken away, so it can be put back.
        let _ = lua.set_memory_limit(cap);
    }
    made
}

/// Makes everything that is there read-only, for good.
pub(super) fn close(lua: &Lua) -> Result<(), LuaError> {
    lua.sandbox(true)?;
    // Sandboxing leaves a table for new globals: policies would share it.
    lua.globals().set_readonly(true);
    Ok(())
}
