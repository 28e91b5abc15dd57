//! Builds the plugins that the gateway brings with it for WebAssembly, and embeds them; an example beside them for its tests.
//!
//! An inner cargo does it, in a target folder of its own: the outer one holds the lock of the workspace's. It is shielded
//! from settings that are meant for the outer build: flags and wrappers of the host's compiler.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const TARGET: &str = "wasm32-unknown-unknown";
const PROFILE: &str = "guest";
/// The example of a pricer: its folder and its crate.
const EXAMPLE: (&str, &str) = ("examples/custom-pricer", "agentledger-example-custom-pricer");

/// Settings of the outer build that would reach into the inner one.
const SHIELDED: [&str; 12] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_TARGET_DIR",
    "CLIPPY_ARGS",
    "CARGO_INCREMENTAL",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    for path in ["plugins", EXAMPLE.0, "sdk/guest", "sdk/wit"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    if !target_installed()? {
        println!(
            "cargo::error=the target {TARGET} is missing, for which the plugins are built. Install it with: \
             rustup target add {TARGET}"
        );
        return Ok(());
    }
    let plugins = plugins(&root.join("plugins"))?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target = out.join("guests");
    let crates: Vec<String> = plugins.iter().map(|plugin| crate_name(plugin)).collect();
    build(&root, &target, crates.iter().map(String::as_str).chain([EXAMPLE.1]))?;
    let built = |name: &str| {
        let folder = target.join(TARGET).join(PROFILE);
        let file = folder.join(format!("{}.wasm", name.replace('-', "_")));
        match file.is_file() {
            true => Ok(file),
            false => Err(format!("{name} was built, but {} is not there", file.display())),
        }
    };
    let mut code = String::from("/// Name and WebAssembly of each plugin in the workspace's `plugins/`.\n");
    code.push_str("static EMBEDDED: &[(&str, &[u8])] = &[\n");
    for plugin in &plugins {
        let file = built(&crate_name(plugin))?;
        code.push_str(&format!("    ({plugin:?}, include_bytes!({file:?})),\n"));
    }
    code.push_str("];\n");
    code.push_str("/// The example of a pricer.\n#[cfg(test)]\n");
    let file = built(EXAMPLE.1)?;
    code.push_str(&format!(
        "pub(super) static EXAMPLE_PRICER: &[u8] = include_bytes!({file:?});\n"
    ));
    fs::write(out.join("embedded.rs"), code)?;
    Ok(())
}

fn variable(name: &str) -> Result<String, Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var(name).map_err(|error| format!("{name}: {error}").into())
}

fn crate_name(plugin: &str) -> String {
    format!("agentledger-plugin-{plugin}")
}

/// Folders of `plugins/` that hold a crate, sorted, so that the build does not depend on the file system's order.
fn plugins(dir: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Whether the compiler has the standard library of the target. Asked in the workspace's folder, where the tool chain
/// file decides which compiler it is.
fn target_installed() -> Result<bool, Box<dyn Error>> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let answer = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()?;
    let folder = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    Ok(answer.status.success() && fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some()))
}

fn build<'n>(root: &Path, target: &Path, crates: impl Iterator<Item = &'n str>) -> Result<(), Box<dyn Error>> {
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(root)
        .args(["build", "--quiet", "--locked", "--profile", PROFILE, "--target", TARGET]);
    cargo.arg("--target-dir").arg(target);
    for name in crates {
        cargo.args(["--package", name]);
    }
    for name in SHIELDED {
        cargo.env_remove(name);
    }
    // `CARGO_PROFILE_…` and `CARGO_TARGET_…` settings of the outer build, and what cargo tells build scripts about it.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_FEATURE_", "CARGO_CFG_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            cargo.env_remove(name.as_ref());
        }
    }
    let answer = cargo.output()?;
    if !answer.status.success() {
        return Err(format!(
            "building the plugins failed:\n{}",
            String::from_utf8_lossy(&answer.stderr)
        )
        .into());
    }
    Ok(())
}
