//! Message trace: what has happened to a message, for clients that do not record it themselves.
//!
//! Records are written to a topic, in the format of classic clients, where their consoles look for them.

mod deliveries;
mod event;
mod format;
mod writer;

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{Operation, OperationKind};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::pattern;
use crate::service::names::TRACE_TOPIC;
use crate::service::{Delivery, Message, Messages, TopicKind, millis};
use deliveries::{Deliveries, Known};
pub use event::{TRACE_OK, TraceClient, TraceEvent, TraceStep, trace_word};
use event::{TraceMessageType, keys_of};
use writer::Writer;

/// The property of a trace message that names the client.
pub const CLIENT_PROPERTY: &str = "TRACE_CLIENT";

/// Message trace. A message is traced if its topic, or the user of a request, is listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MessageTraceConfig {
    /// The topics whose messages are traced. In a name, `*` stands for any characters.
    pub topics: Vec<String>,
    /// The users whose requests are traced. In a name, `*` stands for any characters.
    pub users: Vec<String>,
    /// The share of messages that are traced, from 0 to 1. A message is traced from its first step to its last one, at all proxies with
    /// the same share, or not at all.
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

    /// Whether the share is one.
    #[must_use]
    pub fn has_valid_sample(&self) -> bool {
        (0.0..=1.0).contains(&self.sample)
    }
}

/// Records what happens to messages. A broker that is slow or down does not hold up requests: records are dropped, and
/// counted.
pub struct MessageTrace {
    config: MessageTraceConfig,
    deliveries: Mutex<Deliveries>,
    writer: Writer,
}

impl MessageTrace {
    /// Message trace that is written by these. Begins a task that ends with it.
    #[must_use]
    pub fn new(config: &MessageTraceConfig, messages: Arc<dyn Messages>) -> Self {
        Self { config: config.clone(), deliveries: Mutex::default(), writer: Writer::new(messages) }
    }

    /// Completes when all records so far are written, or dropped.
    pub async fn flushed(&self) {
        self.writer.flush(false).await;
    }

    /// The same at the end: nothing is recorded any more.
    pub async fn closed(&self) {
        self.writer.flush(true).await;
    }

    /// Records that were written, and those that were dropped.
    #[must_use]
    pub fn records(&self) -> (u64, u64) {
        self.writer.records()
    }

    /// Records that a message has become a dead letter, because nobody settled its last delivery.
    pub fn dead_lettered(&self, topic: &str, group: &str, message: &Message) {
        if !is_listed(&self.config.topics, topic) || !self.is_sampled(&message.id) {
            return;
        }
        self.writer.write(TraceEvent {
            at_ms: millis(SystemTime::now()),
            topic: trace_word(topic),
            group: trace_word(group),
            keys: keys_of(message.keys.iter().map(String::as_str)),
            ..TraceEvent::new(TraceStep::DeadLettered, &message.id, TraceClient::default())
        });
    }

    /// Begins to record what a request of this user does, if it is traced.
    pub(super) fn begin(&self, operation: &Operation<'_>, user: Option<&str>) -> Option<Box<Traced<'_>>> {
        if !operation.is_of_client() || !handles_messages(operation.kind) {
            return None;
        }
        let mut topic = "";
        operation.topics.each(&mut |name| topic = name);
        let MessageTraceConfig { topics, users, .. } = &self.config;
        if topic == TRACE_TOPIC {
            return None;
        }
        let is_traced = is_listed(topics, topic) || user.is_some_and(|user| is_listed(users, user));
        // What the proxy does in a client's name has no user.
        let only_known = !is_traced && operation.context.is_admitted && !users.is_empty();
        (is_traced || only_known)
            .then(|| Box::new(Traced { only_known, ..Traced::new(self, operation, topic) }))
    }

    /// Whether this message is among those that are traced. All proxies agree about it.
    fn is_sampled(&self, message_id: &str) -> bool {
        // The upper half: a float has no more digits.
        let place = (xxh3_64(message_id.as_bytes()) >> 32) as f64 / f64::from(u32::MAX);
        self.config.sample >= 1.0 || place < self.config.sample
    }
}

fn is_listed(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern::matches(pattern, name))
}

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
    /// Its id.
    pub id: &'a str,
    /// Its tag.
    pub tag: Option<&'a str>,
    /// Its keys.
    pub keys: &'a [String],
    /// The group of its producer; empty where that has none.
    pub producer_group: &'a str,
    /// The bytes of its body.
    pub bytes: usize,
    /// Its type.
    pub kind: TopicKind,
}

