//! Which metrics there are: names, labels and what they mean.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::Sources;
use super::cap::OTHER;
use super::gatherer::{Gathered, Gatherer, GroupLine};
use super::process;
use super::text::{Format, Metrics, NONE};
use crate::layer::{OperationCounts, QuotaStatus};
use crate::processor::SoftState;

/// What is shown to a scrape.
pub(super) struct Exposition {
    sources: Sources,
    gatherer: Arc<Gatherer>,
    started: SystemTime,
}

impl Exposition {
    pub(super) fn new(sources: Sources, gatherer: Arc<Gatherer>) -> Self {
        Self { sources, gatherer, started: SystemTime::now() }
    }

    /// All metrics.
    ///
    /// # Errors
    /// Never, as far as is known.
    pub(super) async fn text(&self, format: Format) -> Result<String, fmt::Error> {
        let gathered = self.gatherer.now().await;
        let Sources { requests, ports, budget, access_log, message_trace, processor } = &self.sources;
        let clusters = processor.health().borrow().clone();
        format.write(Scrape {
            operations: requests.operations(),
            refusals: requests.refusals(),
            ports: ports
                .iter()
                .map(|(name, counts)| Port {
                    name: name.clone(),
                    open: counts.open(),
                    accepted: counts.accepted(),
                    refused: counts.refused_by_limit(),
                })
                .collect(),
            held_bytes: budget.held_bytes(),
            refused_calls: budget.refused_by_limit(),
            quotas: processor.quotas().list(),
            log_lines: access_log.as_ref().map(|log| log.lines()),
            trace_records: message_trace.as_ref().map(|trace| trace.records()),
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
        })
    }
}

