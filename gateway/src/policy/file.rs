//! One policy file, compiled: what it says of itself, and how a conf makes a policy of it. A file is compiled once; another conf
//! costs a `setup` and nothing else.

use std::sync::Arc;

use agentledger_ledger::Name;
use mlua::Value;
use mlua::chunk::Compiler;

use super::lint;
use super::prepared::Prepared;
use super::schema::{Schema, Shape};
use super::set::{GlobCache, Options, Phase, PolicyError, PolicyMode, PolicyView, Source};
use super::tally::Tally;
use super::vm::{Bench, LoadedPolicy};
use crate::config::nearest;

/// Longest policy file in bytes.
const SOURCE_BYTES_MAX: usize = 1 << 20;
/// What a policy file may have at its top level.
const TOP_FIELDS: [&str; 13] = [
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
    "events",
];
/// The key of every policy's conf that says whether it is enforced.
pub(super) const MODE: &str = "mode";
const EVENTS: &str = "events";
const MODES: &str = "enforce, shadow or off";
/// How much of its hash names a candidate.
const LABEL_HASH_CHARS: usize = 8;

/// A policy file, compiled.
pub(super) struct PolicyFile {
    pub name: Name,
    pub version: String,
    /// `name@version`.
    pub versioned_name: Name,
    pub description: String,
    pub priority: i64,
    pub bytecode: Vec<u8>,
    pub phases: Vec<Phase>,
    /// Kinds of events that the phase `alert` handles; `None`: it may handle any.
    pub events: Option<Vec<String>>,
    pub source: Source,
    /// Nothing outlives a call: the same facts get the same answer.
    pub keeps_nothing: bool,
    /// BLAKE3 of the source's text, in hex: what its version is known by.
    pub hash: String,
    mode: PolicyMode,
    schema: Schema,
}

/// One policy, ready to be loaded into any thread's VM.
pub(super) struct Compiled {
    pub file: Arc<PolicyFile>,
    /// The conf with the schema's defaults.
    pub conf: Arc<serde_json::Value>,
    /// Of its JSON.
    pub conf_bytes: usize,
    pub mode: PolicyMode,
    /// What its `setup` made of the conf; `None` where it said that with this conf it has nothing to do, or where it is off.
    pub prepared: Option<Prepared>,
    /// Of all that decides.
    pub digest: [u8; 32],
    pub role: Role,
}

/// What a policy is to its set beside what its text says.
#[derive(Clone, Debug, Default)]
pub(super) struct Role {
    /// It runs beside the policy of the same name, in shadow, whatever its conf says.
    pub is_candidate: bool,
    /// It enforces nothing, whatever its conf says.
    pub shadow_only: bool,
    pub tally: Option<Arc<Tally>>,
}

impl Role {
    /// The mode that it has, of that which its file or its conf says.
    const fn mode(&self, said: PolicyMode) -> PolicyMode {
        match said {
            _ if self.is_candidate => PolicyMode::Shadow,
            PolicyMode::Enforce if self.shadow_only => PolicyMode::Shadow,
            said => said,
        }
    }
}

impl Compiled {
    /// It is the policy of this name, and no candidate beside it.
    pub fn is_named(&self, name: &str) -> bool {
        !self.role.is_candidate && *self.file.name == *name
    }

    pub fn view(&self) -> PolicyView<'_> {
        let file = &self.file;
        PolicyView {
            name: &file.name,
            version: &file.version,
            description: &file.description,
            priority: file.priority,
            mode: self.mode,
            phases: &file.phases,
            source: &file.source,
            conf: &self.conf,
            hash: &file.hash,
            digest: self.digest,
            tally: self.role.tally.as_ref(),
            shadow_only: self.role.shadow_only,
        }
    }

    /// How entries and verdicts name it: `name@version`. A candidate may bear the version of the policy beside it, so that its
    /// hash goes with it: `name@version+0a1b2c3d`.
    pub fn label(&self) -> Name {
        if !self.role.is_candidate {
            return Name::clone(&self.file.versioned_name);
        }
        let hash = self.file.hash.get(..LABEL_HASH_CHARS).unwrap_or_default();
        Name::from(format!("{}+{hash}", self.file.versioned_name))
    }
}

