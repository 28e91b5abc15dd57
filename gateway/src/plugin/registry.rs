//! The plugins at hand, by dialect name: the built-in ones, and those of a folder.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memchr::memmem::Finder;
use parking_lot::Mutex;
use wasmtime::component::Component;

use super::dialect::{Dialect, Info, Want};
use super::engine;
use super::host::Host;
use super::outline::{Outline, Shape, ShapeError};
use super::plan::Plans;
use super::pool::Caps;
use super::routes::{RouteError, RouteTable};
use crate::config;
use crate::limits::Limits;

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Longest address in an answer that is led here.
const LINK_BYTES_MAX: u32 = 2_048;
/// Members of a request, in any dialect, by which its sender may be known: who it is, and that it is an agent.
pub const SENDER_MEMBERS: [&str; 5] = ["metadata", "prompt_cache_key", "safety_identifier", "tools", "user"];
/// Longest plugin file.
const FILE_BYTES_MAX: u64 = 64 << 20;

#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the WebAssembly engine cannot start: {0}")]
    Engine(String),
    #[error("plugin {plugin} asks for {import}: a plugin may import nothing")]
    Import { plugin: String, import: String },
    #[error("plugin {plugin} cannot be used: {reason}")]
    Unfit { plugin: String, reason: String },
    #[error("plugin folder or file {path}: {reason}")]
    File { path: String, reason: String },
    #[error("plugin {plugin} does not have the hash it is pinned to: it has {found}")]
    Pin { plugin: String, found: String },
    #[error("plugins {first} and {second} both read the dialect {dialect}")]
    Twice {
        dialect: String,
        first: String,
        second: String,
    },
    #[error("a pin names the plugin {0}, which is not there")]
    PinUnused(String),
    /// Told by pricers that read their configuration.
    #[error("{0}")]
    Conf(config::ConfigErrors),
}

/// A plugin, with everything that is compiled once from its `info`.
pub struct Plugin {
    /// No other has it, not even one that is loaded of the same file.
    pub(super) number: u64,
    pub dialect: Arc<dyn Dialect>,
    pub routes: RouteTable,
    /// For request bodies: wants, then what is counted and what may name the sender, media, and all other strings as text.
    pub request_shape: Shape,
    /// Places of the [`SENDER_MEMBERS`] among the wants of a request.
    sender_wants: [usize; SENDER_MEMBERS.len()],
    request_markers: Vec<Finder<'static>>,
    /// For whole answers and events: wants and text.
    pub answer_shape: Shape,
    /// Operations whose answers bear addresses that clients follow.
    links: HashMap<String, Shape>,
    /// `built-in`, or the file it came from.
    pub source: String,
}

impl Plugin {
    /// Where the answers of this operation bear addresses that clients follow; `None`: nowhere.
    pub fn links_of(&self, operation: &str) -> Option<&Shape> {
        self.links.get(operation)
    }

    /// Any dialect may stand here; tests put their own.
    pub fn new(dialect: Arc<dyn Dialect>, source: &str) -> Result<Plugin, LoadError> {
        let info: &Info = dialect.info();
        let unfit = |reason: String| LoadError::Unfit {
            plugin: info.name.clone(),
            reason,
        };
        let shape = |error: ShapeError| unfit(error.to_string());
        let counted = info.request_counts.iter().map(|path| Want {
            path: path.clone(),
            max_bytes: 0,
            max_items: 0,
        });
        let mut wants: Vec<Want> = info.request_paths.iter().cloned().chain(counted).collect();
        let sender_wants = SENDER_MEMBERS.map(|member| want_of(member, &mut wants));
        let request_shape = Shape::compile(&wants, &info.request_media, &[])
            .and_then(|shape| shape.with_progress(&info.progress_paths))
            .map_err(shape)?;
        let finder = |marker: &String| Finder::new(marker.as_bytes()).into_owned();
        let answer_shape = Shape::compile_named(&info.answer_wants(), &[], &info.text_paths).map_err(shape)?;
        let mut linked: HashMap<String, Vec<Want>> = HashMap::new();
        for link in &info.answer_links {
            linked.entry(link.operation.clone()).or_default().push(Want {
                path: link.path.clone(),
                max_bytes: LINK_BYTES_MAX,
                max_items: link.max_items,
            });
        }
        let compiled = linked
            .into_iter()
            .map(|(operation, wants)| Ok((operation, Shape::compile_named(&wants, &[], &[])?)));
        let links = compiled.collect::<Result<_, _>>().map_err(shape)?;
        // Whoever reads answers compiles them for itself.
        Plans::compile(info).map_err(|error| unfit(error.to_string()))?;
        let routes = RouteTable::compile(&info.routes).map_err(|error: RouteError| unfit(error.to_string()))?;
        static LOADED: AtomicU64 = AtomicU64::new(0);
        Ok(Plugin {
            number: LOADED.fetch_add(1, Ordering::Relaxed),
            routes,
            request_shape,
            sender_wants,
            request_markers: info.request_markers.iter().map(finder).collect(),
            answer_shape,
            links,
            source: source.to_owned(),
            dialect,
        })
    }