/// What one scrape shows.
#[derive(Debug)]
struct Scrape {
    operations: Vec<OperationCounts>,
    refusals: Vec<(&'static str, u64)>,
    ports: Vec<Port>,
    held_bytes: u64,
    refused_calls: [(&'static str, u64); 4],
    quotas: Vec<QuotaStatus>,
    /// Lines of the access log that were written, and dropped.
    log_lines: Option<(u64, u64)>,
    trace_records: Option<(u64, u64)>,
    soft_state: SoftState,
    clusters: Vec<(String, u64)>,
    gathered: Arc<Gathered>,
    started: SystemTime,
}

#[derive(Debug)]
struct Port {
    name: Arc<str>,
    open: u64,
    accepted: u64,
    refused: [(&'static str, u64); 2],
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metrics = Metrics(encoder);
        self.requests(&mut metrics)?;
        self.messages(&mut metrics)?;
        self.connections(&mut metrics)?;
        self.topics(&mut metrics)?;
        self.groups(&mut metrics)?;
        self.disk(&mut metrics)?;
        self.process(&mut metrics)
    }
}

impl Scrape {
    fn requests(&self, metrics: &mut Metrics<'_>) -> fmt::Result {
        let ended = self.operations.iter().flat_map(|counts| {
            let by_code = counts.ended.iter();
            by_code.map(|(code, count)| {
                let labels = [("operation", counts.operation), ("protocol", counts.protocol), ("code", code)];
                (labels, *count)
            })
        });
        metrics.counter(
            "rocketmq_thin_proxy_requests",
            "Requests of clients that have ended, by code: ok, cancelled, or why they failed.",
            ended,
        )?;
        metrics.gauge(
            "rocketmq_thin_proxy_requests_in_flight",
            "Requests that are not answered yet. Those of receive and pull are mostly long polls.",
            self.operations.iter().map(|counts| (labels(counts), counts.in_flight)),
        )?;
        metrics.histogram(
            "rocketmq_thin_proxy_request_duration_seconds",
            "Time from when a request came in until its answer was ready, long polls included.",
            self.operations.iter().map(|counts| (labels(counts), counts.duration.clone())),
        )?;
        metrics.counter(
            "rocketmq_thin_proxy_refusals",
            "Requests that access control or a limit has refused before they were carried out.",
            self.refusals.iter().map(|(reason, count)| ([("reason", *reason)], *count)),
        )?;
        let quotas = || self.quotas.iter().map(|status| ([("quota", status.quota.name.as_str())], status));
        metrics.counter(
            "rocketmq_thin_proxy_quota_refused",
            "Requests that a quota has refused since it was set.",
            quotas().map(|(labels, status)| (labels, status.refused)),
        )?;
        metrics.counter(
            "rocketmq_thin_proxy_quota_delayed",
            "Requests that a quota has delayed since it was set.",
            quotas().map(|(labels, status)| (labels, status.delayed)),
        )?;
        metrics.counter(
            "rocketmq_thin_proxy_access_log_lines",
            "Lines of the access log that were written.",
            self.log_lines.iter().map(|(written, _)| (NONE, *written)),
        )?;
        metrics.counter(
            "rocketmq_thin_proxy_access_log_dropped",
            "Lines of the access log that were dropped, because the disk was too slow or full.",
            self.log_lines.iter().map(|(_, dropped)| (NONE, *dropped)),
        )?;
        metrics.counter(
            "rocketmq_thin_proxy_message_trace_records",
            "Records of message trace that were written.",
            self.trace_records.iter().map(|(written, _)| (NONE, *written)),
        )?;
        metrics.counter(
            "rocketmq_thin_proxy_message_trace_dropped",
            "Records of message trace that were dropped, because the broker was too slow or refused them.",
            self.trace_records.iter().map(|(_, dropped)| (NONE, *dropped)),
        )
    }

    fn messages(&self, metrics: &mut Metrics<'_>) -> fmt::Result {
        let sends = || self.operations.iter().filter(|counts| counts.operation == "send");
        let settles = self.operations.iter().filter(|counts| counts.operation != "send");
        let answers = || self.operations.iter().filter(|counts| counts.answered.messages > 0);
        metrics.counter(
            "rocketmq_thin_proxy_messages_in",
            "Messages of sends that succeeded.",
            sends().map(|counts| (labels(counts), counts.carried.messages as u64)),
        )?;
        metrics.counter(
            "rocketmq_thin_proxy_message_bytes_in",
            "Bytes of their bodies.",
            sends().map(|counts| (labels(counts), counts.carried.bytes as u64)),
        )?;
        metrics.counter(
            "rocketmq_thin_proxy_messages_out",
            "Messages that were handed to clients, repetitions included.",
            answers().map(|counts| (labels(counts), counts.answered.messages as u64)),
        )?;
        metrics.counter(
            "rocketmq_thin_proxy_message_bytes_out",
            "Bytes of their bodies.",
            answers().map(|counts| (labels(counts), counts.answered.bytes as u64)),
        )?;
        metrics.counter(
            "rocketmq_thin_proxy_deliveries_settled",
            "Deliveries that requests have acknowledged, extended or moved to dead letters.",
            settles
                .filter(|counts| counts.carried.messages > 0)
                .map(|counts| (labels(counts), counts.carried.messages as u64)),
        )
    }

    fn connections(&self, metrics: &mut Metrics<'_>) -> fmt::Result {
        let Self { ports, soft_state, .. } = self;
        metrics.gauge(
            "rocketmq_thin_proxy_connections",
            "Open connections.",
            ports.iter().map(|port| ([("port", &*port.name)], port.open)),
        )?;
        metrics.counter(
            "rocketmq_thin_proxy_connections_accepted",
            "Connections that were accepted.",
            ports.iter().map(|port| ([("port", &*port.name)], port.accepted)),
        )?;
        let refused = ports.iter().flat_map(|port| {
            port.refused.iter().map(|(limit, count)| ([("port", &*port.name), ("limit", limit)], *count))
        });
        metrics.counter(
            "rocketmq_thin_proxy_connections_refused",
            "Connections that were refused, by the limit in [transport] that they were above.",
            refused,
        )?;
        metrics.gauge(
            "rocketmq_thin_proxy_held_bytes",
            "Bytes of requests and unsent answers in memory, as [transport] limits them.",
            [(NONE, self.held_bytes)],
        )?;
        metrics.counter(
            "rocketmq_thin_proxy_calls_refused",
            "Calls that were refused before they were read, by the limit in [transport]; evicted are those that did not arrive completely while others needed the memory.",
            self.refused_calls.map(|(limit, count)| ([("limit", limit)], count)),
        )?;
        metrics.gauge(
            "rocketmq_thin_proxy_clients",
            "Clients that gave a sign of life lately.",
            [(NONE, soft_state.clients)],
        )?;
        metrics.gauge(
            "rocketmq_thin_proxy_renewed_leases",
            "Leases that this proxy renews for clients.",
            [(NONE, soft_state.renewed_leases)],
        )?;
        metrics.counter(
            "rocketmq_thin_proxy_lease_renewals",
            "Leases that were renewed.",
            [(NONE, soft_state.renewals)],
        )?;
        metrics.counter(
            "rocketmq_thin_proxy_lease_renewal_failures",
            "Renewals of leases that have failed.",
            [(NONE, soft_state.failed_renewals)],
        )?;
        metrics.gauge(
            "rocketmq_thin_proxy_cluster_up",
            "Whether the cluster can be used: 1, or 0.",
            self.clusters.iter().map(|(name, up)| ([("cluster", name.as_str())], *up)),
        )
    }

    fn topics(&self, metrics: &mut Metrics<'_>) -> fmt::Result {
        let topics =
            || self.gathered.topics.iter().map(|([topic], line)| ([("topic", topic.as_str())], line));
        metrics.gauge(
            "rocketmq_thin_proxy_topic_messages",
            "Messages that a topic holds, consumed or not.",
            topics().map(|(labels, line)| (labels, line.messages)),
        )?;
        // A sum would shrink when a topic is deleted, which means a restart for a counter.
        metrics.counter(
            "rocketmq_thin_proxy_topic_messages_stored",
            "Messages that were ever stored in a topic.",
            topics()
                .filter(|([(_, topic)], _)| *topic != OTHER)
                .map(|(labels, line)| (labels, u64::try_from(line.stored).unwrap_or_default())),
        )?;
        metrics.gauge(
            "rocketmq_thin_proxy_topic_bytes",
            "Bytes of the messages that a topic holds; estimated if there are many.",
            topics().filter_map(|(labels, line)| Some((labels, line.bytes?))),
        )?;
        metrics.gauge(
            "rocketmq_thin_proxy_topic_oldest_message_timestamp_seconds",
            "When the oldest message of a topic was stored.",
            topics().filter_map(|(labels, line)| Some((labels, seconds(line.oldest?)))),
        )?;
        metrics.gauge(
            "rocketmq_thin_proxy_dead_letters",
            "Dead letters of a group that are stored.",
            self.gathered.letters.iter().map(|([group], line)| ([("group", group.as_str())], line.messages)),
        )
    }

    fn groups(&self, metrics: &mut Metrics<'_>) -> fmt::Result {
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
        )?;
        let known = |part: fn(&GroupLine) -> Option<i64>| {
            lines().filter_map(move |(labels, line)| Some((labels, part(line)?)))
        };
        metrics.gauge(
            "rocketmq_thin_proxy_group_in_flight_messages",
            "Deliveries under a lease.",
            known(|line| line.in_flight),
        )?;
        metrics.gauge(
            "rocketmq_thin_proxy_group_retry_messages",
            "Messages whose lease is over and that the next receive gets again.",
            known(|line| line.retry),
        )?;
        metrics.gauge(
            "rocketmq_thin_proxy_group_blocked_messages",
            "Messages that wait behind unsettled ones of their message group.",
            known(|line| line.blocked),
        )?;
        metrics.gauge(
            "rocketmq_thin_proxy_group_oldest_unsettled_timestamp_seconds",
            "When the oldest message was stored that a group has not settled.",
            lines().filter_map(|(labels, line)| Some((labels, seconds(line.oldest?)))),
        )
    }

    fn disk(&self, metrics: &mut Metrics<'_>) -> fmt::Result {
        let Some(disk) = &self.gathered.disk else { return Ok(()) };
        metrics.gauge(
            "rocketmq_thin_proxy_store_bytes",
            "Bytes that the store takes on the disk, by kind.",
            disk.usage.iter().map(|(kind, bytes)| ([("kind", kind.as_str())], *bytes)),
        )?;
        metrics.gauge(
            "rocketmq_thin_proxy_store_disk_free_bytes",
            "Bytes that the file system of the store has left.",
            [(NONE, disk.free_bytes)],
        )?;
        metrics.gauge(
            "rocketmq_thin_proxy_store_disk_size_bytes",
            "The size of the file system of the store.",
            [(NONE, disk.total_bytes)],
        )?;
        metrics.gauge(
            "rocketmq_thin_proxy_store_writable",
            "Whether messages can be stored: 1, or 0.",
            [(NONE, u64::from(disk.failure.is_none()))],
        )?;
        metrics.histogram(
            "rocketmq_thin_proxy_store_write_duration_seconds",
            "Time to write messages to the disk; with flush = sync, the fsync included. Sends at the same time share a write.",
            [(NONE, disk.writes.clone())],
        )
    }

    fn process(&self, metrics: &mut Metrics<'_>) -> fmt::Result {
        let gathered = || self.gathered.finished.into_iter();
        metrics.gauge(
            "rocketmq_thin_proxy_gathered_timestamp_seconds",
            "When the metrics of topics, groups and the store were gathered that are shown.",
            gathered().map(|(finished, _)| (NONE, seconds(finished))),
        )?;
        metrics.gauge(
            "rocketmq_thin_proxy_gather_duration_seconds",
            "How long that took.",
            gathered().map(|(_, took)| (NONE, took.as_secs_f64())),
        )?;
        metrics.gauge(
            "rocketmq_thin_proxy_gather_failed",
            "Whether these metrics could not be gathered the last time: 0, or 1.",
            ["topics", "groups", "disk"].map(|part| {
                let failed = self.gathered.failed.contains(&part);
                ([("part", part)], u64::from(failed))
            }),
        )?;
        metrics.gauge(
            "rocketmq_thin_proxy_build_info",
            "The version of the proxy.",
            [([("version", env!("CARGO_PKG_VERSION"))], 1u64)],
        )?;
        metrics.gauge(
            "process_start_time_seconds",
            "When the process started.",
            [(NONE, seconds(self.started))],
        )?;
        let Some(usage) = process::usage() else { return Ok(()) };
        metrics.counter_of_seconds("process_cpu_seconds", "Processor time.", usage.cpu_seconds)?;
        metrics.gauge("process_resident_memory_bytes", "Memory.", [(NONE, usage.resident_bytes)])?;
        metrics.gauge("process_threads", "Threads.", [(NONE, usage.threads)])
    }
}

fn labels(counts: &OperationCounts) -> [(&'static str, &'static str); 2] {
    [("operation", counts.operation), ("protocol", counts.protocol)]
}

fn seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