/// See [`lint::keeps_nothing`]; a text that cannot be read could keep anything.
fn keeps_nothing(source: &Source) -> bool {
    lint::parse(&source.text).is_ok_and(|file| lint::keeps_nothing(&file))
}

/// Something wrong with a conf: where in it, empty for the whole, and what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("conf{}{path} {message}", if .path.is_empty() { "" } else { "." })]
pub struct ConfFault {
    pub path: String,
    pub message: String,
}

/// Something wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileFault {
    /// A stable word for the kind of fault.
    pub code: &'static str,
    /// The path of the key that it is at: `schema.limit`; empty for the file as a whole.
    pub key: String,
    /// May begin with its place, as Luau writes it.
    pub message: String,
}

impl FileFault {
    fn whole(code: &'static str, message: String) -> FileFault {
        FileFault {
            code,
            key: String::new(),
            message,
        }
    }

    pub fn into_error(self, source: &Source) -> PolicyError {
        match self.key.rsplit('.').next() {
            None | Some("") => place(source, self.message),
            Some(key) => at_key(source, key, self.message),
        }
    }
}

/// A file with the sandbox that it was read in, where it can be set up at once.
pub(super) struct OnBench {
    pub file: Arc<PolicyFile>,
    bench: Bench,
    loaded: LoadedPolicy,
}

impl PolicyFile {
    /// Compiles a file and reads what it says of itself.
    pub fn read(source: Source, options: &Options, globs: &Arc<GlobCache>) -> Result<OnBench, Vec<PolicyError>> {
        let faults = |faults: Vec<FileFault>| faults.into_iter().map(|fault| fault.into_error(&source)).collect();
        PolicyFile::read_faults(source.clone(), options, globs).map_err(faults)
    }

    /// The same; what is wrong says what kind of fault it is.
    pub fn read_faults(source: Source, options: &Options, globs: &Arc<GlobCache>) -> Result<OnBench, Vec<FileFault>> {
        let fault = |code: &'static str, message: String| vec![FileFault::whole(code, message)];
        if source.text.len() > SOURCE_BYTES_MAX {
            return Err(fault(
                "too_long",
                format!("the file is longer than {SOURCE_BYTES_MAX} bytes"),
            ));
        }
        let bytecode = compile(&source, options).map_err(|message| fault("syntax", message))?;
        let bench = Bench::new(options, globs).map_err(|error| fault("load", error.to_string()))?;
        let loaded = bench
            .load(&source.origin, &bytecode)
            .map_err(|message| fault("load", message))?;
        let at_key = |code: &'static str| move |(key, message): (String, String)| FileFault { code, key, message };
        let mut faults = Vec::new();
        let head = PolicyHeader::read(&loaded).map_err(|wrong| faults.extend(wrong.into_iter().map(at_key("field"))));
        let schema = match loaded.table.raw_get::<Value>("schema") {
            Ok(schema) => {
                Schema::read(&bench.lua, schema).map_err(|wrong| faults.extend(wrong.into_iter().map(at_key("schema"))))
            }
            Err(error) => return Err(fault("load", error.to_string())),
        };
        let phases = Phase::ALL.into_iter().zip(&loaded.phases);
        let phases: Vec<Phase> = phases
            .filter_map(|(phase, found)| found.is_some().then_some(phase))
            .collect();
        // A phase that is misspelt is an unknown field.
        if phases.is_empty() && faults.is_empty() {
            let names = Phase::ALL.map(Phase::name).join(", ");
            faults.push(FileFault::whole(
                "no_phase",
                format!("the policy has none of the phases {names}"),
            ));
        }
        let (Ok(head), Ok(schema), true) = (head, schema, faults.is_empty()) else {
            return Err(faults);
        };
        let file = PolicyFile {
            versioned_name: format!("{}@{}", head.name, head.version).into(),
            name: head.name.into(),
            version: head.version,
            description: head.description,
            priority: head.priority,
            mode: head.mode,
            bytecode,
            phases,
            events: head.events,
            schema,
            hash: source_hash(&source.text),
            // Marks in the text note what is reached: it is to be run.
            keeps_nothing: options.coverage.is_none() && keeps_nothing(&source),
            source,
        };
        Ok(OnBench {
            file: Arc::new(file),
            bench,
            loaded,
        })
    }

