//! Limits on the load of clients.
//!
//! [`in_flight`] bounds the concurrent requests of the proxy. [`quotas`] enforces the operator's quotas ([`quota`]) for each
//! client, user, group and so on, with token buckets ([`bucket`]). [`priority`] says which requests are refused first.

mod bucket;
mod buckets;
mod in_flight;
mod priority;
mod quota;
mod quotas;

pub use in_flight::InFlight;
pub(super) use in_flight::Slot;
pub use quota::{OnExcess, Per, Quota};
pub(super) use quotas::QuotaPermit;
pub use quotas::{QuotaStatus, Quotas};
