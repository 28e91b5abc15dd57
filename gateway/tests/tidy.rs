//! Style as a test: what a reader may rely on anywhere in the repository, checked over every file that git tracks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use agentledger::testing::config::{self, Env, Known};
use agentledger::testing::{RefusalCode, Retry};

use crate::harness::root;

/// Longest file of Rust, in lines.
const LINES_MAX: usize = 650;

/// A crate, and the only place that may name it.
const HOMES: [(&str, &str); 5] = [
    ("sled", "gateway/ledger/src/store/"),
    ("wasmtime", "gateway/src/plugin/"),
    ("mlua", "gateway/src/policy/"),
    ("jsonrpsee", "gateway/src/control/"),
    ("prometheus", "gateway/src/telemetry/"),
];

/// The files of the repository: tracked ones, and new ones that git does not ignore.
fn files() -> Vec<String> {
    let answer = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root())
        .output()
        .expect("git lists the files of the checkout");
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let text = String::from_utf8(answer.stdout).unwrap();
    let mut files: Vec<String> = text
        .split('\0')
        .filter(|file| !file.is_empty())
        .map(str::to_owned)
        .collect();
    // Removed but not committed yet.
    files.retain(|file| root().join(file).is_file());
    assert!(files.len() > 100, "only {} files: is this the repository?", files.len());
    files
}

fn with_ending(ending: &str) -> Vec<(String, String)> {
    let matching = files().into_iter().filter(|file| file.ends_with(ending));
    matching
        .map(|file| (read(&file), file))
        .map(|(text, file)| (file, text))
        .collect()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn no_file_is_too_long_to_read() {
    let long = with_ending(".rs").into_iter().filter_map(|(file, text)| {
        let lines = text.lines().count();
        (lines > LINES_MAX).then(|| format!("{file}: {lines} lines, {LINES_MAX} are allowed"))
    });
    none(&long.collect::<Vec<_>>());
}

#[test]
fn each_engine_is_named_in_its_home_only() {
    let mut faults = Vec::new();
    for (file, text) in with_ending(".rs") {
        for (engine, home) in HOMES {
            // This file names them all, in texts.
            let at_home = file.starts_with(home) || !file.starts_with("gateway/") || file == "gateway/tests/tidy.rs";
            if !at_home && names(&text, engine) {
                faults.push(format!("{file} names {engine}, which only {home} may"));
            }
        }
    }
    none(&faults);
}

/// Whether code of the text names the crate: `sled::…`, `use sled`. Comments and texts may.
fn names(text: &str, engine: &str) -> bool {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut code = code.map(|line| line.split("//").next().unwrap_or_default());
    code.any(|line| {
        line.match_indices(engine).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let word_before = before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '"' | '.' | '/'));
            let after = &line[at + engine.len()..];
            let used = line.trim_start().starts_with("use ") && line[..at].trim_end().ends_with("use");
            !word_before && (after.starts_with("::") || (used && after.starts_with([';', ' ', '{'])))
        })
    })
}

#[test]
fn names_are_found_in_code_and_not_in_comments() {
    assert!(names("use sled;\n", "sled"));
    assert!(names("    let db = sled::open(path)?;", "sled"));
    assert!(names("use wasmtime::Engine;", "wasmtime"));
    assert!(!names("// as sled::open does\n/// `sled::Db`", "sled"));
    assert!(!names("let driver = \"sled\";", "sled"));
    assert!(!names("mod tussled { use super::untussled::x; }", "sled"));
}

#[test]
fn the_readme_starts_with_the_two_commands() {
    let blocks = blocks(&read("README.md"), "sh");
    assert_eq!(blocks[..2], ["./task start".to_owned(), "./task test".to_owned()]);
    for file in [
        "task",
        ".ci/run",
        "examples/quickstart/run",
        "examples/plugin/run",
        "examples/custom-pricer/run",
        "configs/deploy/check",
        "configs/deploy/release",
        "configs/deploy/stage",
        "configs/deploy/debian/build",
    ] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(root().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{file} is not executable");
    }
}

/// The README and the guide's pages.
fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned()];
    pages.extend(
        files()
            .into_iter()
            .filter(|file| file.starts_with("gateway/assets/guide/")),
    );
    assert!(pages.len() > 15, "{pages:?}");
    pages
}

#[test]
fn each_page_points_at_files_that_are_there() {
    let mut faults = Vec::new();
    for page in pages() {
        let text = read(&page);
        let folder = root().join(&page).parent().unwrap().to_owned();
        let links = text
            .match_indices("](")
            .filter_map(|(at, _)| text[at + 2..].split_once(')'));
        for (link, _) in links {
            let file = link.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !folder.join(file).exists() {
                faults.push(format!("{page} links to {file}, which is not there"));
            }
        }
    }
    none(&faults);
}

