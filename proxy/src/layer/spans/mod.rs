//! Spans: one per request, joined to the traces of the messages that the request handles.

mod trace_parent;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use super::truncate::truncate;
use super::{OperationKind, RequestFacts, Size};
use crate::context::{Context, WireProtocol};
use crate::error::{Error, ErrorKind};
pub use trace_parent::TraceParent;

/// The number of ended spans that wait for their export. More are dropped.
const MAX_WAITING: usize = 2048;
/// The maximum number of links of a span. More are counted.
const MAX_LINKS: usize = 128;

/// Records spans. Ended spans wait in a bounded queue until they are exported.
#[derive(Debug)]
pub struct Spans {
    sample: f64,
    ended: mpsc::Sender<Span>,
    dropped: AtomicU64,
}

/// The span of a request that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The kind of request.
    pub operation: OperationKind,
    /// The protocol of the request.
    pub protocol: WireProtocol,
    /// The topic; empty if the request names none. Truncated to 255 bytes, as all texts of clients here.
    pub topic: String,
    /// The consumer group; empty if the request names none.
    pub group: String,
    /// The client's id.
    pub client_id: String,
    /// The client's address, `ip:port`.
    pub peer: String,
    /// The trace of the message that was sent, or else a new one.
    pub trace_id: [u8; 16],
    /// The id of this span.
    pub span_id: [u8; 8],
    /// The sender's span.
    pub parent: Option<[u8; 8]>,
    /// The spans in which the received messages, or the further messages of a request, were sent.
    pub links: Vec<TraceParent>,
    /// The number of links beyond the maximum.
    pub dropped_links: u32,
    /// When the request was received.
    pub started: SystemTime,
    /// The time until its answer was ready.
    pub duration: Duration,
    /// The messages that the request or its answer carried.
    pub messages: Size,
    /// Why the request has failed. `None` if it succeeded.
    pub failure: Option<SpanFailure>,
}

/// Why a request has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanFailure {
    /// With this error.
    Error(ErrorKind, String),
    /// The client has cancelled it, or has gone.
    Cancelled,
}

/// The span of a request in progress. Dropping it without [`RequestSpan::finish`] means that the request was cancelled.
pub struct RequestSpan<'a> {
    spans: &'a Spans,
    received: Instant,
    /// Chosen at random, independently of what is known of the messages.
    is_sampled: bool,
    /// Whether a message in the request has a trace of its own, which decides instead of chance.
    has_parent: bool,
    span: Option<Span>,
}

impl Spans {
    /// Creates a recorder that samples this share of the requests, from 0 to 1, and the queue of ended spans. Requests with
    /// messages whose senders have sampled them are recorded in any case, and sends with messages whose senders have not
    /// sampled them are not.
    #[must_use]
    pub fn new(sample: f64) -> (Self, mpsc::Receiver<Span>) {
        let (ended, receiver) = mpsc::channel(MAX_WAITING);
        (Self { sample, ended, dropped: AtomicU64::default() }, receiver)
    }

    /// The number of spans that were dropped: too many waited, or the export has failed.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Counts spans that could not be exported.
    pub fn add_dropped(&self, spans: u64) {
        self.dropped.fetch_add(spans, Ordering::Relaxed);
    }

    /// Begins the span of a request.
    pub(super) fn begin(&self, facts: &RequestFacts<'_>) -> Box<RequestSpan<'_>> {
        let Context { protocol, client_id, peer, received, .. } = facts.context;
        let (mut topic, mut group) = ("", "");
        facts.topics.each(&mut |name| topic = name);
        facts.groups.each(&mut |name| group = name);
        let span = Span {
            operation: facts.kind,
            protocol: *protocol,
            topic: truncate(topic).to_owned(),
            group: truncate(group).to_owned(),
            client_id: truncate(client_id).to_owned(),
            peer: truncate(peer).to_owned(),
            trace_id: rand::random(),
            span_id: rand::random(),
            parent: None,
            links: Vec::new(),
            dropped_links: 0,
            started: SystemTime::now().checked_sub(received.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH),
            duration: Duration::ZERO,
            messages: facts.size,
            failure: None,
        };
        Box::new(RequestSpan {
            spans: self,
            received: *received,
            is_sampled: rand::random::<f64>() < self.sample,
            has_parent: false,
            span: Some(span),
        })
    }

    fn record(&self, span: Span) {
        if self.ended.try_send(span).is_err() {
            self.add_dropped(1);
        }
    }
}

impl RequestSpan<'_> {
    /// Joins the trace of a message in the request: that of the first sampled message. The others are linked.
    pub fn join(&mut self, trace_parent: &str) {
        let (Some(parent), Some(span)) = (TraceParent::parse(trace_parent), &mut self.span) else { return };
        if !std::mem::replace(&mut self.has_parent, true) {
            self.is_sampled = false;
        }
        if !parent.is_sampled {
            return;
        }
        self.is_sampled = true;
        match span.parent {
            None => {
                span.trace_id = parent.trace_id;
                span.parent = Some(parent.span_id);
            }
            // The messages of a batch often come from one span.
            Some(known) if known == parent.span_id => {}
            Some(_) => span.link(parent),
        }
    }

