//! A policy set: compiled once, never changed, shared by all threads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agentledger_ledger::Name;
use parking_lot::Mutex;

use super::coverage::Coverage;
use super::engine::PolicyFailure;
use super::file::{Compiled, ConfFault, PolicyFile, Role};
use super::glob::{BadGlob, GlobSet, Over};
use super::schema::Shape;
use super::tally::Tally;
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
    /// Notes what is reached of one policy, where specs are run for that.
    pub coverage: Option<Arc<Coverage>>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            deadline: Duration::from_millis(50),
            memory_bytes_max: 8 << 20,
            coverage: None,
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
    /// BLAKE3 of its text, in hex.
    pub hash: &'a str,
    /// Of the compiled file and its conf.
    pub digest: [u8; 32],
    /// What it did, where that is counted.
    pub tally: Option<&'a Arc<Tally>>,
    /// It was put in force in shadow, whatever it and its conf say.
    pub shadow_only: bool,
}

/// What decides in a set, one row a policy, for the record: with its text by its hash, and its conf, the same facts give the
/// same verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVersion {
    pub name: String,
    /// What the file calls it.
    pub version: String,
    pub mode: PolicyMode,
    pub priority: i64,
    /// BLAKE3 of its text, in hex.
    pub source_hash: String,
    /// BLAKE3 of the compiled text with its conf and mode, in hex.
    pub conf_digest: String,
}

/// What a text says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyHead {
    pub name: String,
    pub version: String,
    pub description: String,
    pub hash: String,
}

