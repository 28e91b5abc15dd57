//! Families of labelled counters and histograms, and their Prometheus text.
//!
//! Ours rather than a library's for three reasons: money is summed as integers and written as exact decimal text; a
//! series is found by its label values themselves, not by a hash of them joined; and making a series cannot fail.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::RwLock;

/// The value that stands for all that came after a label's, or a family's, limit was reached.
pub const OTHER: &str = "other";

/// Longest label value in bytes; the rest is cut off.
const LABEL_BYTES_MAX: usize = 128;

/// A number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    pub fn add(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub fn set(&self, to: i64) {
        self.0.store(to, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Money that only grows, in nano-dollars; written in dollars.
#[derive(Clone, Debug, Default)]
pub struct Money(Arc<AtomicI64>);

impl Money {
    pub fn add_nanos(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }
}

/// Counts of observations up to each bound, whole milliseconds.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    /// Upper bound and the number of observations in this bucket alone.
    buckets: Vec<(u64, AtomicU64)>,
    above: AtomicU64,
    sum: AtomicU64,
}

impl Histogram {
    pub fn new(bounds: &[u64]) -> Histogram {
        Histogram(Arc::new(Buckets {
            buckets: bounds.iter().map(|&bound| (bound, AtomicU64::new(0))).collect(),
            above: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }))
    }

    pub fn observe(&self, value: u64) {
        let bucket = self
            .0
            .buckets
            .iter()
            .find(|(bound, _)| value <= *bound)
            .map_or(&self.0.above, |(_, count)| count);
        bucket.fetch_add(1, Ordering::Relaxed);
        self.0.sum.fetch_add(value, Ordering::Relaxed);
    }
}

/// Something that writes its sample lines, given its family's name and its label pairs (`a="b",c="d"`).
pub trait Series: Clone {
    const TYPE: &'static str;
    fn write(&self, out: &mut String, name: &str, labels: &str);
}

impl Series for Counter {
    const TYPE: &'static str = "counter";
    fn write(&self, out: &mut String, name: &str, labels: &str) {
        line(out, name, labels, self.get());
    }
}

impl Series for Gauge {
    const TYPE: &'static str = "gauge";
    fn write(&self, out: &mut String, name: &str, labels: &str) {
        line(out, name, labels, self.get());
    }
}

impl Series for Money {
    const TYPE: &'static str = "counter";
    fn write(&self, out: &mut String, name: &str, labels: &str) {
        line(out, name, labels, dollars(self.0.load(Ordering::Relaxed)));
    }
}

impl Series for Histogram {
    const TYPE: &'static str = "histogram";
    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let bucket_name = format!("{name}_bucket");
        let separator = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        for (bound, own) in &self.0.buckets {
            count += own.load(Ordering::Relaxed);
            line(out, &bucket_name, &format!("{labels}{separator}le=\"{bound}\""), count);
        }
        count += self.0.above.load(Ordering::Relaxed);
        line(out, &bucket_name, &format!("{labels}{separator}le=\"+Inf\""), count);
        line(out, &format!("{name}_sum"), labels, self.0.sum.load(Ordering::Relaxed));
        line(out, &format!("{name}_count"), labels, count);
    }
}

/// Nano-dollars as dollars, exact, without trailing zeros.
pub fn dollars(nanos: i64) -> String {
    agentledger_ledger::Usd::from_nanos(nanos).to_string()
}

/// One sample line.
pub fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ = if labels.is_empty() {
        writeln!(out, "{name} {value}")
    } else {
        writeln!(out, "{name}{{{labels}}} {value}")
    };
}

/// The two header lines of a family.
pub fn header(out: &mut String, name: &str, help: &str, kind: &str) {
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// `name="value",…` with the escapes of the text format.
pub fn pairs<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (name, value) in labels {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                _ => out.push(c),
            }
        }
        out.push('"');
    }
    out
}

type Values = Box<[Arc<str>]>;

/// All series of one name. Holds at most `series_max`; label combinations beyond that share one series whose values are
/// all `other`.
pub struct Family<S> {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    series_max: usize,
    make: Box<dyn Fn() -> S + Send + Sync>,
    series: RwLock<HashMap<Values, S>>,
}