    /// Links the trace of a message in the answer.
    pub fn link(&mut self, trace_parent: &str) {
        if let (Some(parent), Some(span)) = (TraceParent::parse(trace_parent), &mut self.span)
            && parent.is_sampled
        {
            self.is_sampled = true;
            span.link(parent);
        }
    }

    /// Ends the span.
    pub(super) fn finish(mut self: Box<Self>, result: Result<Size, &Error>) {
        let failure = match result {
            Ok(answered) => {
                if let Some(span) = &mut self.span
                    && answered.messages > 0
                {
                    span.messages = answered;
                }
                None
            }
            Err(error) => Some(SpanFailure::Error(error.kind, truncate(&error.to_string()).to_owned())),
        };
        self.end(failure);
    }

    fn end(&mut self, failure: Option<SpanFailure>) {
        if let Some(span) = self.span.take()
            && self.is_sampled
        {
            self.spans.record(Span { duration: self.received.elapsed(), failure, ..span });
        }
    }
}

impl Drop for RequestSpan<'_> {
    fn drop(&mut self) {
        self.end(Some(SpanFailure::Cancelled));
    }
}

impl Span {
    fn link(&mut self, parent: TraceParent) {
        if self.links.len() < MAX_LINKS {
            self.links.push(parent);
        } else {
            self.dropped_links += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const OTHER: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
    const NOT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    fn recorded(sample: f64, request: impl FnOnce(&mut RequestSpan<'_>)) -> Option<Span> {
        let (spans, mut ended) = Spans::new(sample);
        let context = Context::of_client("c");
        let size = Size::of_messages(2);
        let facts = RequestFacts {
            kind: OperationKind::Send,
            context: &context,
            topics: &"t".repeat(300),
            groups: &(),
            size,
        };
        let mut span = spans.begin(&facts);
        request(&mut span);
        span.finish(Ok(Size::default()));
        ended.try_recv().ok()
    }

    #[test]
    fn a_send_continues_the_trace_of_its_messages() {
        let span = recorded(0.0, |span| {
            [SAMPLED, SAMPLED, OTHER, "nonsense"].into_iter().for_each(|parent| span.join(parent));
        });
        let span = span.expect("a sampled span");
        assert_eq!(hex::encode(span.trace_id), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.parent.map(hex::encode).as_deref(), Some("b7ad6b7169203331"));
        assert_eq!(span.links, [TraceParent::parse(OTHER).expect("a parent")]);
        assert_eq!((span.topic.len(), span.messages.messages, span.failure), (255, 2, None));
    }

    #[test]
    fn the_senders_decision_counts_before_chance() {
        assert_eq!(recorded(1.0, |span| span.join(NOT_SAMPLED)), None);
        assert!(recorded(1.0, |_| ()).is_some_and(|span| span.parent.is_none()));
        assert_eq!(recorded(0.0, |_| ()), None);
    }

    #[test]
    fn a_receive_is_linked_to_the_senders() {
        let span = recorded(0.0, |span| (0..MAX_LINKS + 2).for_each(|_| span.link(SAMPLED)));
        let span = span.expect("a sampled span");
        assert_eq!((span.parent, span.links.len(), span.dropped_links), (None, MAX_LINKS, 2));
        assert!(recorded(1.0, |span| span.link(NOT_SAMPLED)).is_some_and(|span| span.links.is_empty()));
    }

    #[test]
    fn a_cancelled_request_has_a_span_and_a_full_queue_drops_spans() {
        let (spans, mut ended) = Spans::new(1.0);
        let context = Context::of_client("c");
        let facts = RequestFacts {
            kind: OperationKind::Receive,
            context: &context,
            topics: &(),
            groups: &(),
            size: Size::default(),
        };
        (0..=MAX_WAITING).for_each(|_| drop(spans.begin(&facts)));
        assert_eq!(ended.try_recv().ok().and_then(|span| span.failure), Some(SpanFailure::Cancelled));
        assert_eq!(spans.dropped(), 1);
    }
}
