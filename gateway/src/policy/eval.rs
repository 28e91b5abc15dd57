//! One policy asked about one call, without a gateway: the verdict in words and as JSON, and which facts were assumed.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentledger_ledger::{Limit, Mode, Name, Unit, Usd, Window};
use serde_json::{Map, Value, json};

use super::balances::Balances;
use super::engine::{Engine, FailureCounts};
use super::lint::meant;
use super::set::{Options, PolicySet, Source};
use super::spec::given::{CallSpec, Given, ask_call};
use super::verdict::{Binding, Read, RequestedBound, Verdict, When};

/// What the policy is asked.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Facts of the call, by their names in a spec.
    pub call: Value,
    pub conf: Option<Value>,
    /// `ACCOUNT:WINDOW=AMOUNT` or `ACCOUNT:WINDOW:UNIT=AMOUNT`; an account by its kind alone is the call's own.
    pub spent: Vec<String>,
    /// `ACCOUNT=AMOUNT` or `ACCOUNT:UNIT=AMOUNT`.
    pub held: Vec<String>,
}

/// What it answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// The verdict in words, as specs expect it.
    pub words: Vec<String>,
    /// Facts that the question did not give, as they were assumed.
    pub assumed: Map<String, Value>,
    /// The verdict with all its parts, what was read of balances among them.
    pub verdict: Value,
}

/// # Errors
/// The question makes no sense, or the policy fails: as a text for people.
pub fn evaluate(source: &Source, question: &Question) -> Result<Evaluated, String> {
    let (call, assumed) = call_of(&question.call)?;
    let facts = serde_json::to_value(&call).map_err(|error| error.to_string())?;
    let mut given = Given {
        spent: BTreeMap::new(),
        held: BTreeMap::new(),
    };
    for said in &question.spent {
        let (what, amount) = balance(said, true, &facts)?;
        given.spent.insert(what, amount);
    }
    for said in &question.held {
        let (what, amount) = balance(said, false, &facts)?;
        given.held.insert(what, amount);
    }
    let conf = question.conf.clone().unwrap_or(Value::Null);
    let all = |errors: Vec<super::PolicyError>| {
        let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        all.join("\n")
    };
    // The conf goes by the name that the policy gives itself, which its file may not bear.
    let name = PolicySet::name_in(source).map_err(all)?;
    let confs = BTreeMap::from([(name, conf)]);
    let set = PolicySet::load(vec![source.clone()], &confs, Options::default()).map_err(all)?;
    let engine = Engine::new(Arc::new(FailureCounts::default()));
    let balances: Arc<dyn Balances> = Arc::new(given);
    let [bound, requested] = ask_call(&engine, &set, call, &balances)??;
    let mut words = bound.lines();
    words.extend(requested.lines());
    Ok(Evaluated {
        words,
        assumed,
        verdict: verdict(&bound, &requested),
    })
}

/// The call, and the facts that it was not given.
fn call_of(given: &Value) -> Result<(CallSpec, Map<String, Value>), String> {
    let usual = serde_json::to_value(CallSpec::default()).map_err(|error| error.to_string())?;
    let (Value::Object(given), Value::Object(mut usual)) = (given, usual) else {
        return Err("the call must be an object: {\"agent\": \"coder\"}".to_owned());
    };
    if let Some(name) = given.keys().find(|name| !usual.contains_key(*name)) {
        let meant = meant(usual.keys().map(String::as_str), name);
        return Err(format!("a call has no fact {name:?}{meant}"));
    }
    let call = serde_json::from_value(Value::Object(given.clone())).map_err(|error| format!("the call: {error}"))?;
    usual.retain(|name, value| !given.contains_key(name) && !value.is_null());
    usual.retain(|_, value| *value != json!([]) && *value != json!({}) && *value != json!(""));
    Ok((call, usual))
}

/// What `--spent` and `--held` say, as a spec names it.
fn balance(said: &str, in_window: bool, call: &Value) -> Result<(String, f64), String> {
    let form = if in_window {
        "ACCOUNT:WINDOW=5.00"
    } else {
        "ACCOUNT=5.00"
    };
    let wrong = |why: &str| format!("{said:?} {why}: write {form}");
    // A tag's account has a sign of its own: `tag:team=ml:day=5`.
    let (what, amount) = said.rsplit_once('=').ok_or_else(|| wrong("has no amount"))?;
    let amount: f64 = amount.parse().map_err(|_| wrong("has no number behind ="))?;
    let (what, unit) = match what.rsplit_once(':') {
        Some((before, last)) if Unit::from_name(last).is_some() => (before, format!(" {last}")),
        _ => (what, String::new()),
    };
    if !in_window {
        return Ok((format!("{}{unit}", account(what, call)), amount));
    }
    let (of, window) = what.rsplit_once(':').ok_or_else(|| wrong("names no window"))?;
    if Window::from_name(window).is_none() {
        return Err(wrong("names no window (minute, hour, day, week, month, total)"));
    }
    Ok((format!("{} {window}{unit}", account(of, call)), amount))
}