/// A request whose messages are traced. A command tells first what it does to which messages, and then what came of it.
///
/// Dropping it records nothing more.
pub struct Traced<'a> {
    trace: &'a MessageTrace,
    client: TraceClient,
    topic: String,
    group: String,
    began: Instant,
    began_at: SystemTime,
    /// Whether deliveries are traced only if they were recorded.
    only_known: bool,
    /// What is to happen, in the order of the request. `None` for messages that are not traced.
    steps: Vec<Option<Begun>>,
}

struct Begun {
    event: TraceEvent,
    /// The delivery that it settles.
    handle: Option<String>,
    /// When that was made.
    delivered: Option<Instant>,
}

impl<'a> Traced<'a> {
    fn new(trace: &'a MessageTrace, operation: &Operation<'_>, topic: &str) -> Self {
        let Context { client_id, peer, received, .. } = operation.context;
        let mut group = "";
        operation.groups.each(&mut |name| group = name);
        Self {
            trace,
            client: TraceClient { id: trace_word(client_id), address: trace_word(peer) },
            topic: trace_word(topic),
            group: trace_word(group),
            began: *received,
            began_at: SystemTime::now(),
            only_known: false,
            steps: Vec::new(),
        }
    }

    /// The request sends a message.
    pub fn sends(&mut self, message: &TracedSend<'_>) {
        let message_type = match message.kind {
            TopicKind::Transaction => TraceMessageType::Half,
            TopicKind::Delay => TraceMessageType::Delayed,
            TopicKind::Fifo => TraceMessageType::Ordered,
            _ => TraceMessageType::Normal,
        };
        let begun = self.trace.is_sampled(message.id).then(|| Begun {
            event: TraceEvent {
                tag: trace_word(message.tag.unwrap_or_default()),
                keys: keys_of(message.keys.iter().map(String::as_str)),
                group: trace_word(message.producer_group),
                body_bytes: message.bytes as u64,
                message_type,
                ..self.event(TraceStep::Sent, message.id)
            },
            handle: None,
            delivered: None,
        });
        self.steps.push(begun);
    }

    /// The request decides about a message that is named by its id alone.
    pub fn decides(&mut self, step: TraceStep, message_id: &str) {
        let is_traced = !message_id.is_empty() && self.trace.is_sampled(message_id);
        let event = is_traced.then(|| self.event(step, message_id));
        self.steps.push(event.map(|event| Begun { event, handle: None, delivered: None }));
    }

    /// The request settles a delivery. The id is what the client tells: it counts if nobody knows better.
    pub fn settles(&mut self, step: TraceStep, handle: &str, message_id: &str) {
        let known = self.trace.deliveries.lock().get(handle).cloned();
        let id = known.as_ref().map_or(message_id, |known| &known.message_id);
        let is_traced = match &known {
            Some(_) => true,
            None => !self.only_known && !id.is_empty() && self.trace.is_sampled(id),
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
        self.steps.push(Some(Begun { event, handle: Some(handle.to_owned()), delivered }));
    }

    /// What came of the message at this index of the request.
    pub fn ended(&mut self, index: usize, result: Result<(), &Error>) {
        let Some(Begun { mut event, handle, delivered }) = self.steps.get_mut(index).and_then(Option::take)
        else {
            return;
        };
        match result {
            Ok(()) => handle.iter().for_each(|handle| self.trace.deliveries.lock().settled(handle)),
            // The message may be made up: a small request with many of them would fill the trace.
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

    /// What came of all messages of the request.
    pub fn all_ended(&mut self, result: Result<(), &Error>) {
        (0..self.steps.len()).for_each(|index| self.ended(index, result));
    }

    /// The delivery at this index of the request has another handle from now on.
    pub fn renamed(&mut self, index: usize, handle: &str) {
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

    /// The request has brought a message. What settles it names the handle, if there is one.
    pub fn delivered(&mut self, delivery: &Delivery, handle: Option<&str>) {
        let message = &delivery.message;
        if !self.trace.is_sampled(&message.id) {
            return;
        }
        let delivery_id = match handle {
            Some(handle) => delivery_id(handle),
            None => delivery_id(&format!("{} {} {}", self.group, delivery.queue_id, delivery.queue_offset)),
        };
        let keys = keys_of(message.keys.iter().map(String::as_str));
        let event = TraceEvent {
            at_ms: millis(SystemTime::now()),
            tag: trace_word(message.tag.as_deref().unwrap_or_default()),
            keys: keys.clone(),
            attempt: delivery.attempt,
            delivery_id: delivery_id.clone(),
            body_bytes: message.body.len() as u64,
            ..self.event(TraceStep::Delivered, &message.id)
        };
        if let Some(handle) = handle {
            let (message_id, at) = (event.message_id.clone(), Instant::now());
            self.trace.deliveries.lock().insert(handle, Known { delivery_id, message_id, keys, at });
        }
        self.trace.writer.write(event);
    }

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

fn elapsed(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}
