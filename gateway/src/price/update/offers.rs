//! What a source states, whatever its form: prices by provider, model, tier, context and kind.

use std::collections::BTreeMap;

use agentledger_ledger::{Kind, UnitPrice};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{read_genai, read_litellm, read_models_dev, read_own};
use crate::price::PriceError;
use crate::price::pairs::Pairs;

/// Where a price holds: service tier, the tokens of input above which it does, and kind.
pub type Place = (String, u64, Kind);

/// One model of one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    pub provider: String,
    pub id: String,
    pub max_output: Option<u64>,
    /// Whether a model that the book does not have is taken from it: rows of speech and pictures need to be looked at, and some
    /// names are no model's.
    pub is_chat: bool,
    pub prices: BTreeMap<Place, UnitPrice>,
}

/// What a source says that cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unbelieved {
    pub provider: String,
    pub id: String,
    pub reason: String,
}

/// All that one source offers.
#[derive(Clone, Debug, Default)]
pub struct Offers {
    /// How messages call it.
    pub source: String,
    pub models: Vec<Offer>,
    pub unbelieved: Vec<Unbelieved>,
}

/// Why nothing of a source is taken.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("it is empty")]
    Empty,
    #[error("it is a page of HTML and no price list")]
    Html,
    #[error("it is no JSON: {0}")]
    Json(String),
    #[error("it is JSON of no known form: neither litellm's, nor genai-prices', nor models.dev's")]
    UnknownForm,
    #[error("it has no price of any provider that this book knows")]
    NoPrices,
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Own(Vec<PriceError>),
}

/// Reads a source, whose form its text tells.
///
/// # Errors
/// The text is no price list: then nothing of it is taken.
pub fn read(source: &str, text: &str) -> Result<Offers, SourceError> {
    let start = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let mut offers = match start.chars().next() {
        None => return Err(SourceError::Empty),
        Some('<') => return Err(SourceError::Html),
        Some('[') => read_genai::read(start)?,
        Some('{') => {
            let entries: Pairs<Box<RawValue>> = json(start)?;
            if read_litellm::is_form(&entries) {
                read_litellm::read(&entries)
            } else if read_models_dev::is_form(&entries) {
                read_models_dev::read(&entries)
            } else {
                return Err(SourceError::UnknownForm);
            }
        }
        Some(_) => read_own::read(source, start).map_err(SourceError::Own)?,
    };
    source.clone_into(&mut offers.source);
    if offers.models.is_empty() && offers.unbelieved.is_empty() {
        return Err(SourceError::NoPrices);
    }
    Ok(offers)
}

pub fn json<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, SourceError> {
    serde_json::from_str(text).map_err(|error| SourceError::Json(error.to_string()))
}

/// Longest exponent that is worked out: prices have none near it.
const EXPONENT_MAX: i32 = 40;

/// A price as JSON has it: a number that is neither negative nor text, in USD per one or per million units. What is finer
/// than can be kept is rounded up.
pub fn number(raw: &RawValue, per_million: bool) -> Result<UnitPrice, String> {
    let text = raw.get();
    let believed = |ok: bool| ok.then_some(()).ok_or_else(|| format!("{} is no price", cut(text)));
    believed(text.starts_with(|c: char| c.is_ascii_digit() || c == '-'))?;
    if text.starts_with('-') {
        return Err(format!("{} is negative", cut(text)));
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().map_err(|_| format!("{} is no price", cut(text)))?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = whole.chars().chain(fraction.chars()).collect();
    believed(digits.len() <= 30 && exponent.abs() <= EXPONENT_MAX)?;
    let value: i128 = digits.parse().map_err(|_| format!("{} is no price", cut(text)))?;
    let decimals = i32::try_from(fraction.len()).unwrap_or(EXPONENT_MAX);
    let shift = exponent - decimals + if per_million { 6 } else { 12 };
    let ten = |power: i32| 10_i128.checked_pow(power.unsigned_abs());
    let picos = if shift >= 0 {
        ten(shift).and_then(|by| value.checked_mul(by))
    } else {
        // Below a pico-dollar there is nothing but the noise of binary fractions.
        Some(ten(shift).map_or(i128::from(value > 0), |by| {
            value.div_euclid(by) + i128::from(value % by * 1_000 > by)
        }))
    };
    let picos = picos.and_then(|picos| i64::try_from(picos).ok());
    picos
        .map(UnitPrice::from_picos)
        .ok_or_else(|| format!("{} is too large", cut(text)))
}

/// So much of a text as a message shows.
pub fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Puts a field's price at its place; what cannot be believed is told, and the model is not taken.
pub fn put(
    offer: &mut Offer,
    unbelieved: &mut Vec<Unbelieved>,
    place: Place,
    field: &str,
    raw: &RawValue,
    per_million: bool,
) {
    match number(raw, per_million && place.2.is_tokens()) {
        Ok(price) => {
            offer.prices.insert(place, price);
        }
        Err(reason) => unbelieved.push(Unbelieved {
            provider: offer.provider.clone(),
            id: offer.id.clone(),
            reason: format!("{field}: {reason}"),
        }),
    }
}

/// A price list in another currency is none of this book's. A source says so in a field of its own.
pub fn foreign_currency(entry: &Pairs<Box<RawValue>>) -> Option<String> {
    let named = entry
        .0
        .iter()
        .find(|(name, _)| name.to_ascii_lowercase().contains("currency"))?;
    let currency: String = serde_json::from_str(named.1.get()).unwrap_or_else(|_| cut(named.1.get()));
    (!currency.eq_ignore_ascii_case("usd")).then_some(currency)
}
