//! The bodies of answers with messages.

use bytes::{Bytes, BytesMut};

use super::super::message::{self, Place};
use super::super::request::Request;
use crate::processor::BrokersCommand;
use crate::remoting::message::StoredMessage;
use crate::service::Delivery;

/// Bytes of the bodies in one answer. One message may go beyond it.
const MAX_BYTES: usize = 12 << 20;

/// How many of these messages fit into one answer: at least one.
pub(super) fn fitting<'a>(deliveries: impl Iterator<Item = &'a Delivery>) -> usize {
    let mut bytes = 0;
    let fits = |delivery: &&Delivery| {
        bytes += delivery.message.body.len();
        bytes <= MAX_BYTES
    };
    deliveries.take_while(fits).count().max(1)
}

/// The cluster of a topic, which clients send replies to.
pub(super) async fn cluster_of(request: &Request, topic: &str) -> String {
    let route = request.assist(BrokersCommand { topic: topic.to_owned() }).await;
    let first = route.ok().and_then(|route| route.queues.into_iter().next());
    first.map(|range| range.cluster).unwrap_or_default()
}

/// Writes messages one behind the other, as a client of this connection sees them.
pub(super) fn encode<'a>(
    request: &Request,
    cluster: &str,
    deliveries: impl Iterator<Item = &'a Delivery>,
    mut change: impl FnMut(&mut StoredMessage),
) -> Bytes {
    let mut body = BytesMut::new();
    for delivery in deliveries {
        let place = Place::stored(delivery, request.session.local(), cluster);
        let mut record = message::record(delivery, place);
        change(&mut record);
        body.extend_from_slice(&record.encode());
    }
    body.freeze()
}
