//! What authors are given: the examples, the guide, the definitions for editors. They hold what the code does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::policy::check::check;
use crate::policy::coverage::Covered;
use crate::policy::trial::Trial;
use crate::policy::{Phase, builtin_sources, fields, folder, spec};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// All specs of a folder pass; what they reach.
fn tested(dir: &str) -> Vec<Covered> {
    let dir = root().join(dir);
    let tested = spec::test_folder(&dir, true).unwrap_or_else(|errors| panic!("{errors:?}"));
    let wrong = tested.outcomes.iter().filter(|outcome| outcome.fault.is_some());
    let wrong: Vec<String> = wrong.map(|outcome| format!("{outcome:?}")).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    tested.covered
}

const EXAMPLES: [&str; 10] = [
    "night-hours",
    "team-models",
    "run-budget",
    "near-limit",
    "weekend-caps",
    "canary",
    "key-tags",
    "break-loop",
    "top-up",
    "burn-alert",
];

#[test]
fn each_example_is_short_sound_and_reached_whole_by_its_specs() {
    let mut names: Vec<String> = Vec::new();
    let all = tested("examples/policies");
    let thin: Vec<&Covered> = all.iter().filter(|covered| covered.percent() < 100).collect();
    assert!(thin.is_empty(), "{thin:#?}");
    for covered in all {
        names.push(
            Path::new(&covered.file)
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned(),
        );
    }
    let mut expected = EXAMPLES.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(names, expected);
    for source in folder::sources(Some(&root().join("examples/policies"))).unwrap() {
        assert_eq!(check(&source, None), [], "{}", source.origin);
        let is_example = EXAMPLES.contains(&source.name.as_str());
        assert!(
            !is_example || source.text.lines().count() <= 30,
            "{} is long",
            source.name
        );
    }
}

/// Everything has cost so many dollars this month.
struct ThisMonth(i64);

impl Balances for ThisMonth {
    fn read(&self, accounts: &[Name], _: &Zone) -> Vec<AccountBalances> {
        let posted = Amounts::of_request(Usd::from_nanos(self.0 * 1_000_000_000), 0);
        vec![AccountBalances::default().with_posted(Window::Month, posted); accounts.len()]
    }
}

#[test]
fn the_alert_on_burn_is_one_a_day() {
    let mut bed = Bed::new(set(vec![source(
        "burn-alert",
        &read("examples/policies/burn-alert.lua"),
    )]));
    bed.balances = Arc::new(ThisMonth(600));
    // 2026-03-11T12:00:00Z
    let call = Call {
        at_ms: 1_773_230_400_000,
        ..Call::default()
    };
    let alerts = bed.ask(&call).unwrap().alerts;
    let said: Vec<(&str, Option<Duration>)> = alerts.iter().map(|alert| (&*alert.about, alert.cooldown)).collect();
    assert_eq!(said, [("2026-3-11", Some(Duration::from_secs(24 * 3_600)))]);
}

#[test]
fn the_specs_of_the_shipped_policies_reach_each_line() {
    let covered = tested("policies");
    assert_eq!(covered.len(), builtin_sources().len());
    for source in builtin_sources() {
        assert_eq!(check(&source, None), [], "{}", source.origin);
    }
    let thin = covered
        .iter()
        .filter(|covered| !covered.lines_missed.is_empty() || covered.percent() < 90);
    let thin: Vec<String> = thin.map(|covered| format!("{covered:?}")).collect();
    assert!(thin.is_empty(), "\n{}", thin.join("\n"));
}

#[test]
fn the_guide_shows_the_examples_as_they_are() {
    let examples = read("gateway/assets/guide/policy-examples.md");
    for name in EXAMPLES {
        let shown = format!(
            "`examples/policies/{name}.lua`\n\n```lua\n{}```\n",
            read(&format!("examples/policies/{name}.lua"))
        );
        assert!(examples.contains(&shown), "the guide does not show {name} as it is");
    }
    let guide = read("gateway/assets/guide/policies.md");
    let codes = read("gateway/src/policy/check.rs");
    let listed = codes
        .split_once("A stable word: ")
        .unwrap()
        .1
        .split_once("pub code")
        .unwrap()
        .0;
    for code in listed.split('`').skip(1).step_by(2) {
        assert!(
            guide.contains(&format!("`{code}`")),
            "the guide does not have the code {code}"
        );
    }
}

