//! A policy set: compiled once, never changed, shared by all threads.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agentledger_ledger::Name;
use mlua::Value;
use mlua::chunk::Compiler;
use parking_lot::Mutex;

use super::conf;
use super::engine::PolicyFailure;
use super::glob::{BadGlob, GlobSet, Over};
use super::prepared::Prepared;
use super::schema::Schema;
use super::vm::{Bench, LoadedPolicy, Vm};

/// One policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file's stem, `budget` for `budget.lua`: what replaces a built-in of the same name.
    pub name: String,
    pub text: String,
    /// What errors call it: `policies/budget.lua`.
    pub origin: String,
}

/// Bounds of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// CPU time that one policy may take on one call (wall time where the system does not tell). Zero is the default.
    pub deadline: Duration,
    /// Memory that calls may take in one VM, beyond what the loaded policies and their confs take.
    pub memory_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            deadline: Duration::from_millis(50),
            memory_bytes_max: 8 << 20,
        }
    }
}

/// Something wrong with a policy file or its conf.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {message}", .line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct PolicyError {
    pub file: String,
    /// Line in the policy file, from 1, where it is known.
    pub line: Option<u32>,
    pub message: String,
}

/// The function of a policy that is asked, in the order in which a request meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Who is asking after all. Fails closed.
    Tenant,
    /// What the request may do. Fails closed.
    Request,
    /// The exchange is settled. Fails open.
    Settled,
    /// Something happened that a policy may want to tell people. Fails open.
    Alert,
}

impl Phase {
    pub(super) const COUNT: usize = 4;
    pub(super) const ALL: [Phase; Phase::COUNT] = [Phase::Tenant, Phase::Request, Phase::Settled, Phase::Alert];

    pub const fn name(self) -> &'static str {
        match self {
            Phase::Tenant => "tenant",
            Phase::Request => "request",
            Phase::Settled => "settled",
            Phase::Alert => "alert",
        }
    }

    pub(super) const fn place(self) -> usize {
        self as usize
    }
}

/// One policy, ready to be loaded into any thread's VM.
pub(super) struct Compiled {
    pub name: Name,
    /// `name@version`.
    pub versioned_name: Name,
    pub origin: String,
    pub priority: i64,
    pub bytecode: Vec<u8>,
    /// Compiled as well; see [`conf`].
    pub conf: Arc<[u8]>,
    pub phases: Vec<Phase>,
    /// Evaluated and recorded, never enforced.
    pub shadow: bool,
    /// What its `setup` made of the conf; `None` where it said that with this conf it has nothing to do.
    pub prepared: Option<Prepared>,
}

/// Glob sets by their patterns' hash: each is compiled once for all threads.
#[derive(Default)]
pub(super) struct GlobCache(Mutex<HashMap<[u8; 32], Arc<GlobSet>>>);

impl GlobCache {
    pub fn get(&self, patterns: &[String], over: Over) -> Result<Arc<GlobSet>, (usize, BadGlob)> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[u8::from(over == Over::Models)]);
        for pattern in patterns {
            hasher.update(&pattern.len().to_le_bytes());
            hasher.update(pattern.as_bytes());
        }
        let hash = *hasher.finalize().as_bytes();
        if let Some(known) = self.0.lock().get(&hash) {
            return Ok(Arc::clone(known));
        }
        let set = Arc::new(GlobSet::new(patterns, over)?);
        self.0.lock().insert(hash, Arc::clone(&set));
        Ok(set)
    }
}

/// Longest policy file in bytes.
const SOURCE_BYTES_MAX: usize = 1 << 20;

static NEXT_SET: AtomicU64 = AtomicU64::new(1);

/// All policies in force, in the order in which they run.
pub struct PolicySet {
    id: u64,
    policies: Vec<Compiled>,
    options: Options,
    globs: Arc<GlobCache>,
}

