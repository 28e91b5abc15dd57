//! `budget.lua`, driven by the contract's `budgets` section.
use serde_json::{Map, json};

use super::*;
use crate::config::{BudgetRule, Budgets};

fn rule(pattern: &str, tenant: &str, daily: i64, monthly: i64, soft: u32, action: &str) -> BudgetRule {
    let limit = |usd: i64| (usd >= 0).then(|| Usd::from_nanos(usd * 1_000_000_000));
    BudgetRule {
        api_key_pattern: pattern.to_owned(),
        tenant_id: tenant.to_owned(),
        daily_limit: limit(daily),
        monthly_limit: limit(monthly),
        soft_limit_ppm: soft,
        action: action.to_owned(),
    }
}

/// The conf of `budget.lua` from the contract's `budgets` section. Money is decimal text.
fn budgets_conf(budgets: &Budgets) -> Value {
    let mut conf = Map::new();
    if let Some(rule) = &budgets.default {
        conf.insert("default".to_owned(), rule_conf(rule, false));
    }
    if let Some(rule) = &budgets.global {
        conf.insert("global".to_owned(), rule_conf(rule, false));
    }
    if !budgets.rules.is_empty() {
        conf.insert(
            "rules".to_owned(),
            budgets.rules.iter().map(|rule| rule_conf(rule, true)).collect(),
        );
    }
    Value::Object(conf)
}

fn rule_conf(rule: &BudgetRule, named: bool) -> Value {
    let mut conf = Map::new();
    if named {
        conf.insert("api_key_pattern".to_owned(), json!(rule.api_key_pattern));
        conf.insert("tenant_id".to_owned(), json!(rule.tenant_id));
    }
    for (key, limit) in [
        ("daily_limit_usd", rule.daily_limit),
        ("monthly_limit_usd", rule.monthly_limit),
    ] {
        if let Some(limit) = limit {
            conf.insert(key.to_owned(), json!(limit.to_string()));
        }
    }
    conf.insert("soft_limit_pct".to_owned(), json!(f64::from(rule.soft_limit_ppm) / 1e6));
    conf.insert("action".to_owned(), json!(rule.action));
    Value::Object(conf)
}

fn bed(budgets: &Budgets) -> Bed {
    Bed::new(set_with(builtin_sources(), "budget", budgets_conf(budgets)).unwrap_or_else(|wrong| panic!("{wrong:?}")))
}

/// `account window limit mode soft`, in USD.
fn requested(bed: &Bed, call: &Call) -> Vec<String> {
    let bounds = bed.ask(call).unwrap().bounds;
    let text = |requested: &RequestedBound| {
        let bound = &requested.bound;
        assert!(bound.zone().is_utc() && bound.unit() == Unit::Usd && &*requested.policy == "budget@2");
        let mode = if bound.mode() == Mode::Hard { "hard" } else { "watch" };
        let usd = Usd::from_nanos(bound.limit().count());
        format!(
            "{} {} {usd} {mode} {}",
            bound.account(),
            bound.window().name(),
            requested.soft.as_slice().first().copied().unwrap_or_default()
        )
    };
    bounds.iter().map(text).collect()
}

#[test]
fn without_limits_the_policy_sleeps() {
    for budgets in [
        Budgets::default(),
        Budgets {
            default: Some(rule("", "", 0, -1, 0, "block")),
            ..Budgets::default()
        },
    ] {
        let bed = bed(&budgets);
        assert!(!bed.set.load().has(Phase::Request));
        assert!(bed.ask(&Call::default()).unwrap().is_empty());
    }
}

#[test]
fn the_default_holds_per_key_and_rules_fill_in_from_it() {
    let bed = bed(&Budgets {
        default: Some(rule("", "", 50, 500, 800_000, "block")),
        rules: vec![
            rule("sk-dev-*", "", 5, 0, 0, ""),
            rule("sk-*", "", 0, 90, 500_000, "warn"),
            rule("sk-dev-1", "", 1, 1, 0, ""),
        ],
        global: None,
    });
    assert_eq!(
        requested(&bed, &Call::with_key("other")),
        ["key:f1 day 50 hard 800000", "key:f1 month 500 hard 800000"]
    );
    assert_eq!(
        requested(&bed, &Call::default()),
        ["key:f1 day 5 hard 800000", "key:f1 month 500 hard 800000"]
    );
    assert_eq!(
        requested(&bed, &Call::with_key("sk-x")),
        ["key:f1 day 50 watch 500000", "key:f1 month 90 watch 500000"]
    );
}

