//! Families of labelled counters and histograms, which the registry collects when metrics are read.
//!
//! Counting is ours rather than the library's for three reasons: money is summed as integers; a series is found by its
//! label values themselves, not by a hash of them joined; and making a series cannot fail. What is counted becomes the
//! library's samples only on the way out.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::RwLock;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};

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
    /// What is not above zero adds nothing: a counter never goes back.
    pub fn add_nanos(&self, by: i64) {
        self.0.fetch_add(by.max(0), Ordering::Relaxed);
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

/// Something that is a sample when it is collected.
pub trait Series: Clone + Send + Sync + 'static {
    const TYPE: MetricType;
    fn sample(&self) -> Metric;
}

impl Series for Counter {
    const TYPE: MetricType = MetricType::COUNTER;
    fn sample(&self) -> Metric {
        counter(self.get() as f64)
    }
}

impl Series for Gauge {
    const TYPE: MetricType = MetricType::GAUGE;
    fn sample(&self) -> Metric {
        gauge(self.get() as f64)
    }
}

impl Series for Money {
    const TYPE: MetricType = MetricType::COUNTER;
    fn sample(&self) -> Metric {
        counter(dollars(self.0.load(Ordering::Relaxed)))
    }
}

impl Series for Histogram {
    const TYPE: MetricType = MetricType::HISTOGRAM;
    fn sample(&self) -> Metric {
        let mut count = 0;
        let buckets = self.0.buckets.iter().map(|(bound, own)| {
            count += own.load(Ordering::Relaxed);
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound as f64);
            bucket.set_cumulative_count(count);
            bucket
        });
        let buckets = buckets.collect();
        count += self.0.above.load(Ordering::Relaxed);
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(count);
        histogram.set_sample_sum(self.0.sum.load(Ordering::Relaxed) as f64);
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        metric
    }
}

/// A counter's sample.
pub(super) fn counter(value: f64) -> Metric {
    let mut counter = proto::Counter::default();
    counter.set_value(value);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    metric
}

/// A gauge's sample.
pub(super) fn gauge(value: f64) -> Metric {
    let mut gauge = proto::Gauge::default();
    gauge.set_value(value);
    Metric::from_gauge(gauge)
}

/// Nano-dollars as the dollars of a sample, which the format wants as a float. To the nano-dollar below four million
/// dollars, to fifteen digits above; the books are in the ledger, not here.
pub(super) fn dollars(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

/// Label pairs, in this order.
pub(super) fn pairs<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<LabelPair> {
    let pair = |(name, value): (&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    labels.into_iter().map(pair).collect()
}

/// A family without samples.
pub(super) fn empty_family(name: &str, help: &str, kind: MetricType) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family
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

    /// Its samples under this name; none while there is no series.
    fn collect(&self, name: &str, help: &str) -> MetricFamily {
        let series: Vec<(Values, S)> = self.series.read().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let samples = series.iter().map(|(values, one)| {
            let mut sample = one.sample();
            sample.set_label(pairs(
                self.labels.iter().copied().zip(values.iter().map(|value| &**value)),
            ));
            sample
        });
        let mut family = empty_family(name, help, S::TYPE);
        family.set_metric(samples.collect());
        family
    }
}

/// A family under one of its names, as a registry collects it.
pub struct Exposed<S> {
    family: Arc<Family<S>>,
    desc: Desc,
}

impl<S: Series> Exposed<S> {
    /// Under its own name. An error: the name, the help or a label is none that the format allows.
    pub fn new(family: &Arc<Family<S>>) -> prometheus::Result<Exposed<S>> {
        Exposed::alias(family, family.name, family.help)
    }

    /// The same samples under another name.
    pub fn alias(family: &Arc<Family<S>>, name: &str, help: &str) -> prometheus::Result<Exposed<S>> {
        let labels = family.labels.iter().map(|&label| label.to_owned()).collect();
        Ok(Exposed {
            family: Arc::clone(family),
            desc: Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())?,
        })
    }
}

impl<S: Series> Collector for Exposed<S> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        vec![self.family.collect(&self.desc.fq_name, &self.desc.help)]
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

    fn text<S: Series>(family: Family<S>) -> String {
        let registry = prometheus::Registry::new();
        registry
            .register(Box::new(Exposed::new(&Arc::new(family)).unwrap()))
            .unwrap();
        prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    }

    #[test]
    fn joined_label_values_that_are_equal_stay_apart() {
        let family = Family::new("t", "t", &["a", "b"], 10, Counter::default);
        family.get(&[&arc("ab"), &arc("c")]).add(1);
        family.get(&[&arc("a"), &arc("bc")]).add(2);
        assert_eq!(
            text(family),
            "# HELP t t\n# TYPE t counter\nt{a=\"a\",b=\"bc\"} 2\nt{a=\"ab\",b=\"c\"} 1\n"
        );
    }

    #[test]
    fn a_full_family_counts_the_rest_as_other() {
        let family = Family::new("t", "t", &["a"], 2, Counter::default);
        for value in ["x", "y", "z", "w", "x"] {
            family.get(&[&arc(value)]).add(1);
        }
        assert_eq!(family.series.read().len(), 3);
        let out = text(family);
        assert!(out.contains("t{a=\"other\"} 2\n"), "{out}");
        assert!(out.contains("t{a=\"x\"} 2\n"), "{out}");
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
        let family = Family::new("t", "t", &["a"], 2, Counter::default);
        family.get(&[&arc("q\"b\\c\nd")]);
        assert!(text(family).ends_with("t{a=\"q\\\"b\\\\c\\nd\"} 0\n"));
    }

    #[test]
    fn a_histogram_is_cumulative() {
        let family = Family::new("h", "t", &["a"], 2, || Histogram::new(&[10, 100]));
        for value in [10, 11, 5_000] {
            family.get(&[&arc("b")]).observe(value);
        }
        assert_eq!(
            text(family),
            "# HELP h t\n# TYPE h histogram\n\
             h_bucket{a=\"b\",le=\"10\"} 1\nh_bucket{a=\"b\",le=\"100\"} 2\nh_bucket{a=\"b\",le=\"+Inf\"} 3\n\
             h_sum{a=\"b\"} 5021\nh_count{a=\"b\"} 3\n"
        );
    }

    #[test]
    fn money_is_decimal_to_the_nano_dollar_and_never_goes_back() {
        for (nanos, shown) in [
            (1, "0.000000001"),
            (3_750_001, "0.003750001"),
            (999_999_999_999_999, "999999.999999999"),
            (3_999_999_999_999_999, "3999999.999999999"),
            (-1, "0"),
        ] {
            let family = Family::new("m", "t", &[], 1, Money::default);
            family.get(&[]).add_nanos(nanos);
            assert_eq!(text(family), format!("# HELP m t\n# TYPE m counter\nm {shown}\n"));
        }
    }

    #[test]
    fn an_alias_bears_the_same_samples_and_a_name_is_given_once() {
        let family = Arc::new(Family::new("t_total", "t", &["a"], 2, Counter::default));
        family.get(&[&arc("x")]).add(7);
        let registry = prometheus::Registry::new();
        registry.register(Box::new(Exposed::new(&family).unwrap())).unwrap();
        let alias = || Box::new(Exposed::alias(&family, "u_total", "As t_total.").unwrap());
        registry.register(alias()).unwrap();
        assert!(registry.register(alias()).is_err());
        assert!(Exposed::alias(&family, "no name", "t").is_err());
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        assert!(
            text.contains("t_total{a=\"x\"} 7\n") && text.contains("u_total{a=\"x\"} 7\n"),
            "{text}"
        );
    }
}
