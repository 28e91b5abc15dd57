//! Typed reading of the tree: every fault is noted with its place and key, and reading goes on with the default.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use agentledger_ledger::Usd;

use super::error::{ConfigError, ConfigErrors, Place};
use super::node::{Node, Pair, Value};
use super::schema::{self, Key, Shape};
use super::spelling::nearest;
use super::units;
use crate::secret::Secret;

/// The largest sum of money that a limit may be: a billion dollars. Beyond it a slip of the hand is likelier.
pub const USD_MAX: i128 = 1_000_000_000;

/// What was found wrong or odd so far.
#[derive(Default)]
pub struct Problems {
    /// The file as the user named it; empty where there is none.
    file: String,
    errors: RefCell<Vec<(Place, ConfigError)>>,
    warnings: RefCell<Vec<String>>,
    /// The defaults that were taken, by path.
    defaults: RefCell<BTreeMap<String, String>>,
}

impl Problems {
    pub fn of_file(file: &str) -> Problems {
        Problems {
            file: file.to_owned(),
            ..Problems::default()
        }
    }

    pub fn refuse(&self, place: &Place, key: &str, message: impl Display) {
        let error = ConfigError {
            location: self.locate(place),
            key: key.to_owned(),
            message: message.to_string(),
        };
        self.errors.borrow_mut().push((place.clone(), error));
    }

    pub fn warn(&self, place: &Place, key: &str, message: impl Display) {
        let parts = [self.locate(place), key.to_owned(), message.to_string()];
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        self.warnings.borrow_mut().push(parts.join(": "));
    }

    /// Hands over the defaults that were taken.
    pub fn take_defaults(&self) -> BTreeMap<String, String> {
        self.defaults.take()
    }

    fn locate(&self, place: &Place) -> String {
        match place {
            Place::Absent => self.file.clone(),
            Place::File { line, column } => format!("{}:{line}:{column}", self.file),
            Place::Env(variable) => variable.clone(),
        }
    }

    /// The warnings, or all errors: the file's in the file's order, then the environment's.
    pub fn finish(self) -> Result<Vec<String>, ConfigErrors> {
        let mut errors = self.errors.into_inner();
        if errors.is_empty() {
            return Ok(self.warnings.into_inner());
        }
        errors.sort_by_key(|(place, _)| match place {
            Place::File { line, column } => (0, *line, *column),
            Place::Absent => (1, 0, 0),
            Place::Env(_) => (2, 0, 0),
        });
        let mut errors: Vec<ConfigError> = errors.into_iter().map(|(_, error)| error).collect();
        errors.dedup();
        Err(ConfigErrors(errors))
    }
}

/// Notes what is unknown (a warning) and what has the wrong shape (an error).
pub fn check_shape(node: &Node, keys: &'static [Key], path: &str, problems: &Problems) {
    let Value::Map(pairs) = &node.value else {
        if !node.is_null() {
            problems.refuse(&node.place, path, "must be a section with keys of its own");
        }
        return;
    };
    for pair in pairs {
        let path = join(path, &pair.name);
        match schema::find(keys, &pair.name) {
            Some(key) => check_value(&pair.node, key.shape, &path, problems),
            None => problems.warn(&pair.place, &path, unknown(keys, &pair.name)),
        }
    }
}

fn check_value(node: &Node, shape: Shape, path: &str, problems: &Problems) {
    if node.is_null() {
        return;
    }
    let named = |check: &dyn Fn(&Pair, &str)| match &node.value {
        Value::Map(pairs) => pairs.iter().for_each(|pair| check(pair, &join(path, &pair.name))),
        _ => problems.refuse(&node.place, path, "must be names with their values"),
    };
    match shape {
        Shape::Leaf => {
            if !matches!(node.value, Value::Scalar { .. }) {
                problems.refuse(&node.place, path, "must be a single value");
            }
        }
        Shape::LeafOrSection(_) if matches!(node.value, Value::Scalar { .. }) => {}
        Shape::Section(keys) | Shape::LeafOrSection(keys) => check_shape(node, keys, path, problems),
        Shape::Leaves | Shape::Rows(_) | Shape::LeavesOrRows(_) => check_list(node, shape, path, problems),
        Shape::NamedSections(keys) => named(&|pair, path| check_shape(&pair.node, keys, path, problems)),
        Shape::NamedLeaves => named(&|pair, path| check_value(&pair.node, Shape::Leaf, path, problems)),
        Shape::NamedAny => named(&|_, _| ()),
    }
}