    /// Whether a conf without anything in it lacks something.
    pub fn needs_conf(&self) -> bool {
        self.schema.apply(&serde_json::Value::Null).is_err()
    }

    /// What the schema says that a field of the conf is; `None` where it has no such field.
    pub fn shape(&self, field: &str) -> Option<Shape> {
        match field {
            MODE => Some(Shape::Scalar),
            field => self.schema.shape(field),
        }
    }

    /// The file in a sandbox again, to be set up with another conf.
    pub fn on_bench(self: &Arc<Self>, options: &Options, globs: &Arc<GlobCache>) -> Result<OnBench, String> {
        let bench = Bench::new(options, globs).map_err(|error| error.to_string())?;
        let loaded = bench.load(&self.source.origin, &self.bytecode)?;
        Ok(OnBench {
            file: Arc::clone(self),
            bench,
            loaded,
        })
    }

    /// Another file has its name already.
    pub fn name_is_taken(&self, by: &str) -> PolicyError {
        at_key(
            &self.source,
            "name",
            format!("the name {:?} is taken by {by}", self.name),
        )
    }

    /// Its name is not that which it is kept by.
    pub fn named_wrongly(&self, message: String) -> PolicyError {
        at_key(&self.source, "name", message)
    }

    /// A fault of a conf as one of the file.
    pub fn fault(&self, fault: ConfFault) -> PolicyError {
        if fault.path.is_empty() {
            return place(&self.source, fault.message);
        }
        let key = fault.path.split(['.', '[']).next().unwrap_or_default();
        at_key(&self.source, key, fault.to_string())
    }
}

impl OnBench {
    /// Checks a conf by the file's schema and its `check`, and runs its `setup` on it.
    pub fn set_up(&self, given: &serde_json::Value, role: Role) -> Result<Compiled, Vec<ConfFault>> {
        let whole = |message: String| {
            vec![ConfFault {
                path: String::new(),
                message,
            }]
        };
        let of_conf = |wrong: Vec<(String, String)>| -> Vec<ConfFault> {
            let faults = wrong.into_iter();
            faults.map(|(path, message)| ConfFault { path, message }).collect()
        };
        let file = &self.file;
        let mode = match given.get(MODE) {
            None => Some(file.mode),
            Some(said) => said.as_str().and_then(PolicyMode::from_name),
        };
        let mode = mode.ok_or_else(|| of_conf(vec![(MODE.to_owned(), format!("must be {MODES}"))]))?;
        let mode = role.mode(mode);
        let conf = file.schema.apply(given).map_err(of_conf)?;
        let in_lua = self.bench.conf(&conf).map_err(whole)?;
        let wrong = self.bench.check(&self.loaded, &in_lua).map_err(whole)?;
        if !wrong.is_empty() {
            return Err(of_conf(wrong));
        }
        // One that is off is set up all the same: it can be switched on.
        let prepared = self.bench.set_up(&self.loaded, &in_lua).map_err(whole)?;
        let text = conf.to_string();
        let mut hasher = blake3::Hasher::new();
        for part in [
            file.versioned_name.as_bytes(),
            file.hash.as_bytes(),
            text.as_bytes(),
            mode.name().as_bytes(),
        ] {
            hasher.update(&part.len().to_le_bytes());
            hasher.update(part);
        }
        Ok(Compiled {
            file: Arc::clone(file),
            conf: Arc::new(conf),
            conf_bytes: text.len(),
            mode,
            prepared: prepared.filter(|_| mode != PolicyMode::Off),
            digest: *hasher.finalize().as_bytes(),
            role,
        })
    }
}

/// What a text is known by: its BLAKE3, 64 digits of hex.
pub fn source_hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// The file's bytecode, or the compiler's message.
fn compile(source: &Source, options: &Options) -> Result<Vec<u8>, String> {
    // Level 1 keeps the lines of errors; nothing here is loaded that we did not compile ourselves.
    let compiler = Compiler::new().set_optimization_level(1).set_debug_level(1);
    let marked = options.coverage.as_ref().and_then(|coverage| coverage.marked(source));
    let text = marked.as_deref().unwrap_or(&source.text);
    compiler.compile(text).map_err(|error| syntax_message(&error))
}

