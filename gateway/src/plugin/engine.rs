//! The WebAssembly engine, one for the process, and the clock by which calls are cut off.

use std::sync::OnceLock;
use std::time::Duration;

use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;
use wasmtime::{Config, Engine};

use super::{LoadError, cache};

/// How often the epoch moves on: calls are cut off this exactly.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// Stack of a plugin, so that endless recursion ends early.
const STACK_BYTES_MAX: usize = 512 << 10;
/// The interfaces of our worlds that hold nothing but types: a component may name them, which asks for nothing.
const TYPES: [&str; 2] = ["agentledger:plugin/types@", "agentledger:plugin/tools@"];
/// What a component of the world `tool-pricer` exports, and none of the other world.
const PRICER_EXPORT: &str = "price";

/// The engine. Its ticker thread runs as long as the process.
pub(super) fn engine() -> Result<&'static Engine, LoadError> {
    static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
    ENGINE
        .get_or_init(start)
        .as_ref()
        .map_err(|reason| LoadError::Engine(reason.clone()))
}

fn start() -> Result<Engine, String> {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES_MAX);
    match cache::open() {
        Ok(cache) => {
            config.cache(Some(cache));
        }
        Err(reason) => tracing::warn!(
            reason,
            "plugins are compiled at each start: their machine code cannot be kept"
        ),
    }
    let engine = Engine::new(&config).map_err(|error| error.to_string())?;
    let ticking = engine.clone();
    std::thread::Builder::new()
        .name("plugin-epoch".to_owned())
        .spawn(move || {
            loop {
                std::thread::sleep(TICK);
                ticking.increment_epoch();
            }
        })
        .map_err(|error| error.to_string())?;
    Ok(engine)
}

/// Compiles a plugin: a component, or a core module with our world in it, of which a component is made. Takes half
/// a second the first time, and milliseconds with its machine code in the cache; never on a thread that serves.
pub(super) fn compile(name: &str, wasm: &[u8]) -> Result<Component, LoadError> {
    let unfit = |reason: String| LoadError::Unfit {
        plugin: name.to_owned(),
        reason,
    };
    let engine = engine()?;
    let made;
    let component = match wasm.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
            made = wit_component::ComponentEncoder::default()
                .validate(true)
                .module(wasm)
                .and_then(|mut encoder| encoder.encode())
                .map_err(|error| unfit(format!("{error:#}")))?;
            &made
        }
        Some([0, b'a', b's', b'm', ..]) => wasm,
        _ => return Err(unfit("not a WebAssembly file".to_owned())),
    };
    let component = Component::from_binary(engine, component).map_err(|error| unfit(format!("{error:#}")))?;
    for (import, item) in component.component_type().imports(engine) {
        let only_types = match item.ty {
            ComponentItem::ComponentInstance(instance) => {
                TYPES.iter().any(|types| import.starts_with(types))
                    && instance
                        .exports(engine)
                        .all(|(_, item)| matches!(item.ty, ComponentItem::Type(_)))
            }
            _ => false,
        };
        if !only_types {
            return Err(LoadError::Import {
                plugin: name.to_owned(),
                import: import.to_owned(),
            });
        }
    }
    Ok(component)
}

/// Whether a component prices tool calls; else it reads a dialect. Of what world it is in full is checked when it starts.
pub(super) fn is_pricer(component: &Component) -> bool {
    component.get_export_index(None, PRICER_EXPORT).is_some()
}
