//! `choose(patterns, values)`: which of many values goes with a key or a name. Native and shared by all threads, so that
//! neither a call nor a swap costs more with ten thousand patterns than with one.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use mlua::{Error as LuaError, Lua, LuaString, UserData, UserDataMethods, Value};

use super::facts::KeyHandle;
use super::glob::{GlobSet, Over};
use super::prepared::Built;
use super::question::KeyQuestion;
use super::set::GlobCache;

/// Finds the place of what goes with a text.
#[derive(Clone)]
pub(super) enum Matcher {
    /// The first pattern that matches.
    Globs(Arc<GlobSet>),
    Names(Arc<HashMap<Box<str>, u32>>),
}

impl Matcher {
    fn question(&self) -> KeyQuestion<'_> {
        match self {
            Matcher::Globs(globs) => KeyQuestion::Globs(globs),
            Matcher::Names(names) => KeyQuestion::Names(names),
        }
    }
}

/// Each pattern's value is one of a few that differ: ten thousand rules mostly come in a few sizes.
#[derive(Clone)]
pub(super) struct Choices {
    pub matcher: Matcher,
    /// Of each pattern, the place of its value.
    pub places: Arc<[u32]>,
}

/// The same in one VM.
pub(super) struct Choose {
    pub choices: Choices,
    pub values: Values,
}

/// What it chooses from.
pub(super) enum Values {
    /// At load, as `setup` gave them.
    Given(Vec<Value>),
    /// By their numbers among what was prepared.
    Prepared(Rc<Built>, Arc<[usize]>),
}

impl Values {
    fn get(&self, lua: &Lua, at: usize) -> Result<Value, LuaError> {
        match self {
            Values::Given(values) => Ok(values.get(at).cloned().unwrap_or(Value::Nil)),
            Values::Prepared(built, numbers) => match numbers.get(at) {
                Some(number) => built.value(lua, *number),
                None => Ok(Value::Nil),
            },
        }
    }
}

impl UserData for Choose {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        // `:of(text or call.key)`: the value, or nil.
        methods.add_method("of", |lua, this, of: Value| {
            let place = look(&of, "choose:of", this.choices.matcher.question())?;
            let place = place.and_then(|place| usize::try_from(place).ok());
            let chosen = place.and_then(|place| this.choices.places.get(place));
            match chosen.and_then(|chosen| usize::try_from(*chosen).ok()) {
                Some(at) => this.values.get(lua, at),
                None => Ok(Value::Nil),
            }
        });
    }
}

/// What `globs(list)` gives: `:first(text or call.key)` is the place of the first pattern that matches, from 1, or nil.
pub(super) struct Globs(pub Arc<GlobSet>);

impl UserData for Globs {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("first", |_, this, of: Value| {
            let found = look(&of, "globs:first", KeyQuestion::Globs(&this.0))?;
            Ok(found.map(|at| at.saturating_add(1)))
        });
    }
}

/// Asks a native matcher about a text, or the raw key behind `call.key`.
fn look(of: &Value, who: &str, question: KeyQuestion<'_>) -> Result<Option<u32>, LuaError> {
    match of {
        Value::String(text) => match text.to_str() {
            Ok(text) => Ok(question.answer(&text)),
            Err(_) => Ok(None),
        },
        Value::UserData(data) => match data.borrow::<KeyHandle>() {
            Ok(key) => key.ask(question),
            Err(_) => Err(LuaError::runtime(format!("{who} takes text or call.key"))),
        },
        _ => Err(LuaError::runtime(format!("{who} takes text or call.key"))),
    }
}

fn texts(who: &str, list: &[LuaString]) -> Result<Vec<String>, LuaError> {
    let read = |text: &LuaString| {
        text.to_str()
            .map(|text| text.to_owned())
            .map_err(|_| LuaError::runtime(format!("{who}: a pattern is not valid UTF-8")))
    };
    list.iter().map(read).collect()
}

