//! The memory that a request is charged for in the budget of its connection.

use std::sync::Arc;

use parking_lot::Mutex;

use super::answer::Refusal;
use crate::front::port::Charge;

/// The memory that a request holds, from its arrival until its answer is written. Clones share one charge.
#[derive(Clone)]
pub(super) struct RequestCharge(Arc<Mutex<Charge>>);

impl RequestCharge {
    pub(super) fn new(charge: Charge) -> Self {
        Self(Arc::new(Mutex::new(charge)))
    }

    /// Charges the request for more bytes.
    ///
    /// # Errors
    /// `SYSTEM_BUSY` if the budget is exhausted. The client tries again later.
    pub(super) fn grow(&self, bytes: usize) -> Result<(), Refusal> {
        let mut charge = self.0.lock();
        let wanted = charge.bytes().saturating_add(bytes);
        charge.set(wanted).map_err(Refusal::from)
    }

    /// Releases bytes.
    pub(super) fn shrink(&self, bytes: usize) {
        let mut charge = self.0.lock();
        let left = charge.bytes().saturating_sub(bytes);
        // Reducing a charge can't exceed the budget.
        let _ = charge.set(left);
    }

    /// The charge. `None` if another clone exists.
    pub(super) fn into_inner(self) -> Option<Charge> {
        Arc::into_inner(self.0).map(Mutex::into_inner)
    }
}
