//! Estimates of tokens where no provider counts them: tiktoken where a model's encoding is known and loaded, else a
//! ratio of bytes to tokens, learned or assumed.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use agentledger_ledger::Usd;
use parking_lot::Mutex;
use tiktoken_rs::CoreBPE;

use super::learn::{AGENTS_MAX, CallSeen, Learned, LearnedOf, MODELS_MAX, ModelSnapshot, Side};
use super::text::{Text, floor};

/// Text is counted in pieces no longer than this: the encoder's time grows faster than a run without spaces. A piece's
/// border costs at most one token.
const PIECE_BYTES_MAX: usize = 2 << 10;
/// A piece ends at a space or a line's end, if there is one in its last bytes.
const PIECE_SEARCH_BYTES: usize = 256;

/// How an estimate was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    O200k,
    Cl100k,
    /// Bytes per token as this model's answers taught.
    Learned,
    /// Bytes per token as assumed for the model's family.
    Assumed,
}

impl Method {
    /// Short and stable, for entries and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Method::O200k => "o200k_base",
            Method::Cl100k => "cl100k_base",
            Method::Learned => "learned_ratio",
            Method::Assumed => "assumed_ratio",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenEstimate {
    pub tokens: u64,
    pub method: Method,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    O200k,
    Cl100k,
}

/// One encoding, loaded at most once a process: it takes 130 ms and some 46 MB.
struct LoadedEncoding {
    encoder: OnceLock<Option<CoreBPE>>,
    started: AtomicBool,
}

static O200K: LoadedEncoding = LoadedEncoding::new();
static CL100K: LoadedEncoding = LoadedEncoding::new();

impl LoadedEncoding {
    const fn new() -> LoadedEncoding {
        LoadedEncoding {
            encoder: OnceLock::new(),
            started: AtomicBool::new(false),
        }
    }
}

/// Estimates, and learns from exact answers. Shared by all exchanges.
#[derive(Debug, Default)]
pub struct Estimator {
    learned: Mutex<Learned>,
    estimate_bytes_max: usize,
}

impl Estimator {
    /// `estimate_bytes_max`: text that an encoder reads at most for one estimate; the rest is extrapolated.
    pub fn new(estimate_bytes_max: usize) -> Estimator {
        Estimator {
            learned: Mutex::default(),
            estimate_bytes_max: estimate_bytes_max.max(1),
        }
    }

    /// Tokens of a request of which only the length is known. Costs nothing: the one for the request's path.
    pub fn input_tokens_of_bytes(&self, model: &str, bytes: u64) -> TokenEstimate {
        self.by_ratio(model, Side::Input, bytes)
    }

    /// Tokens of a request's text. Milliseconds for long texts: not for the request's path.
    pub fn input_tokens(&self, model: &str, text: &str) -> TokenEstimate {
        self.tokens(model, Side::Input, text, text.len() as u64, text.len() as u64)
    }

    /// Tokens of an answer of which only the length is known, while it passes.
    pub fn output_tokens_of_bytes(&self, model: &str, bytes: u64) -> TokenEstimate {
        self.by_ratio(model, Side::Output, bytes)
    }

    /// Tokens of an answer's text, from its sample.
    pub fn text_tokens(&self, model: &str, text: &Text) -> TokenEstimate {
        self.tokens(model, Side::Output, text.sample(), text.sampled_bytes(), text.bytes())
    }

    /// An exact answer: what its text and its request's teach about the model. Bytes as JSON writes them; tokens of the
    /// text alone, so without cached input, thoughts that are not shown, images and sound.
    pub fn learn(&self, model: &str, input: Option<(u64, u64)>, output: Option<(u64, u64)>) {
        let mut learned = self.learned.lock();
        for (side, seen) in [(Side::Input, input), (Side::Output, output)] {
            if let Some((bytes, tokens)) = seen {
                learned.ratio_seen(model, side, bytes, tokens);
            }
        }
    }

