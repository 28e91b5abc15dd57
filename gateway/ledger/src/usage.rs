//! What an answer used, in disjoint kinds: each token is counted in exactly one, so a cost is a weighted sum.

use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A kind of billed unit. The order is the order of storage; a new kind goes at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Uncached input tokens.
    Input,
    CacheRead,
    CacheWrite5m,
    CacheWrite1h,
    /// All billed output, reasoning included.
    Output,
    AudioInput,
    AudioOutput,
    ImageInput,
    ImageOutput,
    WebSearch,
    Request,
    Second,
    Character,
    Image,
    Page,
    /// Cached sound, and cached pictures, where they are told apart from cached text.
    CacheReadAudio,
    CacheReadImage,
    /// A hosted search in the caller's own files or collections.
    FileSearch,
    /// A page that a hosted tool fetched.
    WebFetch,
    /// A run of hosted code.
    CodeExecution,
    /// A session of a hosted container.
    Container,
    /// A prompt or query that was grounded in maps.
    Maps,
    /// A search in files attached to a message.
    Attachment,
}

impl Kind {
    pub const COUNT: usize = 23;
    pub const ALL: [Kind; Kind::COUNT] = [
        Kind::Input,
        Kind::CacheRead,
        Kind::CacheWrite5m,
        Kind::CacheWrite1h,
        Kind::Output,
        Kind::AudioInput,
        Kind::AudioOutput,
        Kind::ImageInput,
        Kind::ImageOutput,
        Kind::WebSearch,
        Kind::Request,
        Kind::Second,
        Kind::Character,
        Kind::Image,
        Kind::Page,
        Kind::CacheReadAudio,
        Kind::CacheReadImage,
        Kind::FileSearch,
        Kind::WebFetch,
        Kind::CodeExecution,
        Kind::Container,
        Kind::Maps,
        Kind::Attachment,
    ];

    /// The name in entries, price files and policies.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Input => "input",
            Kind::CacheRead => "cache_read",
            Kind::CacheWrite5m => "cache_write_5m",
            Kind::CacheWrite1h => "cache_write_1h",
            Kind::Output => "output",
            Kind::AudioInput => "audio_input",
            Kind::AudioOutput => "audio_output",
            Kind::ImageInput => "image_input",
            Kind::ImageOutput => "image_output",
            Kind::WebSearch => "web_search",
            Kind::Request => "request",
            Kind::Second => "second",
            Kind::Character => "character",
            Kind::Image => "image",
            Kind::Page => "page",
            Kind::CacheReadAudio => "cache_read_audio",
            Kind::CacheReadImage => "cache_read_image",
            Kind::FileSearch => "file_search",
            Kind::WebFetch => "web_fetch",
            Kind::CodeExecution => "code_execution",
            Kind::Container => "container",
            Kind::Maps => "maps",
            Kind::Attachment => "attachment",
        }
    }

    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Tokens count towards budgets in tokens; other units do not.
    pub const fn is_tokens(self) -> bool {
        self.is_input() || self.is_output()
    }

    /// Counted as the contract's "input tokens" (all that was read, cached or not).
    pub const fn is_input(self) -> bool {
        matches!(
            self,
            Kind::Input
                | Kind::CacheRead
                | Kind::CacheWrite5m
                | Kind::CacheWrite1h
                | Kind::AudioInput
                | Kind::ImageInput
                | Kind::CacheReadAudio
                | Kind::CacheReadImage
        )
    }

    pub const fn is_cache_write(self) -> bool {
        matches!(self, Kind::CacheWrite5m | Kind::CacheWrite1h)
    }

    /// Counted as the contract's "output tokens".
    pub const fn is_output(self) -> bool {
        matches!(self, Kind::Output | Kind::AudioOutput | Kind::ImageOutput)
    }
}

/// Unit counts of one answer. Serialised as an object of kind → count, zeros left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage([u64; Kind::COUNT]);

impl Usage {
    pub const ZERO: Usage = Usage([0; Kind::COUNT]);

    pub fn get(&self, kind: Kind) -> u64 {
        self.0.get(kind as usize).copied().unwrap_or_default()
    }

    pub fn set(&mut self, kind: Kind, units: u64) {
        if let Some(count) = self.0.get_mut(kind as usize) {
            *count = units;
        }
    }

