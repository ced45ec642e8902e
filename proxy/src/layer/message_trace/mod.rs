//! Message trace: records the steps of messages, for clients that do not record them themselves.
//!
//! Records are written to the trace topic in the format of classic clients, so that consoles find them.

mod deliveries;
mod event;
mod format;
mod writer;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{OperationKind, RequestFacts, WriteCounts};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::pattern;
use crate::service::names::TRACE_TOPIC;
use crate::service::{Delivery, Message, Messages, TopicKind, millis};
use deliveries::{Deliveries, TracedDelivery};
pub use event::{TRACE_OK, TraceClient, TraceEvent, TraceStep, sanitize_for_trace};
use event::{TraceMessageType, join_keys};
pub use writer::CLIENT_PROPERTY;
use writer::TraceWriter;

/// The configuration of message trace. A step is traced if the topic, or the user of the request, is listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MessageTraceConfig {
    /// The topics whose messages are traced. In a name, `*` matches any characters.
    pub topics: Vec<String>,
    /// The users whose requests are traced. In a name, `*` matches any characters.
    pub users: Vec<String>,
    /// The share of messages that are traced, from 0 to 1 [default: 1]. All steps of a message are traced, at all proxies with
    /// the same share, or none.
    pub sample: f64,
}

impl Default for MessageTraceConfig {
    fn default() -> Self {
        Self { topics: Vec::new(), users: Vec::new(), sample: 1.0 }
    }
}

impl MessageTraceConfig {
    /// Whether anything is traced.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.topics.is_empty() || !self.users.is_empty()
    }

    /// Whether the share is between 0 and 1.
    #[must_use]
    pub fn has_valid_sample(&self) -> bool {
        (0.0..=1.0).contains(&self.sample)
    }
}

/// Records the steps of messages. A slow or unreachable broker does not delay requests: records are dropped and counted.
pub struct MessageTrace {
    config: MessageTraceConfig,
    deliveries: Mutex<Deliveries>,
    writer: TraceWriter,
}

impl MessageTrace {
    /// Creates message trace that writes records with `messages`. Spawns a task, which ends when the trace is dropped.
    #[must_use]
    pub fn new(config: &MessageTraceConfig, messages: Arc<dyn Messages>) -> Self {
        Self { config: config.clone(), deliveries: Mutex::default(), writer: TraceWriter::new(messages) }
    }

    /// Completes when all earlier records are written or dropped.
    pub async fn flushed(&self) {
        self.writer.flush(false).await;
    }

    /// Like [`Self::flushed`], and stops recording.
    pub async fn closed(&self) {
        self.writer.flush(true).await;
    }

    /// The numbers of written and of dropped records.
    #[must_use]
    pub fn records(&self) -> WriteCounts {
        self.writer.records()
    }

    /// Records that a message has become a dead letter because its last delivery was not settled.
    pub fn record_dead_letter(&self, topic: &str, group: &str, message: &Message) {
        if !is_listed(&self.config.topics, topic) || !self.is_sampled(&message.id) {
            return;
        }
        self.writer.write(TraceEvent {
            at_ms: millis(SystemTime::now()),
            topic: sanitize_for_trace(topic),
            group: sanitize_for_trace(group),
            keys: join_keys(message.keys.iter().map(String::as_str)),
            ..TraceEvent::new(TraceStep::DeadLettered, &message.id, TraceClient::default())
        });
    }

    /// Begins the trace of a request of this user. Returns `None` if the request is not traced.
    pub(super) fn begin(
        &self,
        facts: &RequestFacts<'_>,
        user: Option<&str>,
    ) -> Option<Box<RequestTrace<'_>>> {
        if !facts.is_of_client() || !handles_messages(facts.kind) {
            return None;
        }
        let mut topic = "";
        facts.topics.each(&mut |name| topic = name);
        let MessageTraceConfig { topics, users, .. } = &self.config;
        if topic == TRACE_TOPIC {
            return None;
        }
        let is_traced = is_listed(topics, topic) || user.is_some_and(|user| is_listed(users, user));
        // The proxy's operations on behalf of a client have no user, so deliveries to traced users are recognized by their
        // handles.
        let only_recorded = !is_traced && facts.context.is_admitted && !users.is_empty();
        (is_traced || only_recorded)
            .then(|| Box::new(RequestTrace { only_recorded, ..RequestTrace::new(self, facts, topic) }))
    }

    /// Whether a message belongs to the traced share. All proxies decide the same.
    fn is_sampled(&self, message_id: &str) -> bool {
        // The upper half of the hash is as precise as a float.
        let fraction = (xxh3_64(message_id.as_bytes()) >> 32) as f64 / f64::from(u32::MAX);
        self.config.sample >= 1.0 || fraction < self.config.sample
    }
}

