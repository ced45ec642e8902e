//! How much clients may do.
//!
//! [`in_flight`] bounds what the proxy works on at a time. [`priority`] says which operations go on for how long meanwhile.

mod in_flight;
mod priority;

pub use in_flight::InFlight;
pub(super) use in_flight::Slot;
