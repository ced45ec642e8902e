//! The export of metrics and traces, to a collector that implements the published contract.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use rocketmq_thin_proto::v2 as pb;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::metrics::scrape;
use crate::support::{Proxy, code, message, receive, receive_request, send};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SENDER: &str = "b7ad6b7169203331";

/// A collector. It refuses the first export of spans.
struct Collector {
    address: SocketAddr,
    metrics: UnboundedReceiver<(Option<String>, ExportMetricsServiceRequest)>,
    spans: UnboundedReceiver<ExportTraceServiceRequest>,
}

struct Metrics(UnboundedSender<(Option<String>, ExportMetricsServiceRequest)>);

struct Spans {
    received: UnboundedSender<ExportTraceServiceRequest>,
    refused: tokio::sync::OnceCell<()>,
}

#[tonic::async_trait]
impl MetricsService for Metrics {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let key = request.metadata().get("api-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
        let _ = self.0.send((key, request.into_inner()));
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if self.refused.set(()).is_ok() {
            return Err(Status::unavailable("starting"));
        }
        let _ = self.received.send(request.into_inner());
        Ok(Response::new(Default::default()))
    }
}

impl Collector {
    async fn start() -> Self {
        Self::served_by(Server::builder()).await
    }

    async fn served_by(mut server: Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let ((to_metrics, metrics), (received, spans)) = (unbounded_channel(), unbounded_channel());
        let server = server
            .add_service(MetricsServiceServer::new(Metrics(to_metrics)))
            .add_service(TraceServiceServer::new(Spans { received, refused: tokio::sync::OnceCell::new() }));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, metrics, spans }
    }

    async fn proxy(&self, sample: f64) -> Proxy {
        let endpoint = format!("http://{}", self.address);
        Proxy::configured(move |config| {
            config.otlp.endpoint = Some(endpoint);
            config.otlp.metrics_interval = Duration::from_secs(1);
            config.otlp.sample = sample;
            config.otlp.headers = BTreeMap::from([("api-key".to_owned(), "k".to_owned())]);
        })
        .await
    }

    /// Waits for a span with this name.
    async fn span(&mut self, name: &str) -> Span {
        loop {
            let request = self.spans.recv().await.expect("an export");
            let spans = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            if let Some(span) = spans.flat_map(|scope| scope.spans).find(|span| span.name == name) {
                return span;
            }
        }
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<&str, &str> {
    fn text(attribute: &KeyValue) -> Option<(&str, &str)> {
        match attribute.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some((&attribute.key, text)),
            _ => None,
        }
    }
    attributes.iter().filter_map(text).collect()
}

fn traced(topic: &str) -> pb::Message {
    let mut traced = message(topic, "1", "x");
    traced.user_properties.insert("traceparent".to_owned(), format!("00-{TRACE}-{SENDER}-01"));
    traced
}

#[tokio::test]
async fn spans_belong_to_the_traces_of_their_messages() {
    let mut collector = Collector::start().await;
    let proxy = collector.proxy(0.0).await;
    let mut client = proxy.client().await;
    assert_eq!(code(send(&mut client, vec![message("t", "0", "untraced")]).await.status), pb::Code::Ok);
    assert_eq!(code(send(&mut client, vec![traced("t")]).await.status), pb::Code::Ok);

    let sent = collector.span("send t").await;
    assert_eq!(
        (hex::encode(&sent.trace_id), hex::encode(&sent.parent_span_id)),
        (TRACE.to_owned(), SENDER.to_owned())
    );
    assert!(sent.end_time_unix_nano >= sent.start_time_unix_nano && sent.status.is_none());
    let attributes = texts(&sent.attributes);
    assert_eq!(attributes["messaging.destination.name"], "t");
    assert_eq!(attributes["messaging.client.id"], "client");
    assert_eq!(attributes["network.protocol.name"], "grpc");

    let mut received = 0;
    while received < 2 {
        received += receive(&mut client, receive_request("t", "g")).await.messages.len();
    }
    let received = collector.span("receive t").await;
    let links: Vec<_> = received.links.iter().map(|link| hex::encode(&link.span_id)).collect();
    assert_eq!(links, [SENDER]);
    assert_eq!(texts(&received.attributes)["messaging.consumer.group.name"], "g");
}

