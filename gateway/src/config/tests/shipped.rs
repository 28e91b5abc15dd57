//! The configurations that the repository ships.

use super::*;

/// The files that people copy: each loads, and the example names every key.
#[test]
fn every_shipped_configuration_loads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files: Vec<PathBuf> = Vec::new();
    for dir in ["configs", "configs/deploy"] {
        files.extend(yaml_files(&root.join(dir)));
    }
    if let Ok(examples) = std::fs::read_dir(root.join("examples")) {
        files.extend(examples.flat_map(|example| yaml_files(&example.unwrap().path())));
    }
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let (config, _) = load(Some(&file), &none(), &Known::built_in()).unwrap_or_else(|errors| panic!("{errors}"));
        let odd: Vec<&String> = config
            .warnings
            .iter()
            .filter(|warning| warning.contains("unknown"))
            .collect();
        assert!(odd.is_empty(), "{odd:?}");
    }
}

/// Only files named after the program: a folder of an example may hold other YAML.
fn yaml_files(dir: &Path) -> Vec<PathBuf> {
    let Ok(files) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let paths = files.map(|file| file.unwrap().path());
    paths
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("agentledger"))
        })
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect()
}

#[test]
fn the_example_names_every_key() {
    use super::schema::{Key, Shape};
    fn missing(keys: &'static [Key], node: Option<&super::node::Node>, path: &str, out: &mut Vec<String>) {
        for key in keys {
            let path = format!("{path}.{}", key.name);
            let Some(child) = node.and_then(|node| node.get(key.name)) else {
                out.push(path);
                continue;
            };
            match key.shape {
                Shape::Section(keys) | Shape::LeafOrSection(keys) => missing(keys, Some(child), &path, out),
                Shape::Rows(keys) | Shape::LeavesOrRows(keys) => {
                    let super::node::Value::List(rows) = &child.value else {
                        panic!("{path} is no list")
                    };
                    missing(keys, rows.first(), &path, out);
                }
                // Every key is shown at one of the names.
                Shape::NamedSections(keys) => {
                    let first = || child.pairs().first().map(|pair| &pair.node);
                    missing(keys, child.get("my-host").or_else(first), &path, out);
                }
                _ => {}
            }
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/agentledger.example.yaml");
    let document = super::node::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut out = Vec::new();
    missing(super::schema::ROOT, Some(&document.root), "", &mut out);
    // The two at the root have the keys of any provider, shown once; their type and prefix are fixed.
    out.retain(|path| !path.starts_with(".providers.openai.") && !path.starts_with(".providers.anthropic."));
    // A rule's own keys are meaningless in the default and the global limit, and a provider takes one price.
    let meaningless = [
        "default.api_key_pattern",
        "default.tenant_id",
        "global.api_key_pattern",
        "global.tenant_id",
    ];
    out.retain(|path| !meaningless.iter().any(|key| path.ends_with(key)));
    out.retain(|path| {
        !path.ends_with("my-host.free") && !path.ends_with("extra.free") && !path.ends_with("extra.unpriced")
    });
    assert!(out.is_empty(), "{out:#?}");
}
