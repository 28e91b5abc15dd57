//! `simulated`: a ledger of its own, fed with the calls of the past in their order, each held at its time and settled at its own,
//! by other policies, confs or prices.

use std::collections::HashMap;
use std::sync::Arc;

use agentledger_ledger::{
    Amounts, Books, BooksError, Bound, Event, Extended, Facts, Held, HoldId, Name, Obstacle, Refused, SettledEvent, Usd,
};
use parking_lot::Mutex;

use super::evaluate::{Evaluator, LatePolicies, PastCall};
use super::keys::KeyKnowledge;
use super::outcome::{Ended, Outcome};
use super::prices::ReplayPrices;
use super::report::Reasons;
use super::sizing::{affordable, least, sized};
use super::world::World;
use crate::policy::record::{Asked, DecisionRecord};
use crate::policy::{Balances, CostEstimate, Phase, PolicySet, Verdict, When};
use crate::price::Unpriced;
use crate::rates::{Grant, Parallel, Rate, Rates};

const CLAMPS_MAX: u32 = 8;

/// A call that runs in the simulation.
struct Running {
    /// Its hold there; `None`: it was denied.
    hold: Option<HoldId>,
    facts: Arc<Facts>,
    was: Outcome,
    outcome: Outcome,
    grant: Option<Grant>,
    /// The model that it goes to here.
    model: Name,
    /// It is of the time that is replayed.
    counts: bool,
    /// It could not be decided, and goes on as it did.
    is_undecided: bool,
}

/// What a call came to when it was decided.
struct Placed {
    hold: HoldId,
    grant: Grant,
    clamped: Option<u64>,
}

/// Why an attempt failed.
struct Unplaced {
    code: &'static str,
    policy: Name,
    is_budget: bool,
}

/// A call that is being decided.
struct Deciding<'a> {
    facts: &'a Arc<Facts>,
    record: &'a DecisionRecord,
    at_ms: i64,
    /// What was held for it then, where it was held as it was requested.
    held: Option<(Amounts, Name)>,
    asked: &'a Asked,
}

/// One world in which other rules are in force.
pub struct Simulation {
    set: Arc<PolicySet>,
    prices: ReplayPrices,
    evaluator: Evaluator,
    world: Arc<World>,
    balances: Arc<dyn Balances>,
    rates: Arc<Rates>,
    running: HashMap<HoldId, Running>,
    pub(super) reasons: Reasons,
    late: LatePolicies,
}

impl Simulation {
    /// Begins with the books as they stood.
    pub fn new(set: Arc<PolicySet>, prices: ReplayPrices, books: Books, keys: &Arc<Mutex<KeyKnowledge>>) -> Simulation {
        let mut running = HashMap::new();
        for open in books.open_holds() {
            let before = Running {
                hold: Some(open.id),
                facts: Arc::clone(&open.held.facts),
                was: Outcome::default(),
                outcome: Outcome::default(),
                grant: None,
                model: Name::clone(&open.held.facts.requested_model),
                counts: false,
                is_undecided: false,
            };
            running.insert(open.id, before);
        }
        let world = Arc::new(World::new(books, keys));
        Simulation {
            set,
            prices,
            evaluator: Evaluator::new(),
            balances: Arc::clone(&world) as Arc<dyn Balances>,
            world,
            rates: Arc::default(),
            running,
            reasons: Reasons::default(),
            late: LatePolicies::default(),
        }
    }

    /// Why it makes no sense to go on; `None`: it does.
    pub fn hopeless(&self) -> Option<String> {
        self.late.hopeless()
    }

    /// Calls of the time that run still.
    pub fn running(&self) -> bool {
        self.running.values().any(|running| running.counts)
    }

