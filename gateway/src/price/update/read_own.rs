//! Price files of our own form, as a source: the prices that hold today.

use agentledger_ledger::Kind;

use super::offers::{Offer, Offers};
use crate::price::{PriceBook, PriceError};

pub fn read(source: &str, text: &str) -> Result<Offers, Vec<PriceError>> {
    let book = PriceBook::empty().with_texts(&[(source, text)])?;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let mut offers = Offers::default();
    for provider in book.providers() {
        for row in book.rows(provider).filter(|row| row.is_model()) {
            let mut offer = Offer {
                provider: provider.to_owned(),
                id: row.id().to_owned(),
                is_chat: true,
                max_output: row.max_output(),
                ..Offer::default()
            };
            for tier in row.quote(now_ms).set().tiers() {
                for level in tier.levels() {
                    let stated = |kind: Kind| Some((kind, level.stated(kind)?));
                    let places = Kind::ALL.into_iter().filter_map(stated);
                    let places = places.map(|(kind, price)| ((tier.name().to_owned(), level.over(), kind), price));
                    offer.prices.extend(places);
                }
            }
            offers.models.push(offer);
        }
    }
    Ok(offers)
}
