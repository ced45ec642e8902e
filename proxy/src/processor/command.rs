//! The trait of all requests.

use super::environment::Environment;
use crate::context::Context;
use crate::error::Error;
use crate::layer::{Names, OperationKind, RequestTrace, Size};

/// A request, independent of the protocol. Front ends decode it, and [`super::Processor::run`] carries it out.
///
/// Only the processor can call `handle`, because only it has an [`Environment`]. So no front end can bypass the layers.
pub trait Command: Send + Sync {
    /// The result of the request.
    type Answer: Send;

    /// The kind of request, for layers.
    const KIND: OperationKind;

    /// The topics that the request names.
    fn topics(&self) -> &dyn Names;

    /// The consumer groups that the request names.
    fn groups(&self) -> &dyn Names {
        &()
    }

    /// The messages and bytes in the request.
    fn size(&self) -> Size {
        Size::default()
    }

    /// The messages and bytes in the answer.
    fn answer_size(_: &Self::Answer) -> Size {
        Size::default()
    }

    /// Reports to message trace which messages the request is about to process, and how.
    fn trace(&self, _: &mut RequestTrace<'_>) {}

    /// Reports to message trace the outcome for these messages, and the messages in the answer.
    fn trace_end(_: Result<&Self::Answer, &Error>, _: &mut RequestTrace<'_>) {}

    /// Calls `visit` with the W3C trace context of each message in the request that has one.
    fn trace_contexts(&self, _visit: &mut dyn FnMut(&str)) {}

    /// Calls `visit` with the W3C trace context of each message in the answer that has one.
    fn answer_trace_contexts(_: &Self::Answer, _visit: &mut dyn FnMut(&str)) {}

    /// Carries the request out.
    fn handle(
        self,
        environment: &Environment,
        context: &Context,
    ) -> impl Future<Output = Result<Self::Answer, Error>> + Send;
}
