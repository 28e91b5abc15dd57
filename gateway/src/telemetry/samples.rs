//! What others know best (balances, the journal's queue, breakers), asked for when metrics are read.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::family;

/// Something whose present state becomes gauges when `/metrics` is read.
pub trait Source: Send + Sync {
    fn sample(&self, out: &mut Samples);
}

/// What the sources said, by metric name.
#[derive(Default)]
pub struct Samples {
    families: BTreeMap<&'static str, MetricFamily>,
}

impl Samples {
    /// A present count. What is beyond an `i64` is shown as its end.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: impl TryInto<i64>) {
        let value: i64 = value.try_into().unwrap_or(i64::MAX);
        self.push(name, help, MetricType::GAUGE, labels, family::gauge(value as f64));
    }

    /// A present value in dollars, given in nano-dollars.
    pub fn dollars(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], nanos: i64) {
        let sample = family::gauge(family::dollars(nanos));
        self.push(name, help, MetricType::GAUGE, labels, sample);
    }

    /// A total that its owner counts.
    pub fn counter(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: u64) {
        let sample = family::counter(value as f64);
        self.push(name, help, MetricType::COUNTER, labels, sample);
    }

    fn push(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: MetricType,
        labels: &[(&str, &str)],
        mut sample: Metric,
    ) {
        sample.set_label(family::pairs(labels.iter().copied()));
        let family = self
            .families
            .entry(name)
            .or_insert_with(|| family::empty_family(name, help, kind));
        family.mut_metric().push(sample);
    }
}

/// All sources, as the registry collects them. They name their metrics only when they are asked, so it knows none before.
#[derive(Clone, Default)]
pub(super) struct Sources(Arc<RwLock<Vec<Arc<dyn Source>>>>);

impl Sources {
    pub fn add(&self, source: Arc<dyn Source>) {
        self.0.write().push(source);
    }
}

impl Collector for Sources {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // A copy: a source may take locks of its own, and none is asked under ours.
        let sources = self.0.read().clone();
        let mut samples = Samples::default();
        for source in sources {
            source.sample(&mut samples);
        }
        samples.families.into_values().collect()
    }
}
