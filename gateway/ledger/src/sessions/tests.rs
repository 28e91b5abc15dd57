#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use ulid::Ulid;

use super::*;
use crate::entry::Outcome;
use crate::entry::Settlement;
use crate::inferred::Inferred;
use crate::store::{MemoryStores, Stores};
use crate::usage::{Kind, Usage};

const NOW_MS: i64 = 1_795_305_600_000;
const TIMEOUT_MS: i64 = 30 * 60_000;

fn facts(session: &str, tenant: &str) -> Facts {
    Facts {
        id: Ulid::nil(),
        at_ms: NOW_MS,
        provider: "openai".into(),
        operation: "chat".into(),
        requested_model: "gpt-5".into(),
        stream: false,
        key: "k".into(),
        tenant: tenant.into(),
        agent: "coder".into(),
        session: session.into(),
        user: "ann".into(),
        task: "build".into(),
        tags: BTreeMap::new(),
        path: "/v1/chat/completions".into(),
        inferred: Default::default(),
    }
}

fn entry(facts: &Facts, nanos: i64) -> Entry {
    Entry {
        facts: facts.clone(),
        settlement: Settlement {
            at_ms: NOW_MS,
            outcome: Outcome::Completed,
            status: 200,
            model: "gpt-5".into(),
            usage: Usage::default().with(Kind::Input, 10).with(Kind::Output, 5),
            parts: Vec::new(),
            reasoning: 0,
            cost: Usd::from_nanos(nanos),
            reported_cost: None,
            upper_bound: None,
            price: None,
            estimate_reason: None,
            verdict: Vec::new(),
            duration_ms: 30,
            ttfb_ms: None,
            response_id: None,
            request_id: None,
        },
        held: Usd::from_nanos(nanos),
        overage: Usd::ZERO,
        overage_reason: None,
        source: None,
    }
}

fn kept(sessions_max: usize) -> Kept {
    Kept {
        sessions_max,
        ..Kept::default()
    }
}

fn in_memory(sessions: &Sessions) -> usize {
    sessions.shards.iter().map(|shard| shard.lock().live.len()).sum()
}

/// Writes down what changed, as a checkpoint does.
fn checkpoint(sessions: &Sessions, sequence: u64) {
    let changes = sessions.changes().collect();
    sessions.state.as_ref().unwrap().apply(changes).unwrap();
    sessions.saved(sequence, NOW_MS);
}

proptest! {
    /// However calls come and whenever sessions leave the memory, come back, or are read again after a restart: their sums are
    /// those of the calls.
    #[test]
    fn totals_are_exact_through_leaving_coming_back_and_restarts(
        steps in prop::collection::vec((0u8..40, 0u8..2, 1i64..1_000, 0u8..6), 1..200)
    ) {
        let state = MemoryStores::default().state().unwrap();
        let mut sessions = Sessions::new(Some(Arc::clone(&state)), kept(SHARDS));
        let mut told: BTreeMap<(String, String), (u64, i64)> = BTreeMap::new();
        let mut sequence = 0;
        for (id, tenant, nanos, then) in steps {
            let (id, tenant) = (format!("s{id}"), format!("t{tenant}"));
            let facts = facts(&id, &tenant);
            sessions.held(sequence + 1, NOW_MS, &facts);
            sessions.settled(sequence + 2, NOW_MS, &entry(&facts, nanos));
            sequence += 2;
            let sum = told.entry((tenant, id)).or_default();
            *sum = (sum.0 + 1, sum.1 + nanos);
            match then {
                0 => checkpoint(&sessions, sequence),
                1 => {
                    checkpoint(&sessions, sequence);
                    prop_assert!(in_memory(&sessions) <= SHARDS);
                    sessions = Sessions::new(Some(Arc::clone(&state)), kept(SHARDS));
                    sessions.load(NOW_MS).unwrap();
                }
                _ => {}
            }
        }
        let query = SessionQuery { from_ms: 0, tenant: None, status: None, now_ms: NOW_MS, timeout_ms: TIMEOUT_MS, order: SessionOrder::Last, limit: 1_000 };
        let found: BTreeMap<(String, String), (u64, i64)> = sessions.list(&query).unwrap().into_iter()
            .map(|one| ((one.who.tenant.to_string(), one.id.to_string()), (one.calls, one.cost.nanos())))
            .collect();
        prop_assert_eq!(found, told);
    }

    #[test]
    fn stored_bytes_that_are_no_session_are_refused(key: Vec<u8>, value: Vec<u8>) {
        let _ = rows::read(&key, &value);
    }
}

