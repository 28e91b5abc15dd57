#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use super::*;

fn call(line: &str) -> (String, OpenCall) {
    let messages = Messages::read(line.as_bytes()).unwrap();
    let message = &messages.all[0];
    let call = OpenCall {
        id: Ulid::new(),
        wants_result: true,
        is_spooled: false,
        since: Timer::start(),
        words: words_of(message),
        earlier: None,
    };
    (id_key(message.id.unwrap()), call)
}

fn opened(calls: &Calls, line: &str) -> Ulid {
    let (key, call) = call(line);
    let id = call.id;
    calls.opens(key, call).unwrap();
    id
}

const CALL: &str = r#"{"id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":1}}}"#;

fn answer<'a>(id: &str, says: Says, result: Option<&'a str>) -> Answer<'a> {
    Answer {
        id: id.to_owned(),
        says,
        result,
        bytes: 99,
    }
}

#[test]
fn each_call_ends_by_its_answer_once() {
    let calls = Calls::default();
    assert!(!calls.are_expected());
    let id = opened(&calls, CALL);
    assert!(calls.are_expected() && calls.held() == [id]);
    assert!(
        calls.answered(&answer("n2", Says::Result, Some("{}"))).is_none(),
        "another's"
    );
    let ended = calls
        .answered(&answer("n1", Says::ToolError, Some("{\"a\":1}")))
        .unwrap();
    assert_eq!(
        (
            ended.call.id,
            ended.ending,
            ended.result.as_str(),
            ended.bytes,
            ended.unread
        ),
        (id, CallEnding::ToolError, "{\"a\":1}", 7, false)
    );
    assert!(
        calls.answered(&answer("n1", Says::Result, Some("{}"))).is_none(),
        "it is over"
    );
    assert!(!calls.are_expected());
}

#[test]
fn an_id_that_is_used_again_has_its_answers_in_turn() {
    let calls = Calls::default();
    let ids = [opened(&calls, CALL), opened(&calls, CALL)];
    let ended: Vec<Ulid> = (0..3)
        .filter_map(|_| calls.answered(&answer("n1", Says::Result, None)))
        .map(|ended| ended.call.id)
        .collect();
    assert_eq!(ended, ids);
}

#[test]
fn a_call_that_asks_for_input_goes_on_with_the_same_words_and_state() {
    let calls = Calls::default();
    let id = opened(&calls, CALL);
    let state = || Says::InputRequired {
        state: "\"s\"".to_owned(),
    };
    assert!(calls.answered(&answer("n1", state(), Some("{}"))).is_none());
    let round = |line: &str| {
        let messages = Messages::read(line.as_bytes()).unwrap();
        calls.next_round(&messages.all[0]).map(|call| call.id)
    };
    let other = r#"{"id":2,"method":"tools/call","params":{"name":"t","arguments":{"a":2},"requestState":"s"}}"#;
    assert_eq!(round(other), None);
    let next = r#"{"id":2,"method":"tools/call","params":{"name":"t","arguments":{"a":1},"requestState":"s"}}"#;
    assert_eq!((round(next), round(next)), (Some(id), None));
}

#[test]
fn a_task_ends_its_call_when_its_result_is_fetched() {
    let calls = Calls::default();
    let id = opened(&calls, CALL);
    let task = |status: &str| Says::Task {
        id: "t1".to_owned(),
        status: status.to_owned(),
        begins: true,
    };
    assert!(calls.answered(&answer("n1", task("working"), Some("{}"))).is_none());
    let mut ended = Vec::new();
    for (method, key) in [("tasks/get", "n7"), ("tasks/result", "n8")] {
        let asked = format!(
            r#"{{"id":{},"method":"{method}","params":{{"taskId":"t1"}}}}"#,
            &key[1..]
        );
        assert!(calls.passes(&Messages::read(asked.as_bytes()).unwrap(), &mut ended));
    }
    assert!(calls.answered(&answer("n7", task("working"), Some("{}"))).is_none());
    let over = calls.answered(&answer("n8", Says::Result, Some("{}"))).unwrap();
    assert_eq!((over.call.id, over.ending), (id, CallEnding::Result));
    assert!(ended.is_empty());
}

