//! Encodes messages as the bodies of answers.

use bytes::{Bytes, BytesMut};

use super::super::message::{self, StoreLocation};
use super::super::request::Request;
use crate::processor::BrokersCommand;
use crate::remoting::message::StoredMessage;
use crate::service::Delivery;

/// The cluster of a topic, to which clients send replies. Empty if it can't be found.
pub(super) async fn cluster_of(request: &Request, topic: &str) -> String {
    let route = request.run_uncounted(BrokersCommand { topic: topic.to_owned() }).await;
    let first = route.ok().and_then(|route| route.queues.into_iter().next());
    first.map(|range| range.cluster).unwrap_or_default()
}

/// Encodes messages for the client of this connection, one after another. `change` may change each record before.
pub(super) fn encode<'a>(
    request: &Request,
    cluster: &str,
    deliveries: impl Iterator<Item = &'a Delivery> + Clone,
    mut change: impl FnMut(&mut StoredMessage),
) -> Bytes {
    const BESIDE_A_BODY: usize = 512;
    let bytes = deliveries.clone().map(|delivery| delivery.message.body.len() + BESIDE_A_BODY).sum();
    let mut body = BytesMut::with_capacity(bytes);
    for delivery in deliveries {
        let location = StoreLocation::of(delivery, request.connection.local(), cluster);
        let mut record = message::record(delivery, location);
        change(&mut record);
        body.extend_from_slice(&record.encode());
    }
    body.freeze()
}