#[test]
fn the_readme_stays_short() {
    let lines = read("README.md").lines().count();
    assert!(lines < 250, "{lines} lines: depth goes to the guide");
    for page in pages().iter().filter(|page| !page.ends_with("/policy-examples.md")) {
        let lines = read(page).lines().count();
        assert!(lines <= 200, "{page}: {lines} lines: make two pages of it");
    }
}

#[test]
fn the_readme_leads_to_each_page_of_the_guide() {
    let readme = read("README.md");
    let unlinked = pages()
        .into_iter()
        .skip(1)
        .filter(|page| !readme.contains(&format!("]({page}")));
    none(&unlinked.collect::<Vec<_>>());
}

/// Policies and price lists of `configs/` are read by tests of their own; of what is deployed, most is for other programs.
fn is_configuration(file: &str) -> bool {
    let yaml = file.ends_with(".yaml") || file.ends_with(".yml");
    let is_foreign = file.starts_with("configs/prices/")
        || (file.starts_with("configs/deploy/") && !file.ends_with("/agentledger.yaml"));
    yaml && (file.starts_with("examples/") || file.starts_with("configs/")) && !is_foreign
}

#[test]
fn every_configuration_loads() {
    let configurations: Vec<PathBuf> = files()
        .into_iter()
        .filter(|file| is_configuration(file))
        .map(|file| root().join(file))
        .collect();
    assert!(configurations.len() >= 2, "{configurations:?}");
    for path in configurations {
        config::load(Some(&path), &Env::default(), &Known::built_in()).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

/// Fenced blocks of this language, whatever else their line says.
fn blocks(text: &str, tag: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(given) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if given.split(' ').next() == Some(tag) {
                found.push(body.join("\n"));
            }
        }
    }
    found
}

#[test]
fn configurations_and_policies_that_pages_show_load() {
    let mut shown = (0, 0);
    for page in pages() {
        let text = read(&page);
        for yaml in blocks(&text, "yaml") {
            shown.0 += 1;
            // A price file, and a block of Kubernetes or the like, are no configuration.
            if yaml.starts_with("provider:") {
                continue;
            }
            let named = yaml.match_indices("_env: ").map(|(at, _)| &yaml[at + 6..]);
            let variables = named.map(|rest| rest.split([',', '}', ' ', '\n']).next().unwrap_or_default());
            let env = Env::of(variables.map(|name| (name, "https://reader.example.com/0123456789")));
            let loaded = config::load_text(None, &yaml, &env, &Known::built_in());
            let errors = loaded.err().map(|errors| errors.to_string()).unwrap_or_default();
            // Files of its reader's machine are not here.
            let is_elsewhere = |line: &&str| line.contains("cannot be read: No such file");
            let wrong: Vec<&str> = errors.lines().filter(|line| !is_elsewhere(line)).collect();
            assert!(wrong.is_empty(), "{page}: {wrong:#?}\n{yaml}");
        }
        let is_policy = |lua: &&String| lua.starts_with("return {") && !lua.contains("specs =");
        for lua in blocks(&text, "lua").iter().filter(is_policy) {
            shown.1 += 1;
            load_policy(lua);
        }
    }
    assert!(shown.0 > 10 && shown.1 > 0, "{shown:?}");
}

/// As a gateway would that finds it in its folder.
fn load_policy(lua: &str) {
    use agentledger::testing::policy;
    assert_eq!(policy::check_source("readme", lua), []);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("readme.lua"), lua).unwrap();
    let loaded = policy::load_dir(
        Some(Path::new(dir.path())),
        &Default::default(),
        policy::Options::default(),
    );
    if let Err(errors) = loaded {
        panic!(
            "{}",
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        );
    }
}

/// A module's path (`proxy/reserve/place`), and the modules of the gateway that its code names.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// What the modules of a crate import of each other, tests left out. `root`: the folder of its code.
fn imports(root: &str) -> Imports {
    let mut codes = BTreeMap::new();
    for (file, text) in with_ending(".rs") {
        let Some(path) = file.strip_prefix(root) else {
            continue;
        };
        let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let name = module.rsplit('/').next().unwrap();
        let is_test = name.ends_with("tests") || module.contains("/tests/") || name.starts_with("corpus");
        if !is_test && !["lib", "main", "fixtures"].contains(&name) {
            codes.insert(module.to_owned(), code_of(&text));
        }
    }
    let modules: BTreeSet<String> = codes.keys().cloned().collect();
    let found = |module: &String, code: &String| {
        let mut named: BTreeSet<String> = paths(module, code)
            .iter()
            .filter_map(|path| owner(&modules, path))
            .collect();
        named.remove(module);
        named
    };
    codes
        .iter()
        .map(|(module, code)| (module.clone(), found(module, code)))
        .collect()
}