/// The call's own account, where one is named by its kind alone.
fn account(said: &str, call: &Value) -> String {
    let fact = |name: &str| call.get(name).and_then(Value::as_str).unwrap_or_default();
    match said.split_once(':') {
        Some(("tag", name)) if !name.contains('=') => {
            let value = call.get("tags").and_then(|tags| tags.get(name)?.as_str());
            format!("tag:{name}={}", value.unwrap_or_default())
        }
        None if said == "key" => format!("key:{}", fact("fingerprint")),
        None if said != "global" => format!("{said}:{}", fact(said)),
        _ => said.to_owned(),
    }
}

/// Both phases' verdicts in one.
fn verdict(bound: &Verdict, requested: &Verdict) -> Value {
    let deny = bound.deny.as_ref().or(requested.deny.as_ref());
    let deny = deny.map(|deny| {
        json!({"status": deny.status, "code": deny.code, "message": deny.message,
            "retry_after": deny.retry_after, "policy": &*deny.policy})
    });
    let rates = requested.rates.iter().map(|rate| {
        let rate = &rate.requested;
        json!({"account": &*rate.account, "limit": rate.limit, "unit": rate.unit.name(), "per": rate.per.name()})
    });
    let parallel = requested.parallel.iter();
    let parallel = parallel.map(|limit| json!({"account": &*limit.requested.account, "limit": limit.requested.limit}));
    let routes = requested.routes.iter().map(|route| {
        let when = match route.requested.when {
            When::Always => "always",
            When::OverBudget => "over_budget",
        };
        json!({"alternatives": names(&route.requested.alternatives), "when": when})
    });
    let alerts = bound.alerts.iter().chain(&requested.alerts).map(|alert| {
        let details: Map<String, Value> = alert
            .details
            .iter()
            .map(|(name, of)| (name.clone(), json!(of)))
            .collect();
        json!({"type": alert.kind, "severity": alert.severity.name(), "message": alert.message,
            "details": details, "about": alert.about})
    });
    let shadow = bound.shadow.iter().chain(&requested.shadow);
    let shadow = shadow.map(|shadow| json!({"policy": &*shadow.policy, "words": shadow.verdict.lines()}));
    let tags = bound.tags.iter().chain(&requested.tags);
    let tags: Map<String, Value> = tags.map(|(name, value)| (name.to_string(), json!(&**value))).collect();
    let headers = requested.headers.iter();
    let headers: Map<String, Value> = headers.map(|(name, value)| (name.clone(), json!(value))).collect();
    // The words that have no parts of their own.
    let unpriced = requested
        .lines()
        .into_iter()
        .find_map(|line| line.strip_prefix("unpriced ").map(str::to_owned));
    json!({
        "deny": deny,
        "bind": binding(&bound.binding),
        "bounds": requested.bounds.iter().map(one_bound).collect::<Vec<_>>(),
        "rates": rates.collect::<Vec<_>>(),
        "parallel": parallel.collect::<Vec<_>>(),
        "clamp": requested.clamp,
        "routes": routes.collect::<Vec<_>>(),
        "delay_s": requested.delay.as_secs_f64(),
        "unpriced": unpriced,
        "tags": tags,
        "headers": headers,
        "alerts": alerts.collect::<Vec<_>>(),
        "shadow": shadow.collect::<Vec<_>>(),
        "reads": bound.reads.balances.iter().chain(&requested.reads.balances).map(read).collect::<Vec<_>>(),
    })
}

fn names(of: &[Name]) -> Vec<&str> {
    of.iter().map(|name| &**name).collect()
}

fn binding(of: &Binding) -> Value {
    let named = [
        ("tenant", of.tenant.as_deref()),
        ("zone", of.zone.as_ref().map(|zone| &**zone.name())),
        ("agent", of.agent.as_deref()),
        ("session", of.session.as_deref()),
        ("user", of.user.as_deref()),
        ("task", of.task.as_deref()),
    ];
    let named = named
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
    Value::Object(named.collect())
}

/// Amounts of USD are decimal text, as everywhere.
fn amount(unit: Unit, count: i64) -> Value {
    match unit {
        Unit::Usd => json!(Usd::from_nanos(count).to_string()),
        Unit::Tokens | Unit::Requests => json!(count),
    }
}

fn one_bound(requested: &RequestedBound) -> Value {
    let bound = &requested.bound;
    let limit: Limit = bound.limit();
    let action = match (bound.mode(), requested.clamps) {
        (Mode::Hard, true) => "clamp",
        (Mode::Hard, false) => "block",
        (Mode::Watch, _) => "warn",
    };
    let soft = requested.soft.as_slice().iter().map(|ppm| f64::from(*ppm) / 1e6);
    json!({"account": &**bound.account(), "window": bound.window().name(), "limit": amount(limit.unit(), limit.count()),
        "unit": bound.unit().name(), "action": action, "soft": soft.collect::<Vec<_>>(), "zone": &**bound.zone().name()})
}

