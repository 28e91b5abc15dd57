//! Policies that loop, eat memory, keep what they must not keep, or lie.
use super::*;

pub(super) const QUICK: Options = Options {
    deadline: Duration::from_millis(20),
    memory_bytes_max: 8 << 20,
    coverage: None,
};

fn quick(request: &str) -> Bed {
    Bed::new(
        PolicySet::load(vec![policy("p", request)], &BTreeMap::new(), QUICK)
            .unwrap_or_else(|wrong| panic!("{wrong:?}")),
    )
}

#[test]
fn what_runs_too_long_is_stopped() {
    for request in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local function again() pcall(again) return again() end again()",
        "local function nest(f) return function() pcall(f) while true do end end end local f = function() while true do end end for i = 1, 50 do f = nest(f) end f()",
        "local s = string.rep('a', 30000) return s:find(string.rep('a*', 60) .. 'b')",
        "local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end }) while true do pcall(function() return t[1] end) end",
    ] {
        let bed = quick(request);
        let failure = bed.ask(&Call::default()).unwrap_err();
        assert!(matches!(failure.cause, Cause::Deadline), "{request}: {failure:?}");
        assert_eq!(failure.policy, "p");
    }
}

#[test]
fn what_eats_memory_is_stopped() {
    for request in [
        "return string.rep('x', 1e9)",
        "local t = {} for i = 1, 1e9 do t[i] = { i } end",
        "local s = 'x' while true do s = s .. s end",
        "return table.create(1e8, 0)",
        "local t = {} while true do t = { t, string.rep('y', 1000) } end",
        "local t = {} while true do t[#t + 1] = call.at end",
    ] {
        let failure = Bed::of(request).ask(&Call::default()).unwrap_err();
        assert!(
            matches!(failure.cause, Cause::Memory | Cause::Deadline | Cause::Error),
            "{request}: {failure:?}"
        );
    }
    // Catching it helps nobody: the cap stays.
    let failure = quick("while true do pcall(string.rep, 'x', 1e9) end")
        .ask(&Call::default())
        .unwrap_err();
    assert_eq!(failure.cause, Cause::Deadline);
}

/// More than a VM keeps made, chosen again and again.
#[test]
fn what_a_choose_chooses_is_made_when_it_is_chosen_and_right_each_time() {
    let text = "return { name = 'p', version = '1',
      setup = function()
        local names, values = {}, {}
        for at = 1, 800 do
          names[at], values[at] = 'n' .. at, { number = at, deep = { { at } } }
        end
        local circle = {}
        circle.circle = circle
        return { chosen = choose(names, values, 'exact'), circle = circle }
      end,
      request = function(_, _, book)
        assert(book.circle.circle == book.circle)
        for at = 1, 800 do
          local value = book.chosen:of('n' .. at)
          assert(value.number == at and value.deep[1][1] == at and table.isfrozen(value))
        end
        assert(book.chosen:of('n801') == nil)
      end }";
    let bed = Bed::new(set(vec![source("p", text)]));
    for _ in 0..3 {
        bed.ask(&Call::default()).unwrap();
    }
}

#[test]
fn deep_recursion_is_an_error() {
    let failure = run("local function deep(n) return 1 + deep(n + 1) end return deep(1)").unwrap_err();
    assert!(
        failure.message.contains("stack overflow") || failure.cause == Cause::Memory,
        "{failure:?}"
    );
}

#[test]
fn nothing_of_the_world_is_in_reach() {
    let names = "load loadstring getfenv setfenv newproxy collectgarbage gcinfo require print os io debug coroutine \
                 package dofile _G host buffer";
    for name in names.split_whitespace() {
        run(&format!("assert({name} == nil, '{name} is there')")).unwrap();
    }
    run("assert(math.random == nil and math.randomseed == nil and math.floor(1.5) == 1)").unwrap();
    for request in [
        "string.format = nil",
        "table.insert = 5",
        "leaked = 1",
        "deny = allow",
        "getmetatable('').__index = {}",
        "getmetatable('').__index.rep = nil",
        "conf.x = 1",
        "rawset(conf, 'x', 1)",
        "rawset(string, 'x', 1)",
        "call.x = 1",
        "setmetatable(call, {})",
    ] {
        let failure = run(request).expect_err(request);
        assert_eq!(failure.cause, Cause::Error, "{request}");
    }
}

#[test]
fn the_raw_key_stays_with_us() {
    const CANARY: &str = "sk-canary-0123456789";
    let mut call = Call::with_key(CANARY);
    call.fingerprint = "f9".to_owned();
    for request in [
        "error(tostring(call.key) .. call.key.fingerprint)",
        "error(call.key)",
        "error(tostring(call))",
        "error({ call.key })",
        "return call.key .. 'x'",
        "return call.key.raw",
        "return deny{ message = call.key }",
        "return call.key:matches(5, call.key)",
        "return #call.key",
    ] {
        let text = match Bed::of(request).ask(&call) {
            Err(failure) => format!("{failure:?}"),
            Ok(verdict) => format!("{verdict:?}"),
        };
        assert!(!text.contains("canary"), "{request}: {text}");
    }
}

