//! Looking for what message trace has recorded of a message.

use std::time::{Duration, Instant, SystemTime};

use tokio::time::timeout;

use super::Processor;
use crate::error::{Error, ErrorKind};
use crate::layer::{CLIENT_PROPERTY, TraceClient, TraceEvent, TraceStep, trace_word};
use crate::service::names::TRACE_TOPIC;
use crate::service::{ReadMessage, ReadQueue, WantedMessage, millis};

/// Steps in one answer.
const MAX_EVENTS: usize = 1000;
/// Trace messages of one read.
const PAGE: usize = 100;
/// How long a search waits for records that are not written yet.
const FLUSH: Duration = Duration::from_secs(1);
/// How long a search may take, apart from one read.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Whose trace to look for.
#[derive(Clone, Debug, Default)]
pub struct TraceSearch {
    /// The message's id.
    pub message_id: String,
    /// Only what was recorded at this time or later.
    pub from: Option<SystemTime>,
    /// Only what was recorded at this time or earlier.
    pub to: Option<SystemTime>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundTrace {
    /// The steps, by time.
    pub events: Vec<TraceEvent>,
    /// Whether these are all: the whole trace topic was searched, and what this proxy has recorded was there.
    pub complete: bool,
}

impl Processor {
    /// The steps in the life of a message that this proxy, others, or classic clients have recorded.
    ///
    /// # Errors
    /// `TopicNotFound` if nothing was ever recorded, or the backend's failure.
    pub async fn message_trace(&self, search: TraceSearch) -> Result<FoundTrace, Error> {
        // An administrator sees what has just happened here.
        let is_flushed = match self.layers.message_trace() {
            Some(trace) => timeout(FLUSH, trace.flushed()).await.is_ok(),
            None => true,
        };
        let started = Instant::now();
        let wanted = trace_word(&search.message_id);
        let stats = self.topic_stats(TRACE_TOPIC, None).await.map_err(|error| match error.kind {
            ErrorKind::TopicNotFound => {
                let text = format!("there is no topic {TRACE_TOPIC}: nothing was ever traced");
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
                max: PAGE,
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
                // One more tells that there are others. A message may have thousands of records, and anybody may have made them.
                let room = MAX_EVENTS + 1 - found.events.len();
                let events = page.messages.iter().flat_map(|message| events_of(message, &wanted));
                found.events.extend(events.take(room));
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
        // Steps of one millisecond stay in the order in which they were recorded, but for the send, which is recorded late.
        found.events.sort_by_key(|event| (event.at_ms, event.step != TraceStep::Sent));
        Ok(found)
    }
}

/// What a trace message tells about one message.
fn events_of(read: &ReadMessage, message_id: &str) -> impl Iterator<Item = TraceEvent> {
    let message = &read.delivery.message;
    let id = message.properties.iter().find(|(name, _)| name == CLIENT_PROPERTY);
    let client =
        TraceClient { id: trace_word(id.map_or("", |(_, id)| id)), address: trace_word(&message.born_host) };
    let recorded = millis(message.born_at.unwrap_or(read.delivery.stored_at));
    let body = String::from_utf8_lossy(&message.body);
    let mut events: Vec<_> =
        TraceEvent::decode_all(&body, &client).filter(|event| event.message_id == message_id).collect();
    // Old clients do not tell when a delivery was settled.
    events.iter_mut().filter(|event| event.at_ms == 0).for_each(|event| event.at_ms = recorded);
    events.into_iter()
}
