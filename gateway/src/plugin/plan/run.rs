//! Reads one outline by a plan. Whatever is not as a row says ends it with `None`: the plugin is asked then. An outline is a
//! few hundred bytes; this walks them once, keeps counts in place, and allocates what the reading itself owns.

use super::super::dialect::{AnswerFrame, CountedKind, Reading, ReadingPart, Word, WordMeaning};
use super::compile::{Act, COUNTS_MAX, NODES_MAX, Node, Table, Told};
use agentledger_ledger::Kind;

/// Elements of one list.
const ELEMENTS_MAX: usize = 256;
/// More units than any one answer can bill.
const UNITS_MAX: u64 = 1_000_000_000;
/// Longest text that is taken.
const TEXT_BYTES_MAX: usize = 2_048;

pub(super) fn read(table: &Table, frame: &AnswerFrame<'_>) -> Option<Reading> {
    let outline = frame.outline;
    let mut walk = Walk {
        table,
        text: outline,
        bytes: outline.as_bytes(),
        at: 0,
        visited: [0; NODES_MAX / 64],
        found: Found::default(),
    };
    if let Some(names) = &table.events {
        walk.found.note(names, frame.event?)?;
    }
    // Nothing but an object is an answer.
    if walk.peek()? != b'{' {
        return None;
    }
    walk.value(0, false)?;
    walk.space();
    if walk.at < outline.len() {
        return None;
    }
    walk.found.reading(table)
}

/// What the rows' values are.
#[derive(Default)]
struct Found<'d> {
    model: Option<&'d str>,
    tier: Option<&'d str>,
    bill_id: Option<&'d str>,
    units: [u64; COUNTS_MAX],
    /// By bits: which counts are there, and which lists that say zero.
    counted: u32,
    zeros: u32,
    is_reported: bool,
    is_alone: bool,
    is_final: bool,
    is_pending: bool,
}

struct Walk<'p, 'd> {
    table: &'p Table,
    text: &'d str,
    /// The same.
    bytes: &'d [u8],
    at: usize,
    /// By bits: nodes whose member has come.
    visited: [u64; NODES_MAX / 64],
    found: Found<'d>,
}

