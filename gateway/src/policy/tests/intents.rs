//! Each intent: what it takes, and what it refuses.
use super::*;

fn refused(request: &str) -> String {
    match run(request) {
        Ok(verdict) => panic!("{request} passed: {verdict:?}"),
        Err(failure) => {
            assert_eq!(
                (failure.policy.as_str(), failure.cause),
                ("p", Cause::Error),
                "{request}"
            );
            failure.message
        }
    }
}

#[test]
fn nothing_and_allow() {
    assert!(run("").unwrap().is_empty());
    assert!(run("return {}").unwrap().is_empty());
    assert_eq!(run("return allow()").unwrap().policies_applied, ["p@1".into()]);
}

#[test]
fn limits_are_exact_and_nonsense_names_its_field() {
    let limit = |value: &str| format!("return budget{{ account = 'global', window = 'day', limit = {value} }}");
    for (value, nanos) in [
        ("0", 0),
        ("0.1", 100_000_000),
        ("0.1 + 0.2", 300_000_000),
        ("'12.000000001'", 12_000_000_001),
    ] {
        assert_eq!(
            run(&limit(value)).unwrap().bounds[0].bound.limit().count(),
            nanos,
            "{value}"
        );
    }
    for (value, says) in [
        ("0/0", "is not a number"),
        ("1/0", "is infinite"),
        ("-1", "is negative"),
        ("'-1'", "is negative"),
        ("1e18", "is above"),
        ("nil", "is missing"),
        ("true", "must be a number or decimal text"),
        ("'five'", "is not a decimal number"),
    ] {
        let message = refused(&limit(value));
        assert!(
            message.contains("budget.limit") && message.contains(says),
            "{value}: {message}"
        );
    }
    assert!(
        refused("return budget{ account = 'global', window = 'day', limit = 1.5, unit = 'tokens' }").contains("whole")
    );
}

#[test]
fn wrong_fields_fail_the_policy() {
    for (request, says) in [
        ("return 5", "returned a number"),
        ("return 'deny'", "returned a string"),
        ("return { 1 }", "intent 1 is a number"),
        ("return { allow(), 'x' }", "intent 2 is a string"),
        ("return { ok = true }", "no list of intents"),
        ("return { allow(), ok = allow() }", "no list of intents"),
        ("return { intent = 'launch' }", "no known kind"),
        ("return deny{ 5 }", "no field 1"),
        ("return deny{ status = 200 }", "deny.status"),
        ("return deny{ status = '403' }", "deny.status must be a number"),
        ("return deny{ code = 'a\\nb' }", "control characters"),
        ("return deny{ retry_after = 0/0 }", "deny.retry_after"),
        ("return deny('no')", "takes a table"),
        ("return clamp{ max_output = 0 }", "clamp.max_output"),
        ("return clamp{}", "clamp.max_output is missing"),
        (
            "return header{ name = 'Content-Length', value = '1' }",
            "frames the answer",
        ),
        ("return header{ name = 'a b', value = '1' }", "no header name"),
        ("return header{ name = 'x', value = 5 }", "header.value must be text"),
        (
            "return budget{ account = 'pet:rex', window = 'day', limit = 1 }",
            "budget.account must be",
        ),
        (
            "return budget{ account = 'global', window = 'year', limit = 1 }",
            "budget.window",
        ),
        (
            "return budget{ account = 'global', window = 'day', limit = 1, unit = 'eur' }",
            "budget.unit",
        ),
        (
            "return budget{ account = 'global', window = 'day', limit = 1, action = 'blok' }",
            "budget.action",
        ),
        (
            "return budget{ account = 'global', window = 'day', limit = 1, soft = 80 }",
            "write 0.8",
        ),
        (
            "return budget{ account = 'global', window = 'day', limit = 1, zone = 'Mars/Base' }",
            "unknown time zone",
        ),
        (
            "return budget{ account = 'global', window = 'day', limt = 1 }",
            "no field limt",
        ),
        (
            "return budget{ window = 'day', limit = 1 }",
            "budget.account is missing",
        ),
        (
            "local t = {} for i = 1, 300 do t[i] = allow() end return t",
            "more than 256 intents",
        ),
        ("return spent('global', 'fortnight')", "spent: window"),
        (
            "for i = 1, 100 do spent('key:' .. i, 'day') end",
            "more than 64 balances",
        ),
        ("return call.key:matches('[')", "malformed glob"),
        ("return globs({'a'}):first(call.key)", "in setup"),
    ] {
        let message = refused(request);
        assert!(message.contains(says), "{request}: {message}");
    }
}

