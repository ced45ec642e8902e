//! How one request reaches one server: connections, metadata, deadline, and what its failure means.
//!
//! ```text
//! build_* -> Rpc::unary (link, metadata, deadline, span) -> process_*
//!               `-> failure: one Error -> retry::verdict: what to do next
//! ```

mod call;
mod failure;
mod flight;
mod identity;
mod lane;
mod link;
mod operation;
mod pool;
mod retry;
mod servers;
mod transport;

pub(crate) use call::{Received, Rpc};
pub(crate) use failure::{Origin, Outcome};
pub(crate) use flight::{Flight, Ticket};
pub(crate) use identity::Identity;
pub(crate) use lane::{Freight, Lane, Parcel};
pub(crate) use link::Link;
pub(crate) use operation::{
    AckMessage, ChangeInvisibleDuration, Heartbeat, NotifyClientTermination, QueryRoute, SendMessage,
};
pub(crate) use pool::Pool;
pub(crate) use retry::{Pauses, Retry, Verdict, verdict};
pub(crate) use servers::Servers;