    /// This usage with one kind set.
    #[must_use]
    pub fn with(mut self, kind: Kind, units: u64) -> Usage {
        self.set(kind, units);
        self
    }

    /// Adds to one kind; stays at the largest count where it would overflow.
    pub fn add(&mut self, kind: Kind, units: u64) {
        self.set(kind, self.get(kind).saturating_add(units));
    }

    /// Kinds that are not zero, in the order of `Kind`.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        Kind::ALL
            .into_iter()
            .map(|kind| (kind, self.get(kind)))
            .filter(|(_, units)| *units != 0)
    }

    /// Both usages together, kind by kind.
    #[must_use]
    pub fn sum(&self, other: &Usage) -> Usage {
        let mut sum = *self;
        for (kind, units) in other.iter() {
            sum.add(kind, units);
        }
        sum
    }

    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|units| *units == 0)
    }

    /// What counts towards budgets in tokens.
    pub fn tokens(&self) -> u64 {
        self.total(Kind::is_tokens)
    }

    /// The contract's "input tokens".
    pub fn input_tokens(&self) -> u64 {
        self.total(Kind::is_input)
    }

    /// The contract's "output tokens".
    pub fn output_tokens(&self) -> u64 {
        self.total(Kind::is_output)
    }

    fn total(&self, counts: impl Fn(Kind) -> bool) -> u64 {
        self.iter()
            .filter(|(kind, _)| counts(*kind))
            .fold(0, |total, (_, units)| total.saturating_add(units))
    }
}

impl FromIterator<(Kind, u64)> for Usage {
    fn from_iter<I: IntoIterator<Item = (Kind, u64)>>(counts: I) -> Usage {
        let mut usage = Usage::ZERO;
        for (kind, units) in counts {
            usage.add(kind, units);
        }
        usage
    }
}

impl Serialize for Usage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(kind, units)| (kind.name(), units)))
    }
}

impl<'de> Deserialize<'de> for Usage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Usage, D::Error> {
        struct Counts;
        impl<'de> Visitor<'de> for Counts {
            type Value = Usage;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of usage kinds and their counts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Usage, A::Error> {
                let mut usage = Usage::ZERO;
                while let Some(name) = map.next_key::<String>()? {
                    let kind = Kind::from_name(&name)
                        .ok_or_else(|| de::Error::custom(format_args!("unknown usage kind `{name}`")))?;
                    usage.set(kind, map.next_value()?);
                }
                Ok(usage)
            }
        }
        deserializer.deserialize_map(Counts)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn kinds_are_stored_in_their_order_and_named_once() {
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(Kind::from_name("tokens"), None);
    }

    #[test]
    fn every_token_is_input_or_output() {
        for kind in Kind::ALL {
            assert_eq!(kind.is_tokens(), kind.is_input() || kind.is_output(), "{}", kind.name());
            assert!(!(kind.is_input() && kind.is_output()));
        }
    }

    #[test]
    fn serde_leaves_zeros_out() {
        let usage = Usage::ZERO
            .with(Kind::Input, 10)
            .with(Kind::CacheWrite1h, 2)
            .with(Kind::WebSearch, 1);
        let text = serde_json::to_string(&usage).unwrap();
        assert_eq!(text, r#"{"input":10,"cache_write_1h":2,"web_search":1}"#);
        assert_eq!(serde_json::from_str::<Usage>(&text).unwrap(), usage);
        assert_eq!(serde_json::from_str::<Usage>("{}").unwrap(), Usage::ZERO);
        for bad in [r#"{"inputs":1}"#, r#"{"input":-1}"#, r#"{"input":1.5}"#, "[]"] {
            assert!(serde_json::from_str::<Usage>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sums_stay_at_the_largest_count() {
        let most = Usage::ZERO.with(Kind::Output, u64::MAX);
        let sum = most.sum(&Usage::ZERO.with(Kind::Output, 1).with(Kind::Input, 3));
        assert_eq!(sum.get(Kind::Output), u64::MAX);
        assert_eq!(sum.get(Kind::Input), 3);
        assert_eq!(sum.tokens(), u64::MAX);
        assert_eq!(sum.input_tokens(), 3);
        assert_eq!(sum.output_tokens(), u64::MAX);
    }
}
