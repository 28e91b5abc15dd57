//! `exact`: with the recorded facts, order and answers, by the policies that were in force, each decision must come out as it is
//! recorded. The books are kept along, so that a hold is also checked against what stood in them at its place in the order.

use agentledger_ledger::{Books, Event, Facts, Held, HeldBound, Mode, Refused, rfc3339_ms};

use super::candidate::Amendment;
use super::evaluate::{Evaluator, LatePolicies, Reevaluated};
use super::report::{Difference, Exact, Reasons};
use super::rules::KnownRules;
use super::words::bound_in_words;
use crate::policy::record::{DecisionRecord, RefusedBy};
use crate::policy::{RequestedBound, Verdict};

/// Differences that are listed; all are counted.
const DIFFERENCES_MAX: usize = 10_000;

/// Why a failure may not come again.
const STOPPED_POLICY: &str = "its policy was stopped at a limit of time or memory";

/// A replay that is under way.
pub struct ExactReplay {
    rules: KnownRules,
    evaluator: Evaluator,
    books: Books,
    report: Exact,
    pub(super) reasons: Reasons,
    pub(super) decisions: u64,
    late: LatePolicies,
}

/// What is different: the part, as it is recorded, as it came out.
type Found = (&'static str, String, String);

impl ExactReplay {
    pub fn new(amendment: Option<Amendment>) -> ExactReplay {
        ExactReplay {
            rules: KnownRules::new(amendment),
            evaluator: Evaluator::new(),
            books: Books::new(),
            report: Exact::default(),
            reasons: Reasons::default(),
            decisions: 0,
            late: LatePolicies::default(),
        }
    }

    /// Takes in the next event; `counts`: its decision is of the time that is replayed.
    ///
    /// # Errors
    /// It does not follow from those before it.
    pub fn take(&mut self, sequence: u64, event: &Event, counts: bool) -> Result<(), String> {
        match event {
            Event::Held(held) if counts => self.held(sequence, held),
            Event::Refused(refused) if counts => self.refused(sequence, refused),
            Event::Changed(change) => self.rules.change(change),
            Event::InForce(in_force) => self.rules.see(sequence, in_force),
            _ => {}
        }
        if let Some(why) = self.late.hopeless() {
            return Err(why);
        }
        let is_first = self.books.head() == 0;
        self.books.apply(sequence, event).map_err(|error| error.to_string())?;
        if is_first {
            self.rules.open(self.books.documents());
        }
        Ok(())
    }

    fn held(&mut self, sequence: u64, held: &Held) {
        self.decisions += 1;
        let Some(record) = &held.record else {
            return self.reasons.add("not recorded", || held.facts.id.to_string());
        };
        let found = self.check(&held.facts, record, |this, record, again| {
            this.allowed(held, record, again)
        });
        self.enter(sequence, held.at_ms, &held.facts, found);
    }

    fn refused(&mut self, sequence: u64, refused: &Refused) {
        self.decisions += 1;
        let found = self.check(&refused.facts, &refused.record, |_, record, again| {
            denied(refused, record, again)
        });
        self.enter(sequence, refused.at_ms, &refused.facts, found);
    }

    /// Decides again; `None` where that cannot be done.
    fn check(
        &mut self,
        facts: &Facts,
        record: &agentledger_ledger::Record,
        compare: impl FnOnce(&ExactReplay, &DecisionRecord, &Reevaluated) -> Option<Found>,
    ) -> Option<Option<Found>> {
        let id = || facts.id.to_string();
        let record = match DecisionRecord::read(record, facts) {
            Ok(record) => record,
            Err(bad) => {
                self.reasons.add(&bad.to_string(), id);
                return None;
            }
        };
        let set = match self.rules.get(record.rules) {
            Ok(set) => set,
            Err(why) => {
                self.reasons.add(why, id);
                return None;
            }
        };
        let again = self.evaluator.again(set, facts, &record);
        again.failure.iter().for_each(|failure| self.late.see(failure));
        match (&record.refused, &again.failure) {
            (Some(RefusedBy::Failed { policy, cause }), failure) => {
                let fails = failure.as_ref().is_some_and(|failure| *failure.policy == **policy);
                if !fails && !cause.is_of_the_facts() {
                    self.reasons.add(STOPPED_POLICY, id);
                    return None;
                }
                let said = || {
                    failure
                        .as_ref()
                        .map_or("it gave a verdict".to_owned(), ToString::to_string)
                };
                Some((!fails).then(|| ("policy", format!("policy {policy} failed"), said())))
            }
            (_, Some(failure)) => Some(Some(("policy", "it gave a verdict".to_owned(), failure.to_string()))),
            (_, None) => Some(compare(self, &record, &again)),
        }
    }

    fn enter(&mut self, sequence: u64, at_ms: i64, facts: &Facts, found: Option<Option<Found>>) {
        match found {
            None => {}
            Some(None) => self.report.equal += 1,
            Some(Some((what, recorded, replayed))) => {
                self.report.different += 1;
                if self.report.differences.len() < DIFFERENCES_MAX {
                    self.report.differences.push(Difference {
                        id: facts.id.to_string(),
                        sequence,
                        at: rfc3339_ms(at_ms),
                        what: what.to_owned(),
                        recorded,
                        replayed,
                    });
                }
            }
        }
    }

    /// A call that was let through.
    fn allowed(&self, held: &Held, record: &DecisionRecord, again: &Reevaluated) -> Option<Found> {
        if let Some(found) = same_reading(&held.facts, record, again) {
            return Some(found);
        }
        let verdict = again.verdicts.last()?;
        if let Some(deny) = &verdict.deny {
            return Some((
                "decision",
                "allowed".to_owned(),
                format!("denied: {} ({})", deny.code, deny.policy),
            ));
        }
        let bounds = &verdict.bounds;
        let differs = bounds.len() != held.bounds.len()
            || bounds
                .iter()
                .zip(&held.bounds)
                .any(|(requested, held)| !is_same(requested, held));
        if differs {
            return Some(("bounds", all_in_words(&held.bounds), requested_in_words(bounds)));
        }
        if let Some(found) = same_verdict(record, again) {
            return Some(found);
        }
        self.fits(held, bounds)
    }

    /// Whether the books had room for the hold.
    fn fits(&self, held: &Held, bounds: &[RequestedBound]) -> Option<Found> {
        let hard = bounds.iter().filter(|requested| requested.bound.mode() == Mode::Hard);
        for requested in hard {
            let bound = &requested.bound;
            let (standing, amount) = (self.books.standing(held.at_ms, bound), held.amounts.get(bound.unit()));
            if standing.left() < i128::from(amount) {
                let recorded = format!("{amount} were held on {}", bound.account());
                return Some(("hold", recorded, format!("{} were left", standing.left())));
            }
        }
        None
    }

    pub fn finish(self) -> (Exact, Reasons, u64) {
        (self.report, self.reasons, self.decisions)
    }
}

/// The policies asked for what they asked for then, and bound the call to the same.
fn same_reading(facts: &Facts, record: &DecisionRecord, again: &Reevaluated) -> Option<Found> {
    if again.unread > 0 {
        let replayed = format!("{} of them were not asked for", again.unread);
        return Some(("reads", "all that was read".to_owned(), replayed));
    }
    let bound = again.bound.as_ref()?;
    let tenant = bound.tenant.as_deref().unwrap_or_default();
    if *tenant != *facts.tenant {
        return Some(("tenant", facts.tenant.to_string(), tenant.to_owned()));
    }
    let zone = bound.zone.as_ref().map_or("UTC", |zone| zone.name());
    (*zone != *record.zone).then(|| ("zone", record.zone.to_string(), zone.to_owned()))
}

/// All verdicts together are what they were.
fn same_verdict(record: &DecisionRecord, again: &Reevaluated) -> Option<Found> {
    let delay = again
        .verdicts
        .iter()
        .map(|verdict| verdict.delay)
        .max()
        .unwrap_or_default();
    if delay != record.delay {
        let ms = |delay: std::time::Duration| format!("{} ms", delay.as_millis());
        return Some(("delay", ms(record.delay), ms(delay)));
    }
    if again.hash == record.verdict {
        return None;
    }
    let said: Vec<String> = again
        .verdicts
        .last()
        .map(super::words::verdict_in_words)
        .unwrap_or_default();
    Some(("verdict", "another one".to_owned(), said.join("; ")))
}

/// A call that was refused: by the same word of the same policy, or by a limit that is still requested and had no room.
fn denied(refused: &Refused, record: &DecisionRecord, again: &Reevaluated) -> Option<Found> {
    if let Some(found) = same_reading(&refused.facts, record, again).filter(|_| bound_by_tenant(again)) {
        return Some(found);
    }
    let recorded = || format!("denied: {}", refused.reason);
    let verdict = again.verdicts.last()?;
    let told = |verdict: &Verdict| super::words::verdict_in_words(verdict).join("; ");
    let stands = match (&record.refused, &verdict.deny) {
        (Some(RefusedBy::Policy(policy)), Some(deny)) => deny.policy == *policy && *deny.code == *refused.reason,
        // Of a policy, and no deny: what it says of prices or routes.
        (Some(RefusedBy::Policy(policy)), None) => {
            let unpriced = verdict.unpriced.iter().map(|unpriced| &unpriced.policy);
            let routes = again.verdicts.iter().flat_map(|verdict| &verdict.routes);
            unpriced
                .chain(routes.map(|route| &route.policy))
                .any(|named| named == policy)
        }
        (_, Some(deny)) => {
            return Some((
                "decision",
                recorded(),
                format!("denied: {} ({})", deny.code, deny.policy),
            ));
        }
        (
            Some(RefusedBy::Budget {
                bound,
                posted,
                held,
                requested,
                ..
            }),
            None,
        ) => {
            let over = i128::from(*posted) + i128::from(*held) + i128::from(*requested) > i128::from(bound.limit);
            let asked = again.verdicts.iter().flat_map(|verdict| &verdict.bounds);
            over && asked.into_iter().any(|asked| is_same(asked, bound))
        }
        (
            Some(RefusedBy::Rate {
                account,
                per,
                unit,
                limit,
                ..
            }),
            None,
        ) => again.verdicts.iter().any(|verdict| {
            verdict.rates.iter().any(|rate| {
                let rate = &rate.requested;
                rate.account == *account && rate.per == *per && rate.unit == *unit && rate.limit == *limit
            })
        }),
        (Some(RefusedBy::Parallel { account, limit, .. }), None) => again.verdicts.iter().any(|verdict| {
            let parallel = verdict.parallel.iter();
            parallel
                .clone()
                .any(|asked| asked.requested.account == *account && asked.requested.limit == *limit)
        }),
        // A policy's failure is compared before.
        (None | Some(RefusedBy::Failed { .. }), None) => false,
    };
    if !stands {
        return Some(("decision", recorded(), told(verdict)));
    }
    same_verdict(record, again)
}

/// The tenant phase came to its end: a call that it denied was bound to nobody.
fn bound_by_tenant(again: &Reevaluated) -> bool {
    let tenant_denied =
        again.verdicts.len() == 1 && again.bound.is_some() && again.verdicts.iter().any(|v| v.deny.is_some());
    !tenant_denied
}

/// The bound that a policy requested is the one that was held.
fn is_same(requested: &RequestedBound, held: &HeldBound) -> bool {
    let bound = &requested.bound;
    *bound.account() == held.account
        && bound.window() == held.window
        && bound.unit() == held.unit
        && bound.mode() == held.mode
        && bound.limit().count() == held.limit
        && *bound.zone().name() == held.zone
}

fn all_in_words(bounds: &[HeldBound]) -> String {
    let words: Vec<String> = bounds
        .iter()
        .map(|bound| bound_in_words(&bound.account, bound.window, bound.unit, bound.limit, bound.mode))
        .collect();
    words.join("; ")
}

fn requested_in_words(bounds: &[RequestedBound]) -> String {
    let words: Vec<String> = bounds
        .iter()
        .map(|requested| {
            let bound = &requested.bound;
            bound_in_words(
                bound.account(),
                bound.window(),
                bound.unit(),
                bound.limit().count(),
                bound.mode(),
            )
        })
        .collect();
    words.join("; ")
}
