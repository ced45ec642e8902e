//! Counts requests by kind, protocol and result. Each combination has its own counters, so that a request costs a few atomic
//! additions.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strum::VariantArray;

use super::{OperationKind, RequestFacts, Size};
use crate::context::{Context, WireProtocol};
use crate::error::{Error, ErrorKind};
use crate::histogram::{Histogram, HistogramCounts};

/// The result codes of requests that did not fail. Those of failed ones are the names of [`ErrorKind`].
const OK: &str = "ok";
const CANCELLED: &str = "cancelled";
const KINDS: usize = ErrorKind::VARIANTS.len();
const OPERATIONS: usize = OperationKind::VARIANTS.len();

/// Counts the requests of clients.
#[derive(Debug, Default)]
pub struct RequestMetrics {
    counters: [[Counters; OPERATIONS]; WireProtocol::VARIANTS.len()],
    refused: ByKind,
}

/// The counters of one kind of request in one protocol.
#[derive(Debug, Default)]
struct Counters {
    in_flight: AtomicU64,
    ok: AtomicU64,
    cancelled: AtomicU64,
    failed: ByKind,
    duration: Histogram,
    carried: Amount,
    answered: Amount,
}

#[derive(Debug)]
struct ByKind([AtomicU64; KINDS]);

#[derive(Debug, Default)]
struct Amount {
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// A request in flight. Dropping it without [`Counted::finish`] counts it as cancelled.
pub(super) struct Counted<'a> {
    counters: &'a Counters,
    carries: Size,
    done: bool,
}

/// The counts of one kind of request in one protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationCounts {
    /// The kind of request.
    pub operation: &'static str,
    /// The protocol.
    pub protocol: &'static str,
    /// The number of requests that are not answered yet.
    pub in_flight: u64,
    /// The number of ended requests by code: `ok`, `cancelled`, or the name of an [`ErrorKind`]. Codes that never occurred are
    /// left out.
    pub ended: Vec<(&'static str, u64)>,
    /// The time from receiving a request until its answer is ready.
    pub duration: HistogramCounts,
    /// The messages that successful requests carried.
    pub carried: Size,
    /// The messages that their answers carried.
    pub answered: Size,
}

impl RequestMetrics {
    /// Creates counters that are zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Counts the begin of a request.
    pub(super) fn begin(&self, facts: &RequestFacts<'_>) -> Counted<'_> {
        let counters = &self.counters[facts.context.protocol as usize][facts.kind as usize];
        counters.in_flight.fetch_add(1, Ordering::Relaxed);
        Counted { counters, carries: facts.size, done: false }
    }

    /// Counts a request that a layer has refused.
    pub(super) fn refused(&self, error: &Error) {
        self.refused.add(error.kind);
    }

    /// The number of requests that layers have refused, by the name of the [`ErrorKind`]. Kinds that never occurred are
    /// left out.
    #[must_use]
    pub fn refusals(&self) -> Vec<(&'static str, u64)> {
        self.refused.counts().collect()
    }

    /// The counts of each kind of request in each protocol, if there was any such request.
    #[must_use]
    pub fn operations(&self) -> Vec<OperationCounts> {
        let by_protocol = WireProtocol::VARIANTS.iter().zip(&self.counters);
        let all = by_protocol.flat_map(|(protocol, counters)| {
            let by_kind = OperationKind::VARIANTS.iter().zip(counters);
            by_kind.map(|(kind, counters)| counters.counts(kind.into(), protocol.into()))
        });
        all.filter(|counts| counts.in_flight > 0 || !counts.ended.is_empty()).collect()
    }
}

impl Counted<'_> {
    /// Counts the end of the request.
    pub(super) fn finish(mut self, context: &Context, result: Result<Size, &Error>) {
        let counters = self.counters;
        match result {
            Ok(answer) => {
                counters.ok.fetch_add(1, Ordering::Relaxed);
                counters.carried.add(self.carries);
                counters.answered.add(answer);
            }
            Err(error) => counters.failed.add(error.kind),
        }
        counters.duration.add(context.received.elapsed());
        self.done = true;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.done {
            self.counters.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Counters {
    fn counts(&self, operation: &'static str, protocol: &'static str) -> OperationCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let others = [(OK, load(&self.ok)), (CANCELLED, load(&self.cancelled))];
        OperationCounts {
            operation,
            protocol,
            in_flight: load(&self.in_flight),
            ended: others.into_iter().filter(|(_, count)| *count > 0).chain(self.failed.counts()).collect(),
            duration: self.duration.counts(),
            carried: self.carried.size(),
            answered: self.answered.size(),
        }
    }
}

impl Default for ByKind {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::default()))
    }
}

impl ByKind {
    fn add(&self, kind: ErrorKind) {
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        ErrorKind::VARIANTS.iter().map(Into::into).zip(counts).filter(|(_, count)| *count > 0)
    }
}

impl Amount {
    fn add(&self, Size { messages, bytes, .. }: Size) {
        if messages > 0 {
            self.messages.fetch_add(messages as u64, Ordering::Relaxed);
            self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    fn size(&self) -> Size {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as usize;
        Size { messages: load(&self.messages), bytes: load(&self.bytes), ..Size::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_by_its_result() {
        let metrics = RequestMetrics::new();
        let context = Context::of_client("c");
        let size = Size { messages: 2, bytes: 10, ..Size::default() };
        let facts =
            RequestFacts { kind: OperationKind::Send, context: &context, topics: &(), groups: &(), size };
        metrics.begin(&facts).finish(&context, Ok(Size::default()));
        let refused = Error::new(ErrorKind::Busy, "flow limit");
        metrics.begin(&facts).finish(&context, Err(&refused));
        metrics.refused(&refused);
        drop(metrics.begin(&facts));
        let _waiting = metrics.begin(&facts);
        let counted = metrics.operations();
        let [send] = &counted[..] else { panic!("one kind of request, not {counted:?}") };
        assert_eq!((send.operation, send.protocol, send.in_flight), ("send", "grpc", 1));
        assert_eq!(send.ended, [("ok", 1), ("cancelled", 1), ("busy", 1)]);
        assert_eq!((send.carried, send.answered), (size, Size::default()));
        assert_eq!(send.duration.count(), 2);
        assert_eq!(metrics.refusals(), [("busy", 1)]);
    }
}
