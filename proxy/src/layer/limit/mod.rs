//! Limits on the load of clients.
//!
//! [`concurrent_requests`] bounds the concurrent requests of the proxy. [`quotas`] enforces the operator's quotas
//! ([`quota`]) for each client, user, group and so on, with token buckets ([`bucket`]). [`priority`] says which requests are
//! refused first.

mod bucket;
mod buckets;
mod concurrent_requests;
mod priority;
mod quota;
mod quotas;

pub use concurrent_requests::InFlight;
pub(super) use concurrent_requests::RequestSlot;
pub use quota::{OnExcess, Per, Quota};
pub(super) use quotas::QuotaPermit;
pub use quotas::{QuotaStatus, Quotas};
