//! The metrics of the proxy: their names, labels and help texts.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::SystemTime;

use super::cap::OTHER;
use super::config::MetricsConfig;
use super::family::{MetricFamily, Metrics, NO_LABELS};
use super::gatherer::{Gathered, Gatherer, GroupLine};
use super::process;
use super::sources::Sources;
use crate::layer::{OperationCounts, QuotaStatus, WriteCounts};
use crate::processor::SoftState;

/// Reads the metrics of all sources.
pub struct Exposition {
    sources: Sources,
    gatherer: Arc<Gatherer>,
    started: SystemTime,
}

impl Exposition {
    /// Creates an exposition of these sources.
    #[must_use]
    pub fn new(sources: Sources, config: &MetricsConfig) -> Self {
        let gatherer = Gatherer::new(sources.processor.clone(), config.max_series);
        Self { sources, gatherer, started: SystemTime::now() }
    }

    /// When counting began.
    #[must_use]
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// The current values of all metrics.
    pub async fn families(&self) -> Vec<MetricFamily> {
        let gathered = self.gatherer.latest().await;
        let Sources { requests, ports, budget, access_log, message_trace, spans, processor } = &self.sources;
        let clusters = processor.health().borrow().clone();
        let scrape = Scrape {
            operations: requests.operations(),
            refusals: requests.refusals(),
            ports: ports
                .iter()
                .map(|(name, counts)| PortMetrics {
                    name: name.clone(),
                    open: counts.open(),
                    accepted: counts.accepted(),
                    refused: counts.refused_by_limit(),
                })
                .collect(),
            held_bytes: budget.held_bytes(),
            refused_calls: budget.refused_by_limit(),
            quotas: processor.quotas().list(),
            fleet: processor.quotas().fleet(),
            log_lines: access_log.as_ref().map(|log| log.lines()),
            trace_records: message_trace.as_ref().map(|trace| trace.records()),
            dropped_spans: spans.as_ref().map(|spans| spans.dropped()),
            soft_state: processor.soft_state(),
            clusters: clusters
                .into_iter()
                .map(|(name, missing)| {
                    let name = if name.is_empty() { "default" } else { &*name };
                    (name.to_owned(), u64::from(missing.is_none()))
                })
                .collect(),
            gathered,
            started: self.started,
        };
        scrape.families()
    }
}

