//! The memory that a request takes of what all requests share.

use std::sync::Arc;

use parking_lot::Mutex;

use super::request::Refusal;
use crate::front::port::{Charge, Exhausted};
use crate::remoting::response;

/// The memory that a request holds, from its arrival until its answer is written.
#[derive(Clone)]
pub(super) struct Memory(Arc<Mutex<Charge>>);

impl Memory {
    pub(super) fn of(charge: Charge) -> Self {
        Self(Arc::new(Mutex::new(charge)))
    }

    /// Takes more memory.
    ///
    /// # Errors
    /// If there is none: the client tries again later.
    pub(super) fn grow(&self, bytes: usize) -> Result<(), Refusal> {
        let mut charge = self.0.lock();
        let wanted = charge.bytes().saturating_add(bytes);
        charge.set(wanted).map_err(Refusal::from)
    }

    /// Gives memory back.
    pub(super) fn shrink(&self, bytes: usize) {
        let mut charge = self.0.lock();
        let left = charge.bytes().saturating_sub(bytes);
        // Less is always available.
        let _ = charge.set(left);
    }

    /// What is held, once nobody else uses it.
    pub(super) fn into_charge(self) -> Option<Charge> {
        Arc::into_inner(self.0).map(Mutex::into_inner)
    }
}

impl From<Exhausted> for Refusal {
    fn from(exhausted: Exhausted) -> Self {
        Self::new(response::SYSTEM_BUSY, format!("[OVERLOAD]{}", exhausted.reason()))
    }
}