fn is_listed(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern::matches(pattern, name))
}

/// Whether requests of this kind have steps to trace.
fn handles_messages(kind: OperationKind) -> bool {
    use OperationKind as Kind;
    matches!(
        kind,
        Kind::Send
            | Kind::Receive
            | Kind::Pull
            | Kind::Acknowledge
            | Kind::ChangeInvisible
            | Kind::ForwardToDeadLetter
            | Kind::SendBack
            | Kind::EndTransaction
            | Kind::Recall
    )
}

/// A message that a producer sends.
pub struct TracedSend<'a> {
    /// The message id.
    pub id: &'a str,
    /// The tag.
    pub tag: Option<&'a str>,
    /// The keys.
    pub keys: &'a [String],
    /// The group of the producer; empty if it has none.
    pub producer_group: &'a str,
    /// The size of the body in bytes.
    pub bytes: usize,
    /// The message type.
    pub kind: TopicKind,
}

/// The trace of a request. A command first begins a step for each of its messages, and later ends them with their results.
///
/// Steps that are not ended when it is dropped are not recorded.
pub struct RequestTrace<'a> {
    trace: &'a MessageTrace,
    client: TraceClient,
    topic: String,
    group: String,
    began: Instant,
    began_at: SystemTime,
    /// Whether the settlement of a delivery is traced only if the delivery was.
    only_recorded: bool,
    /// The begun steps, in the order of the request. `None` for messages that are not traced.
    steps: Vec<Option<PendingStep>>,
}

/// A step that has begun.
struct PendingStep {
    event: TraceEvent,
    /// The receipt handle of the delivery that the step settles.
    handle: Option<String>,
    /// When that delivery was made, if known.
    delivered: Option<Instant>,
}

impl<'a> RequestTrace<'a> {
    fn new(trace: &'a MessageTrace, facts: &RequestFacts<'_>, topic: &str) -> Self {
        let Context { client_id, peer, received, .. } = facts.context;
        let mut group = "";
        facts.groups.each(&mut |name| group = name);
        Self {
            trace,
            client: TraceClient { id: sanitize_for_trace(client_id), address: sanitize_for_trace(peer) },
            topic: sanitize_for_trace(topic),
            group: sanitize_for_trace(group),
            began: *received,
            began_at: SystemTime::now(),
            only_recorded: false,
            steps: Vec::new(),
        }
    }

    /// Begins the step of sending a message.
    pub fn begin_send(&mut self, message: &TracedSend<'_>) {
        let message_type = match message.kind {
            TopicKind::Transaction => TraceMessageType::Half,
            TopicKind::Delay => TraceMessageType::Delayed,
            TopicKind::Fifo => TraceMessageType::Ordered,
            _ => TraceMessageType::Normal,
        };
        let begun = self.trace.is_sampled(message.id).then(|| PendingStep {
            event: TraceEvent {
                tag: sanitize_for_trace(message.tag.unwrap_or_default()),
                keys: join_keys(message.keys.iter().map(String::as_str)),
                group: sanitize_for_trace(message.producer_group),
                body_bytes: message.bytes as u64,
                message_type,
                ..self.event(TraceStep::Sent, message.id)
            },
            handle: None,
            delivered: None,
        });
        self.steps.push(begun);
    }

    /// Begins a step for a message that the request identifies only by its id: a commit, rollback or recall.
    pub fn begin_decision(&mut self, step: TraceStep, message_id: &str) {
        let is_traced = !message_id.is_empty() && self.trace.is_sampled(message_id);
        let event = is_traced.then(|| self.event(step, message_id));
        self.steps.push(event.map(|event| PendingStep { event, handle: None, delivered: None }));
    }

