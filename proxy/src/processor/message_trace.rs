//! Searches the message trace for the steps of a message.

use std::time::{Duration, Instant, SystemTime};

use tokio::time::timeout;

use super::Processor;
use crate::error::{Error, ErrorKind};
use crate::layer::{CLIENT_PROPERTY, TraceClient, TraceEvent, TraceStep, sanitize_for_trace};
use crate::service::names::TRACE_TOPIC;
use crate::service::{ReadMessage, ReadQueue, WantedMessage, millis};

/// The maximum number of steps in one answer.
const MAX_EVENTS: usize = 1000;
/// The maximum number of trace messages of one read.
const PAGE_SIZE: usize = 100;
/// How long a search waits until this proxy's records are written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The time after which a search ends. Its last read may exceed the limit.
const MAX_TIME: Duration = Duration::from_secs(10);

/// A search for the trace of a message.
#[derive(Clone, Debug, Default)]
pub struct TraceSearch {
    /// The message's id.
    pub message_id: String,
    /// If set, only steps recorded at this time or later are returned.
    pub from: Option<SystemTime>,
    /// If set, only steps recorded at this time or earlier are returned.
    pub to: Option<SystemTime>,
}

/// The result of a [`TraceSearch`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundTrace {
    /// The steps, ordered by time.
    pub events: Vec<TraceEvent>,
    /// Whether the result is complete: the whole trace topic was searched, and all records of this proxy had been written.
    pub complete: bool,
}

impl Processor {
    /// Finds the steps of a message that this proxy, other proxies and classic clients have recorded.
    ///
    /// # Errors
    /// `TopicNotFound` if there is no trace topic, or the backend's failure.
    pub async fn message_trace(&self, search: TraceSearch) -> Result<FoundTrace, Error> {
        // Waits for this proxy's records, so that an administrator sees the latest steps.
        let is_flushed = match self.layers.message_trace() {
            Some(trace) => timeout(FLUSH_TIMEOUT, trace.flushed()).await.is_ok(),
            None => true,
        };
        let started = Instant::now();
        let wanted = sanitize_for_trace(&search.message_id);
        let stats = self.topic_stats(TRACE_TOPIC, None).await.map_err(|error| match error.kind {
            ErrorKind::TopicNotFound => {
                let text = format!("no message was ever traced: topic {TRACE_TOPIC} does not exist");
                Error::new(ErrorKind::TopicNotFound, text)
            }
            _ => error,
        })?;
        let mut found = FoundTrace { events: Vec::new(), complete: is_flushed };
        for queue in stats.queues {
            let mut read = ReadQueue {
                topic: TRACE_TOPIC.to_owned(),
                lite_topic: None,
                broker: queue.broker,
                queue_id: queue.id,
                offset: queue.first,
                max: PAGE_SIZE,
                max_body: usize::MAX,
                from: search.from,
                to: search.to,
                wanted: WantedMessage::Key(wanted.clone()),
            };
            loop {
                if found.events.len() >= MAX_EVENTS || started.elapsed() >= MAX_TIME {
                    found.complete = false;
                    break;
                }
                let page = self.read(read.clone()).await?;
                // One more event than allowed shows that there are further ones. A message may have thousands of records, and
                // any client can write them.
                let max = MAX_EVENTS + 1 - found.events.len();
                let events = page.messages.iter().flat_map(|message| events_of(message, &wanted));
                found.events.extend(events.take(max));
                if found.events.len() > MAX_EVENTS {
                    found.events.truncate(MAX_EVENTS);
                    found.complete = false;
                    break;
                }
                if page.finished {
                    break;
                }
                read.offset = page.next_offset;
            }
        }
        // Steps of the same millisecond stay in the order of their records, except that the send comes first: it is recorded
        // only after it has ended.
        found.events.sort_by_key(|event| (event.at_ms, event.step != TraceStep::Sent));
        Ok(found)
    }
}

/// The events of one message in a trace message.
fn events_of(read: &ReadMessage, message_id: &str) -> impl Iterator<Item = TraceEvent> {
    let message = &read.delivery.message;
    let id = message.properties.iter().find(|(name, _)| name == CLIENT_PROPERTY);
    let client = TraceClient {
        id: sanitize_for_trace(id.map_or("", |(_, id)| id)),
        address: sanitize_for_trace(&message.born_host),
    };
    let recorded = millis(message.born_at.unwrap_or(read.delivery.stored_at));
    let body = String::from_utf8_lossy(&message.body);
    let mut events: Vec<_> =
        TraceEvent::decode_all(&body, &client).filter(|event| event.message_id == message_id).collect();
    // Old clients don't record when a delivery was settled.
    events.iter_mut().filter(|event| event.at_ms == 0).for_each(|event| event.at_ms = recorded);
    events.into_iter()
}