impl<'p: 'd, 'd> Walk<'p, 'd> {
    /// Takes the value at a node. The outline nests no deeper than the plan's paths, of what is walked.
    fn value(&mut self, id: usize, is_element: bool) -> Option<()> {
        let table = self.table;
        let node = table.nodes.get(id)?;
        let byte = self.peek()?;
        match &node.act {
            Act::Ignored => return self.skip(),
            Act::Count(index) => return self.count(*index, node.is_many),
            _ => {}
        }
        if byte == b'n' {
            // Not there, but where a reader might not think so.
            let is_text = !matches!(node.act, Act::Way | Act::UsageAlone | Act::Zero(_) | Act::Empty);
            if node.in_report && (is_element || is_text) {
                return None;
            }
            return self.word("null");
        }
        match &node.act {
            Act::Model(prefix) => {
                let text = self.quoted()?;
                if text.is_empty() {
                    return Some(());
                }
                let text = plain(text)?;
                let name = text.strip_prefix(prefix.as_str()).unwrap_or(text);
                let whole = !name.is_empty() && (prefix.is_empty() || !name.starts_with(prefix.as_str()));
                once(&mut self.found.model, Some(name).filter(|_| whole)?)
            }
            Act::Tier(pairs) => {
                let text = self.string()?;
                let tier = match pairs.as_slice() {
                    [] => text,
                    pairs => pairs
                        .iter()
                        .find(|(said, _)| said == text)
                        .map(|(_, tier)| tier.as_str())?,
                };
                once(&mut self.found.tier, tier)
            }
            Act::BillId => {
                let text = self.string()?;
                once(&mut self.found.bill_id, text)
            }
            Act::Words(words) => {
                let text = match byte {
                    b't' => self.word("true").map(|()| "true")?,
                    b'f' => self.word("false").map(|()| "false")?,
                    _ => self.string()?,
                };
                self.found.note(words, text)
            }
            Act::Empty => self.empty(byte),
            _ => self.container(node, byte),
        }
    }

    fn container(&mut self, node: &'p Node, byte: u8) -> Option<()> {
        if node.is_report && (byte != b'{' || std::mem::replace(&mut self.found.is_reported, true)) {
            return None;
        }
        if let Act::Zero(index) = node.act {
            self.found.zeros |= 1 << index;
        }
        self.at += 1;
        let held = match byte {
            b'{' => self.members(node)?,
            b'[' => self.elements(node.element?)?,
            _ => return None,
        };
        self.found.is_alone |= !held && byte == b'[' && matches!(node.act, Act::UsageAlone);
        // Whether an empty report tells nothing or zero is for the plugin to say.
        (held || !(node.in_report && node.bears_counts)).then_some(())
    }

    /// The members of an object; whether there are any. An object is expected where rows name members.
    fn members(&mut self, node: &'p Node) -> Option<bool> {
        if node.members.is_empty() {
            return None;
        }
        let mut held = false;
        loop {
            match self.peek()? {
                b'}' => break,
                b',' if held => self.at += 1,
                _ if held => return None,
                _ => {}
            }
            self.space();
            let key = self.quoted()?;
            let (_, child) = node.members.iter().find(|(name, _)| name == key)?;
            self.visit(*child)?;
            if self.peek()? != b':' {
                return None;
            }
            self.at += 1;
            self.value(*child, false)?;
            held = true;
        }
        self.at += 1;
        Some(held)
    }

    fn elements(&mut self, child: usize) -> Option<bool> {
        for count in 0..=ELEMENTS_MAX {
            match self.peek()? {
                b']' => {
                    self.at += 1;
                    return Some(count > 0);
                }
                b',' if count > 0 => self.at += 1,
                _ if count > 0 => return None,
                _ => {}
            }
            self.value(child, true)?;
        }
        None
    }

    /// A member comes once in its object. Those below lists are in the outline's hands, which has no key twice.
    fn visit(&mut self, id: usize) -> Option<()> {
        if self.table.nodes.get(id)?.is_many {
            return Some(());
        }
        let (word, bit) = (self.visited.get_mut(id / 64)?, 1 << (id % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new.then_some(())
    }

    /// A whole number in plain digits; zeros may follow its point.
    fn count(&mut self, index: usize, is_many: bool) -> Option<()> {
        let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let rest = self.bytes.get(self.at..)?;
        let len = digits(rest);
        // Nine zeros and a one.
        if len == 0 || len > 10 {
            return None;
        }
        let units: u64 = self.text.get(self.at..self.at + len)?.parse().ok()?;
        self.at += len;
        if let Some(fraction) = rest.get(len..)?.strip_prefix(b".") {
            let zeros = fraction.iter().take_while(|byte| **byte == b'0').count();
            if zeros == 0 || digits(fraction) != zeros {
                return None;
            }
            self.at += 1 + zeros;
        }
        // A sign of an exponent or whatever else is no end.
        if units > UNITS_MAX || !matches!(self.peek()?, b',' | b'}' | b']') {
            return None;
        }
        if !is_many {
            *self.found.units.get_mut(index)? = units;
            self.found.counted |= 1 << index;
        }
        Some(())
    }

    /// A text without escapes, and not empty: names, tiers, ids.
    fn string(&mut self) -> Option<&'d str> {
        self.quoted().and_then(plain)
    }

    fn quoted(&mut self) -> Option<&'d str> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at + 1;
        let len = memchr::memchr2(b'"', b'\\', self.bytes.get(start..)?)?;
        let text = self.text.get(start..start + len)?;
        self.at = start + len + 1;
        (self.bytes.get(start + len) == Some(&b'"')).then_some(text)
    }

    fn empty(&mut self, open: u8) -> Option<()> {
        self.at += 1;
        let close = self.peek()?;
        self.at += 1;
        matches!((open, close), (b'{', b'}') | (b'[', b']')).then_some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.bytes.get(self.at..)?.strip_prefix(word.as_bytes())?;
        self.at += word.len();
        Some(())
    }

    /// Passes over a value, whatever it is.
    fn skip(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => self.skip_string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                _ => {
                    let rest = self.bytes.get(self.at..)?;
                    let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
                    self.at += rest.iter().position(ends).filter(|len| *len > 0)?;
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn skip_string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            let len = memchr::memchr2(b'"', b'\\', self.bytes.get(self.at..)?)?;
            self.at += len + 1;
            if self.bytes.get(self.at - 1) == Some(&b'"') {
                return Some(());
            }
            self.at += 1;
        }
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }
}