    /// The markers that stand in a request's body.
    pub fn markers_in(&self, body: &[u8]) -> Vec<String> {
        let named = self.dialect.info().request_markers.iter().zip(&self.request_markers);
        named
            .filter(|(_, finder)| finder.find(body).is_some())
            .map(|(marker, _)| marker.clone())
            .collect()
    }

    /// One of the [`SENDER_MEMBERS`] of a request, as JSON.
    pub fn sender_member<'b>(&self, member: &str, json: &'b [u8], outline: &Outline) -> Option<&'b [u8]> {
        let at = SENDER_MEMBERS.iter().position(|known| *known == member)?;
        let wanted = self.sender_wants.get(at)?;
        let (_, span) = outline.spans.iter().find(|(index, _)| index == wanted)?;
        json.get(span.clone())
    }

    /// The characters of the strings that are to be counted.
    pub fn characters_in(&self, json: &[u8], outline: &Outline) -> Vec<(String, u64)> {
        let info = self.dialect.info();
        let counted = |(index, span): &(usize, Range<usize>)| {
            let path = info.request_counts.get(index.checked_sub(info.request_paths.len())?)?;
            let text: Cow<'_, str> = serde_json::from_slice(json.get(span.clone())?).ok()?;
            Some((path.clone(), text.chars().count() as u64))
        };
        outline.spans.iter().filter_map(counted).collect()
    }
}

/// The place of a member among the wants; where no plugin wants it, it is only found, and never shown to one.
fn want_of(member: &str, wants: &mut Vec<Want>) -> usize {
    if let Some(at) = wants.iter().position(|want| want.path == member) {
        return at;
    }
    wants.push(Want {
        path: member.to_owned(),
        max_bytes: 0,
        max_items: 0,
    });
    wants.len() - 1
}

/// All plugins. Cheap to share; a reload makes a new one and swaps it in whole.
#[derive(Clone, Default)]
pub struct Plugins {
    by_name: BTreeMap<String, Arc<Plugin>>,
    pricers: BTreeMap<String, PricerSource>,
}

/// A pricer that has not read its configuration yet.
#[derive(Clone)]
pub(super) struct PricerSource {
    pub component: Component,
    pub caps: Caps,
}

impl Plugins {
    /// All built-in plugins and those of the configured folder: see [`Plugins::load_of`].
    pub fn load(config: &config::Plugins, limits: &Limits) -> Result<Plugins, LoadError> {
        Plugins::load_of(|_| true, config, limits)
    }