    /// Takes in the next event; the call whose end it is, where it counts. `counts`: a decision at it is of the time.
    pub fn take(&mut self, sequence: u64, event: &Event, counts: bool) -> Option<Ended> {
        match event {
            Event::Held(held) => {
                self.held(HoldId(sequence), held, counts);
                None
            }
            Event::Refused(refused) if counts => self.refused(refused),
            Event::Extended(extended) => {
                self.extend(extended);
                None
            }
            Event::Settled(settled) => self.settle(settled),
            Event::Voided(voided) => {
                let running = self.running.remove(&voided.hold)?;
                if let Some(hold) = running.hold {
                    // It is open: this world placed it.
                    let _ = self.world.books.lock().void(voided.at_ms, hold, &voided.reason);
                }
                running.counts.then(|| ended(running, Usd::ZERO, Usd::ZERO))
            }
            Event::ClockSet(set) => {
                self.world.books.lock().set_clock(set.to_ms);
                None
            }
            _ => None,
        }
    }

    fn held(&mut self, id: HoldId, held: &Arc<Held>, counts: bool) {
        let record = held
            .record
            .as_ref()
            .map(|record| DecisionRecord::read(record, &held.facts));
        let decided = match record {
            Some(Ok(record)) if counts => {
                let was = was_of(&record, &held.facts);
                let requested = PastCall::new(&held.facts, &record).model;
                Some((self.decide_held(held, &record), was, requested))
            }
            Some(Err(bad)) if counts => {
                self.reasons.add(&bad.to_string(), || held.facts.id.to_string());
                None
            }
            None if counts => {
                self.reasons.add("not recorded", || held.facts.id.to_string());
                None
            }
            _ => None,
        };
        let running = match decided {
            Some((Some((placed, outcome)), was, requested)) => Running {
                hold: placed.as_ref().map(|placed| placed.hold),
                grant: placed.map(|placed| placed.grant),
                facts: Arc::clone(&held.facts),
                was,
                model: outcome.routed.clone().unwrap_or(requested),
                outcome,
                counts,
                is_undecided: false,
            },
            // What cannot be decided goes on as it did.
            other => Running {
                hold: self.as_it_was(held),
                grant: None,
                facts: Arc::clone(&held.facts),
                was: other.map(|(_, was, _)| was).unwrap_or_default(),
                outcome: Outcome::default(),
                model: Name::clone(&held.facts.requested_model),
                counts,
                is_undecided: counts,
            },
        };
        let running = match running.hold.is_some() || running.outcome.denied.is_some() {
            true => running,
            false => return,
        };
        self.running.insert(id, running);
    }

    /// Holds what was held, on no bound.
    fn as_it_was(&self, held: &Held) -> Option<HoldId> {
        let mut books = self.world.books.lock();
        let reserved = books.reserve(held.at_ms, &held.facts, &[], held.amounts, &held.basis);
        reserved.ok().map(|reserved| reserved.hold)
    }

    /// `None`: it cannot be decided, and is noted.
    fn decide_held(&mut self, held: &Arc<Held>, record: &DecisionRecord) -> Option<(Option<Placed>, Outcome)> {
        let is_plain = record.clamped.is_none() && was_of(record, &held.facts).routed.is_none();
        let amounts = is_plain.then(|| (held.amounts, Name::clone(&held.basis)));
        self.decide(&held.facts, record, held.at_ms, amounts)
    }

    fn refused(&mut self, refused: &Refused) -> Option<Ended> {
        let facts = &refused.facts;
        let record = match DecisionRecord::read(&refused.record, facts) {
            Ok(record) => record,
            Err(bad) => {
                self.reasons.add(&bad.to_string(), || facts.id.to_string());
                return None;
            }
        };
        let (placed, outcome) = self.decide(facts, &record, refused.at_ms, None)?;
        let mut simulated = Usd::ZERO;
        if let Some(placed) = placed {
            // Nobody knows how it would have gone: it is taken to cost what it was sized as.
            let mut books = self.world.books.lock();
            if let Some(open) = books.open_hold(placed.hold) {
                simulated = open.amounts.usd;
                let reason = Name::from("replayed");
                let settlement = agentledger_ledger::Settlement::recovered(refused.at_ms, facts, simulated, reason);
                // It is open: it was just placed.
                let _ = books.settle(refused.at_ms, placed.hold, settlement, None);
            }
        }
        let was = Outcome::default();
        Some(Ended {
            facts: Arc::clone(facts),
            refused: Some(Name::clone(&refused.reason)),
            was,
            outcome,
            cost: Usd::ZERO,
            simulated,
            is_undecided: false,
        })
    }