#[test]
fn what_clients_wrote_cannot_break_out_or_make_a_policy_fail() {
    let verdict = run("return { header{ name = 'x', value = 'a\\r\\nb: \\200ü' } }").unwrap();
    assert_eq!(verdict.headers, [("x".to_owned(), "a??b: ??".to_owned())]);
    let deny = run("return deny{ message = 'no\\n' .. string.rep('ü', 5000) }")
        .unwrap()
        .deny
        .unwrap();
    assert!(deny.message.starts_with("no ü") && deny.message.len() <= 2_048);
}

#[test]
fn limits_are_checked_at_load_and_put_on_accounts_by_calls() {
    let text = |limits: &str| {
        format!(
            "return {{ name = 'p', version = '1', setup = function() return limits({limits}) end,
               request = function(conf, call, book)
                 assert(#book == 2)
                 return {{ book:on('agent:' .. call.agent), allow(), book:on('global') }}
               end }}"
        )
    };
    let load = |limits: &str| PolicySet::load(vec![source("p", &text(limits))], &BTreeMap::new(), Options::default());
    let good = "{ { window = 'day', limit = 5 }, { window = 'total', limit = '7', unit = 'requests', action = 'warn', soft = 0.5 } }";
    let bed = Bed::new(load(good).unwrap_or_else(|wrong| panic!("{wrong:?}")));
    let call = Call {
        zone: "Europe/Berlin".to_owned(),
        ..Call::default()
    };
    let bounds = bed.ask(&call).unwrap().bounds;
    let accounts: Vec<&str> = bounds.iter().map(|requested| &**requested.bound.account()).collect();
    assert_eq!(accounts, ["agent:coder", "agent:coder", "global", "global"]);
    assert_eq!(&**bounds[0].bound.zone().name(), "Europe/Berlin");
    assert_eq!(
        (
            bounds[3].bound.limit().count(),
            bounds[3].soft.as_slice()[0],
            bounds[3].bound.mode()
        ),
        (7, 500_000, Mode::Watch)
    );
    for (limits, says) in [
        (
            "{ { window = 'day', limit = 0/0 } }",
            "limits 1: budget.limit is not a number",
        ),
        (
            "{ { window = 'day', limit = 1 }, { window = 'day', limit = -1 } }",
            "limits 2: budget.limit is negative",
        ),
        (
            "{ { window = 'day', limit = 1, account = 'global' } }",
            "no field account",
        ),
    ] {
        let errors = load(limits).err().unwrap();
        assert!(
            errors[0].message.contains(says) && errors[0].line == Some(1),
            "{errors:?}"
        );
    }
    let kept = "return { name = 'p', version = '1', setup = function() return { limits({ { window = 'day', limit = 1 } }) } end,
       request = (function() local kept return function(conf, call, book)
         kept = kept or book[1]:on('global')
         return kept
       end end)() }";
    let bed = Bed::new(set(vec![source("p", kept)]));
    bed.ask(&Call::default()).unwrap();
    assert!(
        bed.ask(&Call::default())
            .unwrap_err()
            .message
            .contains("of another call")
    );
    assert!(
        load("{}):on('global'").err().unwrap()[0]
            .message
            .contains("during a call")
    );
    for request in ["return call", "return { call.key }", "return limits({})"] {
        assert_eq!(run(request).unwrap_err().cause, Cause::Error, "{request}");
    }
}

#[test]
fn the_strictest_of_equal_bounds_and_clamps_stays() {
    let verdict = run(
        "local function b(limit, action) return budget{ account = 'global', window = 'day', limit = limit, action = action } end
         return { b(5), b(3), b(4), b(1, 'warn'), clamp{ max_output = 9 }, clamp{ max_output = 7 },
                  header{ name = 'a', value = '1' }, header{ name = 'A', value = '2' } }",
    )
    .unwrap();
    let limits: Vec<(i64, Mode)> = verdict
        .bounds
        .iter()
        .map(|bound| (bound.bound.limit().count(), bound.bound.mode()))
        .collect();
    assert_eq!(limits, [(3_000_000_000, Mode::Hard), (1_000_000_000, Mode::Watch)]);
    assert_eq!(
        (verdict.clamp, verdict.headers),
        (Some(7), vec![("a".to_owned(), "2".to_owned())])
    );
}