    /// Begins the step of settling a delivery. `message_id` is sent by the client, and used only if the delivery is unknown.
    pub fn begin_settlement(&mut self, step: TraceStep, handle: &str, message_id: &str) {
        let known = self.trace.deliveries.lock().get(handle).cloned();
        let id = known.as_ref().map_or(message_id, |known| &known.message_id);
        let is_traced = match &known {
            Some(_) => true,
            None => !self.only_recorded && !id.is_empty() && self.trace.is_sampled(id),
        };
        if !is_traced {
            self.steps.push(None);
            return;
        }
        let event = self.event(step, id);
        let event = match &known {
            Some(known) => {
                let (keys, delivery_id) = (known.keys.clone(), known.delivery_id.clone());
                TraceEvent { keys, delivery_id, ..event }
            }
            None => TraceEvent { delivery_id: delivery_id(handle), ..event },
        };
        let delivered = known.map(|known| known.at);
        self.steps.push(Some(PendingStep { event, handle: Some(handle.to_owned()), delivered }));
    }

    /// Ends the step at this index of the request with its result.
    pub fn end(&mut self, index: usize, result: Result<(), &Error>) {
        let Some(PendingStep { mut event, handle, delivered }) =
            self.steps.get_mut(index).and_then(Option::take)
        else {
            return;
        };
        match result {
            Ok(()) => handle.iter().for_each(|handle| self.trace.deliveries.lock().remove(handle)),
            // The handle may be forged: a small request with many forged handles would fill the trace.
            Err(_) if handle.is_some() && delivered.is_none() => return,
            Err(Error { kind: ErrorKind::IllegalTopic | ErrorKind::TopicNotFound, .. }) => return,
            Err(error) => event.result = <&str>::from(error.kind).to_owned(),
        }
        match handle {
            Some(_) => {
                event.at_ms = millis(SystemTime::now());
                event.cost_ms = delivered.map(elapsed).unwrap_or_default();
            }
            None => event.cost_ms = elapsed(self.began),
        }
        self.trace.writer.write(event);
    }

    /// Ends all steps of the request with the same result.
    pub fn end_all(&mut self, result: Result<(), &Error>) {
        (0..self.steps.len()).for_each(|index| self.end(index, result));
    }

    /// Records the new receipt handle of the delivery at this index of the request.
    pub fn replace_handle(&mut self, index: usize, handle: &str) {
        let Some(before) =
            self.steps.get(index).and_then(Option::as_ref).and_then(|step| step.handle.as_deref())
        else {
            return;
        };
        let mut deliveries = self.trace.deliveries.lock();
        if let Some(known) = deliveries.get(before).cloned() {
            deliveries.insert(handle, known);
        }
    }

    /// Records the delivery of a message. `handle` is the receipt handle that will settle it; `None` for a pull.
    pub fn record_delivery(&mut self, delivery: &Delivery, handle: Option<&str>) {
        let message = &delivery.message;
        if !self.trace.is_sampled(&message.id) {
            return;
        }
        let delivery_id = match handle {
            Some(handle) => delivery_id(handle),
            None => delivery_id(&format!("{} {} {}", self.group, delivery.queue_id, delivery.queue_offset)),
        };
        let keys = join_keys(message.keys.iter().map(String::as_str));
        let event = TraceEvent {
            at_ms: millis(SystemTime::now()),
            tag: sanitize_for_trace(message.tag.as_deref().unwrap_or_default()),
            keys: keys.clone(),
            attempt: delivery.attempt,
            delivery_id: delivery_id.clone(),
            body_bytes: message.body.len() as u64,
            ..self.event(TraceStep::Delivered, &message.id)
        };
        if let Some(handle) = handle {
            let (message_id, at) = (event.message_id.clone(), Instant::now());
            self.trace.deliveries.lock().insert(handle, TracedDelivery { delivery_id, message_id, keys, at });
        }
        self.trace.writer.write(event);
    }

    /// A successful step of this request.
    fn event(&self, step: TraceStep, message_id: &str) -> TraceEvent {
        TraceEvent {
            at_ms: millis(self.began_at),
            topic: self.topic.clone(),
            group: self.group.clone(),
            ..TraceEvent::new(step, message_id, self.client.clone())
        }
    }
}

fn delivery_id(handle: &str) -> String {
    format!("{:032X}", deliveries::hash(handle))
}

/// The milliseconds since then.
fn elapsed(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}