/// The names that stand before a colon in `{ name: type, … }`, whatever stands within the types.
fn names_in(fields: &str) -> BTreeSet<String> {
    let code: Vec<&str> = fields.lines().filter(|line| !line.trim().starts_with("--")).collect();
    let fields = &code.join("\n");
    let (mut names, mut depth, mut from) = (BTreeSet::new(), 0i32, 0);
    let mut take = |part: &str| {
        if let Some((name, _)) = part.split_once(':') {
            names.insert(name.trim().to_owned());
        }
    };
    for (at, letter) in fields.char_indices() {
        match letter {
            '{' | '(' => depth += 1,
            '}' | ')' => depth -= 1,
            ',' if depth == 0 => {
                take(&fields[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    take(&fields[from..]);
    names
}

/// What follows `opening` up to the brace that closes the one before.
fn within<'t>(text: &'t str, opening: &str) -> &'t str {
    let after = text.split_once(opening).unwrap_or_else(|| panic!("no {opening}")).1;
    let mut depth = 1;
    let end = after.char_indices().find(|(_, letter)| {
        depth += match letter {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        depth == 0
    });
    &after[..end.unwrap().0]
}

#[test]
fn the_definitions_have_each_fact_and_no_other() {
    let definitions = read("sdk/lua/agentledger.d.luau");
    for (class, thing) in [
        ("Call", "call"),
        ("Key", "call.key"),
        ("At", "at"),
        ("Estimate", "call.estimate"),
        ("History", "call.history"),
        ("Entry", "entry"),
    ] {
        let (_, body) = definitions.split_once(&format!("declare class {class}\n")).unwrap();
        let body = body.split_once("\nend\n").unwrap().0;
        let lines = body.lines().map(str::trim).filter(|line| !line.starts_with("--"));
        let name = |line: &str| {
            let line = line.strip_prefix("function ").unwrap_or(line);
            line.split([':', '(']).next().unwrap().to_owned()
        };
        let declared: BTreeSet<String> = lines.map(name).collect();
        let known: BTreeSet<String> = fields::of(thing).into_iter().map(str::to_owned).collect();
        assert_eq!(declared, known, "{class}");
    }
}

#[test]
fn the_definitions_have_each_intent_with_its_fields_and_each_helper() {
    let definitions = read("sdk/lua/agentledger.d.luau");
    let trial = Trial::new().unwrap();
    for (intent, known) in trial.intents() {
        let known: BTreeSet<String> = known.iter().cloned().collect();
        let declared = if known.is_empty() {
            assert!(
                definitions.contains(&format!("declare function {intent}(): Intent")),
                "{intent}"
            );
            BTreeSet::new()
        } else {
            names_in(within(&definitions, &format!("declare function {intent}(fields: {{")))
        };
        assert_eq!(declared, known, "{intent}");
    }
    // What the sandbox has beyond Luau's own, and what spec files have beyond that.
    let declared: BTreeSet<&str> = definitions
        .lines()
        .filter_map(|line| line.strip_prefix("declare function ")?.split(['(', '<']).next())
        .collect();
    let plain = mlua::Lua::new();
    let own = |name: &&str| !plain.globals().contains_key(*name).unwrap();
    let mut known: BTreeSet<&str> = crate::policy::lint::Sandbox::globals(&trial)
        .into_iter()
        .filter(own)
        .collect();
    let helpers = include_str!("../spec/helpers.luau");
    known.extend(
        helpers
            .lines()
            .filter_map(|line| line.strip_prefix("function helpers.")?.split('(').next()),
    );
    assert_eq!(declared, known);
}

#[test]
fn the_definitions_have_each_phase_and_each_type_of_a_conf() {
    let definitions = read("sdk/lua/agentledger.d.luau");
    let policy = names_in(within(&definitions, "export type Policy = {"));
    let file = include_str!("../file.rs");
    let top = file
        .split_once("const TOP_FIELDS")
        .unwrap()
        .1
        .split_once("];")
        .unwrap()
        .0;
    let top: BTreeSet<String> = top.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(policy, top);
    assert!(Phase::ALL.iter().all(|phase| policy.contains(phase.name())));
    let field = within(&definitions, "export type Field = {");
    let kinds: BTreeSet<String> = field
        .split_once("\ttype:")
        .unwrap()
        .1
        .split_once(",\n\tdefault")
        .unwrap()
        .0
        .split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    let schema = include_str!("../schema.rs");
    let known = schema.split_once("enum Kind {").unwrap().1.split_once('}').unwrap().0;
    let known: BTreeSet<String> = known
        .split(',')
        .map(|kind| kind.trim().to_lowercase())
        .filter(|kind| !kind.is_empty())
        .collect();
    assert_eq!(kinds, known);
    let of_spec = names_in(within(&definitions, "export type Spec = {"));
    let code = include_str!("../spec/mod.rs");
    let known = code.split_once("struct Spec {").unwrap().1.split_once("\n}").unwrap().0;
    let known = known
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['/', '#']) && !line.is_empty());
    let known: BTreeMap<String, ()> = known
        .map(|line| (line.split(':').next().unwrap().to_owned(), ()))
        .collect();
    assert_eq!(of_spec, known.into_keys().collect());
}