/// The text without comments and without its tests.
fn code_of(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

/// All paths from the crate's root that code of this module names.
fn paths(module: &str, code: &str) -> Vec<Vec<String>> {
    let parent: Vec<String> = module.split('/').map(str::to_owned).collect();
    let parent = &parent[..parent.len() - 1];
    let mut found = Vec::new();
    for (start, root) in [("crate::", &[][..]), ("super::", parent)] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':')) {
                tree(&code[at + start.len()..], root, &mut found);
            }
        }
    }
    found
}

/// Adds the paths of a use tree (`a::{b, c::d}`), or of a path in an expression. What is left of the text.
fn tree<'t>(text: &'t str, root: &[String], found: &mut Vec<Vec<String>>) -> &'t str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
            if rest.is_empty() || rest.starts_with('}') {
                return rest.get(1..).unwrap_or_default();
            }
            let left = tree(rest, root, found);
            // Not of a use: nothing was read.
            if left.len() == rest.len() {
                return left;
            }
            rest = left;
        }
    }
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    let mut path = root.to_vec();
    path.push(text[..end].to_owned());
    match text[end..].strip_prefix("::") {
        Some(rest) if end > 0 => tree(rest, &path, found),
        _ => {
            found.push(path);
            let rest = &text[end..];
            let named_anew = rest
                .strip_prefix(" as ")
                .map(|rest| rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'));
            named_anew.unwrap_or(rest)
        }
    }
}

/// The module that a path leads into: the longest one that begins it.
fn owner(modules: &BTreeSet<String>, path: &[String]) -> Option<String> {
    let begins = (1..=path.len()).rev().map(|length| path[..length].join("/"));
    begins.into_iter().find(|module| modules.contains(module))
}

/// The order that a code map names: the words of its lines `//! order: …`.
fn order(file: &str) -> Vec<String> {
    let text = read(file);
    let lines = text.lines().filter_map(|line| line.strip_prefix("//! order: "));
    let order: Vec<String> = lines.flat_map(str::split_whitespace).map(str::to_owned).collect();
    assert!(order.len() > 10, "{file} names no order");
    order
}

/// The place of a module in the order: of the longest entry that it is or lies in.
fn place(order: &[String], module: &str) -> Option<usize> {
    let holds = |entry: &String| {
        module == entry
            || module
                .strip_prefix(entry.as_str())
                .is_some_and(|rest| rest.starts_with('/'))
    };
    let fitting = order.iter().enumerate().filter(|(_, entry)| holds(entry));
    fitting.max_by_key(|(_, entry)| entry.len()).map(|(at, _)| at)
}

/// What imports something that stands later in the order, or does not stand in it at all.
fn reaching_back(imports: &Imports, order: &[String], within: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let inside = |module: &'_ String| module.strip_prefix(within).map(str::to_owned);
    for (module, named) in imports {
        let Some(name) = inside(module).filter(|name| !name.is_empty()) else {
            continue;
        };
        let Some(own) = place(order, &name) else {
            faults.push(format!("{module} has no place in the order"));
            continue;
        };
        for other in named.iter().filter_map(inside) {
            if place(order, &other).is_some_and(|at| at > own) {
                faults.push(format!("{module} imports {within}{other}, which comes later"));
            }
        }
    }
    faults
}

/// A circle of imports below `within`, if there is one.
fn circle(imports: &Imports, within: &str) -> Option<Vec<String>> {
    fn walk<'i>(
        imports: &'i Imports,
        within: &str,
        module: &'i String,
        way: &mut Vec<&'i String>,
        done: &mut BTreeSet<&'i String>,
    ) -> bool {
        if way.contains(&module) {
            way.push(module);
            return true;
        }
        if !done.insert(module) {
            return false;
        }
        way.push(module);
        let named = imports
            .get(module)
            .into_iter()
            .flatten()
            .filter(|other| other.starts_with(within));
        for other in named {
            if walk(imports, within, other, way, done) {
                return true;
            }
        }
        way.pop();
        false
    }
    let mut done = BTreeSet::new();
    imports
        .keys()
        .filter(|module| module.starts_with(within))
        .find_map(|module| {
            let mut way = Vec::new();
            walk(imports, within, module, &mut way, &mut done).then(|| way.into_iter().cloned().collect())
        })
}