impl<S: Series> Family<S> {
    pub fn new(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        series_max: usize,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Family<S> {
        Family {
            name,
            help,
            labels,
            series_max,
            make: Box::new(make),
            series: RwLock::new(HashMap::new()),
        }
    }

    /// The series with these label values, in the order of the family's labels.
    pub fn get(&self, values: &[&Arc<str>]) -> S {
        debug_assert_eq!(values.len(), self.labels.len());
        let wanted: Values = values.iter().map(|&value| value.clone()).collect();
        if let Some(found) = self.series.read().get(&wanted) {
            return found.clone();
        }
        let mut series = self.series.write();
        let full = series.len() >= self.series_max && !series.contains_key(&wanted);
        let values = if full {
            self.labels.iter().map(|_| Arc::from(OTHER)).collect()
        } else {
            wanted
        };
        series.entry(values).or_insert_with(|| (self.make)()).clone()
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.series.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Header and samples, in the order of the label values; nothing while there is no series.
    pub fn render(&self, out: &mut String) {
        self.render_as(self.name, self.help, out);
    }

    /// The same samples under another name.
    pub fn render_as(&self, name: &str, help: &str, out: &mut String) {
        let mut series: Vec<(Values, S)> = self.series.read().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        if series.is_empty() {
            return;
        }
        series.sort_by(|a, b| a.0.cmp(&b.0));
        header(out, name, help, S::TYPE);
        for (values, one) in &series {
            let labels = pairs(self.labels.iter().copied().zip(values.iter().map(|value| &**value)));
            one.write(out, name, &labels);
        }
    }
}

/// The distinct values that one label has taken, at most `values_max` of them.
pub struct LabelValues {
    values_max: usize,
    seen: RwLock<BTreeSet<Arc<str>>>,
    other: Arc<str>,
}

impl LabelValues {
    pub fn new(values_max: usize) -> LabelValues {
        LabelValues {
            values_max,
            seen: RwLock::new(BTreeSet::new()),
            other: Arc::from(OTHER),
        }
    }

    /// The value to use for `value`: itself, cleaned and cut to length, or `other` once there are too many.
    pub fn admit(&self, value: &str) -> Arc<str> {
        let cleaned: String;
        let value = if value.len() <= LABEL_BYTES_MAX && !value.chars().any(char::is_control) {
            value
        } else {
            cleaned = clean(value);
            &cleaned
        };
        if let Some(known) = self.seen.read().get(value) {
            return known.clone();
        }
        let mut seen = self.seen.write();
        if let Some(known) = seen.get(value) {
            return known.clone();
        }
        if seen.len() >= self.values_max {
            return self.other.clone();
        }
        let new: Arc<str> = Arc::from(value);
        seen.insert(new.clone());
        new
    }
}

fn clean(value: &str) -> String {
    let mut out = String::with_capacity(LABEL_BYTES_MAX);
    for c in value.chars() {
        if out.len() + c.len_utf8() > LABEL_BYTES_MAX {
            break;
        }
        out.push(if c.is_control() { '_' } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn arc(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    #[test]
    fn joined_label_values_that_are_equal_stay_apart() {
        let family = Family::new("t", "t", &["a", "b"], 10, Counter::default);
        family.get(&[&arc("ab"), &arc("c")]).add(1);
        family.get(&[&arc("a"), &arc("bc")]).add(2);
        let mut out = String::new();
        family.render(&mut out);
        assert_eq!(
            out,
            "# HELP t t\n# TYPE t counter\nt{a=\"a\",b=\"bc\"} 2\nt{a=\"ab\",b=\"c\"} 1\n"
        );
    }

    #[test]
    fn a_full_family_counts_the_rest_as_other() {
        let family = Family::new("t", "t", &["a"], 2, Counter::default);
        for value in ["x", "y", "z", "w", "x"] {
            family.get(&[&arc(value)]).add(1);
        }
        let mut out = String::new();
        family.render(&mut out);
        assert!(out.contains("t{a=\"other\"} 2\n"), "{out}");
        assert!(out.contains("t{a=\"x\"} 2\n"), "{out}");
        assert_eq!(family.len(), 3);
    }

    #[test]
    fn a_full_label_says_other_and_keeps_what_it_knows() {
        let values = LabelValues::new(1);
        assert_eq!(&*values.admit("first"), "first");
        assert_eq!(&*values.admit("second"), OTHER);
        assert_eq!(&*values.admit("first"), "first");
    }

    #[test]
    fn long_and_control_characters_are_cut_and_replaced() {
        let values = LabelValues::new(9);
        assert_eq!(&*values.admit("a\r\nb"), "a__b");
        assert_eq!(values.admit(&"é".repeat(1000)).len(), LABEL_BYTES_MAX);
        assert_eq!(values.admit(&"x".repeat(1 << 20)).len(), LABEL_BYTES_MAX);
    }

    #[test]
    fn values_are_escaped() {
        assert_eq!(pairs([("a", "q\"b\\c\nd")]), r#"a="q\"b\\c\nd""#);
    }

    #[test]
    fn a_histogram_is_cumulative() {
        let histogram = Histogram::new(&[10, 100]);
        for value in [10, 11, 5_000] {
            histogram.observe(value);
        }
        let mut out = String::new();
        histogram.write(&mut out, "h", "a=\"b\"");
        assert_eq!(
            out,
            "h_bucket{a=\"b\",le=\"10\"} 1\nh_bucket{a=\"b\",le=\"100\"} 2\nh_bucket{a=\"b\",le=\"+Inf\"} 3\n\
             h_sum{a=\"b\"} 5021\nh_count{a=\"b\"} 3\n"
        );
    }

    #[test]
    fn money_is_exact_text() {
        let money = Money::default();
        money.add_nanos(3_750_000);
        money.add_nanos(1);
        let mut out = String::new();
        money.write(&mut out, "m", "");
        assert_eq!(out, "m 0.003750001\n");
    }
}
