//! The export of metrics, to a collector that implements the published contract.

use std::{net::SocketAddr, sync::Arc};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{AggregationTemporality, HistogramDataPoint, metric::Data},
};
use rocketmq_thin::{CLOSE_DEADLINE, Client, ClientOptions, Credentials, Message, ProducerOptions};
use rocketmq_thin_proto::v2;
use tokio::{net::TcpListener, sync::Mutex};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, metadata::MetadataMap, transport::Server};

use crate::server::{Script, TestServer};

type Exports = Arc<Mutex<Vec<(MetadataMap, ExportMetricsServiceRequest)>>>;

struct Collector(Exports);

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let (metadata, _, body) = request.into_parts();
        self.0.lock().await.push((metadata, body));
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

async fn collector() -> (SocketAddr, Exports) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, exports) = (listener.local_addr().unwrap(), Exports::default());
    let service = MetricsServiceServer::new(Collector(exports.clone()));
    tokio::spawn(
        Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
    );
    (address, exports)
}

fn metric(on: bool, address: SocketAddr) -> Option<v2::Metric> {
    let address = v2::Address { host: address.ip().to_string(), port: address.port().into() };
    let endpoints = v2::Endpoints { addresses: vec![address], ..Default::default() };
    Some(v2::Metric { on, endpoints: Some(endpoints) })
}

/// A server whose first settings name a collector at `address`. Later settings name it only if `always` is set.
fn server(address: SocketAddr, always: bool) -> TestServer {
    let ask = move |settings: &v2::Settings, before| v2::Settings {
        metric: metric(always || before == 0, address),
        ..settings.clone()
    };
    TestServer::start(Script { group_settings: Box::new(ask), ..Script::default() })
}

/// A client that has sent one message to a server with these settings.
async fn client_that_sent(server: &TestServer) -> Client {
    let options = ClientOptions::new(server.endpoints()).credentials(Credentials::new("ak", "sk"));
    let client = Client::connect(options).await.unwrap();
    let producer = client.producer(ProducerOptions::new(["orders"])).await.unwrap();
    producer.send(Message::new("orders", "x")).await.unwrap();
    client
}

fn labels(attributes: &[KeyValue]) -> Vec<(&str, &str)> {
    let labels = attributes.iter().map(|KeyValue { key, value, .. }| {
        match value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => (key.as_str(), text.as_str()),
            other => panic!("{other:?}"),
        }
    });
    labels.collect()
}

#[tokio::test]
async fn a_collector_named_by_the_settings_gets_the_metrics() {
    let (address, exports) = collector().await;
    let server = server(address, true);
    let client = client_that_sent(&server).await;
    client.close(CLOSE_DEADLINE).await;

    let exports = exports.lock().await;
    let [(metadata, request)] = exports.as_slice() else { panic!("{} exports", exports.len()) };
    let client_id = metadata.get("x-mq-client-id").unwrap().to_str().unwrap();
    assert!(metadata.contains_key("authorization"));
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    let [metric] = metrics.as_slice() else { panic!("{metrics:?}") };
    assert_eq!((metric.name.as_str(), metric.unit.as_str()), ("rocketmq_send_cost_time", "ms"));
    let Some(Data::Histogram(histogram)) = &metric.data else { panic!("{metric:?}") };
    assert_eq!(histogram.aggregation_temporality(), AggregationTemporality::Cumulative);
    let HistogramDataPoint { count, bucket_counts, explicit_bounds, attributes, .. } =
        &histogram.data_points[0];
    assert_eq!((*count, bucket_counts.len()), (1, 8));
    assert_eq!(explicit_bounds, &[1.0, 5.0, 10.0, 20.0, 50.0, 200.0, 500.0]);
    assert_eq!(
        labels(attributes),
        [("topic", "orders"), ("invocation_status", "success"), ("client_id", client_id)]
    );
}

#[tokio::test]
async fn settings_without_a_collector_end_the_export() {
    let (address, exports) = collector().await;
    let server = server(address, false);
    let client = client_that_sent(&server).await;
    client.producer(ProducerOptions::default()).await.unwrap();
    client.close(CLOSE_DEADLINE).await;
    assert!(exports.lock().await.is_empty());
}

#[tokio::test]
async fn a_dead_collector_does_not_affect_the_client() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = server(dead, true);
    let client = client_that_sent(&server).await;
    let report = client.close(CLOSE_DEADLINE).await;
    assert_eq!(report.abandoned, 0);
}