    /// Decides as the gateway does: who calls, what the policies say, then rates, clamp, hold and routes.
    fn decide(
        &mut self,
        facts: &Arc<Facts>,
        record: &DecisionRecord,
        at_ms: i64,
        held: Option<(Amounts, Name)>,
    ) -> Option<(Option<Placed>, Outcome)> {
        self.world.turn_to(at_ms, &facts.key);
        let nothing = Asked {
            phase: Phase::Tenant,
            model: None,
            estimate: CostEstimate::default(),
            priced: true,
            reads: Vec::new(),
        };
        let mut call = PastCall::new(facts, record);
        let bound = self.ask(&call, &nothing)?;
        if let Some(deny) = &bound.deny {
            return Some((None, Outcome::denied(&deny.code, &deny.policy)));
        }
        call.tenant = Name::from("");
        call.zone = Name::from("UTC");
        call.bind(&bound.binding);
        call.tag(&bound.tags);
        let request = record.asked.iter().find(|asked| asked.phase == Phase::Request);
        let Some(asked) = request else {
            let why = "the call was refused before it was sized";
            self.reasons.add(why, || facts.id.to_string());
            return None;
        };
        let verdict = self.ask(&call, asked)?;
        call.tag(&verdict.tags);
        let deciding = Deciding {
            facts,
            record,
            at_ms,
            held,
            asked,
        };
        if record.free {
            return Some((None, denial_of(&verdict).unwrap_or_default()));
        }
        self.enforce(&call, &verdict, &deciding)
    }

    fn enforce(
        &mut self,
        call: &PastCall<'_>,
        verdict: &Verdict,
        deciding: &Deciding<'_>,
    ) -> Option<(Option<Placed>, Outcome)> {
        if let Some(denied) = denial_of(verdict) {
            return Some((None, denied));
        }
        if let Some(unpriced) = verdict.unpriced.as_ref().filter(|_| !deciding.asked.priced)
            && unpriced.requested == Unpriced::Refuse
        {
            return Some((None, Outcome::denied("unpriced_model", &unpriced.policy)));
        }
        let allowed = |placed: Placed, routed: Option<Name>| {
            let outcome = Outcome {
                clamped: placed.clamped,
                routed,
                delay: verdict.delay,
                ..Outcome::default()
            };
            (Some(placed), outcome)
        };
        let of = |when: When| verdict.routes.iter().find(|route| route.requested.when == when);
        let estimate = &deciding.asked.estimate;
        let own = deciding.held.clone();
        if let Some(route) = of(When::Always) {
            let stays = route
                .requested
                .alternatives
                .first()
                .is_some_and(|first| *first == call.model);
            if stays {
                match self.attempt(call, verdict, deciding, &call.model, estimate, own) {
                    Ok(placed) => return Some(allowed(placed, None)),
                    Err(unplaced) if !unplaced.is_budget => return Some((None, unplaced.outcome())),
                    Err(_) => {}
                }
            }
            return Some(match self.reroute(call, &route.requested.alternatives, deciding)? {
                Some((placed, model)) => allowed(placed, Some(model)),
                None => (None, Outcome::denied("no_route_fits", &route.policy)),
            });
        }
        let first = match self.attempt(call, verdict, deciding, &call.model, estimate, own) {
            Ok(placed) => return Some(allowed(placed, None)),
            Err(unplaced) => unplaced,
        };
        if let Some(route) = of(When::OverBudget).filter(|_| first.is_budget)
            && let Some((placed, model)) = self.reroute(call, &route.requested.alternatives, deciding)?
        {
            return Some(allowed(placed, Some(model)));
        }
        Some((None, first.outcome()))
    }

    /// Asks this world's policies; `None` where they cannot be answered, which is noted.
    fn ask(&mut self, call: &PastCall<'_>, asked: &Asked) -> Option<Verdict> {
        let answer = self.evaluator.ask(&self.set, call, asked, &self.balances);
        let id = || call.facts.id.to_string();
        match answer {
            Ok(verdict) => Some(verdict),
            Err(failure) => {
                self.late.see(&failure);
                match self.world.undecided() {
                    Some(why) => self.reasons.add(&why, id),
                    None => self.reasons.add(&failure.to_string(), id),
                }
                None
            }
        }
    }

