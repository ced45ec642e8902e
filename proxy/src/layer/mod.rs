//! What every request of a client passes before the rules handle it, whatever its protocol.
//!
//! [`crate::processor::Processor::run`] runs each of them through [`Layers`]. Administration bypasses them.

mod limit;
mod operation;
mod trace;

use crate::context::Context;
use crate::error::Error;
pub use limit::InFlight;
use limit::Slot;
pub use operation::{NamesTopics, Operation, OperationKind, Size};

/// The layers, in this order: `limit` protects the rules and the backend; `trace` logs what failed, refusals of the
/// other layers included.
///
/// A new layer is a step in [`Layers::enter`], and in [`Passage::finish`] if it wants to see the result.
/// Authentication and access control belong before the limit, so that unauthenticated requests can't exhaust it.
pub struct Layers {
    in_flight: InFlight,
}

/// A request that all layers let in. Dropping it without [`Passage::finish`] means that the request was cancelled.
///
/// It outlives the request's command. What a layer needs of the operation when the request is done, it keeps here.
#[must_use]
pub struct Passage<'a> {
    kind: OperationKind,
    slot: Slot<'a>,
}

impl Layers {
    /// The layers, with at most this many requests in flight.
    #[must_use]
    pub fn new(max_in_flight: usize) -> Self {
        Self { in_flight: InFlight::new(max_in_flight) }
    }

    /// Lets a request in, or refuses it.
    ///
    /// # Errors
    /// The refusal of the first layer that refuses.
    pub fn enter(&self, operation: &Operation<'_>) -> Result<Passage<'_>, Error> {
        // Layers are steps, not futures around futures: each wrapper would make every request's future larger.
        let Operation { kind, context, .. } = *operation;
        match self.in_flight.enter(kind) {
            Ok(slot) => Ok(Passage { kind, slot }),
            Err(refused) => {
                trace::failed(context, kind, &refused);
                Err(refused)
            }
        }
    }
}

impl Passage<'_> {
    /// Reports how the request ended: what was answered, by messages and bytes, or why it failed.
    pub fn finish(self, context: &Context, result: Result<Size, &Error>) {
        drop(self.slot);
        if let Err(error) = result {
            trace::failed(context, self.kind, error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_cancelled_request_gives_its_slot_back() {
        let layers = Layers::new(1);
        let context = Context::of_client("c");
        let operation = Operation {
            kind: OperationKind::Send,
            context: &context,
            topics: &"t".to_owned(),
            group: None,
            size: Size::default(),
        };
        let first = layers.enter(&operation).expect("room");
        assert_eq!(layers.enter(&operation).err().map(|error| error.kind), Some(ErrorKind::Busy));
        drop(first);
        layers.enter(&operation).expect("room").finish(&context, Ok(Size::default()));
        assert!(layers.enter(&operation).is_ok());
    }
}
