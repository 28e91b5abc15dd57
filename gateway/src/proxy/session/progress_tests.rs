#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::{Value, json};

use super::*;
use crate::config::Plugins as PluginsConfig;
use crate::limits::Limits;
use crate::plugin::Plugins;
use crate::plugin::outline::outline;

const BOUNDS: Bounds = Bounds {
    window_ms: 300_000,
    steps_max: 1_024,
};

/// What a body does, as its dialect's plugin has it read.
fn doing(progress: &SessionProgress, dialect: &str, body: &Value) -> Doing {
    static PLUGINS: std::sync::LazyLock<Plugins> = std::sync::LazyLock::new(|| {
        Plugins::load(&PluginsConfig::default(), &Limits::default()).unwrap_or_else(|error| panic!("{error}"))
    });
    let plugin = PLUGINS.get(dialect).unwrap();
    let json = body.to_string().into_bytes();
    let found = outline(&json, &plugin.request_shape, 128).unwrap();
    progress.doing("/v1/x", &json, Some(&found))
}

/// A chat whose model has called a tool and got a result.
fn chat(said: &str, call_id: &str, arguments: &str, result: &str) -> Value {
    json!({"model": "m", "messages": [
        {"role": "system", "content": "You are an agent."},
        {"role": "user", "content": "Find it."},
        {"role": "assistant", "content": said, "tool_calls": [
            {"id": call_id, "type": "function", "function": {"name": "search", "arguments": arguments}}]},
        {"role": "tool", "tool_call_id": call_id, "content": result},
    ]})
}