fn plain(text: &str) -> Option<&str> {
    let plain = !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control);
    plain.then_some(text)
}

/// What two rows would say twice, the plugin says.
fn once<'d>(place: &mut Option<&'d str>, text: &'d str) -> Option<()> {
    place.replace(text).is_none().then_some(())
}

impl Found<'_> {
    /// What a word says, if it is one of these.
    fn note(&mut self, words: &[Word], text: &str) -> Option<()> {
        let word = words.iter().find(|word| word.text == text)?;
        self.is_final |= word.meaning == WordMeaning::Final;
        self.is_pending |= word.meaning == WordMeaning::Pending;
        Some(())
    }

    fn has(&self, index: usize) -> bool {
        self.counted & (1 << index) != 0
    }

    fn units(&self, index: usize) -> u64 {
        self.units.get(index).copied().unwrap_or_default()
    }

    fn reading(&self, table: &Table) -> Option<Reading> {
        let usage = self.usage(table)?;
        let bears = !usage.is_empty();
        if self.counted | self.zeros != 0 && usage.iter().all(|(_, units)| *units == 0) {
            return None;
        }
        let reasoning = table
            .thoughts
            .filter(|index| self.has(*index))
            .map(|index| self.units(index));
        let is_output = |kind: &CountedKind| {
            matches!(
                kind,
                CountedKind::Kind(Kind::Output | Kind::AudioOutput | Kind::ImageOutput)
            )
        };
        let output = usage.iter().filter(|(kind, _)| is_output(kind));
        if reasoning > Some(output.map(|(_, units)| units).sum()) {
            return None;
        }
        let usage_only = bears && self.is_alone && table.streamed;
        let part = |usage| ReadingPart {
            model: None,
            usage,
            reasoning,
        };
        Some(Reading {
            model: self.model.map(str::to_owned),
            bill_id: self.bill_id.map(str::to_owned),
            pending: self.is_pending,
            service_tier: self.tier.map(str::to_owned),
            parts: if bears { vec![part(usage)] } else { Vec::new() },
            usage_only,
            is_final: usage_only || self.is_final,
            ..Reading::default()
        })
    }

    /// What is told of each kind, in the order of the rows. `None`: the counts do not add up.
    fn usage(&self, table: &Table) -> Option<Vec<(CountedKind, u64)>> {
        if !self.is_reported {
            return Some(Vec::new());
        }
        let mut units = self.units;
        let mut told = self.counted;
        for (index, count) in table.counts.iter().enumerate() {
            if !count.sum_of.is_empty() && self.consists(index, &count.sum_of, count.has_kind)? {
                told &= !(1 << index);
            }
            if !self.has(index) {
                continue;
            }
            if let Some(whole) = count.inside {
                let rest = units.get_mut(whole).filter(|_| self.has(whole))?;
                *rest = rest.checked_sub(self.units(index))?;
            }
            if let Some(other) = count.beside {
                *units.get_mut(other)? += self.units(index);
                told |= 1 << other;
            }
        }
        let mut usage = Vec::with_capacity(table.told.len());
        for one in &table.told {
            let (is_told, kind, units) = match one {
                Told::Count(index, kind) => (told & (1 << index) != 0, *kind, units.get(*index).copied()?),
                Told::Zero(index, kind) => (self.zeros & (1 << index) != 0, *kind, 0),
            };
            if units > UNITS_MAX {
                return None;
            }
            if is_told {
                usage.push((kind, units));
            }
        }
        Some(usage)
    }

    /// Whether a count is told by what it consists of, or, without a kind, is a sum that is right. `None`: it is neither.
    fn consists(&self, index: usize, of: &[usize], has_kind: bool) -> Option<bool> {
        let there = of.iter().filter(|one| self.has(**one)).count();
        let sum: u64 = of.iter().map(|one| self.units(*one)).sum();
        let adds_up = !self.has(index) || sum == self.units(index);
        if has_kind && there == 0 {
            return Some(false);
        }
        let whole = if has_kind {
            there == of.len()
        } else {
            there > 0 || !self.has(index)
        };
        (whole && adds_up).then_some(true)
    }
}
