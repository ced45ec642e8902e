//! How one request reaches one server: connections, metadata, deadline, and what its failure means.
//!
//! ```text
//! build_* -> Rpc::unary (link, metadata, deadline, span) -> process_*
//!               `-> failure: one Error -> retry::verdict: what to do next
//! ```

mod batcher;
mod call;
mod failure;
mod identity;
mod in_flight;
mod link;
mod operation;
mod pool;
mod retry;
mod servers;
mod transport;

pub(crate) use batcher::{Answer, BatchCall, Batcher, PendingItem};
pub(crate) use call::{Received, Rpc};
pub(crate) use failure::{Origin, Outcome};
pub(crate) use identity::Identity;
pub(crate) use in_flight::{InFlight, InFlightGuard};
pub(crate) use link::Link;
pub(crate) use operation::{
    AckMessage, ChangeInvisibleDuration, Heartbeat, NotifyClientTermination, QueryRoute, SendMessage,
};
pub(crate) use pool::Pool;
pub(crate) use retry::{Backoff, NoSettings, ReplaySettings, Retry, Verdict, verdict};
pub(crate) use servers::Servers;
