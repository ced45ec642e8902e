//! Reports the begin and the end of requests to metrics, to the access log and to traces.

use std::sync::Arc;

use super::access_log::{AccessLog, LogEntry};
use super::message_trace::MessageTrace;
use super::metrics::{Counted, RequestMetrics};
use super::spans::{RequestSpan, Spans};
use super::{RequestFacts, Size};
use crate::context::Context;
use crate::error::Error;

/// The observers of requests. There are none by default.
#[derive(Clone, Default)]
pub struct Observers {
    /// Counts requests.
    pub metrics: Option<Arc<RequestMetrics>>,
    /// Logs requests.
    pub access_log: Option<Arc<AccessLog>>,
    /// Records the steps of messages.
    pub message_trace: Option<Arc<MessageTrace>>,
    /// Records requests as parts of traces.
    pub spans: Option<Arc<Spans>>,
}

/// An observed request. Dropping it means that the request was cancelled.
pub(super) struct Observed<'a> {
    observers: &'a Observers,
    counted: Option<Counted<'a>>,
    entry: Option<LogEntry<'a>>,
    // Boxed, so that requests without a span take no more memory.
    span: Option<Box<RequestSpan<'a>>>,
}

impl Observers {
    /// Begins to observe a request. `user` returns the user that the request claims to come from; the access log calls it.
    pub(super) fn begin(
        &self,
        facts: &RequestFacts<'_>,
        user: impl FnOnce() -> Option<String>,
    ) -> Observed<'_> {
        let is_observed = is_client_request(facts);
        let metrics = self.metrics.as_deref().filter(|_| is_observed);
        let access_log = self.access_log.as_deref().filter(|_| is_observed);
        let spans = self.spans.as_deref().filter(|_| is_observed);
        Observed {
            observers: self,
            counted: metrics.map(|metrics| metrics.begin(facts)),
            entry: access_log.and_then(|log| log.begin(facts, user)),
            span: spans.map(|spans| spans.begin(facts)),
        }
    }
}

impl<'a> Observed<'a> {
    /// The span of the request, if spans are recorded.
    pub(super) fn span(&mut self) -> Option<&mut RequestSpan<'a>> {
        self.span.as_deref_mut()
    }

    /// Reports that a layer has refused the request.
    pub(super) fn refused(self, context: &Context, error: &Error) {
        self.count_refusal(error);
        self.finish(context, Err(error));
    }

    /// Counts a refusal by a layer. The caller then finishes the request as any other.
    pub(super) fn count_refusal(&self, error: &Error) {
        if let Some(metrics) = &self.observers.metrics {
            metrics.refused(error);
        }
    }

    /// Reports the end of the request.
    pub(super) fn finish(self, context: &Context, result: Result<Size, &Error>) {
        if let Some(counted) = self.counted {
            counted.finish(context, result);
        }
        if let Some(entry) = self.entry {
            entry.finish(result);
        }
        if let Some(span) = self.span {
            span.finish(result);
        }
    }
}

/// Whether the operation is a client's request, and the first operation of that request.
fn is_client_request(facts: &RequestFacts<'_>) -> bool {
    facts.is_of_client() && !facts.context.is_continued
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::OperationKind;

    #[test]
    fn a_request_is_observed_once_and_the_proxys_own_operations_are_not() {
        let metrics = RequestMetrics::new();
        let observers = Observers { metrics: Some(metrics.clone()), ..Observers::default() };
        let seen = |kind, context: &Context| {
            let facts = RequestFacts { kind, context, topics: &(), groups: &(), size: Size::default() };
            observers.begin(&facts, || None).finish(context, Ok(Size::default()));
            metrics.operations().iter().map(|counts| counts.duration.count()).sum::<u64>()
        };
        let own = Context { is_admitted: true, ..Context::of_client("c") };
        let part = Context { is_continued: true, ..Context::of_client("c") };
        assert_eq!(seen(OperationKind::Receive, &Context::of_client("c")), 1);
        assert_eq!(seen(OperationKind::QueryRoute, &part), 1);
        assert_eq!(seen(OperationKind::ChangeInvisible, &own), 1);
        assert_eq!(seen(OperationKind::Acknowledge, &own), 2);
    }
}
