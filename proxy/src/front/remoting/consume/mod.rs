//! Consuming: pulls, offsets, locks, leases.

use std::sync::Arc;

use super::request::{Answered, Request};
use super::session::Session;
use super::{Shared, dispatch as front};

/// What is shared by all connections.
#[derive(Default)]
pub(super) struct Server {}

/// The soft state of one connection.
#[derive(Default)]
pub(super) struct Consuming {}

/// Dispatches the requests of consumers.
pub(super) async fn dispatch(request: Request) -> Answered {
    front::unsupported(&request)
}

/// Whether a client is told that it is the only one in its group, so that it pulls from all queues.
pub(super) fn sees_itself_alone(_: &Arc<Shared>, _: &Arc<Session>, _group: &str) -> bool {
    false
}

/// A client has left a group, or its connection is gone.
pub(super) fn left(_: &Arc<Shared>, _: &Arc<Session>, _group: &str) {}
