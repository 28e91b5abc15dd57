//! The histograms of the GenAI conventions, for clients and, as far as a gateway sees it, for the time to the first token.
//! Names and buckets are those of OpenTelemetry's semantic conventions for generative AI, as of version 1.42.0
//! (<https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-metrics.md>), whose status is
//! "development".
//!
//! Models and providers that clients or answers name are bounded as in the metrics of Prometheus: the surplus is `other`.

use std::time::Duration;

use agentledger_ledger::Entry;
use opentelemetry::metrics::{Histogram, MeterProvider};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};

use super::exporters::MetricSender;
use super::span::{self, Provider};
use crate::telemetry::family::LabelValues;

const TOKEN_BOUNDS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
const DURATION_BOUNDS: [f64; 14] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
const FIRST_TOKEN_BOUNDS: [f64; 16] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

pub(super) struct Instruments {
    provider: SdkMeterProvider,
    tokens: Histogram<u64>,
    duration: Histogram<f64>,
    first_token: Histogram<f64>,
    first_chunk: Histogram<f64>,
    models: LabelValues,
    names: LabelValues,
}

impl Instruments {
    pub fn new(exporter: MetricSender, interval: Duration, resource: &Resource, values_max: usize) -> Instruments {
        let reader = PeriodicReader::builder(exporter).with_interval(interval).build();
        let provider = SdkMeterProvider::builder()
            .with_reader(reader)
            .with_resource(resource.clone())
            .build();
        let meter = provider.meter_with_scope(span::scope());
        let seconds = |name: &'static str, description: &'static str, bounds: &[f64]| {
            let histogram = meter.f64_histogram(name).with_unit("s").with_description(description);
            histogram.with_boundaries(bounds.to_vec()).build()
        };
        Instruments {
            tokens: meter
                .u64_histogram("gen_ai.client.token.usage")
                .with_unit("{token}")
                .with_description("Tokens read and written.")
                .with_boundaries(TOKEN_BOUNDS.to_vec())
                .build(),
            duration: seconds(
                "gen_ai.client.operation.duration",
                "From the request's start to the answer's end.",
                &DURATION_BOUNDS,
            ),
            first_token: seconds(
                "gen_ai.server.time_to_first_token",
                "From the request's start to the first byte of a streamed answer that succeeded.",
                &FIRST_TOKEN_BOUNDS,
            ),
            first_chunk: seconds(
                "gen_ai.client.operation.time_to_first_chunk",
                "From the request's start to the first byte of a streamed answer.",
                &FIRST_TOKEN_BOUNDS,
            ),
            provider,
            models: LabelValues::new(values_max),
            names: LabelValues::new(values_max),
        }
    }

    pub fn record(&self, entry: &Entry, provider: &Provider) {
        let (facts, end) = (&entry.facts, &entry.settlement);
        let name = |value: &str| Value::from(self.names.admit(value));
        let model = |value: &str| Value::from(self.models.admit(value));
        let mut attributes = vec![
            KeyValue::new(span::OPERATION, name(span::operation(&facts.operation))),
            KeyValue::new(span::PROVIDER, name(&provider.name)),
        ];
        if !facts.requested_model.is_empty() {
            attributes.push(KeyValue::new(span::REQUEST_MODEL, model(&facts.requested_model)));
        }
        if !end.model.is_empty() {
            attributes.push(KeyValue::new(span::RESPONSE_MODEL, model(&end.model)));
        }
        if let Some((host, port)) = &provider.server {
            attributes.push(KeyValue::new(span::SERVER_ADDRESS, name(host)));
            attributes.push(KeyValue::new(span::SERVER_PORT, i64::from(*port)));
        }
        for (kind, tokens) in [
            ("input", end.usage.input_tokens()),
            ("output", end.usage.output_tokens()),
        ] {
            if tokens > 0 {
                let mut of_kind = attributes.clone();
                of_kind.push(KeyValue::new(span::TOKEN_TYPE, kind));
                self.tokens.record(tokens, &of_kind);
            }
        }
        let error = span::error_type(end);
        if let Some(ttfb_ms) = end.ttfb_ms.filter(|_| facts.stream) {
            self.first_chunk.record(seconds(ttfb_ms), &attributes);
            if error.is_none() {
                self.first_token.record(seconds(ttfb_ms), &attributes);
            }
        }
        if let Some(error) = error {
            attributes.push(KeyValue::new(span::ERROR_TYPE, name(&error)));
        }
        self.duration.record(seconds(end.duration_ms), &attributes);
    }

    /// Sends what there is for the last time. Blocks, up to `wait`.
    pub fn shutdown(&self, wait: Duration) {
        // One that fails is counted already.
        let _ = self.provider.shutdown_with_timeout(wait);
    }
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}
