//! Versions in a set: in the place of a file, and beside it.

use super::*;

fn tally() -> Arc<Tally> {
    let clock = Arc::new(agentledger_ledger::ManualClock::new(0));
    Arc::new(Tally::new(None, Arc::new(|| ()), clock))
}

fn version(name: &str, request: &str) -> Version {
    Version {
        source: policy(name, request),
        shadow_only: false,
        tally: tally(),
    }
}

fn header_of(bed: &Bed) -> Vec<(String, String)> {
    bed.ask(&Call::default()).unwrap().headers
}

#[test]
fn a_version_stands_in_the_place_of_the_file_which_comes_back_without_it() {
    let files = set(vec![policy("p", "return header{ name = 'x-a', value = 'file' }")]);
    let stored = version("p", "return header{ name = 'x-a', value = 'stored' }");
    let hash = source_hash(&stored.source.text);
    let with = files.with_in_force("p", &files, Some(stored), &Value::Null).unwrap();
    assert_eq!(with.policy("p").unwrap().hash, hash);
    assert_eq!(with.source(&hash).unwrap().name, "p");
    assert_eq!(with.versions()[0].source_hash, hash);
    let value = |set: &PolicySet| header_of(&Bed::new(set.clone()))[0].1.clone();
    assert_eq!((value(&files), value(&with)), ("file".to_owned(), "stored".to_owned()));
    let without = with.with_in_force("p", &files, None, &Value::Null).unwrap();
    assert_eq!(value(&without), "file");
    // One that only the store has is nowhere without it.
    let alone = version("q", "");
    let with = files.with_in_force("q", &files, Some(alone), &Value::Null).unwrap();
    assert!(with.policy("q").is_some());
    assert!(
        with.with_in_force("q", &files, None, &Value::Null)
            .unwrap()
            .policy("q")
            .is_none()
    );
    // The name that it is kept by is the one that it says.
    let errors = files
        .with_in_force("r", &files, Some(version("p", "")), &Value::Null)
        .err()
        .unwrap();
    assert!(errors[0].message.contains("is kept as one of"), "{errors:?}");
}

#[test]
fn a_candidate_is_asked_beside_the_policy_counted_and_binds_nobody() {
    let files = set(vec![policy("p", "return deny{ code = 'closed' }")]);
    let candidate = version(
        "p",
        "return { deny{ code = 'other' }, header{ name = 'x-a', value = '1' } }",
    );
    let (counts, hash) = (Arc::clone(&candidate.tally), source_hash(&candidate.source.text));
    let with = files.with_candidate("p", Some(candidate), &Value::Null).unwrap();
    let bed = Bed::new(with.clone());
    let verdict = bed.ask(&Call::default()).unwrap();
    // It is asked though the policy denies, and says what it would have done.
    assert_eq!(verdict.deny.unwrap().code, "closed");
    assert_eq!(verdict.shadow[0].verdict.deny.as_ref().unwrap().code, "other");
    let label = format!("p@1+{}", &hash[..8]);
    assert_eq!(&*verdict.shadow[0].policy, label.as_str());
    let expected = TallyCounts {
        calls: 1,
        denials: 1,
        failures: 0,
    };
    assert_eq!(counts.counts(), expected);
    // What decides is told without it, and a made-up call is none of its.
    assert_eq!((with.versions().len(), with.policies().count()), (1, 1));
    assert_eq!(with.candidate("p").unwrap().hash, hash);
    with.probe("p", 0).unwrap();
    assert_eq!(counts.counts(), expected);
    assert!(with.names().iter().any(|name| **name == format!("~{label}")));
    let without = with.with_candidate("p", None, &Value::Null).unwrap();
    assert!(without.candidate("p").is_none() && without.policy("p").is_some());
}

#[test]
fn what_fails_in_shadow_keeps_nobody_from_being_asked() {
    for body in ["error('boom')", "while true do end"] {
        let files = set(vec![policy("a", ""), policy("z", "return deny{ code = 'closed' }")]);
        let candidate = version("a", body);
        let counts = Arc::clone(&candidate.tally);
        let with = files.with_candidate("a", Some(candidate), &Value::Null).unwrap();
        let bed = Bed::new(with);
        for asked in 1..=2 {
            let verdict = bed.ask(&Call::default()).unwrap();
            assert_eq!(verdict.deny.unwrap().code, "closed", "{body}");
            let counts = counts.counts();
            assert_eq!((counts.calls, counts.failures), (asked, asked), "{body}");
        }
        assert_eq!(bed.counts.total(), 2);
    }
}

#[test]
fn a_candidate_that_does_not_take_a_new_conf_keeps_nobody_from_it() {
    let text = |schema: &str| {
        format!("return {{ name = 'p', version = '1', schema = {{ {schema} }}, request = function() end }}")
    };
    let wide = "most = { type = 'integer' }, extra = { type = 'integer' }";
    let files = set(vec![source("p", &text(wide))]);
    let candidate = Version {
        source: source("p", &text("most = { type = 'integer' }")),
        shadow_only: false,
        tally: tally(),
    };
    let conf = json!({"most": 5});
    let with = files.with_candidate("p", Some(candidate), &conf).unwrap();
    let confs = |conf: Value| BTreeMap::from([("p".to_owned(), conf)]);
    let fits = with.with_confs(&confs(json!({"most": 6}))).unwrap();
    assert_eq!(fits.candidate("p").unwrap().conf["most"], 6);
    let without = with.with_confs(&confs(json!({"extra": 6}))).unwrap();
    assert!(without.candidate("p").is_none());
    assert_eq!(without.policy("p").unwrap().conf["extra"], 6);
}

#[test]
fn a_version_that_enforces_nothing_does_so_whatever_its_conf_says() {
    let files = set(Vec::new());
    let stored = Version {
        shadow_only: true,
        ..version("p", "return deny{}")
    };
    let with = files
        .with_in_force("p", &files, Some(stored), &json!({"mode": "enforce"}))
        .unwrap();
    assert_eq!(with.policy("p").unwrap().mode, PolicyMode::Shadow);
    let confs = BTreeMap::from([("p".to_owned(), json!({"mode": "enforce"}))]);
    let again = with.with_confs(&confs).unwrap();
    assert_eq!(again.policy("p").unwrap().mode, PolicyMode::Shadow);
    let off = BTreeMap::from([("p".to_owned(), json!({"mode": "off"}))]);
    assert_eq!(
        again.with_confs(&off).unwrap().policy("p").unwrap().mode,
        PolicyMode::Off
    );
}

#[test]
fn specs_of_a_text_are_run_and_one_after_the_time_is_over_fails_by_name() {
    let stored = policy("p", "if call.agent == 'x' then while true do end end");
    let specs = "return { policy = 'p', specs = {
        { name = 'says nothing', call = {}, expect = {} },
        { name = 'ends', call = { agent = 'x' }, expect = {} },
        { name = 'comes after', call = {}, expect = {} },
    } }";
    let faults = |within: Duration| -> Vec<Option<String>> {
        let outcomes = spec::test_text(&stored, specs, within).unwrap();
        outcomes.into_iter().map(|outcome| outcome.fault).collect()
    };
    let all = faults(Duration::from_secs(60));
    assert!(
        all[0].is_none() && all[1].as_ref().unwrap().contains("deadline") && all[2].is_none(),
        "{all:?}"
    );
    let none = faults(Duration::ZERO);
    assert!(none[2].as_ref().unwrap().contains("it was not run"), "{none:?}");
    assert!(spec::check_text("q", specs).unwrap_err().contains("\"p\""));
    assert!(spec::check_text("p", "while true do end").is_err());
}
