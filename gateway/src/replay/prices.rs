//! What a call of the past would have cost: at other prices, with a shorter answer, or from another model.

use std::collections::BTreeMap;

use agentledger_ledger::{Facts, Kind, Settlement, Usage, Usd};

use crate::price::{PriceBook, Quote};

const NO_PRICE: &str = "the price book has no price of the model: its cost is as it was";
const NO_USAGE: &str = "its usage is not known: its cost is as it was";

/// The book that costs are computed with.
#[derive(Clone)]
pub struct ReplayPrices {
    book: PriceBook,
    /// The books of the providers, by the providers' names, where they have another one.
    books: BTreeMap<String, String>,
    /// Every call is priced anew, not only those that would have been others.
    reprices: bool,
}

impl ReplayPrices {
    pub fn new(book: PriceBook, books: BTreeMap<String, String>) -> ReplayPrices {
        ReplayPrices {
            book,
            books,
            reprices: false,
        }
    }

    /// The same with other prices, given as price files, by which every call is priced anew.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn with(&self, files: &[(String, String)]) -> Result<ReplayPrices, String> {
        if files.is_empty() {
            return Ok(self.clone());
        }
        let texts: Vec<(&str, &str)> = files
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        let book = self.book.with_texts(&texts).map_err(|errors| {
            let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
            all.join("\n")
        })?;
        Ok(ReplayPrices {
            book,
            books: self.books.clone(),
            reprices: true,
        })
    }

    fn quote(&self, provider: &str, requested: &str, answered: &str, at_ms: i64) -> Option<Quote<'_>> {
        let book = self.books.get(provider).map_or(provider, String::as_str);
        self.book.find_answered(book, requested, answered, at_ms)
    }

    /// What a call of this size costs at most from another model.
    pub fn estimate(&self, facts: &Facts, model: &str, input: u64, output: u64) -> Option<(Usd, Usd)> {
        let quote = self.quote(&facts.provider, model, model, facts.at_ms)?;
        let of = |usage: Usage| quote.cost(&usage, None);
        let whole = of(Usage::ZERO.with(Kind::Input, input).with(Kind::Output, output));
        Some((whole, whole.saturating_sub(of(Usage::ZERO.with(Kind::Input, input)))))
    }

    /// What the exchange would have cost with at most `output` tokens of output, from `model` where it went to another one.
    ///
    /// # Errors
    /// Why that is not known: the cost is as it was then.
    pub fn cost(
        &self,
        facts: &Facts,
        end: &Settlement,
        output: Option<u64>,
        model: Option<&str>,
    ) -> Result<Usd, &'static str> {
        let written = end.usage.get(Kind::Output);
        let shorter = output.filter(|most| *most < written);
        if model.is_none() && shorter.is_none() && !self.reprices {
            return Ok(end.cost);
        }
        if end.usage == Usage::ZERO {
            // What was held, of an answer that nobody could read: there is nothing to price.
            return if end.cost == Usd::ZERO {
                Ok(Usd::ZERO)
            } else {
                Err(NO_USAGE)
            };
        }
        let tier = end.price.as_ref().and_then(|price| price.tier.as_deref());
        let (requested, answered) = match model {
            Some(model) => (model, model),
            None => (&*facts.requested_model, &*end.model),
        };
        // Tiers are of a model's own row.
        let tier = tier.filter(|_| model.is_none());
        let quote = self.quote(&facts.provider, requested, answered, facts.at_ms);
        let quote = quote.ok_or(NO_PRICE)?;
        let mut usage = end.usage;
        usage.set(Kind::Output, shorter.unwrap_or(written));
        let of = |usage: &Usage| quote.cost_of(usage, end.reasoning.min(usage.get(Kind::Output)), tier);
        if model.is_some() || self.reprices {
            return Ok(of(&usage));
        }
        // What was billed, less what the rest of the answer cost.
        let saved = of(&end.usage).saturating_sub(of(&usage));
        Ok(end.cost.saturating_sub(saved).max(Usd::ZERO))
    }
}