    /// What a call took that was answered exactly. `agent` is empty where nobody knows it.
    pub fn call_seen(&self, model: &str, agent: &str, call: CallSeen) {
        self.learned.lock().call_seen(model, agent, call);
    }

    /// Output tokens that 99 of 100 such calls do not exceed; `None`: too few were seen.
    pub fn output_of_calls(&self, model: &str, agent: &str) -> Option<(u64, LearnedOf)> {
        self.learned.lock().output_of_calls(model, agent)
    }

    /// What such calls cost on average; `None`: too few were seen.
    pub fn mean_cost_of_calls(&self, model: &str, agent: &str) -> Option<Usd> {
        let nanos = self.learned.lock().mean_cost_of_calls(model, agent);
        nanos.map(Usd::from_nanos)
    }

    /// Output tokens that 99 of 100 answers of this model do not exceed; 4,096 until learned.
    pub fn output_expected(&self, model: &str) -> u64 {
        self.learned.lock().output_expected(model)
    }

    pub fn snapshot(&self) -> Vec<ModelSnapshot> {
        self.learned.lock().snapshot()
    }

    pub fn restore(&self, snapshots: &[ModelSnapshot]) {
        *self.learned.lock() = Learned::restore(snapshots, MODELS_MAX, AGENTS_MAX);
    }

    /// `sample` stands for `sampled` of `bytes` bytes.
    fn tokens(&self, model: &str, side: Side, sample: &str, sampled: u64, bytes: u64) -> TokenEstimate {
        let Some((encoding, encoder)) = encoding_of(model).and_then(|encoding| Some((encoding, loaded(encoding)?)))
        else {
            return self.by_ratio(model, side, bytes);
        };
        let head = sample.get(..floor(sample, self.estimate_bytes_max)).unwrap_or_default();
        let Some(counted) = count(encoder, head) else {
            return self.by_ratio(model, side, bytes);
        };
        let sampled = scaled(sampled, head.len() as u64, sample.len() as u64);
        let tokens = if sampled == 0 {
            self.by_ratio(model, side, bytes).tokens
        } else {
            scaled(counted, bytes.max(sampled), sampled)
        };
        TokenEstimate {
            tokens,
            method: encoding.method(),
        }
    }