#[test]
fn what_is_cancelled_ends_and_what_waits_at_the_gate_goes_no_further() {
    let calls = Calls::default();
    let id = opened(&calls, CALL);
    let cancel = |id: &str| format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#);
    let mut ended = Vec::new();
    let mut passes = |id: &str| calls.passes(&Messages::read(cancel(id).as_bytes()).unwrap(), &mut ended);
    calls.waits("n2");
    calls.waits("n3");
    assert!(passes("1") && passes("9") && !passes("2"));
    assert!(!calls.leaves_gate("n2") && calls.leaves_gate("n3"));
    let ended: Vec<_> = ended.iter().map(|ended| (ended.call.id, ended.ending)).collect();
    assert_eq!(ended, [(id, CallEnding::ClientGone)]);
}

#[test]
fn with_the_server_all_calls_end() {
    let calls = Calls::default();
    let mut ids = [opened(&calls, CALL), opened(&calls, &CALL.replace(":1,", ":2,"))];
    ids.sort_unstable();
    assert!(calls.late(Duration::from_secs(60), Duration::from_secs(60)).is_empty());
    let mut ended: Vec<Ulid> = calls
        .all_over(CallEnding::ServerGone)
        .iter()
        .map(|ended| ended.call.id)
        .collect();
    ended.sort_unstable();
    assert_eq!(ended, ids);
    assert!(!calls.are_expected() && calls.all_over(CallEnding::ServerGone).is_empty());
    opened(&calls, CALL);
    assert_eq!(
        calls.late(Duration::ZERO, Duration::ZERO).len(),
        1,
        "it waited too long"
    );
    assert!(!calls.are_expected());
}

#[test]
fn open_calls_are_bounded() {
    let calls = Calls::default();
    for _ in 0..OPEN_MAX {
        opened(&calls, CALL);
    }
    let (key, beyond) = call(CALL);
    let ended = calls.opens(key, beyond).unwrap_err();
    assert_eq!(ended.ending, CallEnding::NotAnswered);
}

#[test]
fn two_calls_that_say_the_same_go_on_each_as_its_own() {
    let calls = Calls::default();
    let ids = [opened(&calls, CALL), opened(&calls, CALL)];
    let asks = || Says::InputRequired { state: String::new() };
    for _ in ids {
        assert!(calls.answered(&answer("n1", asks(), Some("{}"))).is_none());
    }
    let next = r#"{"id":2,"method":"tools/call","params":{"name":"t","arguments":{"a":1},"inputResponses":{}}}"#;
    let round = || {
        let messages = Messages::read(next.as_bytes()).unwrap();
        calls.next_round(&messages.all[0]).map(|call| call.id)
    };
    assert_eq!([round(), round(), round()], [Some(ids[0]), Some(ids[1]), None]);
}

#[test]
fn a_round_that_does_not_reach_the_server_leaves_its_call_as_it_was() {
    let calls = Calls::default();
    let id = opened(&calls, CALL);
    let asks = Says::InputRequired { state: String::new() };
    calls.answered(&answer("n1", asks, Some("{}")));
    let next = r#"{"id":2,"method":"tools/call","params":{"name":"t","arguments":{"a":1},"inputResponses":{}}}"#;
    let messages = Messages::read(next.as_bytes()).unwrap();
    let call = calls.next_round(&messages.all[0]).unwrap();
    assert!(calls.unsent(call).is_none());
    assert_eq!(calls.next_round(&messages.all[0]).map(|call| call.id), Some(id));
    let (_, fresh) = super::tests::call(CALL);
    assert_eq!(calls.unsent(fresh).unwrap().ending, CallEnding::Unsent);
}

#[test]
fn an_id_of_the_other_kind_answers_where_only_that_one_is_open() {
    let calls = Calls::default();
    let id = opened(&calls, CALL);
    let ended = calls.answered(&answer("s1", Says::Result, Some("{}"))).unwrap();
    assert_eq!(ended.call.id, id);
    let list = RawValue::from_string("\"7\"".to_owned()).unwrap();
    assert!(calls.lists(std::iter::once(&*list)));
    assert_eq!(calls.list_answered("n7").unwrap().get(), "\"7\"");
}
