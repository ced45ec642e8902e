//! Exports metrics and traces to a collector of OpenTelemetry, by OTLP over gRPC.
//!
//! ```text
//! every metrics_interval: exposition -> metrics -> collector
//! a request that ends -> bounded queue -> batch of spans -> collector
//! ```
//! Requests never wait for the collector. If it is slow or away, spans are dropped and counted; metrics are cumulative, so that
//! the next export makes up for a failed one.

mod config;
mod metrics;
mod spans;
mod values;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use backon::{ExponentialBuilder, Retryable};
use rocketmq_thin_proto::otlp;
use rocketmq_thin_proto::otlp::metrics_service_client::MetricsServiceClient;
use rocketmq_thin_proto::otlp::trace_service_client::TraceServiceClient;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::front::metrics::Exposition;
use crate::layer::{Span, Spans};
pub use config::{OtlpConfig, OtlpError};
use values::{nanos, text};

/// The maximum number of spans of one export.
const MAX_BATCH: usize = 512;
/// How long a batch of spans waits for more.
const BATCH_DELAY: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an export of spans is repeated if the collector can't be reached.
const MAX_RETRIES: usize = 2;

/// The tasks that export. They end when this is dropped.
pub struct Exporter {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

/// The collector, and what is the same in all exports.
#[derive(Clone)]
struct Collector {
    channel: Channel,
    headers: MetadataMap,
    resource: otlp::Resource,
    name: String,
}

impl Exporter {
    /// Starts to export. Connects with the first export.
    ///
    /// # Errors
    /// [`OtlpError`]: the configuration is invalid.
    pub fn start(
        config: &OtlpConfig,
        exposition: Option<Arc<Exposition>>,
        spans: Option<(Arc<Spans>, mpsc::Receiver<Span>)>,
    ) -> Result<Option<Self>, OtlpError> {
        let Some(collector) = Collector::new(config)? else { return Ok(None) };
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        if let Some(exposition) = exposition.filter(|_| config.exports_metrics()) {
            let interval = config.metrics_interval;
            tasks.spawn(export_metrics(collector.clone(), exposition, interval, stop.clone()));
        }
        if let Some((spans, ended)) = spans {
            tasks.spawn(export_spans(collector, spans, ended, stop.clone()));
        }
        Ok(Some(Self { tasks, stop }))
    }

    /// Exports once more what is there, and ends. Takes up to some seconds per signal if the collector does not answer.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Collector {
    /// `None` if no collector is configured.
    fn new(config: &OtlpConfig) -> Result<Option<Self>, OtlpError> {
        let Some(endpoint) = config.collector()? else { return Ok(None) };
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(EXPORT_TIMEOUT);
        let mut attributes = vec![
            text("service.name", "rocketmq-thin-proxy"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", hex::encode(rand::random::<[u8; 16]>())),
        ];
        attributes.retain(|known| !config.attributes.contains_key(&known.key));
        attributes.extend(config.attributes.iter().map(|(name, value)| text(name, value)));
        Ok(Some(Self {
            name: endpoint.uri().to_string(),
            channel: endpoint.connect_lazy(),
            headers: MetadataMap::from_headers(config.header_map()?),
            resource: otlp::Resource { attributes },
        }))
    }

    fn request<T>(&self, body: T) -> Request<T> {
        let mut request = Request::new(body);
        *request.metadata_mut() = self.headers.clone();
        request
    }
}

/// Exports metrics periodically, and a last time at the end.
async fn export_metrics(
    collector: Collector,
    exposition: Arc<Exposition>,
    interval: Duration,
    stop: CancellationToken,
) {
    let mut client = MetricsServiceClient::new(collector.channel.clone());
    let mut ticks = interval_at((Instant::now() + interval).into(), interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut outage = Outage::new("metrics", &collector.name);
    loop {
        let is_last = tokio::select! {
            _ = ticks.tick() => false,
            () = stop.cancelled() => true,
        };
        let families = exposition.families().await;
        let times = (nanos(exposition.started()), nanos(SystemTime::now()));
        let body = metrics::build(families, &collector.resource, times);
        let exported = within(client.export(collector.request(body))).await;
        outage.note(exported.and_then(|answer| match answer.into_inner().partial_success {
            Some(partial) if partial.rejected_data_points > 0 => Err(rejected(&partial.error_message)),
            _ => Ok(()),
        }));
        if is_last {
            return;
        }
    }
}

/// Exports spans as they end, and the waiting ones at the end.
async fn export_spans(
    collector: Collector,
    spans: Arc<Spans>,
    mut ended: mpsc::Receiver<Span>,
    stop: CancellationToken,
) {
    let client = TraceServiceClient::new(collector.channel.clone());
    let mut outage = Outage::new("spans", &collector.name);
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            received = ended.recv_many(&mut batch, MAX_BATCH) => if received == 0 { return },
            () = stop.cancelled() => return,
        }
        let fill = async {
            while let room @ 1.. = MAX_BATCH - batch.len() {
                if ended.recv_many(&mut batch, room).await == 0 {
                    break;
                }
            }
        };
        tokio::select! {
            biased;
            _ = timeout(BATCH_DELAY, fill) => {}
            () = stop.cancelled() => {}
        }
        let count = batch.len() as u64;
        let body = spans::build(batch, &collector.resource);
        let export = || {
            let (mut client, request) = (client.clone(), collector.request(body.clone()));
            async move { within(client.export(request)).await }
        };
        let policy = ExponentialBuilder::default().with_jitter().with_max_times(MAX_RETRIES);
        let exported = export.retry(policy).when(|error| is_transient(error) && !stop.is_cancelled()).await;
        outage.note(match exported.map(|answer| answer.into_inner().partial_success) {
            Ok(Some(partial)) if partial.rejected_spans > 0 => {
                spans.add_dropped(partial.rejected_spans.unsigned_abs());
                Err(rejected(&partial.error_message))
            }
            Ok(_) => Ok(()),
            Err(error) => {
                spans.add_dropped(count);
                Err(error)
            }
        });
    }
}

/// Limits the time of an export, which includes that of connecting.
async fn within<T>(export: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let ended = timeout(EXPORT_TIMEOUT, export).await;
    ended.unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("no answer within {EXPORT_TIMEOUT:?}"))))
}

/// Whether a later attempt may succeed, as OTLP defines it.
fn is_transient(error: &Status) -> bool {
    use Code::{Aborted, Cancelled, DataLoss, DeadlineExceeded, OutOfRange, Unavailable};
    matches!(error.code(), Cancelled | DeadlineExceeded | Aborted | OutOfRange | Unavailable | DataLoss)
}

fn rejected(message: &str) -> Status {
    Status::invalid_argument(format!("the collector rejected a part: {message}"))
}

/// Logs the first of several failures in a row, and the end of the outage.
struct Outage<'a> {
    signal: &'static str,
    collector: &'a str,
    is_failing: bool,
}

impl<'a> Outage<'a> {
    fn new(signal: &'static str, collector: &'a str) -> Self {
        Self { signal, collector, is_failing: false }
    }

    fn note(&mut self, result: Result<(), Status>) {
        let (collector, signal) = (self.collector, self.signal);
        match &result {
            Ok(()) if self.is_failing => tracing::info!(collector, "exporting {signal} works again"),
            Ok(()) => {}
            Err(error) if self.is_failing => tracing::debug!(collector, %error, "failed to export {signal}"),
            Err(error) => tracing::warn!(collector, %error, "failed to export {signal}"),
        }
        self.is_failing = result.is_err();
    }
}