    fn by_ratio(&self, model: &str, side: Side, bytes: u64) -> TokenEstimate {
        let learned = self.learned.lock().ratio(model, side);
        let (ratio, method) = match learned {
            // One key's odd texts must not make the holds of all others absurd.
            Some(ratio) => {
                let assumed = assumed_ratio(model);
                (ratio.clamp(assumed / 2, assumed.saturating_mul(3) / 2), Method::Learned)
            }
            None => (assumed_ratio(model), Method::Assumed),
        };
        TokenEstimate {
            tokens: bytes.saturating_mul(1_000).div_ceil(u64::from(ratio.max(1))),
            method,
        }
    }
}

impl Encoding {
    fn method(self) -> Method {
        match self {
            Encoding::O200k => Method::O200k,
            Encoding::Cl100k => Method::Cl100k,
        }
    }
}

/// `value` × `part` / `whole`, rounded up; 0 where `whole` is 0.
fn scaled(value: u64, part: u64, whole: u64) -> u64 {
    let product = u128::from(value) * u128::from(part);
    match whole {
        0 => 0,
        whole => u64::try_from(product.div_ceil(u128::from(whole))).unwrap_or(u64::MAX),
    }
}

/// The model's own name, without what hosts and fine-tunes put around it.
fn base_name(model: &str) -> &str {
    let tail = model.rsplit('/').next().unwrap_or(model);
    tail.strip_prefix("ft:")
        .and_then(|tuned| tuned.split(':').next())
        .unwrap_or(tail)
}

fn encoding_of(model: &str) -> Option<Encoding> {
    const CL100K: [&str; 7] = [
        "gpt-4-",
        "gpt-3.5",
        "gpt-35",
        "text-embedding-3",
        "text-embedding-ada",
        "davinci-002",
        "babbage-002",
    ];
    const O200K: [&str; 11] = [
        "gpt-4o",
        "gpt-4.1",
        "gpt-4.5",
        "gpt-5",
        "gpt-6",
        "gpt-oss",
        "chatgpt-4o",
        "codex-mini",
        "o1",
        "o3",
        "o4",
    ];
    let name = base_name(model);
    let any = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if any(&O200K) {
        Some(Encoding::O200k)
    } else if name == "gpt-4" || any(&CL100K) {
        Some(Encoding::Cl100k)
    } else {
        None
    }
}

/// Thousandths of a byte per token, on the low side, so that estimates are rather too high.
fn assumed_ratio(model: &str) -> u32 {
    match base_name(model) {
        name if encoding_of(name).is_some() => 4_000,
        name if name.contains("claude") => 3_400,
        _ => 3_600,
    }
}

/// The encoder, if it is there; else its loading is started, on a thread of its own.
fn loaded(encoding: Encoding) -> Option<&'static CoreBPE> {
    let slot = match encoding {
        Encoding::O200k => &O200K,
        Encoding::Cl100k => &CL100K,
    };
    if let Some(encoder) = slot.encoder.get() {
        return encoder.as_ref();
    }
    if !slot.started.swap(true, Ordering::AcqRel) {
        let spawned = std::thread::Builder::new()
            .name("tokenizer".to_owned())
            .spawn(move || load(encoding));
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread to load a tokenizer on; estimates go by ratios");
            slot.started.store(false, Ordering::Release);
        }
    }
    None
}

fn load(encoding: Encoding) {
    let (slot, made) = match encoding {
        Encoding::O200k => (&O200K, tiktoken_rs::o200k_base()),
        Encoding::Cl100k => (&CL100K, tiktoken_rs::cl100k_base()),
    };
    if let Err(error) = &made {
        tracing::warn!(%error, encoding = encoding.method().code(), "a tokenizer cannot be loaded; estimates go by ratios");
    }
    slot.encoder.get_or_init(|| made.ok());
}

/// Loads the encoding of this model here and now, where its time matters to nobody. False: it has none.
#[cfg(test)]
pub fn load_for(model: &str) -> bool {
    encoding_of(model).map(load).is_some()
}

/// Tokens of `text`, piece by piece. `None`: the encoder refused it.
fn count(encoder: &CoreBPE, mut text: &str) -> Option<u64> {
    let none = HashSet::new();
    let mut tokens = 0;
    while !text.is_empty() {
        let (piece, rest) = text.split_at_checked(piece_len(text))?;
        // Not `encode_ordinary`, which panics where its pattern needs too many steps.
        let (encoded, _) = encoder.encode(piece, &none).ok()?;
        tokens += encoded.len() as u64;
        text = rest;
    }
    Some(tokens)
}

