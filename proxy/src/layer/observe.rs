//! What sees how requests end: metrics, and the access log.

use std::sync::Arc;

use super::access_log::{AccessLog, Entry};
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
        Observed {
            observers: self,
            counted: self.metrics.as_deref().map(|metrics| metrics.begin(operation)),
            entry: self.access_log.as_deref().and_then(|log| log.begin(operation, user)),
        }
    }

    /// A layer has refused what no command carries out.
    pub(super) fn refused(&self, error: &Error) {
        if let Some(metrics) = &self.metrics {
            metrics.refused(error);
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
        self.observers.refused(error);
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
