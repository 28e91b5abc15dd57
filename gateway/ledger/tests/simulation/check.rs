//! What must hold, always, and once everything is written and applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agentledger_ledger::store::{Month, Stores};
use agentledger_ledger::testing::{Stepped, walk};
use agentledger_ledger::{Amounts, ChangeQuery, Dimension, Ledger, Mode, Name, SessionQuery, SummaryQuery, Window};
use rand::Rng;

use crate::mirror::Mirror;
use crate::world::World;

impl World {
    /// After each step, whatever is on its way to the disk.
    pub fn check(&mut self) {
        assert!(
            !self.stores.has_stray_rows(),
            "derived state was changed outside of a checkpoint"
        );
        let ledger = Arc::clone(self.ledger().ledger());
        let health = ledger.health();
        if let Some(why) = &health.stopped {
            assert!(self.was_disturbed, "stopped on a sound machine: {why}");
        }
        let oracle = self.oracle.borrow();
        assert_eq!(
            ledger.spent("global", Window::Total).usd,
            oracle.posted,
            "posted differs from entries and corrections"
        );
        let held = oracle.open.values().fold(Amounts::ZERO, |sum, held| sum.plus(held));
        assert_eq!(
            ledger.held("global"),
            held,
            "held differs from the sum of the open holds"
        );
        assert_eq!(health.open_holds, oracle.open.len());
        assert!(health.permits_left <= self.options.queue_events_max);
        let deferred = oracle.open.keys().filter(|hold| oracle.is_deferred(hold)).count();
        let undeferred = oracle.open.len() - deferred;
        assert!(undeferred <= self.options.queue_events_max, "more holds than permits");
        assert_eq!(documents(&ledger), oracle.documents, "documents in force");
        drop(oracle);
        for bound in self.bounds.iter().filter(|bound| bound.mode() == Mode::Hard) {
            let standing = ledger.standing(bound);
            let spent = i128::from(standing.posted) + i128::from(standing.held) - i128::from(standing.overage);
            assert!(
                spent <= i128::from(standing.limit),
                "over the limit: {bound:?} {standing:?}"
            );
            assert!(standing.held >= 0);
        }
        let decided_ms = ledger.decision_ms();
        assert!(decided_ms >= self.decided_ms, "time went back");
        self.decided_ms = decided_ms;
        self.mirror.see_time(decided_ms);
        let most_ms = self.believable.until_ms();
        assert!(
            decided_ms <= most_ms,
            "decisions are {} ms ahead of what has passed",
            decided_ms - most_ms
        );
        self.check_months();
    }

    /// No month is gone that retention keeps.
    fn check_months(&self) {
        let kept = self
            .options
            .retention_months
            .map_or(usize::MAX, |kept| kept as usize + 1);
        let there = self.stores.inner.months().unwrap();
        let mut needed = self.mirror.months.keys().rev().take(kept);
        let gone = needed.find(|month| !there.contains(month));
        assert!(gone.is_none(), "{gone:?} was removed, of {:?}", self.mirror.months);
    }

    /// Once all is written and applied: journal, books and derived state say the same.
    pub fn check_all(&mut self) {
        let ledger = Arc::clone(self.ledger().ledger());
        let health = ledger.health();
        if health.stopped.is_some() || health.suspended.is_some() || self.stores.inner.is_dead() {
            return;
        }
        self.mirror.see_time(ledger.decision_ms());
        let mirror = &self.mirror;
        if crate::is_traced() {
            mirror.print();
        }
        assert_eq!(health.waiting_events, 0);
        assert_eq!(ledger.head().sequence, mirror.head());
        assert_eq!(
            ledger.spent("global", Window::Total),
            mirror.posted,
            "books and journal differ"
        );
        assert_eq!(ledger.held("global"), mirror.held_now());
        for (key, posted) in mirror.known_keys() {
            let account = format!("key:{key}");
            assert_eq!(
                ledger.spent(&account, Window::Total),
                *posted,
                "{account}: books and journal differ"
            );
        }
        let rows = ledger.balances();
        let total = |row: &&agentledger_ledger::BalanceRow| &*row.account == "global" && row.window == Window::Total;
        let posted = rows.iter().find(total).map_or(Amounts::ZERO, |row| row.posted);
        assert_eq!(posted, mirror.posted, "balances and the journal differ");
        check_sums(&ledger, mirror);
        // The opening of the first month that retention keeps, whether or not those before it are removed by now.
        let kept = self.options.retention_months.map_or(usize::MAX, |kept| kept as usize);
        let kept_from = mirror.months.values().rev().nth(kept).copied().unwrap_or(0);
        check_sessions(&ledger, mirror, self.options.retention_months.is_none(), kept_from);
        self.check_bills();
        assert_eq!(documents(&ledger), mirror.documents, "documents and journal differ");
        self.check_changes(&ledger);
        assert!(
            mirror.denied <= self.oracle.borrow().denied,
            "more refusals than there were"
        );
        let report = self.stores.undisturbed(|| ledger.verify(None)).unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(report.head.sequence, mirror.head());
        if self.rng.random_bool(0.2) {
            self.check_each_month_alone();
        }
    }

