//! Between our types and the wire's: pure functions, `build_*` for requests and `process_*` for responses.

mod ack;
mod body;
mod change;
mod message_id;
mod receive;
mod route;
mod send;
mod settings;

pub(crate) use ack::{build_ack, process_ack};
pub(crate) use change::{build_change, process_change};
pub(crate) use message_id::MessageIds;
pub(crate) use receive::{Attempt, Poll, Source, build_receive, process_receive};
pub(crate) use route::{build_query_route, process_query_route};
pub(crate) use send::{Outgoing, build_send, process_send};
pub(crate) use settings::{Role, Settings, build_settings, process_settings};
