//! What every request passes between a front end and the rules, whatever its protocol.

mod limit;
mod trace;

use std::future::Future;
use std::pin::Pin;

use crate::context::Context;
use crate::error::Error;
pub use limit::InFlight;

/// The layers, outermost first: `trace` sees what the others refuse; `limit` protects the rules and the backend.
///
/// Layers of a later day (authentication before the limit, so that strangers can't use it up) belong here too.
pub struct Layers {
    limit: InFlight,
}

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The route of a topic.
    QueryRoute,
    /// The queues to receive from.
    QueryAssignment,
    /// To store messages.
    Send,
    /// To wait for messages.
    Receive,
    /// To acknowledge deliveries.
    Acknowledge,
    /// To change a lease.
    ChangeInvisible,
    /// To give a delivery up.
    ForwardToDeadLetter,
    /// To decide about a half message.
    EndTransaction,
    /// To call a delayed message back.
    Recall,
    /// To change the lite topics of a client.
    SyncLite,
    /// To read a queue by offset, and wait.
    Pull,
    /// To ask for an offset, or to remember one.
    Offset,
    /// To say that a client is there.
    Heartbeat,
    /// To say what a client is.
    Register,
    /// To say good-bye.
    Terminate,
}

impl Layers {
    /// The layers, with at most so many requests between them and the backend at a time.
    #[must_use]
    pub fn new(max_in_flight: usize) -> Self {
        Self { limit: InFlight::new(max_in_flight) }
    }

    /// Runs one request through the layers. The rules come pinned, so that their state is not moved, and thus
    /// not stored twice.
    ///
    /// # Errors
    /// A layer's refusal, or what the rules answer.
    pub async fn run<T>(
        &self,
        context: &Context,
        operation: Operation,
        rules: Pin<&mut impl Future<Output = Result<T, Error>>>,
    ) -> Result<T, Error> {
        // Layers are steps before and after, not futures around futures: each such shell would double the
        // size of what is inside, and every request is an allocation of that size.
        let place = self.limit.enter(operation);
        let result = match &place {
            Ok(_) => rules.await,
            Err(refused) => Err(refused.clone()),
        };
        trace::finished(context, operation, &result);
        result
    }
}