fn check_list(node: &Node, shape: Shape, path: &str, problems: &Problems) {
    let items: Vec<&Node> = match (&node.value, shape) {
        (Value::List(items), _) => items.iter().collect(),
        // One value stands for a list of one.
        (Value::Scalar { .. }, Shape::Leaves) => vec![node],
        _ => return problems.refuse(&node.place, path, "must be a list"),
    };
    for (index, item) in items.into_iter().enumerate() {
        let path = format!("{path}[{index}]");
        match (shape, &item.value) {
            (Shape::LeavesOrRows(_), Value::Scalar { .. }) => {}
            (Shape::Rows(keys) | Shape::LeavesOrRows(keys), _) => check_shape(item, keys, &path, problems),
            _ => check_value(item, Shape::Leaf, &path, problems),
        }
    }
}

fn unknown(keys: &'static [Key], name: &str) -> String {
    match nearest(keys.iter().map(|key| key.name), name) {
        Some(known) => format!("unknown key, ignored; did you mean {known}?"),
        None => "unknown key, ignored".to_owned(),
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// A place in the tree, there or not.
#[derive(Clone)]
pub struct Cursor<'a> {
    pub node: Option<&'a Node>,
    pub path: String,
    pub problems: &'a Problems,
}

impl<'a> Cursor<'a> {
    pub fn root(node: &'a Node, problems: &'a Problems) -> Cursor<'a> {
        Cursor {
            node: Some(node),
            path: String::new(),
            problems,
        }
    }

    /// The child of that name; dots go deeper. A key without a value is as good as absent.
    pub fn at(&self, name: &str) -> Cursor<'a> {
        let node = name
            .split('.')
            .try_fold(self.node, |node, part| node.map(|node| node.get(part)));
        let node = node.flatten().filter(|node| !node.is_null());
        Cursor {
            node,
            path: join(&self.path, name),
            problems: self.problems,
        }
    }

    /// The items of a list; a single value stands for a list of one.
    pub fn items(&self) -> Vec<Cursor<'a>> {
        let items: Vec<&'a Node> = match self.node {
            Some(Node {
                value: Value::List(items),
                ..
            }) => items.iter().collect(),
            Some(
                node @ Node {
                    value: Value::Scalar { .. },
                    ..
                },
            ) => vec![node],
            _ => Vec::new(),
        };
        let item = |(index, node)| Cursor {
            node: Some(node),
            path: format!("{}[{index}]", self.path),
            problems: self.problems,
        };
        items.into_iter().enumerate().map(item).collect()
    }

    /// The names of a map and what stands under them.
    pub fn names(&self) -> Vec<(&'a str, Cursor<'a>)> {
        let pairs = self.node.map(Node::pairs).unwrap_or_default();
        let child = |pair: &'a Pair| Cursor {
            node: Some(&pair.node),
            path: join(&self.path, &pair.name),
            problems: self.problems,
        };
        pairs.iter().map(|pair| (pair.name.as_str(), child(pair))).collect()
    }

    pub fn is_given(&self) -> bool {
        self.node.is_some()
    }

    pub fn is_section(&self) -> bool {
        matches!(
            self.node,
            Some(Node {
                value: Value::Map(_),
                ..
            })
        )
    }

    pub fn refuse(&self, message: impl Display) {
        self.problems.refuse(&self.place(), &self.path, message);
    }

    pub fn warn(&self, message: impl Display) {
        self.problems.warn(&self.place(), &self.path, message);
    }

    fn place(&self) -> Place {
        self.node.map_or(Place::Absent, |node| node.place.clone())
    }

    /// The value's text; of the wrong shape (which is noted elsewhere) or absent it is none.
    pub fn text(&self) -> Option<&'a str> {
        match self.node {
            Some(Node {
                value: Value::Scalar { text, .. },
                ..
            }) => Some(text.as_str()),
            _ => None,
        }
    }

    /// The text where there is one that is not empty.
    pub fn filled(&self) -> Option<&'a str> {
        self.text().map(str::trim).filter(|text| !text.is_empty())
    }

    pub fn secret(&self) -> Option<Secret<String>> {
        self.filled().map(|text| Secret::new(text.to_owned()))
    }

    pub fn path(&self) -> Option<PathBuf> {
        self.filled().map(PathBuf::from)
    }

    /// Notes what counts where nothing is given: who asks for the configuration is shown it.
    pub fn default_is(&self, text: impl Display) {
        if self.filled().is_none() {
            let mut defaults = self.problems.defaults.borrow_mut();
            defaults.insert(self.path.clone(), text.to_string());
        }
    }

    /// Reads the value with `read`; a fault is noted with the value's text and the default taken.
    fn read<T, E: Display>(&self, default: T, read: impl Fn(&str) -> Result<T, E>) -> T {
        let Some(text) = self.filled() else { return default };
        match read(text) {
            Ok(value) => value,
            Err(error) => {
                self.refuse(format_args!("{} {error}", shown(text)));
                default
            }
        }
    }

    pub fn flag(&self, default: bool) -> bool {
        self.default_is(default);
        self.read(default, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
            _ => Err("is neither true nor false"),
        })
    }

    pub fn count(&self, default: u64, least: u64, most: u64) -> u64 {
        self.default_is(default);
        self.read(default, |text| {
            within(units::whole(text).map_err(|error| error.to_string())?, least, most)
        })
    }

    /// A count that fits its type because `most` does.
    pub fn count_u32(&self, default: u32, least: u32, most: u32) -> u32 {
        u32::try_from(self.count(default.into(), least.into(), most.into())).unwrap_or(default)
    }

    pub fn bytes(&self, default: u64, least: u64, most: u64) -> u64 {
        self.default_is(default);
        self.read(default, |text| {
            within(units::byte_size(text).map_err(|error| error.to_string())?, least, most)
        })
    }

    pub fn millis(&self, default: Duration, least_ms: u64, most: Duration) -> Duration {
        self.default_is(format_args!("{}ms", default.as_millis()));
        self.read(default, |text| {
            let value = units::millis(text)?;
            if value < Duration::from_millis(least_ms) || value > most {
                return Err(format!("must be from {least_ms} ms to {} ms", most.as_millis()));
            }
            Ok(value)
        })
    }

    /// An amount of money, not negative; 0 where absent.
    pub fn usd(&self) -> Usd {
        self.read(Usd::ZERO, |text| {
            let nanos = units::scaled(text, 9).map_err(|error| error.to_string())?;
            if nanos < 0 {
                return Err("must not be negative".to_owned());
            }
            match i64::try_from(nanos) {
                Ok(fits) if nanos <= USD_MAX * 1_000_000_000 => Ok(Usd::from_nanos(fits)),
                _ => Err(format!("is more than {USD_MAX} USD")),
            }
        })
    }

    /// A share from 0 to 1 as parts per million.
    pub fn share_ppm(&self) -> u32 {
        self.read(0, |text| match units::scaled(text, 6) {
            Ok(ppm) if ppm < 0 => Err("must not be negative".to_owned()),
            Ok(ppm) if ppm > 1_000_000 => Err("must be a share from 0 to 1 (0.8 for 80 %)".to_owned()),
            Ok(ppm) => u32::try_from(ppm).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        })
    }

    /// One of some words, whatever their case.
    pub fn word<T: Copy + PartialEq>(&self, default: T, words: &[(&str, T)]) -> T {
        if let Some((word, _)) = words.iter().find(|(_, value)| *value == default) {
            self.default_is(word);
        }
        self.read(default, |text| {
            let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
            let choices = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            found
                .map(|(_, value)| *value)
                .ok_or_else(|| format!("is none of {}", choices()))
        })
    }
}

fn within(value: u64, least: u64, most: u64) -> Result<u64, String> {
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(format!("must be from {least} to {most}"))
    }
}

/// A value as a message may show it: short, and never what looks like a key somebody put in the wrong line.
fn shown(text: &str) -> String {
    let looks_secret = text.len() > 40 || text.contains("sk-") || text.contains("://");
    if looks_secret {
        "the value".to_owned()
    } else {
        format!("{text:?}")
    }
}
