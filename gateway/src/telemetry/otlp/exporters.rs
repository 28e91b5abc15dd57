//! The exporters of OpenTelemetry, as the configuration wants them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::runtime::Handle;

use super::client::Client;
use super::{Counts, OtlpError};
use crate::config::{Otlp as OtlpConfig, OtlpProtocol};

/// Over an exporter's own time-out: one that does not keep to it is left.
const GRACE: Duration = Duration::from_millis(500);

/// Who sends: `service.name` and version, and what `OTEL_RESOURCE_ATTRIBUTES` says.
pub(super) fn resource(otlp: &OtlpConfig) -> Resource {
    Resource::builder()
        .with_service_name(otlp.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Sends spans; never longer than the time-out.
pub(super) struct SpanSender {
    exporter: SpanExporter,
    patience: Duration,
}

impl SpanSender {
    pub async fn send(&self, spans: Vec<SpanData>) -> Result<(), String> {
        within(self.patience, self.exporter.export(spans)).await
    }
}

async fn within(patience: Duration, sending: impl Future<Output = OTelSdkResult>) -> Result<(), String> {
    match tokio::time::timeout(patience, sending).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} ms", patience.as_millis())),
    }
}

/// `None` where no spans are wanted. On the runtime that they are sent on.
pub(super) fn spans(otlp: &OtlpConfig, resource: &Resource) -> Result<Option<SpanSender>, OtlpError> {
    let Some(endpoint) = &otlp.traces else { return Ok(None) };
    let built = match otlp.protocol {
        OtlpProtocol::Http => SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new(otlp.timeout))
            .with_headers(headers(otlp))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(otlp.timeout)
            .build(),
        OtlpProtocol::Grpc => SpanExporter::builder()
            .with_tonic()
            .with_tls_config(ClientTlsConfig::new().with_native_roots())
            .with_metadata(metadata(otlp)?)
            .with_endpoint(endpoint)
            .with_timeout(otlp.timeout)
            .build(),
    };
    let mut exporter = built.map_err(unusable)?;
    exporter.set_resource(resource);
    Ok(Some(SpanSender {
        exporter,
        patience: otlp.timeout + GRACE,
    }))
}

/// `None` where no metrics are wanted.
pub(super) fn metrics(
    otlp: &OtlpConfig,
    counts: &Arc<Counts>,
    runtime: &Handle,
) -> Result<Option<MetricSender>, OtlpError> {
    let Some(endpoint) = &otlp.metrics else { return Ok(None) };
    let built = match otlp.protocol {
        OtlpProtocol::Http => MetricExporter::builder()
            .with_http()
            .with_http_client(Client::new(otlp.timeout))
            .with_headers(headers(otlp))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(otlp.timeout)
            .build(),
        OtlpProtocol::Grpc => MetricExporter::builder()
            .with_tonic()
            .with_tls_config(ClientTlsConfig::new().with_native_roots())
            .with_metadata(metadata(otlp)?)
            .with_endpoint(endpoint)
            .with_timeout(otlp.timeout)
            .build(),
    };
    Ok(Some(MetricSender {
        exporter: built.map_err(unusable)?,
        patience: otlp.timeout + GRACE,
        counts: Arc::clone(counts),
        runtime: runtime.clone(),
    }))
}

fn unusable(error: impl ToString) -> OtlpError {
    OtlpError::Exporter(error.to_string())
}

fn headers(otlp: &OtlpConfig) -> HashMap<String, String> {
    let headers = otlp.headers.iter();
    headers
        .map(|(name, value)| (name.clone(), value.expose().clone()))
        .collect()
}

fn metadata(otlp: &OtlpConfig) -> Result<MetadataMap, OtlpError> {
    let headers = http::HeaderMap::try_from(&headers(otlp)).map_err(unusable)?;
    Ok(MetadataMap::from_headers(headers))
}

/// Sends metrics from the reader's thread, on the runtime that connections belong to.
pub(super) struct MetricSender {
    exporter: MetricExporter,
    patience: Duration,
    counts: Arc<Counts>,
    runtime: Handle,
}

impl PushMetricExporter for MetricSender {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        // The reader polls on a thread of its own, outside any runtime.
        let sent = self
            .runtime
            .block_on(within(self.patience, self.exporter.export(metrics)));
        self.counts.went("metrics", sent.clone());
        sent.map_err(OTelSdkError::InternalFailure)
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