    /// `None`: a policy cannot be answered.
    fn reroute(
        &mut self,
        call: &PastCall<'_>,
        alternatives: &[Name],
        deciding: &Deciding<'_>,
    ) -> Option<Option<(Placed, Name)>> {
        let of = &deciding.asked.estimate;
        for alternative in alternatives.iter().filter(|alternative| **alternative != call.model) {
            let sized = self
                .prices
                .estimate(call.facts, alternative, of.input_tokens, of.output_tokens);
            let Some((usd, output_usd)) = sized else { continue };
            let estimate = CostEstimate { usd, output_usd, ..*of };
            let asked = Asked {
                phase: Phase::Request,
                model: Some(Name::clone(alternative)),
                estimate,
                priced: true,
                reads: Vec::new(),
            };
            let verdict = self.ask(call, &asked)?;
            if verdict.deny.is_some() {
                continue;
            }
            if let Ok(placed) = self.attempt(call, &verdict, deciding, alternative, &estimate, None) {
                return Some(Some((placed, Name::clone(alternative))));
            }
        }
        Some(None)
    }

    /// Takes the rates, then the hold, or nothing.
    fn attempt(
        &self,
        call: &PastCall<'_>,
        verdict: &Verdict,
        deciding: &Deciding<'_>,
        model: &Name,
        estimate: &CostEstimate,
        held: Option<(Amounts, Name)>,
    ) -> Result<Placed, Unplaced> {
        let whole = Amounts::of_request(
            estimate.usd,
            estimate.input_tokens.saturating_add(estimate.output_tokens),
        );
        let (mut amounts, basis) = held.unwrap_or_else(|| (whole, Name::from("replayed")));
        let mut grant = self.take_rates(verdict, deciding.at_ms, &amounts)?;
        let named = deciding.record.max_output;
        let mut clamped = verdict.clamp.filter(|most| named.is_none_or(|named| named > *most));
        if let Some(most) = clamped.filter(|most| *most < estimate.output_tokens) {
            amounts = least(&amounts, &sized(estimate, most));
        }
        let bounds: Vec<Bound> = verdict.bounds.iter().map(|requested| requested.bound.clone()).collect();
        let facts = facts_of(call, model, deciding.facts);
        let mut books = self.world.books.lock();
        for _ in 0..=CLAMPS_MAX {
            let refused = match books.reserve(deciding.at_ms, &facts, &bounds, amounts, &basis) {
                Ok(reserved) => {
                    grant.confirm();
                    return Ok(Placed {
                        hold: reserved.hold,
                        grant,
                        clamped,
                    });
                }
                Err(BooksError::Refused(refused)) => refused,
                Err(_) => break,
            };
            let requested = verdict.bounds.get(refused.place);
            let most = affordable(estimate, refused.bound.unit, refused.standing.left())
                .filter(|_| requested.is_some_and(|requested| requested.clamps))
                .filter(|most| clamped.is_none_or(|before| *most < before));
            if let Some(most) = most {
                amounts = least(&amounts, &sized(estimate, most));
                clamped = Some(most);
                continue;
            }
            return Err(Unplaced {
                code: match refused.obstacle {
                    Obstacle::Exceeded => "budget_exceeded",
                    Obstacle::Held => "budget_held",
                },
                policy: requested.map_or_else(|| Name::from(""), |requested| Name::clone(&requested.policy)),
                is_budget: true,
            });
        }
        Err(Unplaced {
            code: "ledger_full",
            policy: Name::from(""),
            is_budget: false,
        })
    }

