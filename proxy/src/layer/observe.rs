//! What sees how requests end: metrics, and the access log.

use std::sync::Arc;

use super::access_log::{AccessLog, Entry};
use super::message_trace::MessageTrace;
use super::metrics::{Counted, RequestMetrics};
use super::{Operation, Size};
use crate::context::Context;
use crate::error::Error;

/// Who observes requests. Nobody by default.
#[derive(Clone, Default)]
pub struct Observers {
    /// Counts them.
    pub metrics: Option<Arc<RequestMetrics>>,
    /// Logs them.
    pub access_log: Option<Arc<AccessLog>>,
    /// Records what happens to messages.
    pub message_trace: Option<Arc<MessageTrace>>,
}

/// A request that is observed. Dropping it means that the request was cancelled.
pub(super) struct Observed<'a> {
    observers: &'a Observers,
    counted: Option<Counted<'a>>,
    entry: Option<Entry<'a>>,
}

impl Observers {
    /// Observes a request that has come in. `user` tells who is said to send it.
    pub(super) fn begin(
        &self,
        operation: &Operation<'_>,
        user: impl FnOnce() -> Option<String>,
    ) -> Observed<'_> {
        let is_seen = is_request(operation);
        let metrics = self.metrics.as_deref().filter(|_| is_seen);
        let access_log = self.access_log.as_deref().filter(|_| is_seen);
        Observed {
            observers: self,
            counted: metrics.map(|metrics| metrics.begin(operation)),
            entry: access_log.and_then(|log| log.begin(operation, user)),
        }
    }
}

impl Observed<'_> {
    /// A layer has refused the request.
    pub(super) fn refused(self, context: &Context, error: &Error) {
        self.count_refusal(error);
        self.finish(context, Err(error));
    }

    /// A layer has refused the request. It is finished as any other.
    pub(super) fn count_refusal(&self, error: &Error) {
        if let Some(metrics) = &self.observers.metrics {
            metrics.refused(error);
        }
    }

    /// The request has ended.
    pub(super) fn finish(self, context: &Context, result: Result<Size, &Error>) {
        if let Some(counted) = self.counted {
            counted.finish(context, result);
        }
        if let Some(entry) = self.entry {
            entry.finish(result);
        }
    }
}

/// Whether a client has asked for this, and whether it is not a further part of what is observed already.
fn is_request(operation: &Operation<'_>) -> bool {
    operation.is_of_client() && !operation.context.is_continued
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::OperationKind;

    #[test]
    fn a_request_is_seen_once_and_what_the_proxy_does_on_its_own_is_not() {
        let metrics = RequestMetrics::new();
        let observers = Observers { metrics: Some(metrics.clone()), ..Observers::default() };
        let seen = |kind, context: &Context| {
            let operation = Operation { kind, context, topics: &(), groups: &(), size: Size::default() };
            observers.begin(&operation, || None).finish(context, Ok(Size::default()));
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