fn messages(said: &str, call_id: &str, query: &str, result: &str) -> Value {
    json!({"model": "m", "max_tokens": 10, "messages": [
        {"role": "user", "content": "Find it."},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": said, "signature": call_id},
            {"type": "text", "text": said},
            {"type": "tool_use", "id": call_id, "name": "search", "input": {"query": query}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": call_id, "content": result, "cache_control": {"type": "ephemeral"}}]},
    ]})
}

fn responses(said: &str, call_id: &str, arguments: &str, result: &str) -> Value {
    json!({"model": "m", "input": [
        {"role": "user", "content": "Find it."},
        {"type": "reasoning", "id": said, "summary": [], "encrypted_content": said},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": said}]},
        {"type": "function_call", "call_id": call_id, "name": "search", "arguments": arguments},
        {"type": "function_call_output", "call_id": call_id, "output": result},
    ]})
}

#[test]
fn a_tool_call_is_known_by_its_arguments_and_results_in_each_dialect() {
    type Make = fn(&str, &str, &str, &str) -> Value;
    let dialects: [(&str, Make); 3] = [("openai", chat), ("openai", responses), ("anthropic", messages)];
    let progress = SessionProgress::default();
    for (dialect, make) in dialects {
        let of = |said, id, arguments, result| doing(&progress, dialect, &make(said, id, arguments, result));
        let first = of("Let me look.", "call_1", "{\"q\":1}", "nothing found");
        assert_ne!(first.tool, 0, "{dialect}");
        let again = of("Let me try that again.", "call_2", "{\"q\":1}", "nothing found");
        assert_eq!(first, again, "{dialect}: ids and talk tell nothing");
        let changed = of("Hm.", "call_3", "{\"q\":1}", "12 found");
        assert_eq!(first.tool, changed.tool, "{dialect}");
        assert_ne!(first.step, changed.step, "{dialect}");
        let other = of("Hm.", "call_4", "{\"q\":2}", "nothing found");
        assert_ne!((first.tool, first.step), (other.tool, other.step), "{dialect}");
        assert_ne!(first.tool, other.tool, "{dialect}");
    }
}

#[test]
fn without_a_tool_call_all_from_the_models_last_turn_on_counts() {
    let progress = SessionProgress::default();
    let of = |messages: Value| doing(&progress, "openai", &json!({"model": "m", "messages": messages}));
    let user = |text: &str| json!({"role": "user", "content": text});
    let model = |text: &str| json!({"role": "assistant", "content": text});
    // An agent that is told to go on, and does.
    let first = of(json!([user("Write."), model("Chapter 1"), user("Continue.")]));
    let second = of(json!([
        user("Write."),
        model("Chapter 1"),
        user("Continue."),
        model("Chapter 2"),
        user("Continue.")
    ]));
    assert_ne!(first.step, second.step);
    assert_eq!((first.tool, second.tool), (0, 0));
    // One that is told to go on and says the same again.
    let stuck = of(json!([user("Write."), model("Chapter 2"), user("Continue.")]));
    assert_eq!(second.step, stuck.step);
    // The model has not spoken: all counts.
    let before = of(json!([user("A document."), user("Sum it up.")]));
    assert_ne!(before.step, of(json!([user("Another."), user("Sum it up.")])).step);
    // What the server keeps is another state each time.
    let kept = |id: &str| {
        doing(
            &progress,
            "openai",
            &json!({"model": "m", "previous_response_id": id,
        "input": [{"type": "function_call_output", "call_id": "c", "output": "ok"}]}),
        )
    };
    assert_ne!(kept("resp_1").step, kept("resp_2").step);
    assert_eq!(kept("resp_1").step, kept("resp_1").step);
    // The model's name and limits are no content.
    let texts = |model: &str, input: &str| doing(&progress, "openai", &json!({"model": model, "input": input}));
    assert_eq!(texts("a", "hello").step, texts("b", "hello").step);
    assert_ne!(texts("a", "hello").step, texts("a", "hullo").step);
}

#[test]
fn what_the_server_keeps_is_known_by_what_the_model_called_there() {
    let progress = Arc::new(SessionProgress::default());
    let goes_on = |member: &str, id: &str, result: &str| {
        let mut body =
            json!({"model": "m", "input": [{"type": "function_call_output", "call_id": id, "output": result}]});
        body[member] = json!(id);
        doing(&progress, "openai", &body)
    };
    let call = |doing: Doing, answer: Option<(&str, &[u8; 32])>| {
        let (history, step) = progress.begin(BOUNDS, 0, ("", "s"), doing, false);
        step.answered(Usd::ZERO, answer);
        (history.repeats, history.tool_repeats)
    };
    let (search, other) = ([1; 32], [2; 32]);
    assert_eq!(call(made(1, 0), Some(("resp_1", &search))), (1, 0));
    assert_eq!(
        call(
            goes_on("previous_response_id", "resp_1", "none"),
            Some(("resp_2", &search))
        ),
        (1, 1)
    );
    assert_eq!(
        call(
            goes_on("previous_response_id", "resp_2", "none"),
            Some(("resp_3", &search))
        ),
        (2, 2)
    );
    // The same call that found something else.
    assert_eq!(
        call(
            goes_on("previous_response_id", "resp_3", "12"),
            Some(("resp_4", &other))
        ),
        (1, 3)
    );
    assert_eq!(
        call(
            goes_on("previous_response_id", "resp_4", "12"),
            Some(("resp_5", &search))
        ),
        (1, 1)
    );
    // An answer without calls, and one that this gateway has not seen, are another state each time.
    assert_eq!(call(goes_on("previous_response_id", "resp_5", "12"), None), (2, 1));
    assert_eq!(call(goes_on("previous_response_id", "resp_6", "12"), None), (1, 0));
    assert_eq!(call(goes_on("previous_response_id", "resp_0", "12"), None), (1, 0));
    // Of a conversation it is the answer before.
    assert_eq!(
        call(goes_on("conversation", "conv_1", "hello"), Some(("resp_8", &search))),
        (1, 0)
    );
    assert_eq!(
        call(goes_on("conversation", "conv_1", "none"), Some(("resp_9", &search))),
        (3, 1)
    );
    assert_eq!(call(goes_on("conversation", "conv_2", "none"), None), (1, 0));
}

fn made(step: u64, tool: u64) -> Doing {
    let nothing = SessionProgress::default().doing("", b"", None);
    Doing {
        step,
        tool,
        path: 1,
        ..nothing
    }
}

/// Begins and answers calls one after the other; what the last one was told.
fn one_by_one(progress: &Arc<SessionProgress>, doings: &[Doing]) -> History {
    let mut last = History::default();
    for doing in doings {
        let (history, step) = progress.begin(BOUNDS, 0, ("", "s"), *doing, false);
        step.answered(Usd::from_nanos(5), None);
        last = history;
    }
    last
}

#[test]
fn repeats_are_counted_with_the_call_itself() {
    let last = one_by_one(&Arc::default(), &[made(1, 7); 8]);
    assert_eq!(
        (last.repeats, last.tool_repeats, last.stretch, last.distinct),
        (8, 8, 8, 1)
    );
    assert_eq!((last.path_calls, last.repeats_cost), (8, Usd::from_nanos(35)));
    let others: Vec<Doing> = (1..=200).map(|step| made(step, step)).collect();
    let last = one_by_one(&Arc::default(), &others);
    assert_eq!((last.repeats, last.tool_repeats, last.path_calls), (1, 1, 200));
    // Now and then a look at the same thing, and work between.
    let work: Vec<Doing> = (1..=40)
        .map(|step| {
            if step % 4 == 0 {
                made(1_000, 1_000)
            } else {
                made(step, step)
            }
        })
        .collect();
    let last = one_by_one(&Arc::default(), &work);
    assert_eq!((last.repeats, last.tool_repeats), (10, 1));
    assert!(last.distinct * 2 > last.stretch, "that is progress: {last:?}");
    // Two things in turns, nothing else.
    let turns: Vec<Doing> = (0..16).map(|step| made(step % 2, step % 2 + 1)).collect();
    let last = one_by_one(&Arc::default(), &turns);
    assert_eq!((last.repeats, last.distinct, last.stretch), (8, 2, 15));
}

#[test]
fn calls_that_run_side_by_side_are_one_and_failed_ones_none() {
    let progress = Arc::new(SessionProgress::default());
    let begin = || progress.begin(BOUNDS, 0, ("", "s"), made(1, 0), false);
    let burst: Vec<_> = (0..8).map(|_| begin()).collect();
    assert!(burst.iter().all(|(told, _)| told.repeats == 1));
    assert_eq!(burst[7].0.path_calls, 8);
    burst.into_iter().for_each(|(_, step)| step.answered(Usd::ZERO, None));
    let (told, step) = begin();
    assert_eq!(told.repeats, 2, "eight at once were one round");
    drop(step);
    let (told, step) = begin();
    assert_eq!(told.repeats, 2, "a failed one is no round");
    step.denied("budget_exceeded");
    let (told, step) = begin();
    assert_eq!(told.repeats, 2, "nor is one that another rule refused");
    step.denied(LOOP_CODE);
    assert_eq!(begin().0.repeats, 3, "one that was refused for looping is");
}

#[test]
fn an_sdk_that_lost_an_answer_repeats_nothing() {
    let progress = Arc::new(SessionProgress::default());
    let begin = |is_retry| progress.begin(BOUNDS, 0, ("", "s"), made(1, 0), is_retry);
    begin(false).1.answered(Usd::ZERO, None);
    let (told, step) = begin(true);
    assert_eq!(told.repeats, 1);
    step.answered(Usd::ZERO, None);
    assert_eq!(begin(false).0.repeats, 2);
}

#[test]
fn the_window_slides_and_memory_is_bounded() {
    let progress = Arc::new(SessionProgress::default());
    let at = |now_ms| progress.begin(BOUNDS, now_ms, ("", "s"), made(1, 0), false);
    at(0).1.answered(Usd::ZERO, None);
    at(200_000).1.answered(Usd::ZERO, None);
    assert_eq!(at(300_000).0.repeats, 3);
    assert_eq!(at(300_001).0.repeats, 2, "the first has left the window");
    let tight = Bounds { steps_max: 4, ..BOUNDS };
    for _ in 0..100 {
        progress
            .begin(tight, 300_002, ("", "t"), made(1, 0), false)
            .1
            .answered(Usd::ZERO, None);
    }
    let (told, _) = progress.begin(tight, 300_002, ("", "t"), made(1, 0), false);
    assert!(told.repeats <= 4);
    for session in 0..1_000 {
        progress
            .begin(BOUNDS, 300_002, ("", &session.to_string()), made(1, 0), false)
            .1
            .answered(Usd::ZERO, None);
    }
    let known = || {
        progress
            .shards
            .iter()
            .map(|shard| shard.lock().tracks.len())
            .sum::<usize>()
    };
    assert!(known() > 1_000);
    // Long after, what is silent is swept out as the shards are used.
    for session in 0..1_000 {
        progress
            .begin(BOUNDS, 900_000_000, ("", &session.to_string()), made(1, 0), false)
            .1
            .answered(Usd::ZERO, None);
    }
    assert_eq!(known(), 1_000);
    assert_eq!(progress.steps.load(Ordering::Relaxed), 1_000);
}

#[test]
fn tenants_sessions_of_one_name_are_two() {
    let progress = Arc::new(SessionProgress::default());
    for tenant in ["a", "b"] {
        let (told, step) = progress.begin(BOUNDS, 0, (tenant, "s"), made(1, 0), false);
        assert_eq!(told.repeats, 1);
        step.answered(Usd::ZERO, None);
    }
}

#[test]
fn a_call_that_outlives_its_forgotten_session_ends_none_of_the_new_calls() {
    let progress = Arc::new(SessionProgress::default());
    let begin = |now_ms, session: &str| progress.begin(BOUNDS, now_ms, ("", session), made(1, 0), false);
    let (_, old) = begin(0, "s");
    // Others are at work long after, in every shard.
    for session in 0..1_000 {
        drop(begin(900_000, &session.to_string()));
    }
    let (_, new) = begin(900_000, "s");
    old.answered(Usd::ZERO, None);
    assert_eq!(begin(900_000, "s").0.repeats, 1, "the new call still runs");
    new.answered(Usd::ZERO, None);
    assert_eq!(begin(900_000, "s").0.repeats, 2);
}

#[test]
fn the_session_that_is_silent_for_longest_goes_first() {
    let mut shard = ProgressShard::default();
    for (track, begun_ms) in [(1, &[10, 50][..]), (2, &[20]), (3, &[30, 40, 60])] {
        let mut steps = Steps::default();
        for at_ms in begun_ms {
            steps.begin(&made(1, 0), *at_ms);
        }
        shard.tracks.insert(track, steps);
        shard.silent.push(Reverse((begun_ms[0], track)));
    }
    let mut gone = Vec::new();
    while let Some(steps) = shard.look_at_silent(100, (100, 3)) {
        gone.push(steps);
    }
    // The first and the third have begun steps since they were entered; the third begins one now, and stays.
    assert_eq!(gone, [0, 1, 0, 2]);
    assert_eq!(shard.tracks.into_keys().collect::<Vec<_>>(), [3]);
    assert_eq!(shard.silent.into_vec(), [Reverse((100, 3))]);
}