#[test]
fn no_step_of_the_proxy_reaches_back() {
    let (imports, order) = (imports("gateway/src/"), order("gateway/src/proxy/mod.rs"));
    assert!(
        imports["proxy/accept"].contains("proxy/settle"),
        "the imports are not read"
    );
    none(&reaching_back(&imports, &order, "proxy/"));
    assert_eq!(circle(&imports, "proxy/"), None);
    assert_eq!(circle(&imports, "control/"), None);
}

#[test]
fn no_module_of_the_gateway_reaches_back() {
    let (imports, order) = (imports("gateway/src/"), order("gateway/src/lib.rs"));
    none(&reaching_back(&imports, &order, ""));
}

#[test]
fn no_module_of_the_ledger_reaches_back() {
    let (imports, order) = (imports("gateway/ledger/src/"), order("gateway/ledger/src/lib.rs"));
    assert!(imports["core"].contains("books"), "the imports are not read");
    none(&reaching_back(&imports, &order, ""));
}

#[test]
fn imports_are_read_from_code() {
    let code = "use crate::proxy::{decide, shared::body::{Body, Share as S}, report};\nlet x = crate::price::day(1);\nuse super::state::A;";
    let found: Vec<String> = paths("control/rpc", code).iter().map(|path| path.join("/")).collect();
    assert_eq!(
        found,
        [
            "proxy/decide",
            "proxy/shared/body/Body",
            "proxy/shared/body/Share",
            "proxy/report",
            "price/day",
            "control/state/A"
        ]
    );
}

#[test]
fn what_reaches_back_and_what_runs_in_a_circle_is_found() {
    let of = |pairs: &[(&str, &[&str])]| -> Imports {
        let named = |others: &[&str]| others.iter().map(|other| (*other).to_owned()).collect();
        pairs
            .iter()
            .map(|(module, others)| ((*module).to_owned(), named(others)))
            .collect()
    };
    let order = ["early".to_owned(), "late/part".to_owned(), "late".to_owned()];
    let imports = of(&[
        ("p/early", &["p/late"]),
        ("p/late", &["p/early"]),
        ("p/late/part", &[]),
        ("p/unknown", &[]),
    ]);
    assert_eq!(
        reaching_back(&imports, &order, "p/"),
        [
            "p/early imports p/late, which comes later",
            "p/unknown has no place in the order"
        ]
    );
    assert_eq!(circle(&imports, "p/").unwrap(), ["p/early", "p/late", "p/early"]);
    let straight = of(&[
        ("p/early", &["p/late/part"]),
        ("p/late", &["p/early"]),
        ("p/late/part", &[]),
    ]);
    assert_eq!(circle(&straight, "p/"), None);
}

#[test]
fn every_refusal_is_documented_and_every_documented_one_exists() {
    let table: Vec<String> = RefusalCode::ALL
        .iter()
        .map(|code| {
            let retry = match code.retry() {
                Retry::Never => "never",
                Retry::Later => "later",
            };
            format!(
                "| {} | `{}` | {retry} | {} |",
                code.status(),
                code.text(),
                code.meaning()
            )
        })
        .collect();
    let documented = read("gateway/assets/guide/refusals.md");
    let documented: Vec<&str> = documented
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'))
        .collect();
    assert_eq!(documented, table);
}

#[test]
fn each_reason_of_an_estimate_is_documented() {
    let code = |line: &str| Some(line.split_once("&str = \"")?.1.split_once('"')?.0.to_owned());
    let reasons = read("gateway/src/estimate_reason.rs");
    let known: std::collections::BTreeSet<String> = reasons.lines().filter_map(code).collect();
    let guide = read("gateway/assets/guide/estimates.md");
    let row = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    let documented: std::collections::BTreeSet<String> = guide.lines().filter_map(row).collect();
    assert!(known.len() > 10);
    assert_eq!(documented, known);
}

#[test]
fn the_readme_shows_each_room_of_the_proxy() {
    let readme = read("README.md");
    for entry in std::fs::read_dir(root().join("gateway/src/proxy")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name == "mod" {
            continue;
        }
        let link = if path.is_dir() {
            format!("{name}/mod.rs")
        } else {
            format!("{name}.rs")
        };
        assert!(
            readme.contains(&format!("(gateway/src/proxy/{link})")),
            "README.md does not show {link}"
        );
    }
}