    /// Pages of changes bring all of the months that are there.
    fn check_changes(&self, ledger: &Ledger) {
        let there = self.stores.inner.months().unwrap();
        let openings = self.mirror.months.iter().filter(|(month, _)| there.contains(month));
        let first = openings.map(|(_, opening)| *opening).min().unwrap_or(u64::MAX);
        let expected: Vec<_> = self
            .mirror
            .changes
            .iter()
            .rev()
            .filter(|(sequence, _)| *sequence > first)
            .cloned()
            .collect();
        let mut found = Vec::new();
        let mut query = ChangeQuery {
            limit: 3,
            ..ChangeQuery::default()
        };
        loop {
            let page = self.stores.undisturbed(|| ledger.changes(&query)).unwrap();
            found.extend(page.changes);
            match page.next {
                None => break,
                next => query.before_sequence = next,
            }
        }
        assert_eq!(found, expected, "changes and journal differ");
    }

    /// What was billed under one id is billed once, at what it costs.
    fn check_bills(&self) {
        let costs: BTreeMap<_, _> = {
            let oracle = self.oracle.borrow();
            oracle
                .responses
                .iter()
                .map(|response| (response.bill, response.cost))
                .collect()
        };
        for (bill, billing) in &self.mirror.bills {
            assert!(!billing.is_double, "billed twice: {billing:?}");
            if !billing.is_guess && billing.is_single() {
                assert_eq!(billing.cost, costs[bill], "billed at another cost: {billing:?}");
            }
        }
    }

    /// Each month is enough to go on without those before it, and without derived state.
    pub fn check_each_month_alone(&self) {
        for (month, opening) in &self.mirror.months {
            let alone = self.stores.inner.from_month(*month);
            if !alone.months().unwrap().contains(month) {
                continue;
            }
            let report = walk(&alone, None, u64::MAX).unwrap();
            assert!(report.is_sound(), "from {month} on: {report:?}");
            let ledger = Stepped::open(Arc::new(alone), &self.options, Arc::clone(&self.clock) as _);
            let ledger = ledger.unwrap_or_else(|error| panic!("from {month} on a start is refused: {error}"));
            let posted = self.mirror.posted.plus(&self.mirror.recovered(*opening));
            assert_eq!(
                ledger.ledger().spent("global", Window::Total),
                posted,
                "from {month} on"
            );
            assert_eq!(documents(ledger.ledger()), self.mirror.documents, "from {month} on");
        }
    }

    /// At the end, on a machine that works again.
    pub fn check_end(&mut self) {
        let health = self.ledger().ledger().health();
        assert_eq!(
            (health.stopped, health.suspended, health.checkpoint_failed),
            (None, None, None)
        );
        assert_eq!(health.clock, agentledger_ledger::ClockState::Sound);
        assert!(
            health.checkpoint_age_ms <= 130_000,
            "no checkpoint for {} ms",
            health.checkpoint_age_ms
        );
        if let Some(kept) = self.options.retention_months {
            // One that a crash left empty is none.
            let mut months: Vec<Month> = self.stores.inner.months().unwrap();
            months.retain(|month| self.mirror.months.contains_key(month));
            assert!(
                months.len() <= kept as usize + 1,
                "{months:?} are kept, of {kept} and the running one"
            );
        }
        self.check_each_month_alone();
    }
}

fn check_sums(ledger: &agentledger_ledger::Ledger, mirror: &Mirror) {
    let rows = ledger.summary(&SummaryQuery {
        from_ms: i64::MIN,
        to_ms: i64::MAX,
        by: Dimension::Key,
        tenant: None,
    });
    let found: BTreeMap<Name, i64> = rows.iter().map(|row| (row.key.clone(), row.cost.nanos())).collect();
    assert_eq!(found, mirror.cost_by_key, "cost sums and journal differ");
    assert_eq!(rows.iter().map(|row| row.requests).sum::<u64>(), mirror.requests);
}

/// Sessions add up their calls. With retention, one that was silent for long may be forgotten, and begin anew.
fn check_sessions(ledger: &agentledger_ledger::Ledger, mirror: &Mirror, is_exact: bool, kept_from: u64) {
    let query = SessionQuery {
        from_ms: i64::MIN,
        tenant: None,
        status: None,
        now_ms: ledger.now_ms(),
        timeout_ms: 60_000,
        order: Default::default(),
        limit: usize::MAX / 4,
    };
    let found = ledger.sessions().list(&query).unwrap();
    for session in &found {
        let sum = &mirror.sessions[&session.id];
        assert_eq!(session.running, sum.running, "{}: running calls", session.id);
        assert!(session.is_killed == sum.is_killed, "{}: killed?", session.id);
        if is_exact {
            let said = (session.calls, session.cost.nanos());
            assert_eq!(said, (sum.calls, sum.cost), "{}: calls and cost", session.id);
        } else {
            let mut since = sum.calls_before.iter().chain(&[0]).map(|before| sum.calls - before);
            assert!(
                since.any(|calls| calls == session.calls),
                "{}: {session:?} {sum:?}",
                session.id
            );
        }
    }
    let known: BTreeSet<&Name> = found.iter().map(|session| &session.id).collect();
    for (id, sum) in &mirror.sessions {
        let may_be_forgotten =
            !is_exact && !sum.is_killed && sum.running == 0 && (sum.last_sequence < kept_from || mirror.was_set_back);
        if may_be_forgotten && !known.contains(id) {
            crate::seen("a session forgotten");
        }
        assert!(
            known.contains(id) || may_be_forgotten,
            "the session {id} is missing: {sum:?}"
        );
    }
}

/// Documents in force, with their versions.
fn documents(ledger: &Ledger) -> BTreeMap<Name, (Name, u64)> {
    let documents = ledger.documents("").into_iter();
    documents
        .map(|document| (document.subject, (document.value, document.version)))
        .collect()
}