#[test]
fn a_session_is_active_until_silence_an_end_or_a_kill() {
    let sessions = Sessions::new(None, Kept::default());
    let facts = facts("s", "");
    let status = |at_ms: i64| sessions.find(None, "s").unwrap()[0].status(NOW_MS + at_ms, TIMEOUT_MS);
    sessions.held(1, NOW_MS, &facts);
    assert_eq!(status(9 * TIMEOUT_MS), Status::Active, "a call is running");
    sessions.settled(2, NOW_MS, &entry(&facts, 1));
    assert_eq!(status(TIMEOUT_MS - 1), Status::Active);
    assert_eq!(status(TIMEOUT_MS), Status::Completed);
    let end = |sequence, mark| {
        let (tenant, session) = (Name::from(""), Name::from("s"));
        sessions.marked(
            sequence,
            &Marked {
                at_ms: NOW_MS + 1,
                tenant,
                session,
                mark,
            },
        );
    };
    end(3, Mark::Completed);
    assert_eq!(status(2), Status::Completed);
    sessions.held(4, NOW_MS + 3, &facts);
    assert_eq!(status(3), Status::Active, "taken up again");
    end(5, Mark::Killed);
    sessions.voided(6, NOW_MS + 4, &facts);
    end(7, Mark::Completed);
    assert_eq!(status(4), Status::Killed, "killed for good");
    assert!(sessions.is_killed(&"".into(), &"s".into()) && !sessions.is_killed(&"other".into(), &"s".into()));
    end(8, Mark::Killed);
    assert_eq!(sessions.active(NOW_MS, TIMEOUT_MS), 0);
}

fn mark(sessions: &Sessions, sequence: u64, id: &str, mark: Mark) {
    let (tenant, session) = (Name::from(""), Name::from(id));
    sessions.marked(
        sequence,
        &Marked {
            at_ms: NOW_MS,
            tenant,
            session,
            mark,
        },
    );
}

#[test]
fn ending_what_nobody_knows_makes_no_session() {
    let sessions = Sessions::new(None, Kept::default());
    mark(&sessions, 1, "made-up", Mark::Completed);
    mark(&sessions, 2, "made-up", Mark::Alerted);
    assert_eq!(in_memory(&sessions), 0);
    sessions.held(3, NOW_MS, &facts("", ""));
    assert_eq!(in_memory(&sessions), 0);
}

#[test]
fn sessions_beyond_a_days_limit_are_not_listed_and_can_be_killed() {
    let state = MemoryStores::default().state().unwrap();
    let few = Kept {
        new_per_day_max: 3,
        ..Kept::default()
    };
    let sessions = Sessions::new(Some(Arc::clone(&state)), few);
    for (sequence, number) in (1..).zip(0..10) {
        let facts = facts(&format!("s{number}"), "");
        sessions.held(2 * sequence, NOW_MS, &facts);
        sessions.settled(2 * sequence + 1, NOW_MS, &entry(&facts, 1));
    }
    assert_eq!(in_memory(&sessions), 3);
    assert_eq!(sessions.folded(), 14, "seven calls as they were held and as they ended");
    assert!(!sessions.is_killed(&"".into(), &"s9".into()));
    mark(&sessions, 30, "s9", Mark::Killed);
    assert!(sessions.is_killed(&"".into(), &"s9".into()));
    checkpoint(&sessions, 30);
    // After a start the day's count goes on, and a session that is known comes back however many there are.
    let again = Sessions::new(Some(state), few);
    again.load(NOW_MS).unwrap();
    assert!(again.is_killed(&"".into(), &"s9".into()));
    again.held(31, NOW_MS, &facts("s10", ""));
    again.held(32, NOW_MS, &facts("s1", ""));
    assert_eq!((in_memory(&again), again.folded()), (4, 1));
    again.held(33, NOW_MS + DAY_MS, &facts("s10", ""));
    assert_eq!(in_memory(&again), 5, "the next day has room");
}

#[test]
fn ten_thousand_inferred_sessions_take_no_more_memory_than_others() {
    let state = MemoryStores::default().state().unwrap();
    let sessions = Sessions::new(Some(state), kept(100));
    for (sequence, number) in (1..).zip(0..10_000) {
        let facts = Facts {
            inferred: Inferred::SESSION,
            ..facts(&format!("s{number}"), "")
        };
        sessions.held(2 * sequence, NOW_MS, &facts);
        sessions.settled(2 * sequence + 1, NOW_MS, &entry(&facts, 1));
        if number % 1_000 == 999 {
            checkpoint(&sessions, 2 * sequence + 1);
            assert!(
                in_memory(&sessions) <= 100 + SHARDS,
                "{} in memory",
                in_memory(&sessions)
            );
        }
    }
    let found = sessions.find(None, "s0").unwrap();
    assert_eq!(found.len(), 1, "it rests on disk");
}

