//! How much clients may do.
//!
//! [`in_flight`] bounds what the proxy works on at a time, and [`quotas`] what each client, user, group and so on may do, as
//! the operator has written it ([`quota`]). [`bucket`] says what may pass now. [`priority`] says which operations go on for
//! how long when there is too much of something.

mod bucket;
mod buckets;
mod in_flight;
mod priority;
mod quota;
mod quotas;

pub use in_flight::InFlight;
pub(super) use in_flight::Slot;
pub use quota::{OnExcess, Per, Quota};
pub(super) use quotas::Held;
pub use quotas::{QuotaStatus, Quotas};
