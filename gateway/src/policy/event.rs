//! The facts of the phase `alert`: something that happened outside a request's decision, with whatever is known of it. A
//! session grown old, a budget near its limit: who notices it names the fields.

use std::borrow::Cow;
use std::rc::Rc;

use agentledger_ledger::Usd;
use mlua::{Error as LuaError, Lua, LuaString, MetaMethod, UserData, UserDataMethods, Value};

use super::facts::{AtHandle, Ticket, handle, text};

/// One field of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    Text(String),
    Number(f64),
    /// Decimal text for Lua, as in entries.
    Usd(Usd),
    Flag(bool),
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `budget`: an account reached a threshold of a limit, or a request was refused for one. `session`: a session as it
    /// stands, now and then while it is active and at its end.
    pub kind: Cow<'static, str>,
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    pub facts: Vec<(Cow<'static, str>, Fact)>,
}

impl Event {
    pub fn new(kind: &'static str, at_ms: i64) -> Event {
        Event {
            kind: Cow::Borrowed(kind),
            at_ms,
            facts: Vec::new(),
        }
    }

    #[must_use]
    pub fn text(mut self, name: &'static str, text: impl Into<String>) -> Event {
        self.facts.push((name.into(), Fact::Text(text.into())));
        self
    }

    #[must_use]
    pub fn named_text(mut self, name: &str, text: &str) -> Event {
        self.facts.push((name.to_owned().into(), Fact::Text(text.to_owned())));
        self
    }

    #[must_use]
    pub fn number(mut self, name: &'static str, number: f64) -> Event {
        self.facts.push((name.into(), Fact::Number(number)));
        self
    }

    #[must_use]
    pub fn usd(mut self, name: &'static str, usd: Usd) -> Event {
        self.facts.push((name.into(), Fact::Usd(usd)));
        self
    }

    #[must_use]
    pub fn flag(mut self, name: &'static str, flag: bool) -> Event {
        self.facts.push((name.into(), Fact::Flag(flag)));
        self
    }
}

/// `event`: dies with its call, as all facts do.
pub(super) struct EventHandle(pub Ticket, pub Rc<Event>);

impl UserData for EventHandle {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |lua, EventHandle(ticket, event), name: LuaString| {
            let shared = ticket.check()?;
            let wanted = name.as_bytes();
            match &*wanted {
                b"kind" => return text(lua, &event.kind),
                b"at" => return handle(lua, AtHandle::new(ticket.clone(), shared.zone()?)),
                _ => {}
            }
            let found = event.facts.iter().find(|(known, _)| known.as_bytes() == &*wanted);
            // Events of a kind have the same fields; one that this kind does not have is nil, so that a policy can ask.
            found.map_or(Ok(Value::Nil), |(_, fact)| fact.to_lua(lua))
        });
    }
}

impl Fact {
    fn to_lua(&self, lua: &Lua) -> Result<Value, LuaError> {
        match self {
            Fact::Text(said) => text(lua, said),
            Fact::Number(number) => Ok(Value::Number(*number)),
            Fact::Usd(usd) => text(lua, &usd.to_string()),
            Fact::Flag(flag) => Ok(Value::Boolean(*flag)),
        }
    }
}
