//! A policy set: compiled once, never changed, shared by all threads.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agentledger_ledger::Name;
use parking_lot::Mutex;

use super::engine::PolicyFailure;
use super::file::{Compiled, ConfFault, PolicyFile};
use super::glob::{BadGlob, GlobSet, Over};
use super::schema::Shape;
use super::vm::Vm;

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

/// Whether what a policy asks for counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyMode {
    #[default]
    Enforce,
    /// Evaluated and recorded, never enforced.
    Shadow,
    /// Not run at all.
    Off,
}

impl PolicyMode {
    pub const fn name(self) -> &'static str {
        match self {
            PolicyMode::Enforce => "enforce",
            PolicyMode::Shadow => "shadow",
            PolicyMode::Off => "off",
        }
    }

    pub fn from_name(name: &str) -> Option<PolicyMode> {
        let all = [PolicyMode::Enforce, PolicyMode::Shadow, PolicyMode::Off];
        all.into_iter().find(|mode| mode.name() == name)
    }
}

/// A policy of a set, as it is told to people.
#[derive(Clone, Copy, Debug)]
pub struct PolicyView<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub description: &'a str,
    pub priority: i64,
    pub mode: PolicyMode,
    pub phases: &'a [Phase],
    /// What it was compiled of.
    pub source: &'a Source,
    /// The conf with the schema's defaults.
    pub conf: &'a serde_json::Value,
    /// Of the compiled file and its conf.
    pub digest: [u8; 32],
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

    /// Forgets what no set refers to any more: sets of rules come and go while traffic runs.
    fn prune(&self) {
        self.0.lock().retain(|_, set| Arc::strong_count(set) > 1);
    }
}

static NEXT_SET: AtomicU64 = AtomicU64::new(1);

/// All policies in force, in the order in which they run.
pub struct PolicySet {
    id: u64,
    policies: Vec<Arc<Compiled>>,
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
        let mut policies: Vec<Arc<Compiled>> = Vec::new();
        for source in sources {
            let on_bench = match PolicyFile::read(source, &options, &globs) {
                Ok(on_bench) => on_bench,
                Err(wrong) => {
                    errors.extend(wrong);
                    continue;
                }
            };
            let file = &on_bench.file;
            if let Some(known) = policies.iter().find(|known| known.file.name == file.name) {
                errors.push(file.name_is_taken(&known.file.source.origin));
                continue;
            }
            match on_bench.set_up(conf.get(&*file.name).unwrap_or(&serde_json::Value::Null)) {
                Ok(policy) => policies.push(Arc::new(policy)),
                Err(faults) => errors.extend(faults.into_iter().map(|fault| file.fault(fault))),
            }
        }
        if errors.is_empty() {
            for name in conf
                .keys()
                .filter(|name| !policies.iter().any(|policy| *policy.file.name == ***name))
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
        policies.sort_by(|a, b| {
            let place = |policy: &Compiled| (policy.file.priority, Name::clone(&policy.file.name));
            place(a).cmp(&place(b))
        });
        Ok(PolicySet::of(policies, options, globs))
    }

    fn of(policies: Vec<Arc<Compiled>>, options: Options, globs: Arc<GlobCache>) -> PolicySet {
        PolicySet {
            id: NEXT_SET.fetch_add(1, Ordering::Relaxed),
            policies,
            options,
            globs,
        }
    }

    /// The same with other confs for some of its policies; all others are shared, and no file is compiled.
    ///
    /// # Errors
    /// The first policy whose conf does not fit, and everything that is wrong with it.
    pub fn with_confs(
        &self,
        confs: &BTreeMap<String, serde_json::Value>,
    ) -> Result<PolicySet, (String, Vec<ConfFault>)> {
        self.globs.prune();
        let mut policies = self.policies.clone();
        for (name, conf) in confs {
            let whole = |message: String| {
                let path = String::new();
                (name.clone(), vec![ConfFault { path, message }])
            };
            let policy = policies.iter_mut().find(|policy| *policy.file.name == **name);
            let policy = policy.ok_or_else(|| whole("there is no such policy".to_owned()))?;
            let on_bench = policy.file.on_bench(&self.options, &self.globs).map_err(whole)?;
            let set_up = on_bench.set_up(conf).map_err(|faults| (name.clone(), faults))?;
            *policy = Arc::new(set_up);
        }
        Ok(PolicySet::of(policies, self.options.clone(), Arc::clone(&self.globs)))
    }

    /// `name@version` in the order in which they run, sleeping ones included, those in shadow with a leading `~`. One that is
    /// off does not run.
    pub fn names(&self) -> Vec<Name> {
        let running = self.policies.iter().filter(|policy| policy.mode != PolicyMode::Off);
        let name = |policy: &Arc<Compiled>| match policy.mode {
            PolicyMode::Shadow => Name::from(format!("~{}", policy.file.versioned_name)),
            _ => Name::clone(&policy.file.versioned_name),
        };
        running.map(name).collect()
    }

    /// All policies in the order in which they run, those that are off among them.
    pub fn policies(&self) -> impl Iterator<Item = PolicyView<'_>> {
        self.policies.iter().map(|policy| PolicyView {
            name: &policy.file.name,
            version: &policy.file.version,
            description: &policy.file.description,
            priority: policy.file.priority,
            mode: policy.mode,
            phases: &policy.file.phases,
            source: &policy.file.source,
            conf: &policy.conf,
            digest: policy.digest,
        })
    }

    pub fn policy(&self, name: &str) -> Option<PolicyView<'_>> {
        self.policies().find(|policy| policy.name == name)
    }

    /// What a policy's schema says that a field of its conf is; `None` where there is no such policy or field.
    pub fn shape(&self, policy: &str, field: &str) -> Option<Shape> {
        let found = self.policies.iter().find(|known| *known.file.name == *policy)?;
        found.file.shape(field)
    }

    /// Whether any policy has something to say in this phase.
    pub fn has(&self, phase: Phase) -> bool {
        self.policies
            .iter()
            .any(|policy| policy.prepared.is_some() && policy.file.phases.contains(&phase))
    }

    /// Whether a policy may have something to say of events of a kind.
    pub fn hears(&self, kind: &str) -> bool {
        let hears =
            |events: &Option<Vec<String>>| events.as_ref().is_none_or(|kinds| kinds.iter().any(|one| one == kind));
        self.policies.iter().any(|policy| {
            policy.prepared.is_some() && policy.file.phases.contains(&Phase::Alert) && hears(&policy.file.events)
        })
    }

    /// Hash of all that decides: the compiled files and their confs, in the order in which they run. For the record.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for policy in &self.policies {
            hasher.update(&policy.digest);
        }
        *hasher.finalize().as_bytes()
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn load_vm(&self) -> Result<Vm, PolicyFailure> {
        Vm::load(self.id, &self.policies, &self.options, &self.globs)
    }

    /// A VM with one of its policies alone, or with none where there is no such policy.
    pub(super) fn load_vm_of(&self, name: &str) -> Result<Vm, PolicyFailure> {
        let found = self.policies.iter().filter(|policy| *policy.file.name == *name);
        let alone: Vec<Arc<Compiled>> = found.cloned().collect();
        Vm::load(self.id, &alone, &self.options, &self.globs)
    }
}