struct PolicyHeader {
    name: String,
    version: String,
    priority: i64,
    description: String,
    /// What the file says; the conf may say otherwise.
    mode: PolicyMode,
    events: Option<Vec<String>>,
}

/// Priority of a policy that names none.
const PRIORITY_DEFAULT: i64 = 100;

impl PolicyHeader {
    fn read(loaded: &LoadedPolicy) -> Result<PolicyHeader, Vec<(String, String)>> {
        let mut wrong = unknown_fields(loaded);
        let text = |key: &str| match loaded.table.raw_get::<Value>(key) {
            Ok(Value::String(found)) => Ok(found.to_string_lossy()),
            _ => Err((key.to_owned(), format!("{key} must be text"))),
        };
        let mut word = |key: &str| match text(key).and_then(|word| plain_word(key, word)) {
            Ok(word) => word,
            Err(fault) => {
                wrong.push(fault);
                String::new()
            }
        };
        let (name, version) = (word("name"), word("version"));
        let priority = match loaded.table.raw_get::<Value>("priority") {
            Ok(Value::Nil) => PRIORITY_DEFAULT,
            #[allow(clippy::cast_possible_truncation)]
            Ok(Value::Number(found)) if found.fract() == 0.0 && found.abs() <= 1e6 => found as i64,
            Ok(Value::Integer(found)) if found.abs() <= 1_000_000 => found,
            _ => {
                wrong.push(("priority".to_owned(), "priority must be a whole number".to_owned()));
                PRIORITY_DEFAULT
            }
        };
        let mode = match loaded.table.raw_get::<Value>(MODE) {
            Ok(Value::Nil) => Some(PolicyMode::Enforce),
            Ok(Value::String(mode)) => PolicyMode::from_name(&mode.to_string_lossy()),
            _ => None,
        };
        if mode.is_none() {
            wrong.push((MODE.to_owned(), format!("mode must be {MODES}")));
        }
        let description = match loaded.table.raw_get::<Value>("description") {
            Ok(Value::String(text)) => text.to_string_lossy(),
            _ => String::new(),
        };
        let events = match loaded.table.raw_get::<Value>(EVENTS) {
            Ok(Value::Nil) => Ok(None),
            Ok(Value::Table(kinds)) => kinds
                .sequence_values()
                .collect::<Result<_, _>>()
                .map(Some)
                .map_err(drop),
            _ => Err(()),
        };
        if events.is_err() {
            wrong.push((EVENTS.to_owned(), "events must be a list of kinds".to_owned()));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(PolicyHeader {
            events: events.unwrap_or_default(),
            name,
            version,
            priority,
            description,
            mode: mode.unwrap_or_default(),
        })
    }
}

/// What the file has at its top level that no policy has.
fn unknown_fields(loaded: &LoadedPolicy) -> Vec<(String, String)> {
    let keys = loaded
        .table
        .pairs::<Value, Value>()
        .filter_map(|pair| Some(pair.ok()?.0));
    let keys = keys.map(|key| key.to_string().unwrap_or_default());
    let mut unknown: Vec<String> = keys.filter(|key| !TOP_FIELDS.contains(&key.as_str())).collect();
    unknown.sort();
    let fault = |key: String| {
        let message = match nearest(TOP_FIELDS, &key) {
            Some(meant) => format!("a policy has no field {key:?}; did you mean {meant}?"),
            None => format!("a policy has no field {key:?}; it has {}", TOP_FIELDS.join(", ")),
        };
        (key, message)
    };
    unknown.into_iter().map(fault).collect()
}

/// A name or a version.
fn plain_word(key: &str, word: String) -> Result<String, (String, String)> {
    if is_plain_word(&word) {
        return Ok(word);
    }
    let message = format!("{key} must be 1 to 64 letters, digits, dots, dashes");
    Err((key.to_owned(), message))
}

/// Whether a policy may bear the name.
pub fn is_plain_word(word: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&word.len()) && word.bytes().all(is_plain)
}

fn syntax_message(error: &mlua::Error) -> String {
    match error {
        mlua::Error::SyntaxError { message, .. } => message.lines().next().unwrap_or_default().to_owned(),
        other => other.to_string(),
    }
}

/// An error whose text may begin with `file:line:` or `:line:`, as Luau writes it.
pub(super) fn place(source: &Source, message: String) -> PolicyError {
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