#[test]
fn facts_kept_beyond_their_call_raise() {
    for keep in ["call", "call.key", "call.at", "call.tags", "call.estimate"] {
        let text = format!(
            "local kept
             return {{ name = 'p', version = '1', request = function(conf, call)
               local old = kept
               kept = {keep}
               if old then return tostring(old.fingerprint or old.model or old.hour or old.team or old.usd) end
             end }}"
        );
        let bed = Bed::new(set(vec![source("p", &text)]));
        bed.ask(&Call::default()).unwrap();
        let failure = bed.ask(&Call::default()).unwrap_err();
        assert!(failure.message.contains("kept beyond their call"), "{keep}: {failure}");
    }
}

#[test]
fn an_error_in_a_rare_branch_fails_that_call_alone_and_names_its_line() {
    let bed = Bed::of("if call.agent == 'rare' then\n local nothing = nil\n return nothing.field\nend");
    bed.ask(&Call::default()).unwrap();
    let rare = Call {
        agent: "rare".to_owned(),
        ..Call::default()
    };
    let failure = bed.ask(&rare).unwrap_err();
    assert!(failure.message.starts_with("p.lua:4:"), "{failure}");
    assert!(!failure.message.contains("traceback"), "{failure}");
    bed.ask(&Call::default()).unwrap();
    let host = Bed::of("if true then\n return call.nonsense\nend")
        .ask(&Call::default())
        .unwrap_err();
    assert!(host.message.contains("p.lua:3"), "{host}");
}

#[test]
fn a_changed_upvalue_lasts_no_longer_than_its_vm() {
    let text = "local calls = 0
      return { name = 'p', version = '1', request = function(conf, call)
        calls += 1
        if call.agent == 'loop' then while true do end end
        return header{ name = 'x-calls', value = tostring(calls) }
      end }";
    let bed = Bed::new(
        PolicySet::load(vec![source("p", text)], &BTreeMap::new(), QUICK).unwrap_or_else(|wrong| panic!("{wrong:?}")),
    );
    let calls = |bed: &Bed| bed.ask(&Call::default()).unwrap().headers[0].1.clone();
    assert_eq!((calls(&bed), calls(&bed)), ("1".to_owned(), "2".to_owned()));
    let spoiling = Call {
        agent: "loop".to_owned(),
        ..Call::default()
    };
    assert_eq!(bed.ask(&spoiling).unwrap_err().cause, Cause::Deadline);
    assert_eq!(calls(&bed), "1");
}

#[test]
fn a_thousand_failures_leave_good_calls_alone_and_are_counted() {
    let bed = Bed::of(
        "if call.agent == 'error' then error({}) end
         if call.agent == 'memory' then return string.rep('x', 1e9) end
         if call.agent == 'nonsense' then return { 1 } end
         return header{ name = 'x', value = 'ok' }",
    );
    for round in 0..1_000 {
        let agent = ["error", "memory", "nonsense"][round % 3].to_owned();
        bed.ask(&Call {
            agent,
            ..Call::default()
        })
        .unwrap_err();
        assert_eq!(bed.ask(&Call::default()).unwrap().headers[0].1, "ok");
    }
    assert_eq!(bed.counts.total(), 1_000);
    assert!(
        bed.counts
            .snapshot()
            .keys()
            .all(|(policy, phase, _)| policy == "p" && *phase == Phase::Request)
    );
}

#[test]
fn a_swap_under_load_fails_no_call() {
    let numbered = |number: u32| {
        set(vec![
            policy("p", &format!("return header{{ name = 'x', value = '{number}' }}")),
            policy("q", "return allow()"),
        ])
    };
    let bed = Bed::new(numbered(0));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let requested = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let mut last = 0u32;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let verdict = bed.ask(&Call::default()).expect("a call during a swap");
                    let now: u32 = verdict.headers[0].1.parse().unwrap();
                    assert!(
                        now >= last && verdict.policies_applied.len() == 2,
                        "an older set after a newer one"
                    );
                    last = now;
                    requested.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
        for number in 1..=100 {
            bed.set.store(Arc::new(numbered(number)));
        }
        // At least one call is made under the last set.
        while requested.load(std::sync::atomic::Ordering::Relaxed) < 400 {
            std::thread::yield_now();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(bed.ask(&Call::default()).unwrap().headers[0].1, "100");
    assert_eq!(bed.counts.total(), 0);
}
