//! The text of an answer: all of it counted, a bounded sample of it kept for an estimate.

use std::ops::Range;

use crate::plugin::outline::Outline;

/// Text kept of one answer. What follows is extrapolated: a sample this long is as good as the whole.
pub const SAMPLE_BYTES_MAX: usize = 16 << 10;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    sample: String,
    /// Bytes of all text, as JSON wrote them, that the sample stands for.
    sampled_bytes: u64,
    bytes: u64,
}

impl Text {
    /// Text that was read elsewhere, for example a request's.
    pub fn of(text: &str) -> Text {
        let bytes = text.len() as u64;
        let sample = text.get(..floor(text, SAMPLE_BYTES_MAX)).unwrap_or_default().to_owned();
        Text {
            sampled_bytes: sample.len() as u64,
            sample,
            bytes,
        }
    }

    /// Bytes of all text, as JSON wrote them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first text, unescaped.
    pub fn sample(&self) -> &str {
        &self.sample
    }

    /// Bytes of text, as JSON wrote them, that the sample stands for. Less than [`Text::bytes`] where text was left out.
    pub fn sampled_bytes(&self) -> u64 {
        self.sampled_bytes
    }

    /// Adds the text that `outline` found in `json`.
    pub fn add(&mut self, json: &[u8], outline: &Outline) {
        self.add_ranges(outline.raw(json), &outline.text, outline.text_bytes);
    }

    /// Adds what stands in these ranges of `json`, and so many bytes in all.
    pub fn add_ranges(&mut self, json: &[u8], ranges: &[Range<usize>], bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        for range in ranges {
            if self.sample.len() >= SAMPLE_BYTES_MAX {
                return;
            }
            let raw = json.get(range.clone()).unwrap_or_default();
            if memchr::memchr(b'\\', raw).is_none() {
                // Checked first: the lossy reading is several times slower.
                match std::str::from_utf8(raw) {
                    Ok(text) => self.keep(text, raw.len()),
                    Err(_) => self.keep(&String::from_utf8_lossy(raw), raw.len()),
                }
            } else {
                let quoted = json
                    .get(range.start.saturating_sub(1)..range.end + 1)
                    .unwrap_or_default();
                // A lone surrogate is no text: it is counted, and not sampled.
                self.keep(&serde_json::from_slice::<String>(quoted).unwrap_or_default(), raw.len());
            }
        }
    }

    fn keep(&mut self, text: &str, raw_len: usize) {
        let room = SAMPLE_BYTES_MAX.saturating_sub(self.sample.len());
        let end = floor(text, room);
        self.sample.push_str(text.get(..end).unwrap_or_default());
        let raw = if end == text.len() {
            raw_len
        } else {
            (raw_len * end).checked_div(text.len()).unwrap_or(0)
        };
        if !text.is_empty() {
            self.sampled_bytes += raw as u64;
        }
    }
}

/// The largest character boundary of `text` up to `max`.
pub(super) fn floor(text: &str, max: usize) -> usize {
    if max >= text.len() {
        return text.len();
    }
    (0..=max)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or_default()
}