    fn take_rates(&self, verdict: &Verdict, at_ms: i64, amounts: &Amounts) -> Result<Grant, Unplaced> {
        let rates: Vec<Rate> = verdict.rates.iter().map(|rate| rate.requested.clone()).collect();
        let permits: Vec<Parallel> = verdict.parallel.iter().map(|limit| limit.requested.clone()).collect();
        let tokens = u64::try_from(amounts.tokens).unwrap_or_default();
        self.rates.take(at_ms, &rates, &permits, tokens).map_err(|over| {
            let policy = match over {
                crate::rates::RateExceeded::Rate { index, .. } => verdict.rates.get(index).map(|rate| &rate.policy),
                crate::rates::RateExceeded::Parallel { index } => {
                    verdict.parallel.get(index).map(|limit| &limit.policy)
                }
            };
            Unplaced {
                code: "rate_limited",
                policy: policy.cloned().unwrap_or_else(|| Name::from("")),
                is_budget: false,
            }
        })
    }

    fn extend(&mut self, extended: &Extended) {
        let Some(running) = self.running.get_mut(&extended.hold) else {
            return;
        };
        let Some(hold) = running.hold.filter(|_| !running.outcome.cut) else {
            return;
        };
        let extension = self.world.books.lock().extend(extended.at_ms, hold, extended.amounts);
        if let Err(BooksError::Refused(_)) = extension {
            running.outcome.cut = true;
        }
    }

    fn settle(&mut self, settled: &SettledEvent) -> Option<Ended> {
        let mut running = self.running.remove(&settled.hold)?;
        let end = &settled.settlement;
        let Some(hold) = running.hold else {
            return running.counts.then(|| ended(running, end.cost, Usd::ZERO));
        };
        let facts = Arc::clone(&running.facts);
        let mut cost = end.cost;
        if running.counts {
            // Where it went to the same model as then, what was billed is known.
            let other = (running.model != facts.requested_model).then_some(&*running.model);
            match self.prices.cost(&facts, end, running.outcome.clamped, other) {
                Ok(priced) => cost = priced,
                Err(why) => self.reasons.add(why, || facts.id.to_string()),
            }
        }
        let mut books = self.world.books.lock();
        if running.outcome.cut
            && let Some(open) = books.open_hold(hold)
        {
            cost = cost.min(open.amounts.usd);
        }
        let settlement = agentledger_ledger::Settlement { cost, ..end.clone() };
        // It is open: this world placed it.
        let _ = books.settle(settled.at_ms, hold, settlement, settled.overage_reason.clone());
        drop(books);
        if let Some(grant) = &mut running.grant {
            grant.used_tokens(end.usage.tokens());
        }
        running.counts.then(|| ended(running, end.cost, cost))
    }
}

impl Unplaced {
    fn outcome(self) -> Outcome {
        Outcome::denied(self.code, &self.policy)
    }
}

fn denial_of(verdict: &Verdict) -> Option<Outcome> {
    let deny = verdict.deny.as_ref()?;
    Some(Outcome::denied(&deny.code, &deny.policy))
}

fn ended(running: Running, cost: Usd, simulated: Usd) -> Ended {
    Ended {
        facts: running.facts,
        refused: None,
        was: running.was,
        outcome: running.outcome,
        cost,
        simulated,
        is_undecided: running.is_undecided,
    }
}

/// What came of a call that was let through then.
fn was_of(record: &DecisionRecord, facts: &Facts) -> Outcome {
    let is_routed = record
        .original
        .iter()
        .any(|(what, _)| *what == crate::policy::record::Original::Model);
    Outcome {
        clamped: record.clamped,
        routed: is_routed.then(|| Name::clone(&facts.requested_model)),
        delay: record.delay,
        ..Outcome::default()
    }
}

/// The facts of the hold: those of the entry, where the policies of this world change nothing else.
fn facts_of(call: &PastCall<'_>, model: &Name, facts: &Arc<Facts>) -> Arc<Facts> {
    let is_same = facts.requested_model == *model
        && facts.tenant == call.tenant
        && facts.agent == call.agent
        && facts.session == call.session
        && facts.user == call.user
        && facts.task == call.task
        && facts.tags == call.tags;
    if is_same {
        return Arc::clone(facts);
    }
    Arc::new(Facts {
        requested_model: Name::clone(model),
        tenant: call.tenant.clone(),
        agent: call.agent.clone(),
        session: call.session.clone(),
        user: call.user.clone(),
        task: call.task.clone(),
        tags: call.tags.clone(),
        ..Facts::clone(facts)
    })
}