/// Where to cut: before a space near the limit, as the encoders do, else at the limit.
fn piece_len(text: &str) -> usize {
    let end = floor(text, PIECE_BYTES_MAX);
    if end == text.len() {
        return end;
    }
    let bytes = text.as_bytes();
    let from = end.saturating_sub(PIECE_SEARCH_BYTES);
    let space = bytes
        .get(from..end)
        .unwrap_or_default()
        .iter()
        .rposition(|byte| matches!(byte, b' ' | b'\n'));
    space.map_or(end, |at| (from + at).max(1)).max(usize::from(end > 0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn known_families_are_counted_by_their_encoding() {
        assert!(load_for("gpt-4o-mini") && load_for("gpt-4-0613"));
        let estimator = Estimator::new(1 << 20);
        for (model, method) in [
            ("gpt-4o", Method::O200k),
            ("gpt-5-nano-2025-08-07", Method::O200k),
            ("o3-mini", Method::O200k),
            ("openai/gpt-4.1", Method::O200k),
            ("ft:gpt-4o-mini:acme::1", Method::O200k),
            ("gpt-4", Method::Cl100k),
            ("gpt-3.5-turbo", Method::Cl100k),
            ("text-embedding-3-small", Method::Cl100k),
            ("claude-sonnet-4-5", Method::Assumed),
            ("llama-3.3-70b", Method::Assumed),
        ] {
            let estimate = estimator.input_tokens(model, "Hello, world!");
            assert_eq!(estimate.method, method, "{model}");
            if method != Method::Assumed {
                assert_eq!(estimate.tokens, 4, "{model}");
            }
        }
        assert!(!load_for("claude-sonnet-4-5"));
    }

    #[test]
    fn pieces_change_counts_by_next_to_nothing() {
        assert!(load_for("gpt-4o"));
        let encoder = loaded(Encoding::O200k).unwrap();
        let text = "The quick brown fox jumps over the lazy dog, and 42 others follow.\n".repeat(400);
        let exact = encoder.encode_ordinary(&text).len() as u64;
        let counted = count(encoder, &text).unwrap();
        assert!(
            counted.abs_diff(exact) <= (text.len() / PIECE_BYTES_MAX) as u64 + 1,
            "{counted} for {exact}"
        );
    }

    #[test]
    fn awkward_texts_are_counted_without_panic() {
        assert!(load_for("gpt-4o"));
        let estimator = Estimator::new(64 << 10);
        for text in [
            "a".repeat(1 << 20),
            " ".repeat(100_000),
            "\n".repeat(100_000),
            "🦀".repeat(30_000),
            "<|endoftext|>".repeat(100),
            String::new(),
        ] {
            let estimate = estimator.input_tokens("gpt-4o", &text);
            assert_eq!(estimate.method, Method::O200k);
            assert_eq!(estimate, estimator.input_tokens("gpt-4o", &text), "the same again");
            assert!(estimate.tokens <= text.len() as u64);
        }
    }

    #[test]
    fn what_is_beyond_the_limit_is_extrapolated() {
        assert!(load_for("gpt-4o"));
        let line = "Every line of this text is the same, so that its parts say all.\n";
        let whole = Estimator::new(1 << 20)
            .input_tokens("gpt-4o", &line.repeat(1_000))
            .tokens;
        let part = Estimator::new(4 << 10)
            .input_tokens("gpt-4o", &line.repeat(1_000))
            .tokens;
        assert!(part.abs_diff(whole) * 50 < whole, "{part} for {whole}");
        let mut text = Text::of(&line.repeat(100));
        assert_eq!(
            Estimator::new(1 << 20).text_tokens("gpt-4o", &text).method,
            Method::O200k
        );
        text = Text::default();
        assert_eq!(Estimator::new(1 << 20).text_tokens("gpt-4o", &text).tokens, 0);
    }

    #[test]
    fn ratios_are_assumed_until_they_are_learned() {
        let estimator = Estimator::new(1 << 20);
        let before = estimator.input_tokens_of_bytes("claude-x", 3_400);
        assert_eq!(
            before,
            TokenEstimate {
                tokens: 1_000,
                method: Method::Assumed
            }
        );
        estimator.learn("claude-x", Some((5_000, 1_000)), Some((2_000, 1_000)));
        assert_eq!(
            estimator.input_tokens_of_bytes("claude-x", 5_000),
            TokenEstimate {
                tokens: 1_000,
                method: Method::Learned
            }
        );
        assert_eq!(estimator.output_tokens_of_bytes("claude-x", 5_000).tokens, 2_500);
        let other = Estimator::new(1 << 20);
        other.restore(&estimator.snapshot());
        assert_eq!(other.output_tokens_of_bytes("claude-x", 5_000).tokens, 2_500);
        assert_eq!(other.output_expected("claude-x"), 4_096);
    }
}