#[tokio::test]
async fn metrics_are_exported_with_the_configured_headers() {
    let mut collector = Collector::start().await;
    let proxy = collector.proxy(0.0).await;
    let mut client = proxy.client().await;
    assert_eq!(code(send(&mut client, vec![message("t", "0", "x")]).await.status), pb::Code::Ok);
    loop {
        let (key, request) = collector.metrics.recv().await.expect("an export");
        assert_eq!(key.as_deref(), Some("k"));
        let resource = &request.resource_metrics[0];
        let attributes = texts(&resource.resource.as_ref().expect("a resource").attributes);
        assert_eq!(attributes["service.name"], "rocketmq-thin-proxy");
        let metrics = &resource.scope_metrics[0].metrics;
        let Some(requests) = metrics.iter().find(|metric| metric.name == "rocketmq_thin_proxy_requests")
        else {
            // No request had ended yet.
            continue;
        };
        let Some(Data::Sum(sum)) = &requests.data else { panic!("{:?}", requests.data) };
        assert!(sum.is_monotonic);
        let of_sends =
            |labels: &BTreeMap<&str, &str>| labels["operation"] == "send" && labels["code"] == "ok";
        if sum.data_points.iter().any(|point| of_sends(&texts(&point.attributes))) {
            return;
        }
    }
}

#[tokio::test]
async fn spans_that_a_collector_refuses_are_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    // A collector of metrics only.
    let (received, _metrics) = unbounded_channel();
    let server = Server::builder().add_service(MetricsServiceServer::new(Metrics(received)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let proxy = Proxy::configured(|config| {
        config.otlp.endpoint = Some(endpoint);
        config.otlp.sample = 1.0;
        config.metrics.listen = Some("127.0.0.1:0".to_owned());
    })
    .await;
    let mut client = proxy.client().await;
    assert_eq!(code(send(&mut client, vec![message("t", "0", "x")]).await.status), pb::Code::Ok);
    while scrape(&proxy).await.value("rocketmq_thin_proxy_spans_dropped_total") < 1.0 {}
}

#[tokio::test]
async fn a_shutdown_exports_the_last_metrics() {
    let mut collector = Collector::start().await;
    let endpoint = format!("http://{}", collector.address);
    let proxy = Proxy::configured(|config| {
        config.otlp.endpoint = Some(endpoint);
        config.otlp.metrics_interval = Duration::from_secs(3600);
    })
    .await;
    let mut client = proxy.client().await;
    assert_eq!(code(send(&mut client, vec![message("t", "0", "x")]).await.status), pb::Code::Ok);
    drop(client);
    proxy.stop().await;
    let (_, request) = collector.metrics.recv().await.expect("an export");
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    assert!(metrics.iter().any(|metric| metric.name == "rocketmq_thin_proxy_messages_in"));
}

#[tokio::test]
async fn a_collector_with_tls_needs_a_certificate_that_is_trusted() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem());
    let server = Server::builder().tls_config(ServerTlsConfig::new().identity(identity)).expect("TLS");
    let mut collector = Collector::served_by(server).await;
    let endpoint = format!("https://{}", collector.address);
    let proxy = |name: &str, pem: String| {
        let (file, endpoint) = (folder.path().join(name), endpoint.clone());
        std::fs::write(&file, pem).expect("written");
        Proxy::configured(move |config| {
            config.otlp.endpoint = Some(endpoint);
            config.otlp.ca_file = Some(file);
            config.otlp.sample = 1.0;
            config.metrics.listen = Some("127.0.0.1:0".to_owned());
        })
    };
    let distrustful = proxy("other.pem", other.cert.pem()).await;
    let mut client = distrustful.client().await;
    assert_eq!(code(send(&mut client, vec![message("t", "0", "x")]).await.status), pb::Code::Ok);
    while scrape(&distrustful).await.value("rocketmq_thin_proxy_spans_dropped_total") < 1.0 {}
    assert!(collector.spans.try_recv().is_err(), "exported to a collector that is not trusted");

    let trusting = proxy("ca.pem", made.cert.pem()).await;
    let mut client = trusting.client().await;
    assert_eq!(code(send(&mut client, vec![message("t", "0", "x")]).await.status), pb::Code::Ok);
    collector.span("send t").await;
}