fn compiled(who: &str, cache: &GlobCache, patterns: &[String], over: Over) -> Result<Arc<GlobSet>, LuaError> {
    cache.get(patterns, over).map_err(|(at, bad)| {
        let pattern = patterns.get(at).map(String::as_str).unwrap_or_default();
        LuaError::runtime(format!("{who}: pattern {} ({pattern:?}) is a {bad}", at + 1))
    })
}

/// The globals `globs` and `choose`. Both compile, so they are for loading only.
pub(super) fn add(lua: &Lua, cache: &Arc<GlobCache>, loading: &Rc<Cell<bool>>) -> Result<(), LuaError> {
    let (of, at_load) = (Arc::clone(cache), Rc::clone(loading));
    let globs = move |_: &Lua, (list, how): (Vec<LuaString>, Option<LuaString>)| {
        if !at_load.get() {
            return Err(LuaError::runtime("globs: compile patterns in setup, not during a call"));
        }
        let over = match how {
            None => Over::Keys,
            Some(how) if *how.as_bytes() == *b"models" => Over::Models,
            Some(_) => {
                return Err(LuaError::runtime(
                    "globs: the second argument is \"models\" or left out",
                ));
            }
        };
        Ok(Globs(compiled("globs", &of, &texts("globs", &list)?, over)?))
    };
    lua.globals().raw_set("globs", lua.create_function(globs)?)?;
    let (of, at_load) = (Arc::clone(cache), Rc::clone(loading));
    let choose = move |_: &Lua, (list, values, how): (Vec<LuaString>, Vec<Value>, Option<LuaString>)| {
        if !at_load.get() {
            return Err(LuaError::runtime(
                "choose: compile patterns in setup, not during a call",
            ));
        }
        if list.len() != values.len() {
            let why = format!("choose: {} patterns and {} values", list.len(), values.len());
            return Err(LuaError::runtime(why));
        }
        let names = texts("choose", &list)?;
        let matcher = match how {
            None => Matcher::Globs(compiled("choose", &of, &names, Over::Keys)?),
            Some(how) if *how.as_bytes() == *b"models" => {
                Matcher::Globs(compiled("choose", &of, &names, Over::Models)?)
            }
            Some(how) if *how.as_bytes() == *b"exact" => {
                let mut places = HashMap::with_capacity(names.len());
                for (place, name) in (0_u32..).zip(names) {
                    // Of two equal names the first counts, as of two patterns.
                    places.entry(name.into_boxed_str()).or_insert(place);
                }
                Matcher::Names(Arc::new(places))
            }
            Some(_) => {
                return Err(LuaError::runtime(
                    "choose: the third argument is \"exact\", \"models\" or nothing",
                ));
            }
        };
        let (places, values) = distinct(values);
        Ok(Choose {
            choices: Choices { matcher, places },
            values: Values::Given(values),
        })
    };
    lua.globals().raw_set("choose", lua.create_function(choose)?)
}

/// The values that differ, and for each given one which of them it is.
fn distinct(given: Vec<Value>) -> (Arc<[u32]>, Vec<Value>) {
    let mut values: Vec<Value> = Vec::new();
    let mut by_address: HashMap<usize, u32> = HashMap::new();
    let mut places = Vec::with_capacity(given.len());
    for value in given {
        let address = value.to_pointer().addr();
        let known = match by_address.get(&address) {
            Some(place) if address != 0 => Some(*place),
            // Numbers and flags have no address. There are few; those beyond some are kept apart.
            _ if address == 0 => (0..)
                .zip(values.iter().take(64))
                .find(|(_, known)| **known == value)
                .map(|(at, _)| at),
            _ => None,
        };
        let place = known.unwrap_or_else(|| {
            let place = u32::try_from(values.len()).unwrap_or(u32::MAX);
            by_address.insert(address, place);
            values.push(value);
            place
        });
        places.push(place);
    }
    (places.into(), values)
}
