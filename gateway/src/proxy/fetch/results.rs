//! The bill of a batch: the lines of its results, each priced by itself and entered once.

use agentledger_ledger::{BillId, Kind, Name, Part, Picos, PriceRef, Settlement, Usage, Usd};

use crate::estimate_reason;
use crate::meter::{End, Line, MeteredPart};
use crate::proxy::settle::blank::blank;
use crate::proxy::shared::exchange::Exchange;
use crate::proxy::shared::gateway::Gateway;
use crate::proxy::shared::pricing::find_spent;

/// Lines of one fetch that are billed; more are not believed to be a batch.
const LINES_MAX: usize = 1_000_000;

/// What one model used in all lines, and what it costs.
struct Sum {
    model: Name,
    usage: Usage,
    picos: Picos,
    price: Option<PriceRef>,
}

/// The sum of the lines so far.
pub struct BatchBill {
    /// The results as a whole.
    bill: BillId,
    billed_before: bool,
    sums: Vec<Sum>,
    reasoning: u64,
    lines: Vec<BillId>,
    reason: Option<&'static str>,
}

impl BatchBill {
    /// For the answer to this fetch.
    pub fn of(gateway: &Gateway, exchange: &Exchange) -> BatchBill {
        let bill = bill_of(exchange);
        BatchBill {
            bill,
            billed_before: gateway.ledger.is_billed(&bill),
            sums: Vec::new(),
            reasoning: 0,
            lines: Vec::new(),
            reason: None,
        }
    }

    /// Prices a line, unless it was billed before.
    pub fn add(&mut self, gateway: &Gateway, exchange: &Exchange, line: Line) {
        if self.billed_before {
            return;
        }
        let id = BillId::of(&[&exchange.endpoint.name, &exchange.called_path, &line.bill_id]);
        if gateway.ledger.is_billed(&id) {
            return;
        }
        if line.bill_id.is_empty() || self.lines.len() >= LINES_MAX {
            self.reason = self.reason.or(Some(estimate_reason::BROKEN_RESULTS));
            return;
        }
        self.lines.push(id);
        let model = line.model.as_deref().unwrap_or_default();
        let mut parts = line.parts;
        if parts.is_empty() {
            // Its usage cannot be believed: what it wrote can be counted, what it read cannot.
            self.reason = self.reason.or(Some(estimate_reason::CONTRADICTORY_USAGE));
            let mut own = MeteredPart::default();
            own.usage
                .set(Kind::Output, gateway.estimator.text_tokens(model, &line.text).tokens);
            parts.push(own);
        }
        for part in parts {
            self.reasoning = self.reasoning.saturating_add(part.reasoning);
            let named = part.model.as_deref().unwrap_or(model);
            self.add_part(exchange, named, &part, line.service_tier.as_deref());
        }
    }

    fn add_part(&mut self, exchange: &Exchange, model: &str, part: &MeteredPart, tier: Option<&str>) {
        let usage = &part.usage;
        let found = find_spent(exchange, model);
        let picos = found
            .as_ref()
            .and_then(|found| found.quote.picos(&part.usage, part.reasoning, tier));
        let doubt = match &found {
            None => Some(estimate_reason::UNPRICED_MODEL),
            Some(found) => found.reason.or(found.quote.fallbacks(usage, tier).reason()),
        };
        self.reason = self.reason.or(doubt);
        let at = match self.sums.iter().position(|sum| *sum.model == *model) {
            Some(at) => at,
            None => {
                self.sums.push(Sum {
                    model: Name::from(model),
                    usage: Usage::default(),
                    picos: Picos::ZERO,
                    price: found.as_ref().map(|found| found.quote.reference(tier)),
                });
                self.sums.len() - 1
            }
        };
        if let Some(sum) = self.sums.get_mut(at) {
            sum.usage = sum.usage.sum(usage);
            sum.picos = picos
                .and_then(|picos| sum.picos.checked_add(picos))
                .unwrap_or(sum.picos);
        }
    }

    /// The settlement of what is new, and the ids it bills; `None` where nothing is. `complete`: the answer was read to its
    /// end. Then one id stands for all lines; else each line has its own, and what is missing is billed with the next fetch.
    pub fn settlement(
        self,
        gateway: &Gateway,
        exchange: &Exchange,
        end: End,
        complete: bool,
        broken: bool,
    ) -> Option<(Settlement, Vec<BillId>)> {
        let first = self.sums.first()?;
        let whole = complete && !broken;
        let torn = (!whole).then_some(estimate_reason::BROKEN_RESULTS);
        let parts: Vec<Part> = self
            .sums
            .iter()
            .map(|sum| Part {
                model: Name::clone(&sum.model),
                usage: sum.usage,
                cost: sum.picos.to_usd().unwrap_or(Usd::from_nanos(i64::MAX)),
            })
            .collect();
        let settlement = Settlement {
            model: Name::clone(&first.model),
            usage: parts.iter().fold(Usage::default(), |sum, part| sum.sum(&part.usage)),
            reasoning: self.reasoning,
            cost: parts.iter().fold(Usd::ZERO, |sum, part| sum.saturating_add(part.cost)),
            price: first.price.clone(),
            estimate_reason: torn.or(self.reason).map(Name::from),
            parts: if parts.len() > 1 { parts } else { Vec::new() },
            ..blank(gateway, exchange, end.into(), 200)
        };
        let bills = if whole { vec![self.bill] } else { self.lines };
        Some((settlement, bills))
    }
}

/// The id of the results that a fetch is for: provider and path.
pub fn bill_of(exchange: &Exchange) -> BillId {
    BillId::of(&[&exchange.endpoint.name, &exchange.called_path])
}
