//! A collector of OpenTelemetry that does as it is told: it decodes what comes by the official protobufs, over HTTP and gRPC.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, Metric, metric};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Takes,
    /// Answers with this status.
    Refuses(u16),
    /// Reads, and never answers.
    Hangs,
}

/// What came.
#[derive(Default)]
pub struct Received {
    pub spans: Vec<Span>,
    /// Of the spans' resources.
    pub resource: BTreeMap<String, String>,
    /// The last of each name.
    pub metrics: BTreeMap<String, Metric>,
    pub headers: Vec<HeaderMap>,
    /// Every body, as it came.
    pub raw: Vec<Bytes>,
}

pub struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
    manner: Arc<Mutex<Manner>>,
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

impl Collector {
    pub fn new(manner: Manner) -> Collector {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let collector = Collector {
            address: listener.local_addr().unwrap(),
            received: Arc::default(),
            manner: Arc::new(Mutex::new(manner)),
        };
        let (received, manner) = (Arc::clone(&collector.received), Arc::clone(&collector.manner));
        thread::spawn(move || super::block_on(serve(listener, received, manner)));
        collector
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub fn look<T>(&self, look: impl FnOnce(&Received) -> T) -> T {
        look(&self.received.lock().unwrap())
    }
}

async fn serve(listener: std::net::TcpListener, received: Arc<Mutex<Received>>, manner: Arc<Mutex<Manner>>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (received, manner) = (Arc::clone(&received), Arc::clone(&manner));
        tokio::spawn(async move {
            let mut first = [0; 3];
            let is_h2 = stream
                .peek(&mut first)
                .await
                .is_ok_and(|read| read == 3 && &first == b"PRI");
            let service = service_fn(move |request| {
                let (received, manner) = (Arc::clone(&received), Arc::clone(&manner));
                async move { Ok::<_, Infallible>(take(request, &received, &manner).await) }
            });
            let stream = TokioIo::new(stream);
            let _ = if is_h2 {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                server.serve_connection(stream, service).await
            } else {
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(stream, service)
                    .await
            };
        });
    }
}

async fn take(request: Request<Incoming>, received: &Mutex<Received>, manner: &Mutex<Manner>) -> Answer {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let manner = *manner.lock().unwrap();
    let path = parts.uri.path().to_owned();
    let is_grpc = path.starts_with("/opentelemetry.proto.");
    match manner {
        Manner::Takes => {}
        Manner::Refuses(status) => return Response::builder().status(status).body(whole(Bytes::new())).unwrap(),
        Manner::Hangs => std::future::pending().await,
    }
    // One message: a byte that says whether it is compressed, four of its length.
    let message = if is_grpc { body.slice(5..) } else { body.clone() };
    let mut received = received.lock().unwrap();
    received.headers.push(parts.headers);
    received.raw.push(body);
    if path.ends_with("/v1/traces") || path.contains("TraceService") {
        let request = ExportTraceServiceRequest::decode(message).unwrap();
        for resource in request.resource_spans {
            let attributes = resource
                .resource
                .map(|resource| resource.attributes)
                .unwrap_or_default();
            received
                .resource
                .extend(attributes.iter().map(|pair| (pair.key.clone(), text(pair))));
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            received.spans.extend(spans);
        }
    } else {
        assert!(
            path.ends_with("/v1/metrics") || path.contains("MetricsService"),
            "{path}"
        );
        let request = ExportMetricsServiceRequest::decode(message).unwrap();
        let scopes = request
            .resource_metrics
            .into_iter()
            .flat_map(|resource| resource.scope_metrics);
        for metric in scopes.flat_map(|scope| scope.metrics) {
            received.metrics.insert(metric.name.clone(), metric);
        }
    }
    if !is_grpc {
        return Response::new(whole(Bytes::new()));
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let frames = [
        Ok(Frame::data(Bytes::from_static(&[0, 0, 0, 0, 0]))),
        Ok(Frame::trailers(trailers)),
    ];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
    Response::builder()
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap()
}

fn whole(bytes: Bytes) -> BoxBody<Bytes, Infallible> {
    Full::new(bytes).boxed()
}

/// An attribute's value as text.
pub fn text(pair: &KeyValue) -> String {
    match &pair.value {
        Some(AnyValue { value: Some(value) }) => match value {
            any_value::Value::StringValue(text) => text.clone(),
            any_value::Value::BoolValue(flag) => flag.to_string(),
            any_value::Value::IntValue(number) => number.to_string(),
            any_value::Value::DoubleValue(number) => number.to_string(),
            any_value::Value::ArrayValue(all) => {
                let each = all.values.iter().map(|value| {
                    text(&KeyValue {
                        value: Some(value.clone()),
                        ..KeyValue::default()
                    })
                });
                each.collect::<Vec<_>>().join(",")
            }
            other => panic!("{other:?}"),
        },
        _ => String::new(),
    }
}

/// All attributes as text.
pub fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    pairs.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

/// The points of a histogram.
pub fn points(metric: &Metric) -> &[HistogramDataPoint] {
    match &metric.data {
        Some(metric::Data::Histogram(histogram)) => &histogram.data_points,
        other => panic!("{other:?}"),
    }
}