    /// The built-in plugins that are wanted, by their dialects and as [`config::ToolPricing::BUILT_IN`], and those of the configured
    /// folder. One of the folder that reads the same dialect as a built-in one replaces it, as does a pricer whose file has
    /// the name of the built-in one. Blocks for half a second for each plugin that was never
    /// compiled here before; never call it on a thread that serves.
    pub fn load_of(
        wanted: impl Fn(&str) -> bool,
        config: &config::Plugins,
        limits: &Limits,
    ) -> Result<Plugins, LoadError> {
        let caps = Caps {
            deadline: Duration::from_millis(limits.plugin_deadline_ms),
            memory_bytes_max: limits.plugin_memory_bytes_max,
        };
        let mut plugins = Plugins::default();
        for (name, wasm) in EMBEDDED.iter().filter(|(name, _)| wanted(name)) {
            let component = built_in(name, wasm)?;
            if engine::is_pricer(&component) {
                plugins
                    .pricers
                    .insert((*name).to_owned(), PricerSource { component, caps });
                continue;
            }
            let host = Host::start(name, &component, caps)?;
            plugins.add(Plugin::new(Arc::new(host), "built-in")?);
        }
        let mut from_files: BTreeMap<String, String> = BTreeMap::new();
        let mut pins: Vec<&String> = config.pins.keys().collect();
        for path in config.dir.as_deref().map(files).transpose()?.unwrap_or_default() {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let wasm = read(&path)?;
            if let Some(pin) = config.pins.get(&stem) {
                let found = blake3::hash(&wasm).to_hex().to_string();
                if !pin.eq_ignore_ascii_case(&found) {
                    return Err(LoadError::Pin { plugin: stem, found });
                }
                pins.retain(|name| **name != stem);
            }
            let component = engine::compile(&stem, &wasm)?;
            if engine::is_pricer(&component) {
                plugins.pricers.insert(stem, PricerSource { component, caps });
                continue;
            }
            let host = Host::start(&stem, &component, caps)?;
            let dialect = host.info().name.clone();
            if let Some(first) = from_files.insert(dialect.clone(), stem.clone()) {
                return Err(LoadError::Twice {
                    dialect,
                    first,
                    second: stem,
                });
            }
            plugins.add(Plugin::new(Arc::new(host), &path.display().to_string())?);
        }
        // A pin that guards nothing is a plugin that went missing, or a name misspelt.
        match pins.first() {
            Some(name) => Err(LoadError::PinUnused((*name).clone())),
            None => Ok(plugins),
        }
    }

    /// Puts a plugin in, in place of another of its name.
    pub fn add(&mut self, plugin: Plugin) {
        self.by_name
            .insert(plugin.dialect.info().name.clone(), Arc::new(plugin));
    }

    pub(super) fn pricer(&self, name: &str) -> Option<&PricerSource> {
        self.pricers.get(name)
    }

    /// Those of tool calls, by their files' names.
    pub(super) fn pricers(&self) -> impl Iterator<Item = (&str, &PricerSource)> {
        self.pricers.iter().map(|(name, source)| (name.as_str(), source))
    }

    pub fn get(&self, dialect: &str) -> Option<&Arc<Plugin>> {
        self.by_name.get(dialect)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Plugin>)> {
        self.by_name.iter().map(|(name, plugin)| (name.as_str(), plugin))
    }
}

/// An embedded plugin, compiled once for the process.
fn built_in(name: &'static str, wasm: &[u8]) -> Result<Component, LoadError> {
    static COMPILED: Mutex<BTreeMap<&'static str, Component>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock();
    if let Some(component) = compiled.get(name) {
        return Ok(component.clone());
    }
    let component = engine::compile(name, wasm)?;
    compiled.insert(name, component.clone());
    Ok(component)
}

#[cfg(test)]
pub(super) fn embedded(name: &str) -> Option<&'static [u8]> {
    EMBEDDED.iter().find(|(given, _)| *given == name).map(|(_, wasm)| *wasm)
}

fn files(dir: &Path) -> Result<Vec<std::path::PathBuf>, LoadError> {
    let error = |error: std::io::Error| LoadError::File {
        path: dir.display().to_string(),
        reason: error.to_string(),
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let error = |reason: String| LoadError::File {
        path: path.display().to_string(),
        reason,
    };
    crate::files::read(path, FILE_BYTES_MAX).map_err(|io| error(io.to_string()))
}
