use super::environment::Environment;
use crate::context::Context;
use crate::error::Error;
use crate::layer::{Names, OperationKind, Size, Traced};

/// A request in the rules' terms: what a front end decodes, and [`super::Processor::run`] carries out.
///
/// `handle` can't be called from outside the processor, which alone has an [`Environment`]: no front end can go past
/// the layers.
pub trait Command: Send + Sync {
    /// What the request returns.
    type Answer: Send;

    /// What the request does.
    const KIND: OperationKind;

    /// The topics that the request names.
    fn topics(&self) -> &dyn Names;

    /// The consumer groups that the request names.
    fn groups(&self) -> &dyn Names {
        &()
    }

    /// What the request carries.
    fn size(&self) -> Size {
        Size::default()
    }

    /// What the answer carries.
    fn answer_size(_: &Self::Answer) -> Size {
        Size::default()
    }

    /// Tells what the request is to do to which messages, for message trace.
    fn trace(&self, _: &mut Traced<'_>) {}

    /// Tells what came of them, and which messages the request has brought.
    fn trace_end(_: Result<&Self::Answer, &Error>, _: &mut Traced<'_>) {}

    /// Carries the request out.
    fn handle(
        self,
        environment: &Environment,
        context: &Context,
    ) -> impl Future<Output = Result<Self::Answer, Error>> + Send;
}