#[test]
fn changes_are_given_again_until_they_are_saved() {
    let state = MemoryStores::default().state().unwrap();
    let sessions = Sessions::new(Some(state), Kept::default());
    sessions.held(1, NOW_MS, &facts("s", ""));
    assert_eq!(sessions.changes().count(), 1);
    assert_eq!(
        sessions.changes().count(),
        1,
        "a checkpoint that failed writes them with the next"
    );
    sessions.held(2, NOW_MS, &facts("t", ""));
    sessions.saved(1, NOW_MS);
    assert_eq!(sessions.changes().count(), 1, "what came after it was not in it");
    sessions.saved(2, NOW_MS);
    assert!(sessions.changes().next().is_none());
}

#[test]
fn what_is_forgotten_is_told_in_pieces_and_written_by_another() {
    let state = MemoryStores::default().state().unwrap();
    let sessions = Sessions::new(Some(Arc::clone(&state)), kept(0));
    for (sequence, number) in (1..).zip(0..10) {
        let facts = facts(&format!("s{number}"), "");
        sessions.held(2 * sequence, NOW_MS, &facts);
        sessions.voided(2 * sequence + 1, NOW_MS, &facts);
    }
    mark(&sessions, 30, "s3", Mark::Killed);
    checkpoint(&sessions, 30);
    // One is taken up again, and its row on disk is older than what is known of it.
    sessions.held(31, NOW_MS + 10, &facts("s7", ""));
    let (mut from, mut changes, mut pieces) = (None, Vec::new(), 0);
    loop {
        let piece = sessions.forget_before(NOW_MS + 1, from.as_deref(), 4).unwrap();
        changes.extend(piece.changes);
        pieces += 1;
        from = piece.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!((pieces, changes.len()), (3, 8));
    assert!(!sessions.find(None, "s1").unwrap().is_empty(), "nothing was written");
    state.apply(changes).unwrap();
    assert!(sessions.find(None, "s1").unwrap().is_empty());
    for kept in ["s3", "s7"] {
        assert_eq!(sessions.find(None, kept).unwrap().len(), 1, "{kept}");
    }
}

#[test]
fn what_the_latest_call_says_is_known_and_what_it_leaves_out_stays() {
    let sessions = Sessions::new(None, Kept::default());
    let mut said = facts("s", "acme");
    sessions.held(1, NOW_MS, &said);
    said.task = "test".into();
    said.user = "".into();
    said.tags.insert(PARENT_TAG.into(), "p".into());
    sessions.held(2, NOW_MS, &said);
    let session = sessions.find(Some(&"acme".into()), "s").unwrap().remove(0);
    assert_eq!(
        (
            &*session.who.task,
            &*session.who.user,
            &*session.who.parent,
            session.running
        ),
        ("test", "ann", "p", 2)
    );
}

#[test]
fn killed_sessions_stay_known_when_others_leave() {
    let state = MemoryStores::default().state().unwrap();
    let sessions = Sessions::new(Some(Arc::clone(&state)), kept(0));
    for (sequence, id) in (1..).zip(["a", "b"]) {
        sessions.held(2 * sequence, NOW_MS, &facts(id, ""));
        sessions.voided(2 * sequence + 1, NOW_MS, &facts(id, ""));
    }
    mark(&sessions, 9, "a", Mark::Killed);
    checkpoint(&sessions, 9);
    assert_eq!(in_memory(&sessions), 1);
    let again = Sessions::new(Some(state), kept(0));
    again.load(NOW_MS + 1_000 * TIMEOUT_MS).unwrap();
    assert!(again.is_killed(&"".into(), &"a".into()));
    let state = Arc::clone(again.state.as_ref().unwrap());
    state
        .apply(again.forget_before(NOW_MS + 1, None, 100).unwrap().changes)
        .unwrap();
    assert!(again.find(None, "b").unwrap().is_empty());
    assert!(
        again.is_killed(&"".into(), &"a".into()),
        "killed sessions are never forgotten"
    );
    assert_eq!(again.find(None, "a").unwrap().len(), 1);
}