#[test]
fn defects_e_and_f_tenant_rules_are_no_key_rules_and_inherit_no_limits() {
    let bed = bed(&Budgets {
        default: Some(rule("", "", 50, -1, 0, "block")),
        rules: vec![
            rule("", "acme", -1, 100, 0, ""),
            rule("", "acme", 1, 1, 0, "block"),
            rule("", "beta", 7, -1, 0, "warn"),
        ],
        global: None,
    });
    let keyless = Call {
        fingerprint: String::new(),
        ..Call::with_key("")
    };
    assert_eq!(requested(&bed, &keyless), ["key: day 50 hard 0"]);
    assert_eq!(
        requested(&bed, &Call::default().for_tenant("acme")),
        ["key:f1 day 50 hard 0", "tenant:acme month 100 hard 0"]
    );
    assert_eq!(
        requested(&bed, &Call::default().for_tenant("beta")),
        ["key:f1 day 50 hard 0", "tenant:beta day 7 watch 0"]
    );
    assert_eq!(
        requested(&bed, &Call::default().for_tenant("gamma")),
        ["key:f1 day 50 hard 0"]
    );
}

#[test]
fn anything_but_block_warns_and_global_holds_for_all() {
    let bed = bed(&Budgets {
        default: Some(rule("", "", 50, -1, 0, "Block")),
        rules: vec![],
        global: Some(rule("", "", -1, 1_000, 0, "block")),
    });
    assert_eq!(
        requested(&bed, &Call::default()),
        ["key:f1 day 50 watch 0", "global month 1000 hard 0"]
    );
}

#[test]
fn odd_limits_are_refused_before_they_are_in_force() {
    let conf =
        json!({"default": {"daily_limit_usd": -5}, "rules": [{"api_key_pattern": "[x", "daily_limit_usd": "many"}]});
    let errors = set_with(builtin_sources(), "budget", conf).err().unwrap();
    let all = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for expected in [
        "conf.default.daily_limit_usd is negative",
        "conf.rules[1].api_key_pattern",
        "conf.rules[1].daily_limit_usd",
    ] {
        assert!(all.contains(expected), "{expected} in\n{all}");
    }
}

#[test]
fn a_conf_without_its_policy_is_an_error() {
    let section = Budgets {
        default: Some(rule("", "", 5, -1, 0, "block")),
        ..Budgets::default()
    };
    // Budgets must not vanish unseen where a file named budget.lua calls itself otherwise.
    let errors = set_with(vec![policy("other", "")], "budget", budgets_conf(&section))
        .err()
        .unwrap();
    assert!(errors[0].message.contains("no policy named \"budget\""));
}

#[test]
fn the_contracts_yaml_unchanged_drives_it() {
    use crate::config::{self, Env, Known};
    let yaml = "
budgets:
  default: {daily_limit_usd: 50.0, monthly_limit_usd: 500.0, soft_limit_pct: 0.8, action: block}
  rules:
    - {api_key_pattern: 'sk-proj-dev-*', daily_limit_usd: 5, action: warn}
    - {tenant_id: acme, monthly_limit_usd: '1000'}
";
    let config = match config::load_text(None, yaml, &Env::default(), &Known::built_in()) {
        Ok(config) => config,
        Err(wrong) => panic!("{wrong}"),
    };
    let conf = config.policies.conf["budget"].clone();
    let set = set_with(builtin_sources(), "budget", conf.clone()).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    let twin = set_with(builtin_sources(), "budget", conf).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    let other = set_with(builtin_sources(), "budget", json!({})).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    assert!(set.digest() == twin.digest() && set.digest() != other.digest());
    let bed = Bed::new(set);
    assert_eq!(
        requested(&bed, &Call::with_key("sk-proj-dev-9").for_tenant("acme")),
        [
            "key:f1 day 5 watch 800000",
            "key:f1 month 500 watch 800000",
            "tenant:acme month 1000 hard 800000"
        ]
    );
}

fn many(rules: usize) -> Bed {
    bed(&Budgets {
        default: Some(rule("", "", 50, 500, 800_000, "block")),
        rules: (0..rules)
            .map(|at| rule(&format!("sk-team-{at:05}-*"), "", 5, 60, 0, "block"))
            .collect(),
        global: None,
    })
}

#[test]
fn ten_thousand_rules_find_the_right_one() {
    let bed = many(10_000);
    assert_eq!(
        requested(&bed, &Call::with_key("sk-team-09999-abc"))[0],
        "key:f1 day 5 hard 800000"
    );
    assert_eq!(
        requested(&bed, &Call::with_key("sk-team-10000-abc"))[0],
        "key:f1 day 50 hard 800000"
    );
}