fn read(read: &Read) -> Value {
    json!({"account": &*read.account, "window": read.window.map(Window::name), "unit": read.unit.name(),
        "value": amount(read.unit, read.value)})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn source(text: &str) -> Source {
        Source {
            name: "file".to_owned(),
            text: text.to_owned(),
            origin: "file.lua".to_owned(),
        }
    }

    const POLICY: &str = "return { name = 'near', version = '1', schema = { share = { type = 'number', default = 0.5 } },\n\
        request = function(conf, call)\n\
        if spent('agent', 'day') > 10 * conf.share then return { route({ alternatives = { 'gpt-4o-mini' } }),\n\
        budget({ account = 'agent', window = 'day', limit = 10, soft = 0.8 }), tag({ name = 'near', value = 'yes' }) } end\n\
        if call.model == 'no' then return deny({ message = 'no' }) end end }";

    fn asked(call: Value, conf: Option<Value>, spent: &[&str]) -> Result<Evaluated, String> {
        let question = Question {
            call,
            conf,
            spent: spent.iter().map(|said| (*said).to_owned()).collect(),
            held: Vec::new(),
        };
        evaluate(&source(POLICY), &question)
    }

    #[test]
    fn one_call_gets_its_verdict_and_says_what_was_assumed_and_read() {
        let quiet = asked(json!({"agent": "coder"}), None, &["agent:day=5.00"]).unwrap();
        assert_eq!(quiet.words, Vec::<String>::new());
        assert_eq!(quiet.assumed["model"], "gpt-4o");
        assert_eq!(quiet.assumed["at"], "2026-03-01T12:00:00Z");
        assert!(!quiet.assumed.contains_key("agent"));
        assert_eq!(
            quiet.verdict["reads"],
            json!([{"account": "agent:coder", "window": "day", "unit": "usd", "value": "5"}])
        );
        let near = asked(json!({"agent": "coder"}), None, &["agent:coder:day=5.01"]).unwrap();
        let expected = [
            "budget agent:coder day 10 usd block soft 0.8",
            "route always gpt-4o-mini",
            "tag near=yes",
        ];
        assert_eq!(near.words, expected);
        assert_eq!(
            near.verdict["routes"],
            json!([{"alternatives": ["gpt-4o-mini"], "when": "always"}])
        );
        assert_eq!(near.verdict["bounds"][0]["limit"], "10");
        let later = asked(
            json!({"agent": "coder"}),
            Some(json!({"share": 0.9})),
            &["agent:day=5.01"],
        )
        .unwrap();
        assert_eq!(later.words, Vec::<String>::new());
        let denied = asked(json!({"model": "no"}), None, &[]).unwrap();
        assert_eq!(denied.verdict["deny"]["status"], 403);
    }

    #[test]
    fn a_question_that_makes_no_sense_is_refused() {
        for (call, conf, spent, said) in [
            (
                json!({"agnet": "x"}),
                None,
                "",
                "a call has no fact \"agnet\"; did you mean agent?",
            ),
            (json!([]), None, "", "must be an object"),
            (json!({"stream": "yes"}), None, "", "the call: invalid type"),
            (json!({"at": "noon"}), None, "", "call.at \"noon\" is no moment"),
            (
                json!({}),
                Some(json!({"shrae": 1})),
                "",
                "conf.shrae is not in the policy's schema",
            ),
            (json!({}), None, "agent:day", "has no amount"),
            (json!({}), None, "agent:day=much", "has no number"),
            (json!({}), None, "agent:fortnight=1", "names no window"),
            (json!({}), None, "global=1", "names no window"),
        ] {
            let spent: Vec<&str> = [spent].into_iter().filter(|said| !said.is_empty()).collect();
            let refused = asked(call, conf, &spent).unwrap_err();
            assert!(refused.contains(said), "{said}: {refused}");
        }
        let fails = evaluate(
            &source("return { name = 'x', version = '1', request = function(_, call) error('oh') end }"),
            &Question {
                call: json!({}),
                ..Question::default()
            },
        );
        assert!(fails.unwrap_err().contains("oh"));
    }

    #[test]
    fn accounts_are_whole_or_the_calls_own() {
        let call = json!({"agent": "a", "fingerprint": "f", "tags": {"team": "ml"}});
        for (said, whole) in [
            ("agent:day=1", "agent:a day"),
            ("agent:b:day=1", "agent:b day"),
            ("key:month=1", "key:f month"),
            ("global:total=1", "global total"),
            ("tag:team:day=1", "tag:team=ml day"),
            ("tag:team=web:day:tokens=1", "tag:team=web day tokens"),
            ("agent:day:requests=1", "agent:a day requests"),
        ] {
            assert_eq!(balance(said, true, &call).unwrap(), (whole.to_owned(), 1.0), "{said}");
        }
        assert_eq!(
            balance("agent:tokens=3", false, &call).unwrap(),
            ("agent:a tokens".to_owned(), 3.0)
        );
    }
}
