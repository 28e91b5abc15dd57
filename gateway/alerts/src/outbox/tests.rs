#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::alert::Severity;
use crate::alert::tests::{NOON_MS, alert};
use crate::plan::{Digest, Retry};
use crate::quiet::QuietHours;

/// What is on disk; clones share it, so that a test can restart an outbox over it.
#[derive(Clone, Default)]
struct Disk(Rc<RefCell<Rows>>);

#[derive(Default)]
struct Rows {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    is_full: bool,
    most: usize,
}

impl Store for Disk {
    fn apply(&mut self, writes: Vec<Write>) -> Result<(), StoreFailed> {
        let mut disk = self.0.borrow_mut();
        if disk.is_full {
            return Err(StoreFailed("full".to_owned()));
        }
        for write in writes {
            match write {
                Write::Put(key, value) => disk.rows.insert(key, value),
                Write::Remove(key) => disk.rows.remove(&key),
            };
        }
        disk.most = disk.most.max(disk.rows.len());
        Ok(())
    }

    fn scan(&self) -> Result<Vec<Row>, StoreFailed> {
        let disk = self.0.borrow();
        Ok(disk
            .rows
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }
}

fn plan(receivers: &[&str]) -> Plan {
    Plan {
        receivers: receivers.iter().map(ToString::to_string).collect(),
        retry: Retry {
            attempts_max: 5,
            ..Retry::default()
        },
        ..Plan::default()
    }
}

fn opened(disk: &Disk, plan: Plan) -> Outbox<Disk> {
    Outbox::open(disk.clone(), plan, 7).unwrap().0
}

fn numbered(number: u64) -> Alert {
    let mut alert = alert("budget_warning", &format!("key:{number}"));
    alert.id = Ulid::from_parts(u64::try_from(NOON_MS).unwrap(), number.into());
    alert
}

fn failed() -> Outcome {
    Outcome::Failed {
        error: "it answers 500".to_owned(),
        after_ms: None,
    }
}

#[test]
fn a_delivery_stays_on_disk_until_it_has_arrived() {
    let disk = Disk::default();
    let mut outbox = opened(&disk, plan(&["a"]));
    outbox.raise(NOON_MS, &[numbered(1)], &[]);
    outbox.save().unwrap();
    assert_eq!(outbox.due(NOON_MS).len(), 1);
    assert!(outbox.due(NOON_MS).is_empty(), "it is in flight");

    let mut restarted = opened(&disk, plan(&["a"]));
    let attempts = restarted.due(NOON_MS);
    assert_eq!(attempts[0].alert, numbered(1), "the same, with the same id");
    assert_eq!(
        restarted.settled(NOON_MS, &attempts[0], Outcome::Delivered),
        Settled::Delivered
    );
    restarted.save().unwrap();
    assert!(disk.scan().unwrap().is_empty());
    assert_eq!(
        restarted.settled(NOON_MS, &attempts[0], Outcome::Delivered),
        Settled::Unknown
    );
}

#[test]
fn what_fails_is_tried_again_and_at_last_a_dead_letter() {
    let disk = Disk::default();
    let mut outbox = opened(&disk, plan(&["a"]));
    outbox.raise(NOON_MS, &[numbered(1)], &[]);
    let (mut now_ms, mut waits) = (NOON_MS, Vec::new());
    loop {
        let attempts = outbox.due(now_ms);
        assert_eq!(attempts.len(), 1);
        match outbox.settled(now_ms, &attempts[0], failed()) {
            Settled::Again { due_ms } => {
                assert!(due_ms == now_ms || outbox.due(due_ms - 1).is_empty());
                assert_eq!(outbox.next_ms(), Some(due_ms));
                waits.push(due_ms - now_ms);
                now_ms = due_ms;
            }
            settled => break assert_eq!(settled, Settled::Dead),
        }
    }
    assert_eq!(waits.len(), 4);
    outbox.save().unwrap();
    assert_eq!((outbox.counts(), outbox.next_ms()), ((0, 1), None));
    let mut outbox = opened(&disk, plan(&["a"]));
    assert_eq!(outbox.deliveries()[0].error, "it answers 500");
    assert!(outbox.due(i64::MAX).is_empty());
    assert_eq!(outbox.retry(now_ms, Some(Ulid::nil()), None), 0);
    assert_eq!(outbox.retry(now_ms, Some(numbered(1).id), Some("a")), 1);
    assert_eq!(outbox.due(now_ms)[0].alert, numbered(1));
}

#[test]
fn an_old_delivery_and_a_refused_one_are_dead_at_once() {
    let mut outbox = opened(&Disk::default(), plan(&["a"]));
    outbox.raise(NOON_MS, &[numbered(1), numbered(2)], &[]);
    let attempts = outbox.due(NOON_MS);
    let refused = Outcome::Refused {
        error: "it answers 404".to_owned(),
    };
    assert_eq!(outbox.settled(NOON_MS, &attempts[0], refused), Settled::Dead);
    let day_later_ms = NOON_MS + Retry::default().age_max_ms;
    assert_eq!(outbox.settled(day_later_ms, &attempts[1], failed()), Settled::Dead);
}

#[test]
fn a_receiver_that_asks_for_time_is_left_alone_within_bounds() {
    let mut outbox = opened(&Disk::default(), plan(&["a", "b"]));
    outbox.raise(NOON_MS, &[numbered(1)], &[]);
    let attempts = outbox.due(NOON_MS);
    let busy = |after_ms| Outcome::Failed {
        error: "429".to_owned(),
        after_ms: Some(after_ms),
    };
    let settled = outbox.settled(NOON_MS, &attempts[0], busy(90_000));
    assert_eq!(
        settled,
        Settled::Again {
            due_ms: NOON_MS + 90_000
        }
    );
    outbox.settled(NOON_MS, &attempts[1], Outcome::Delivered);
    outbox.raise(NOON_MS, &[numbered(2)], &[]);
    let others: Vec<String> = outbox
        .due(NOON_MS + 89_999)
        .into_iter()
        .map(|attempt| attempt.receiver)
        .collect();
    assert_eq!(others, ["b"]);
    let attempts = outbox.due(NOON_MS + 90_000);
    assert_eq!(attempts.len(), 2);
    let settled = outbox.settled(NOON_MS, &attempts[0], busy(i64::MAX));
    assert_eq!(
        settled,
        Settled::Again {
            due_ms: NOON_MS + PAUSE_MAX_MS
        }
    );
}

#[test]
fn a_date_set_back_holds_nothing_up() {
    let mut outbox = opened(&Disk::default(), plan(&["a"]));
    outbox.raise(NOON_MS, &[numbered(1)], &[]);
    let year_before_ms = NOON_MS - 365 * 86_400_000;
    outbox.due(year_before_ms);
    let longest_ms = i64::try_from(Retry::default().longest_ms).unwrap();
    assert_eq!(outbox.due(year_before_ms + longest_ms).len(), 1);
}

#[test]
fn a_flood_is_bounded_in_memory_and_on_disk_and_says_how_many_it_folded() {
    let disk = Disk::default();
    let mut outbox = opened(&disk, plan(&["a"]));
    let all: Vec<Alert> = (0..10_000).map(numbered).collect();
    for batch in all.chunks(100) {
        outbox.raise(NOON_MS, batch, &[]);
        outbox.save().unwrap();
        outbox.due(NOON_MS);
    }
    assert_eq!(outbox.counts(), (WAITING_MAX, 0));
    assert_eq!(disk.0.borrow().most, WAITING_MAX);
    let mut outbox = opened(&disk, plan(&["a"]));
    let (mut delivered, mut folded) = (0, 0);
    loop {
        let attempts = outbox.due(NOON_MS);
        if attempts.is_empty() {
            break;
        }
        for attempt in attempts {
            delivered += 1;
            folded += attempt.alert.folded;
            outbox.settled(NOON_MS, &attempt, Outcome::Delivered);
        }
    }
    assert_eq!(
        (delivered, folded),
        (WAITING_MAX, 9_000),
        "each is delivered or counted"
    );
}

#[test]
fn a_critical_alert_takes_the_room_of_one_that_waits_for_the_morning() {
    let quiet = QuietHours {
        zone: TimeZone::UTC,
        from: "11:00".parse().unwrap(),
        until: "14:00".parse().unwrap(),
        passes: Severity::Critical,
    };
    let with_quiet_hours = Plan {
        quiet: Some(quiet),
        ..plan(&["a"])
    };
    let disk = Disk::default();
    let mut outbox = opened(&disk, with_quiet_hours);
    let held: Vec<Alert> = (0..1_500).map(numbered).collect();
    outbox.raise(NOON_MS, &held, &[]);
    let mut fault = numbered(2_000);
    (fault.kind, fault.severity) = ("ledger_fault".to_owned(), Severity::Critical);
    outbox.raise(NOON_MS, &[fault.clone()], &[]);
    outbox.save().unwrap();
    let due = outbox.due(NOON_MS);
    assert_eq!(due.iter().map(|attempt| &attempt.alert).collect::<Vec<_>>(), [&fault]);
    assert_eq!(
        (outbox.counts(), disk.scan().unwrap().len()),
        ((WAITING_MAX, 0), WAITING_MAX)
    );
    let held = outbox.deliveries();
    let held: Vec<&&Delivery> = held.iter().filter(|delivery| delivery.is_held).collect();
    let counted: u64 = held.iter().map(|delivery| 1 + delivery.alert.folded).sum();
    assert_eq!(counted, 1_500, "each is held or counted");
    assert!(held.iter().all(|delivery| delivery.alert.severity == Severity::Warning));
}

#[test]
fn a_long_cooldown_outlives_a_restart_and_no_date_set_back() {
    let cooled = |about: &str, since_ms: i64| Cooled {
        kind: "threshold_reached".to_owned(),
        about: about.to_owned(),
        since_ms,
        cooldown_ms: 2 * COOLED_MIN_MS,
    };
    let disk = Disk::default();
    let mut outbox = opened(&disk, plan(&["a"]));
    outbox.cool(cooled("a", NOON_MS - COOLED_MIN_MS));
    outbox.cool(cooled("ended", NOON_MS - 2 * COOLED_MIN_MS));
    outbox.cool(cooled("tomorrow", NOON_MS + 24 * COOLED_MIN_MS));
    outbox.save().unwrap();
    let (mut outbox, unreadable) = Outbox::open(disk.clone(), plan(&["a"]), 7).unwrap();
    assert_eq!(unreadable, 0);
    let left: Vec<(String, i64)> = outbox
        .cooling(NOON_MS)
        .into_iter()
        .map(|(cooled, left_ms)| (cooled.about, left_ms))
        .collect();
    let expected = [("a", COOLED_MIN_MS), ("tomorrow", 2 * COOLED_MIN_MS)];
    assert_eq!(left, expected.map(|(about, left_ms)| (about.to_owned(), left_ms)));
    outbox.save().unwrap();
    assert_eq!(disk.scan().unwrap().len(), 2, "what has ended is removed");
}

#[test]
fn cooldowns_on_disk_are_bounded_and_a_flood_of_one_type_costs_no_other() {
    let disk = Disk::default();
    let mut outbox = opened(&disk, plan(&["a"]));
    let cooled = |kind: &str, at: i64| Cooled {
        kind: kind.to_owned(),
        about: at.to_string(),
        since_ms: NOON_MS + at,
        cooldown_ms: COOLED_MIN_MS,
    };
    // It ends before all others.
    outbox.cool(cooled("other", -1));
    for at in 0..i64::try_from(COOLED_MAX).unwrap() + 49 {
        outbox.cool(cooled("k", at));
    }
    outbox.save().unwrap();
    let left = opened(&disk, plan(&["a"])).cooling(NOON_MS + 60);
    assert_eq!((left.len(), disk.scan().unwrap().len()), (COOLED_MAX, COOLED_MAX));
    let flood = left.iter().filter(|(cooled, _)| cooled.kind == "k");
    assert!(flood.clone().all(|(cooled, _)| cooled.since_ms >= NOON_MS + 50));
    assert_eq!(flood.count(), COOLED_MAX - 1);
}

#[test]
fn dead_letters_are_bounded() {
    let disk = Disk::default();
    let mut outbox = opened(&disk, plan(&["a"]));
    for number in 0..1_500 {
        outbox.raise(NOON_MS, &[numbered(number)], &[]);
        for attempt in outbox.due(NOON_MS) {
            outbox.settled(NOON_MS, &attempt, Outcome::Refused { error: String::new() });
        }
    }
    outbox.save().unwrap();
    assert_eq!((outbox.counts(), outbox.dead_dropped()), ((0, DEAD_MAX), 500));
    assert_eq!(disk.scan().unwrap().len(), DEAD_MAX);
    assert_eq!(outbox.deliveries()[0].alert.id, numbered(500).id, "the oldest went");
    let mut info = numbered(1_000_000);
    info.severity = Severity::Info;
    outbox.raise(NOON_MS, &[info.clone()], &[]);
    for attempt in outbox.due(NOON_MS) {
        outbox.settled(NOON_MS, &attempt, Outcome::Refused { error: String::new() });
    }
    let left = outbox.deliveries();
    assert!(
        left.iter().all(|dead| dead.alert.id != info.id),
        "the least severe goes before the oldest"
    );
}

#[test]
fn quiet_hours_hold_what_may_wait_and_send_it_as_one() {
    let disk = Disk::default();
    let quiet = QuietHours {
        zone: TimeZone::UTC,
        from: "11:00".parse().unwrap(),
        until: "13:00".parse().unwrap(),
        passes: Severity::Critical,
    };
    let plan = || Plan {
        quiet: Some(quiet.clone()),
        ..plan(&["a"])
    };
    let mut outbox = opened(&disk, plan());
    let mut urgent = numbered(3);
    urgent.severity = Severity::Critical;
    outbox.raise(NOON_MS, &[numbered(1), numbered(2), urgent.clone()], &[]);
    outbox.save().unwrap();
    let passed: Vec<Alert> = outbox.due(NOON_MS).into_iter().map(|attempt| attempt.alert).collect();
    assert_eq!(passed, [urgent]);
    let end_ms = NOON_MS + 3_600_000;

    let mut outbox = opened(&disk, plan());
    let attempts = outbox.due(end_ms);
    let digest = &attempts
        .iter()
        .find(|attempt| attempt.alert.kind == "digest")
        .unwrap()
        .alert;
    assert_eq!(
        digest.message,
        "2 alerts\nwarning budget_warning: API key f1 approaching budget limit\nwarning budget_warning: API key f1 approaching budget limit"
    );
    assert_eq!(digest.details, [("budget_warning".to_owned(), "2".to_owned())]);
    outbox.save().unwrap();
    // A crash before it is sent: the same digest, and no other.
    let mut again = opened(&disk, plan());
    let attempts = again.due(end_ms + 1);
    assert!(attempts.iter().any(|attempt| attempt.alert == *digest));
    assert_eq!(attempts.len(), 2);
}

#[test]
fn a_digest_gathers_for_its_interval_and_one_alert_goes_by_itself() {
    let digest = Digest {
        every_ms: 60_000,
        passes: Severity::Critical,
    };
    let plan = Plan {
        digest: Some(digest),
        ..plan(&["a"])
    };
    let mut outbox = opened(&Disk::default(), plan);
    outbox.raise(NOON_MS, &[numbered(1)], &[]);
    outbox.raise(NOON_MS + 30_000, &[numbered(2)], &[]);
    assert_eq!(outbox.next_ms(), Some(NOON_MS + 60_000), "the first decides when");
    assert!(outbox.due(NOON_MS + 59_999).is_empty());
    let attempts = outbox.due(NOON_MS + 60_000);
    assert_eq!((attempts.len(), attempts[0].alert.kind.as_str()), (1, "digest"));
    outbox.settled(NOON_MS + 60_000, &attempts[0], Outcome::Delivered);
    outbox.raise(NOON_MS + 70_000, &[numbered(3)], &[]);
    let attempts = outbox.due(NOON_MS + 130_000);
    assert_eq!(attempts[0].alert, numbered(3));
}

#[test]
fn a_silence_keeps_an_alert_from_its_receivers() {
    let mut outbox = opened(&Disk::default(), plan(&["a"]));
    let silences = [Silence::new("maintenance", ["budget_*", "", ""], NOON_MS + 1).unwrap()];
    let routed = outbox.raise(NOON_MS, &[numbered(1), alert("loop_detected", "s1")], &silences);
    assert_eq!(
        routed,
        [
            Routed::Silenced("maintenance".to_owned()),
            Routed::To(vec!["a".to_owned()])
        ]
    );
    let routed = outbox.raise(NOON_MS + 1, &[numbered(1)], &silences);
    assert_eq!(routed, [Routed::To(vec!["a".to_owned()])]);
}

#[test]
fn receivers_that_are_gone_leave_dead_letters() {
    let disk = Disk::default();
    let mut outbox = opened(&disk, plan(&["a", "b"]));
    outbox.raise(NOON_MS, &[numbered(1)], &[]);
    outbox.set_plan(plan(&["b"]));
    assert_eq!(outbox.due(NOON_MS).len(), 1);
    assert_eq!(
        (outbox.counts(), outbox.deliveries()[0].error.as_str()),
        ((1, 1), "no receiver is named a")
    );
}

#[test]
fn a_full_disk_loses_nothing_in_memory_and_is_made_good() {
    let disk = Disk::default();
    let mut outbox = opened(&disk, plan(&["a"]));
    disk.0.borrow_mut().is_full = true;
    outbox.raise(NOON_MS, &[numbered(1)], &[]);
    assert!(outbox.save().is_err());
    disk.0.borrow_mut().is_full = false;
    outbox.save().unwrap();
    assert_eq!(disk.scan().unwrap().len(), 1);
}

#[test]
fn rows_that_cannot_be_read_are_removed_and_counted() {
    let mut disk = Disk::default();
    disk.apply(vec![Write::Put(b"x".to_vec(), b"{".to_vec())]).unwrap();
    let (_, unreadable) = Outbox::open(disk.clone(), plan(&["a"]), 7).unwrap();
    assert_eq!((unreadable, disk.scan().unwrap().len()), (1, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Raise(u8),
    Save,
    Try { wait_ms: i64, works: bool },
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1_u8..20).prop_map(Step::Raise),
        3 => Just(Step::Save),
        4 => (0_i64..700_000, any::<bool>()).prop_map(|(wait_ms, works)| Step::Try { wait_ms, works }),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// Whatever happens in which order: what was saved arrives at each receiver or is a dead letter, and what comes twice
    /// comes with the same id and the same content.
    #[test]
    fn what_was_saved_arrives_or_is_a_dead_letter(steps in steps(), seed in any::<u64>()) {
        let disk = Disk::default();
        let start = || Outbox::open(disk.clone(), plan(&["a", "b"]), seed).unwrap().0;
        let mut outbox = start();
        let (mut now_ms, mut next) = (NOON_MS, 0);
        let mut raised: Vec<u64> = Vec::new();
        let mut saved: BTreeSet<u64> = BTreeSet::new();
        let mut arrived: BTreeMap<(String, Ulid), Alert> = BTreeMap::new();
        let ending = [Step::Save].into_iter().chain((0..60).map(|_| Step::Try { wait_ms: 700_000, works: true }));
        for step in steps.into_iter().chain(ending) {
            match step {
                Step::Raise(count) => {
                    let numbers: Vec<u64> = (next..next + u64::from(count)).collect();
                    next += u64::from(count);
                    let alerts: Vec<Alert> = numbers.iter().copied().map(numbered).collect();
                    outbox.raise(now_ms, &alerts, &[]);
                    raised.extend(numbers);
                }
                Step::Save => {
                    outbox.save().unwrap();
                    saved.extend(raised.drain(..));
                }
                Step::Try { wait_ms, works } => {
                    outbox.save().unwrap();
                    saved.extend(raised.drain(..));
                    now_ms += wait_ms;
                    let attempts = outbox.due(now_ms);
                    prop_assert!(attempts.len() <= 2 * IN_FLIGHT_MAX);
                    for attempt in attempts {
                        let on_disk = disk.0.borrow().rows.contains_key(&row_key(&(attempt.alert.id, attempt.receiver.clone())));
                        prop_assert!(on_disk, "it is written before it is tried");
                        if works {
                            let key = (attempt.receiver.clone(), attempt.alert.id);
                            let before = arrived.insert(key, attempt.alert.clone());
                            prop_assert!(before.is_none_or(|before| before == attempt.alert));
                        }
                        let outcome = if works { Outcome::Delivered } else { failed() };
                        outbox.settled(now_ms, &attempt, outcome);
                    }
                }
                Step::Crash => {
                    raised.clear();
                    outbox = start();
                }
            }
        }
        outbox.save().unwrap();
        let dead: BTreeSet<(String, Ulid)> = outbox.deliveries().iter()
            .map(|delivery| (delivery.receiver.clone(), delivery.alert.id)).collect();
        for number in saved {
            for receiver in ["a", "b"] {
                let key = (receiver.to_owned(), numbered(number).id);
                prop_assert!(arrived.contains_key(&key) || dead.contains(&key), "{number} to {receiver}");
            }
        }
    }
}