/// A text that stands in a set in the place of a policy's file.
#[derive(Clone, Debug)]
pub struct Version {
    pub source: Source,
    /// It enforces nothing, whatever its conf says.
    pub shadow_only: bool,
    pub tally: Arc<Tally>,
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

/// All policies in force, in the order in which they run. A clone shares them.
#[derive(Clone)]
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
        options: Options,
    ) -> Result<PolicySet, Vec<PolicyError>> {
        let set = PolicySet::load_files(sources, conf, options)?;
        let unknown = set.unknown(conf.keys());
        if unknown.is_empty() { Ok(set) } else { Err(unknown) }
    }

    /// The same where other policies join it: there may be confs of those.
    ///
    /// # Errors
    /// Everything that is wrong, file by file.
    pub fn load_files(
        sources: Vec<Source>,
        conf: &BTreeMap<String, serde_json::Value>,
        options: Options,
    ) -> Result<PolicySet, Vec<PolicyError>> {
        PolicySet::load_in_roles(sources, conf, options, &BTreeSet::new())
    }

    /// The same, where policies of these names enforce nothing, whatever they and their confs say.
    ///
    /// # Errors
    /// Everything that is wrong, file by file.
    pub fn load_in_roles(
        sources: Vec<Source>,
        conf: &BTreeMap<String, serde_json::Value>,
        mut options: Options,
        shadow_only: &BTreeSet<String>,
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
            let role = Role {
                shadow_only: shadow_only.contains(&*file.name),
                ..Role::default()
            };
            match on_bench.set_up(conf.get(&*file.name).unwrap_or(&serde_json::Value::Null), role) {
                Ok(policy) => policies.push(Arc::new(policy)),
                Err(faults) => errors.extend(faults.into_iter().map(|fault| file.fault(fault))),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(PolicySet::of(policies, options, globs))
    }

    /// The name that a policy gives itself.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn name_in(source: &Source) -> Result<String, Vec<PolicyError>> {
        let on_bench = PolicyFile::read(source.clone(), &Options::default(), &Arc::default())?;
        Ok(on_bench.file.name.to_string())
    }

    /// What is said to policies that are not there.
    pub fn unknown<'a>(&self, confs: impl IntoIterator<Item = &'a String>) -> Vec<PolicyError> {
        let unknown = confs.into_iter().filter(|name| self.policy(name).is_none());
        let fault = |name: &String| PolicyError {
            file: format!("policies.conf.{name}"),
            line: None,
            message: format!("there is no policy named {name:?}"),
        };
        unknown.map(fault).collect()
    }

    fn of(mut policies: Vec<Arc<Compiled>>, options: Options, globs: Arc<GlobCache>) -> PolicySet {
        // A candidate before the policy that it stands beside: that one's denial ends the round.
        policies.sort_by(|a, b| {
            let place = |policy: &Compiled| {
                let file = &policy.file;
                (file.priority, Name::clone(&file.name), !policy.role.is_candidate)
            };
            place(a).cmp(&place(b))
        });
        PolicySet {
            id: NEXT_SET.fetch_add(1, Ordering::Relaxed),
            policies,
            options,
            globs,
        }
    }

    /// The same with other confs for some of its policies; all others are shared, and no file is compiled. A candidate has the
    /// conf of the policy that it stands beside; one that does not take it is left out: it keeps nobody from changing that.
    ///
    /// # Errors
    /// The first policy whose conf does not fit, and everything that is wrong with it.
    pub fn with_confs(
        &self,
        confs: &BTreeMap<String, serde_json::Value>,
    ) -> Result<PolicySet, (String, Vec<ConfFault>)> {
        self.globs.prune();
        if let Some(name) = confs.keys().find(|name| self.policy(name).is_none()) {
            let (path, message) = (String::new(), "there is no such policy".to_owned());
            return Err((name.clone(), vec![ConfFault { path, message }]));
        }
        let mut policies = Vec::with_capacity(self.policies.len());
        for policy in &self.policies {
            let Some(conf) = confs.get(&*policy.file.name) else {
                policies.push(Arc::clone(policy));
                continue;
            };
            match self.set_up_again(policy, conf) {
                Ok(set_up) => policies.push(Arc::new(set_up)),
                Err(faults) if policy.role.is_candidate => {
                    let fault = faults.first().map(ToString::to_string).unwrap_or_default();
                    let name = policy.label();
                    tracing::warn!("{name} runs in shadow no more: it does not take its new conf: {fault}");
                }
                Err(faults) => return Err((policy.file.name.to_string(), faults)),
            }
        }
        Ok(PolicySet::of(policies, self.options.clone(), Arc::clone(&self.globs)))
    }

    fn set_up_again(&self, policy: &Compiled, conf: &serde_json::Value) -> Result<Compiled, Vec<ConfFault>> {
        let whole = |message: String| {
            let path = String::new();
            vec![ConfFault { path, message }]
        };
        let on_bench = policy.file.on_bench(&self.options, &self.globs).map_err(whole)?;
        on_bench.set_up(conf, policy.role.clone())
    }

    /// The same with another text for one policy: of a version, else that which it has in `files`, else none.
    ///
    /// # Errors
    /// Everything that is wrong with the version.
    pub fn with_in_force(
        &self,
        name: &str,
        files: &PolicySet,
        version: Option<Version>,
        conf: &serde_json::Value,
    ) -> Result<PolicySet, Vec<PolicyError>> {
        let policy = match version {
            Some(version) => Some(self.compile(name, version, conf, false)?),
            None => files.policies.iter().find(|known| known.is_named(name)).cloned(),
        };
        Ok(self.with_one(policy, |known| known.is_named(name)))
    }

    /// The same with a version that runs beside a policy, in shadow; or with none.
    ///
    /// # Errors
    /// Everything that is wrong with the version.
    pub fn with_candidate(
        &self,
        name: &str,
        version: Option<Version>,
        conf: &serde_json::Value,
    ) -> Result<PolicySet, Vec<PolicyError>> {
        let policy = version
            .map(|version| self.compile(name, version, conf, true))
            .transpose()?;
        Ok(self.with_one(policy, |known| known.role.is_candidate && *known.file.name == *name))
    }

    fn with_one(&self, policy: Option<Arc<Compiled>>, replaces: impl Fn(&Compiled) -> bool) -> PolicySet {
        self.globs.prune();
        let kept = self.policies.iter().filter(|known| !replaces(known)).cloned();
        PolicySet::of(
            kept.chain(policy).collect(),
            self.options.clone(),
            Arc::clone(&self.globs),
        )
    }

    fn compile(
        &self,
        name: &str,
        version: Version,
        conf: &serde_json::Value,
        is_candidate: bool,
    ) -> Result<Arc<Compiled>, Vec<PolicyError>> {
        let on_bench = PolicyFile::read(version.source, &self.options, &self.globs)?;
        let file = &on_bench.file;
        if *file.name != *name {
            let message = format!("it names the policy {:?}, and is kept as one of {name:?}", file.name);
            return Err(vec![file.named_wrongly(message)]);
        }
        let role = Role {
            is_candidate,
            shadow_only: version.shadow_only,
            tally: Some(version.tally),
        };
        let set_up = on_bench.set_up(conf, role);
        set_up.map(Arc::new).map_err(|faults| {
            let faults = faults.into_iter().map(|fault| file.fault(fault));
            faults.collect()
        })
    }

    /// Reads a text that is to stand here one day: its name, the version that it names, and the hash of it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(source: Source, options: &Options) -> Result<PolicyHead, Vec<PolicyError>> {
        let on_bench = PolicyFile::read(source, options, &Arc::default())?;
        let file = &on_bench.file;
        Ok(PolicyHead {
            name: file.name.to_string(),
            version: file.version.clone(),
            description: file.description.clone(),
            hash: file.hash.clone(),
        })
    }

    /// `name@version` in the order in which they run, sleeping ones included, those in shadow with a leading `~`. One that is
    /// off does not run.
    pub fn names(&self) -> Vec<Name> {
        let running = self.policies.iter().filter(|policy| policy.mode != PolicyMode::Off);
        let name = |policy: &Arc<Compiled>| match policy.mode {
            PolicyMode::Shadow => Name::from(format!("~{}", policy.label())),
            _ => policy.label(),
        };
        running.map(name).collect()
    }

    /// All policies in the order in which they run, those that are off among them, candidates not.
    pub fn policies(&self) -> impl Iterator<Item = PolicyView<'_>> {
        let policies = self.policies.iter().filter(|policy| !policy.role.is_candidate);
        policies.map(|policy| policy.view())
    }

    pub fn policy(&self, name: &str) -> Option<PolicyView<'_>> {
        self.policies().find(|policy| policy.name == name)
    }

    /// The version that runs beside a policy, in shadow.
    pub fn candidate(&self, name: &str) -> Option<PolicyView<'_>> {
        let mut policies = self.policies.iter();
        let found = policies.find(|policy| policy.role.is_candidate && *policy.file.name == *name);
        found.map(|policy| policy.view())
    }

    /// What decides, in the order in which it runs, for the record; candidates and policies that are off are not among them.
    pub fn versions(&self) -> Vec<PolicyVersion> {
        let deciding = self.policies().filter(|policy| policy.mode != PolicyMode::Off);
        let version = |policy: PolicyView<'_>| PolicyVersion {
            name: policy.name.to_owned(),
            version: policy.version.to_owned(),
            mode: policy.mode,
            priority: policy.priority,
            source_hash: policy.hash.to_owned(),
            conf_digest: blake3::Hash::from(policy.digest).to_hex().to_string(),
        };
        deciding.map(version).collect()
    }

    /// The text of one of its policies, by its hash.
    pub fn source(&self, hash: &str) -> Option<&Source> {
        let found = self.policies.iter().find(|policy| policy.file.hash == hash)?;
        Some(&found.file.source)
    }

    /// What a policy's schema says that a field of its conf is; `None` where there is no such policy or field.
    pub fn shape(&self, policy: &str, field: &str) -> Option<Shape> {
        let found = self.policies.iter().find(|known| known.is_named(policy))?;
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

    /// Whether a policy that is enforced names events of a kind among those that it handles.
    pub fn listens_to(&self, kind: &str) -> bool {
        let mut policies = self.policies.iter().filter(|policy| policy.mode == PolicyMode::Enforce);
        policies.any(|policy| {
            let events = policy.file.events.as_ref().filter(|_| policy.prepared.is_some());
            policy.file.phases.contains(&Phase::Alert)
                && events.is_some_and(|kinds| kinds.iter().any(|one| one == kind))
        })
    }

    /// Hash of all that decides: the compiled files and their confs, in the order in which they run. For the record.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for policy in self.policies.iter().filter(|policy| !policy.role.is_candidate) {
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
        let found = self.policies.iter().filter(|policy| policy.is_named(name));
        let alone: Vec<Arc<Compiled>> = found.cloned().collect();
        let vm = Vm::load(self.id, &alone, &self.options, &self.globs)?;
        Ok(vm.uncounted())
    }
}