/// The values that one scrape returns.
#[derive(Debug)]
struct Scrape {
    operations: Vec<OperationCounts>,
    refusals: Vec<(&'static str, u64)>,
    ports: Vec<PortMetrics>,
    held_bytes: u64,
    refused_calls: [(&'static str, u64); 4],
    quotas: Vec<QuotaStatus>,
    fleet: NonZeroU32,
    /// How many lines of the access log were written, and how many were dropped. `None` if it is off.
    log_lines: Option<WriteCounts>,
    /// How many records of message trace were written, and how many were dropped. `None` if it is off.
    trace_records: Option<WriteCounts>,
    /// Spans that were not exported, because the collector was too slow or could not be reached. `None` if they are not
    /// exported.
    dropped_spans: Option<u64>,
    soft_state: SoftState,
    clusters: Vec<(String, u64)>,
    gathered: Arc<Gathered>,
    started: SystemTime,
}

#[derive(Debug)]
struct PortMetrics {
    name: Arc<str>,
    open: u64,
    accepted: u64,
    refused: [(&'static str, u64); 2],
}

impl Scrape {
    fn families(&self) -> Vec<MetricFamily> {
        let mut metrics = Metrics::default();
        self.requests(&mut metrics);
        self.messages(&mut metrics);
        self.connections(&mut metrics);
        self.topics(&mut metrics);
        self.groups(&mut metrics);
        self.disk(&mut metrics);
        self.process(&mut metrics);
        metrics.0
    }

    fn requests(&self, metrics: &mut Metrics) {
        let ended = self.operations.iter().flat_map(|counts| {
            let by_code = counts.ended.iter();
            by_code.map(|(code, count)| {
                let labels = [("operation", counts.operation), ("protocol", counts.protocol), ("code", code)];
                (labels, *count)
            })
        });
        metrics.counter(
            "rocketmq_thin_proxy_requests",
            "Finished requests of clients, by code: ok, cancelled, or the reason of the failure.",
            ended,
        );
        metrics.gauge(
            "rocketmq_thin_proxy_requests_in_flight",
            "Requests that are not answered yet. Most receives and pulls are long polls.",
            self.operations.iter().map(|counts| (labels(counts), counts.in_flight)),
        );
        metrics.histogram(
            "rocketmq_thin_proxy_request_duration_seconds",
            "Time between the arrival of a request and its answer, including long polls.",
            self.operations.iter().map(|counts| (labels(counts), counts.duration.clone())),
        );
        metrics.counter(
            "rocketmq_thin_proxy_refusals",
            "Requests that access control or a limit refused before they were carried out.",
            self.refusals.iter().map(|(reason, count)| ([("reason", *reason)], *count)),
        );
        let quotas = || self.quotas.iter().map(|status| ([("quota", status.quota.name.as_str())], status));
        metrics.counter(
            "rocketmq_thin_proxy_quota_refused",
            "Requests that a quota refused since it was set.",
            quotas().map(|(labels, status)| (labels, status.refused)),
        );
        metrics.counter(
            "rocketmq_thin_proxy_quota_delayed",
            "Requests that a quota delayed since it was set.",
            quotas().map(|(labels, status)| (labels, status.delayed)),
        );
        metrics.gauge(
            "rocketmq_thin_proxy_fleet_size",
            "Proxies that share the quotas.",
            [(NO_LABELS, u64::from(self.fleet.get()))],
        );
        metrics.counter(
            "rocketmq_thin_proxy_access_log_lines",
            "Lines of the access log that were written.",
            self.log_lines.iter().map(|counts| (NO_LABELS, counts.written)),
        );
        metrics.counter(
            "rocketmq_thin_proxy_access_log_dropped",
            "Lines of the access log that were dropped, because the disk was too slow or full.",
            self.log_lines.iter().map(|counts| (NO_LABELS, counts.dropped)),
        );
        metrics.counter(
            "rocketmq_thin_proxy_message_trace_records",
            "Records of message trace that were written.",
            self.trace_records.iter().map(|counts| (NO_LABELS, counts.written)),
        );
        metrics.counter(
            "rocketmq_thin_proxy_message_trace_dropped",
            "Records of message trace that were dropped, because the broker was too slow or refused them.",
            self.trace_records.iter().map(|counts| (NO_LABELS, counts.dropped)),
        );
        metrics.counter(
            "rocketmq_thin_proxy_spans_dropped",
            "Spans that were dropped, because the collector was too slow or could not be reached.",
            self.dropped_spans.iter().map(|dropped| (NO_LABELS, *dropped)),
        );
    }

    fn messages(&self, metrics: &mut Metrics) {
        let sends = || self.operations.iter().filter(|counts| counts.operation == "send");
        let settles = self.operations.iter().filter(|counts| counts.operation != "send");
        let (changes, ends): (Vec<_>, Vec<_>) = settles
            .filter(|counts| counts.carried.messages > 0)
            .partition(|counts| counts.operation == "change_invisible");
        let answers = || self.operations.iter().filter(|counts| counts.answered.messages > 0);
        metrics.counter(
            "rocketmq_thin_proxy_messages_in",
            "Messages stored by successful sends.",
            sends().map(|counts| (labels(counts), counts.carried.messages as u64)),
        );
        metrics.counter(
            "rocketmq_thin_proxy_message_bytes_in",
            "Body bytes of the messages stored by successful sends.",
            sends().map(|counts| (labels(counts), counts.carried.bytes as u64)),
        );
        metrics.counter(
            "rocketmq_thin_proxy_messages_out",
            "Messages that were handed to clients, including redeliveries.",
            answers().map(|counts| (labels(counts), counts.answered.messages as u64)),
        );
        metrics.counter(
            "rocketmq_thin_proxy_message_bytes_out",
            "Body bytes of the messages that were handed to clients, including redeliveries.",
            answers().map(|counts| (labels(counts), counts.answered.bytes as u64)),
        );
        metrics.counter(
            "rocketmq_thin_proxy_deliveries_settled",
            "Deliveries that clients settled: acknowledged, sent back, or moved to dead letters.",
            ends.iter().map(|counts| (labels(counts), counts.carried.messages as u64)),
        );
        metrics.counter(
            "rocketmq_thin_proxy_leases_changed",
            "Leases of deliveries that clients extended, or shortened for an earlier redelivery.",
            changes.iter().map(|counts| (labels(counts), counts.carried.messages as u64)),
        );
    }

    fn connections(&self, metrics: &mut Metrics) {
        let Self { ports, soft_state, .. } = self;
        metrics.gauge(
            "rocketmq_thin_proxy_connections",
            "Open connections.",
            ports.iter().map(|port| ([("port", &*port.name)], port.open)),
        );
        metrics.counter(
            "rocketmq_thin_proxy_connections_accepted",
            "Connections accepted since the start.",
            ports.iter().map(|port| ([("port", &*port.name)], port.accepted)),
        );
        let refused = ports.iter().flat_map(|port| {
            port.refused.iter().map(|(limit, count)| ([("port", &*port.name), ("limit", limit)], *count))
        });
        metrics.counter(
            "rocketmq_thin_proxy_connections_refused",
            "Connections that were refused, by the limit in [transport] that was reached.",
            refused,
        );
        metrics.gauge(
            "rocketmq_thin_proxy_held_bytes",
            "Bytes of requests and unsent answers in memory, which [transport] limits.",
            [(NO_LABELS, self.held_bytes)],
        );
        metrics.counter(
            "rocketmq_thin_proxy_calls_refused",
            "Calls that were refused before they were read completely, by the limit in [transport] that was reached. `evicted`: the call arrived too slowly, and another needed its memory.",
            self.refused_calls.map(|(limit, count)| ([("limit", limit)], count)),
        );
        metrics.gauge(
            "rocketmq_thin_proxy_clients",
            "Clients that are connected or sent a heartbeat recently.",
            [(NO_LABELS, soft_state.clients)],
        );
        metrics.gauge(
            "rocketmq_thin_proxy_renewed_leases",
            "Leases that this proxy renews for clients.",
            [(NO_LABELS, soft_state.renewed_leases)],
        );
        metrics.counter(
            "rocketmq_thin_proxy_lease_renewals",
            "Leases that were renewed.",
            [(NO_LABELS, soft_state.renewals)],
        );
        metrics.counter(
            "rocketmq_thin_proxy_lease_renewal_failures",
            "Renewals of leases that have failed, and leases that are not renewed because there are too many.",
            [(NO_LABELS, soft_state.failed_renewals)],
        );
        metrics.gauge(
            "rocketmq_thin_proxy_cluster_up",
            "1 if the cluster can be used, otherwise 0.",
            self.clusters.iter().map(|(name, up)| ([("cluster", name.as_str())], *up)),
        );
    }

    fn topics(&self, metrics: &mut Metrics) {
        let topics =
            || self.gathered.topics.iter().map(|([topic], line)| ([("topic", topic.as_str())], line));
        metrics.gauge(
            "rocketmq_thin_proxy_topic_messages",
            "Messages that a topic holds, consumed or not.",
            topics().map(|(labels, line)| (labels, line.messages)),
        );
        // The series of the other topics is left out: its sum shrinks when a topic is deleted, which a counter must not
        // do.
        metrics.counter(
            "rocketmq_thin_proxy_topic_messages_stored",
            "Messages stored in a topic since it was created.",
            topics()
                .filter(|([(_, topic)], _)| *topic != OTHER)
                .map(|(labels, line)| (labels, u64::try_from(line.stored).unwrap_or_default())),
        );
        metrics.gauge(
            "rocketmq_thin_proxy_topic_bytes",
            "Bytes of the messages that a topic holds. Estimated if there are many.",
            topics().filter_map(|(labels, line)| Some((labels, line.bytes?))),
        );
        metrics.gauge(
            "rocketmq_thin_proxy_topic_oldest_message_timestamp_seconds",
            "Time at which the oldest message of a topic was stored.",
            topics().filter_map(|(labels, line)| Some((labels, seconds(line.oldest?)))),
        );
        metrics.gauge(
            "rocketmq_thin_proxy_dead_letters",
            "Dead letters of a group that are stored.",
            self.gathered
                .dead_letters
                .iter()
                .map(|([group], line)| ([("group", group.as_str())], line.messages)),
        );
    }

    fn groups(&self, metrics: &mut Metrics) {
        let lines = || {
            self.gathered
                .groups
                .iter()
                .map(|([group, topic], line)| ([("group", group.as_str()), ("topic", topic.as_str())], line))
        };
        metrics.gauge(
            "rocketmq_thin_proxy_group_lag_messages",
            "Messages of a topic that a group has not settled.",
            lines().map(|(labels, line)| (labels, line.lag)),
        );
        let known = |part: fn(&GroupLine) -> Option<i64>| {
            lines().filter_map(move |(labels, line)| Some((labels, part(line)?)))
        };
        metrics.gauge(
            "rocketmq_thin_proxy_group_in_flight_messages",
            "Messages that the consumers of a group hold under a lease.",
            known(|line| line.in_flight),
        );
        metrics.gauge(
            "rocketmq_thin_proxy_group_retry_messages",
            "Messages whose lease has expired and that are delivered again by the next receive.",
            known(|line| line.retry),
        );
        metrics.gauge(
            "rocketmq_thin_proxy_group_blocked_messages",
            "Messages that wait behind unsettled ones of their message group.",
            known(|line| line.blocked),
        );
        metrics.gauge(
            "rocketmq_thin_proxy_group_oldest_unsettled_timestamp_seconds",
            "Time at which the oldest message that a group has not settled was stored.",
            lines().filter_map(|(labels, line)| Some((labels, seconds(line.oldest?)))),
        );
    }

    fn disk(&self, metrics: &mut Metrics) {
        let Some(disk) = &self.gathered.disk else { return };
        metrics.gauge(
            "rocketmq_thin_proxy_store_bytes",
            "Bytes that the store uses on the disk, by kind.",
            disk.usage.iter().map(|(kind, bytes)| ([("kind", kind.as_str())], *bytes)),
        );
        metrics.gauge(
            "rocketmq_thin_proxy_store_disk_free_bytes",
            "Free bytes of the file system of the store.",
            [(NO_LABELS, disk.free_bytes)],
        );
        metrics.gauge(
            "rocketmq_thin_proxy_store_disk_size_bytes",
            "The size of the file system of the store.",
            [(NO_LABELS, disk.total_bytes)],
        );
        metrics.gauge(
            "rocketmq_thin_proxy_store_writable",
            "1 if messages can be stored, otherwise 0.",
            [(NO_LABELS, u64::from(disk.failure.is_none()))],
        );
        metrics.histogram(
            "rocketmq_thin_proxy_store_write_duration_seconds",
            "Time to write messages to the disk, including the fsync if flush is sync. Concurrent sends share a write.",
            [(NO_LABELS, disk.writes.clone())],
        );
    }

    fn process(&self, metrics: &mut Metrics) {
        let gathered = || self.gathered.finished.into_iter();
        metrics.gauge(
            "rocketmq_thin_proxy_gathered_timestamp_seconds",
            "Time at which the current metrics of topics, groups and the store were gathered.",
            gathered().map(|(finished, _)| (NO_LABELS, seconds(finished))),
        );
        metrics.gauge(
            "rocketmq_thin_proxy_gather_duration_seconds",
            "Time that the last gathering of the metrics of topics, groups and the store took.",
            gathered().map(|(_, took)| (NO_LABELS, took.as_secs_f64())),
        );
        metrics.gauge(
            "rocketmq_thin_proxy_gather_failed",
            "1 if the last gathering of this part failed, otherwise 0.",
            ["topics", "groups", "disk"].map(|part| {
                let failed = self.gathered.failed.contains(&part);
                ([("part", part)], u64::from(failed))
            }),
        );
        metrics.gauge(
            "rocketmq_thin_proxy_build_info",
            "The version of the proxy.",
            [([("version", env!("CARGO_PKG_VERSION"))], 1u64)],
        );
        metrics.gauge(
            "process_start_time_seconds",
            "Time at which the process started.",
            [(NO_LABELS, seconds(self.started))],
        );
        let Some(usage) = process::usage() else { return };
        metrics.counter(
            "process_cpu_seconds",
            "Processor time of the process.",
            [(NO_LABELS, usage.cpu_seconds)],
        );
        metrics.gauge(
            "process_resident_memory_bytes",
            "Resident memory of the process.",
            [(NO_LABELS, usage.resident_bytes)],
        );
        metrics.gauge("process_threads", "Threads of the process.", [(NO_LABELS, usage.threads)]);
    }
}

fn labels(counts: &OperationCounts) -> [(&'static str, &'static str); 2] {
    [("operation", counts.operation), ("protocol", counts.protocol)]
}

fn seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
