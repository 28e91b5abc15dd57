//! What an answer used, in disjoint kinds: each token is counted in exactly one, so a cost is a weighted sum.

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
}

impl Kind {
    pub const COUNT: usize = 15;
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
        }
    }

    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Tokens count towards budgets in tokens; other units do not.
    pub const fn is_tokens(self) -> bool {
        (self as u8) <= (Kind::ImageOutput as u8)
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
        )
    }

    /// Counted as the contract's "output tokens".
    pub const fn is_output(self) -> bool {
        matches!(self, Kind::Output | Kind::AudioOutput | Kind::ImageOutput)
    }
}

/// Unit counts of one answer. Serialised as an object of kind → count, zeros left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage([u64; Kind::COUNT]);