impl PolicySet {
    /// Compiles the files and checks them with their confs, by policy name: each is loaded and set up once here.
    ///
    /// # Errors
    /// Everything that is wrong, file by file.
    pub fn load(
        sources: Vec<Source>,
        conf: &BTreeMap<String, serde_json::Value>,
        mut options: Options,
    ) -> Result<PolicySet, Vec<PolicyError>> {
        if options.deadline.is_zero() {
            options.deadline = Options::default().deadline;
        }
        let globs = Arc::new(GlobCache::default());
        let mut errors = Vec::new();
        let mut policies: Vec<Compiled> = Vec::new();
        for source in sources {
            match compile(&source, conf, &options, &globs) {
                Err(wrong) => errors.extend(wrong),
                Ok(policy) => match policies.iter().find(|known| known.name == policy.name) {
                    Some(known) => errors.push(PolicyError {
                        line: line_of(&source.text, "name"),
                        message: format!("the name {:?} is taken by {}", policy.name, known.origin),
                        file: source.origin,
                    }),
                    None => policies.push(policy),
                },
            }
        }
        if errors.is_empty() {
            for name in conf
                .keys()
                .filter(|name| !policies.iter().any(|policy| *policy.name == ***name))
            {
                let message = format!("there is no policy named {name:?}");
                errors.push(PolicyError {
                    file: format!("policies.conf.{name}"),
                    line: None,
                    message,
                });
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        policies.sort_by(|a, b| a.priority.cmp(&b.priority).then_with(|| a.name.cmp(&b.name)));
        let id = NEXT_SET.fetch_add(1, Ordering::Relaxed);
        Ok(PolicySet {
            id,
            policies,
            options,
            globs,
        })
    }

    /// `name@version` in the order in which they run, sleeping ones included, those in shadow with a leading `~`.
    pub fn names(&self) -> Vec<Name> {
        let name = |policy: &Compiled| match policy.shadow {
            true => Name::from(format!("~{}", policy.versioned_name)),
            false => Name::clone(&policy.versioned_name),
        };
        self.policies.iter().map(name).collect()
    }

    /// Whether any policy has something to say in this phase.
    pub fn has(&self, phase: Phase) -> bool {
        self.policies
            .iter()
            .any(|policy| policy.prepared.is_some() && policy.phases.contains(&phase))
    }

    /// Hash of all that decides: the compiled files and their confs, in the order in which they run. For the record.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for policy in &self.policies {
            let mode: &[u8] = if policy.shadow { b"shadow" } else { b"enforce" };
            for part in [policy.versioned_name.as_bytes(), &policy.bytecode, &policy.conf, mode] {
                hasher.update(&part.len().to_le_bytes());
                hasher.update(part);
            }
        }
        *hasher.finalize().as_bytes()
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn load_vm(&self) -> Result<Vm, PolicyFailure> {
        Vm::load(self.id, &self.policies, &self.options, &self.globs)
    }
}

/// What a policy file may have at its top level.
const TOP_FIELDS: [&str; 12] = [
    "name",
    "version",
    "priority",
    "mode",
    "description",
    "schema",
    "check",
    "setup",
    "tenant",
    "request",
    "settled",
    "alert",
];
/// The key of every policy's conf that says whether it is enforced.
const MODE: &str = "mode";

fn compile(
    source: &Source,
    confs: &BTreeMap<String, serde_json::Value>,
    options: &Options,
    globs: &Arc<GlobCache>,
) -> Result<Compiled, Vec<PolicyError>> {
    let at = |message: String| vec![place(source, message)];
    if source.text.len() > SOURCE_BYTES_MAX {
        return Err(at(format!("the file is longer than {SOURCE_BYTES_MAX} bytes")));
    }
    // Level 1 keeps the lines of errors; nothing here is loaded that we did not compile ourselves.
    let compiler = Compiler::new().set_optimization_level(1).set_debug_level(1);
    let bytecode = compiler
        .compile(&source.text)
        .map_err(|error| at(syntax_message(&error)))?;
    let bench = Bench::new(options, globs).map_err(|error| at(error.to_string()))?;
    let loaded = bench.load(&source.origin, &bytecode).map_err(at)?;
    let head = PolicyHeader::read(&loaded).map_err(|(key, message)| vec![at_key(source, &key, message)])?;
    let schema = match loaded.table.raw_get::<Value>("schema") {
        Ok(schema) => Schema::read(&bench.lua, schema).map_err(|(key, message)| vec![at_key(source, &key, message)])?,
        Err(error) => return Err(at(error.to_string())),
    };
    let mut given = confs.get(&head.name).cloned().unwrap_or_default();
    let said = given.as_object_mut().and_then(|given| given.remove(MODE));
    let shadow = match said.as_ref().map(|said| said.as_str()) {
        None => head.shadow,
        Some(Some("shadow")) => true,
        Some(Some("enforce")) => false,
        Some(_) => {
            let message = format!("policies.conf.{}.mode must be enforce or shadow", head.name);
            return Err(at(message));
        }
    };
    let of_conf = |wrong: Vec<(String, String)>| {
        let errors = wrong.into_iter().map(|(path, message)| {
            let key = path.split(['.', '[']).next().unwrap_or_default();
            PolicyError {
                message: format!("conf.{path} {message}"),
                ..at_key(source, key, String::new())
            }
        });
        errors.collect::<Vec<_>>()
    };
    let conf = schema.apply(&given).map_err(of_conf)?;
    let conf = conf::compile(&conf).map_err(at)?;
    let wrong = bench.check(&loaded, &conf).map_err(at)?;
    if !wrong.is_empty() {
        return Err(of_conf(wrong));
    }
    let prepared = bench.set_up(&loaded, &conf).map_err(at)?;
    let phases = Phase::ALL.into_iter().zip(&loaded.phases);
    let phases: Vec<Phase> = phases
        .filter_map(|(phase, found)| found.is_some().then_some(phase))
        .collect();
    if phases.is_empty() {
        let names = Phase::ALL.map(Phase::name).join(", ");
        return Err(at(format!("the policy has none of the phases {names}")));
    }
    Ok(Compiled {
        versioned_name: format!("{}@{}", head.name, head.version).into(),
        name: head.name.into(),
        origin: source.origin.clone(),
        priority: head.priority,
        bytecode,
        conf: conf.into(),
        phases,
        shadow,
        prepared,
    })
}

struct PolicyHeader {
    name: String,
    version: String,
    priority: i64,
    /// What the file says; the conf may say otherwise.
    shadow: bool,
}

/// Priority of a policy that names none.
const PRIORITY_DEFAULT: i64 = 100;

impl PolicyHeader {
    fn read(loaded: &LoadedPolicy) -> Result<PolicyHeader, (String, String)> {
        for pair in loaded.table.pairs::<Value, Value>() {
            let (key, _) = pair.map_err(|error| (String::new(), error.to_string()))?;
            let key = key.to_string().unwrap_or_default();
            if !TOP_FIELDS.contains(&key.as_str()) {
                let message = format!("a policy has no field {key:?}; it has {}", TOP_FIELDS.join(", "));
                return Err((key, message));
            }
        }
        let text = |key: &str| match loaded.table.raw_get::<Value>(key) {
            Ok(Value::String(found)) => Ok(found.to_string_lossy()),
            _ => Err((key.to_owned(), format!("{key} must be text"))),
        };
        let (name, version) = (text("name")?, text("version")?);
        let plain = |word: &str| {
            (1..=64).contains(&word.len())
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        for (key, word) in [("name", &name), ("version", &version)] {
            if !plain(word) {
                return Err((
                    key.to_owned(),
                    format!("{key} must be 1 to 64 letters, digits, dots, dashes"),
                ));
            }
        }
        let priority = match loaded.table.raw_get::<Value>("priority") {
            Ok(Value::Nil) => PRIORITY_DEFAULT,
            #[allow(clippy::cast_possible_truncation)]
            Ok(Value::Number(found)) if found.fract() == 0.0 && found.abs() <= 1e6 => found as i64,
            Ok(Value::Integer(found)) if found.abs() <= 1_000_000 => found,
            _ => return Err(("priority".to_owned(), "priority must be a whole number".to_owned())),
        };
        let shadow = match loaded.table.raw_get::<Value>(MODE) {
            Ok(Value::Nil) => false,
            Ok(Value::String(mode)) if *mode.as_bytes() == *b"enforce" => false,
            Ok(Value::String(mode)) if *mode.as_bytes() == *b"shadow" => true,
            _ => return Err((MODE.to_owned(), "mode must be enforce or shadow".to_owned())),
        };
        Ok(PolicyHeader {
            name,
            version,
            priority,
            shadow,
        })
    }
}

fn syntax_message(error: &mlua::Error) -> String {
    match error {
        mlua::Error::SyntaxError { message, .. } => message.lines().next().unwrap_or_default().to_owned(),
        other => other.to_string(),
    }
}

/// An error whose text may begin with `file:line:` or `:line:`, as Luau writes it.
fn place(source: &Source, message: String) -> PolicyError {
    let rest = message.strip_prefix(source.origin.as_str()).unwrap_or(&message);
    let found = rest.find(':').and_then(|colon| {
        let (before, after) = (rest.get(..colon)?, rest.get(colon + 1..)?);
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let line: u32 = after.get(..digits)?.parse().ok()?;
        let text = after.get(digits..)?.strip_prefix(':')?.trim();
        (before.is_empty() || before.starts_with("[string")).then(|| (line, text.to_owned()))
    });
    // The compiler alone writes the line first: `2: Expected identifier`.
    let found = found.or_else(|| {
        let (line, text) = rest.split_once(": ")?;
        Some((line.parse().ok()?, text.to_owned()))
    });
    match found {
        Some((line, message)) => PolicyError {
            file: source.origin.clone(),
            line: Some(line),
            message,
        },
        None => PolicyError {
            file: source.origin.clone(),
            line: None,
            message,
        },
    }
}

fn at_key(source: &Source, key: &str, message: String) -> PolicyError {
    PolicyError {
        file: source.origin.clone(),
        line: line_of(&source.text, key),
        message,
    }
}

/// The first line on which `key` is given a value.
fn line_of(text: &str, key: &str) -> Option<u32> {
    if key.is_empty() {
        return None;
    }
    let found = (1u32..).zip(text.lines()).find(|(_, line)| {
        line.match_indices(key).any(|(at, _)| {
            let before = line.get(..at).unwrap_or_default();
            let after = line.get(at + key.len()..).unwrap_or_default().trim_start();
            let starts = !before.ends_with(|last: char| last.is_alphanumeric() || last == '_');
            starts && !before.contains("--") && after.starts_with('=') && !after.starts_with("==")
        })
    });
    found.map(|(number, _)| number)
}
