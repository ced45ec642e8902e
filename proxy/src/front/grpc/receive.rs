//! ReceiveMessage. The answer is a stream of a status, the messages, and the time of delivery, in this order. A refusal
//! also contains the time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use futures::Stream;
use http::Response;
use http_body::Frame;
use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proto::v2::receive_message_response::Content;
use tonic::Code;

use super::message::BodyDigest;
use super::shared::Shared;
use super::wire::{self, Body, Packer};
use super::{convert, message, status};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::front::port::Charge;
use crate::front::unsent_deliveries::UnsentDeliveries;
use crate::processor::{LeasedDelivery, Processor, ReceiveCommand, Received, Undelivered, is_blank};

pub(super) async fn receive(
    shared: &Shared,
    context: Context,
    request: pb::ReceiveMessageRequest,
    (digest, charge): (BodyDigest, Charge),
) -> Response<Body> {
    let command = command(request);
    let (topic, group) = (command.topic.clone(), command.group.clone());
    let received = shared.processor.run(&context, command).await;
    let not_found =
        |message: &str| pb::Status { code: pb::Code::MessageNotFound.into(), message: message.to_owned() };
    wire::streaming(match received {
        Ok(Received::Messages(deliveries)) => {
            let undelivered = Undelivered { topic, group, deliveries };
            ReceiveAnswer::new(status::ok()).with(&shared.processor, undelivered, (digest, charge))
        }
        Ok(Received::NoMatch) => ReceiveAnswer::new(not_found("no match message")),
        Ok(Received::Nothing) => ReceiveAnswer::new(not_found("no new message")),
        // As with Apache's proxy, the answer to these refusals contains the status alone.
        Err(error) if error.kind == ErrorKind::ClientIdRequired || error.kind.is_access_refusal() => {
            ReceiveAnswer::new(status::of(&error)).without_timestamp()
        }
        Err(error) => ReceiveAnswer::new(status::of(&for_client_version(&context.client_version, error))),
    })
}

/// Replaces `IllegalPollingTime`, which older clients don't know. Versions are compared as strings, as Apache's proxy
/// does.
fn for_client_version(client_version: &str, error: Error) -> Error {
    match error.kind {
        ErrorKind::IllegalPollingTime if client_version < "5.0.3" => {
            Error { kind: ErrorKind::BadRequest, ..error }
        }
        _ => error,
    }
}

fn command(request: pb::ReceiveMessageRequest) -> ReceiveCommand {
    let queue = request.message_queue.unwrap_or_default();
    ReceiveCommand {
        topic: convert::name(queue.topic),
        group: convert::name(request.group),
        broker: queue.broker.map(|broker| broker.name).filter(|name| !is_blank(name)),
        expression: convert::expression(request.filter_expression),
        batch_size: request.batch_size,
        invisible_ms: convert::millis(request.invisible_duration.as_ref()),
        auto_renew: request.auto_renew,
        polling_ms: request.long_polling_timeout.as_ref().map(|polling| convert::millis(Some(polling))),
        attempt_id: request.attempt_id.filter(|id| !id.is_empty()),
    }
}

/// The answer. Each frame is encoded when the connection can send it.
struct ReceiveAnswer {
    status: Option<pb::Status>,
    deliveries: Option<UnsentDeliveries>,
    delivery_timestamp: bool,
    trailers: bool,
    digest: BodyDigest,
    /// The charge for the memory of the deliveries.
    charge: Option<Charge>,
}

impl ReceiveAnswer {
    fn new(status: pb::Status) -> Self {
        Self {
            status: Some(status),
            deliveries: None,
            delivery_timestamp: true,
            trailers: true,
            digest: BodyDigest::Md5,
            charge: None,
        }
    }

    fn without_timestamp(mut self) -> Self {
        self.delivery_timestamp = false;
        self
    }

    fn with(
        mut self,
        processor: &Arc<Processor>,
        undelivered: Undelivered,
        (digest, mut charge): (BodyDigest, Charge),
    ) -> Self {
        self.digest = digest;
        self.deliveries =
            Some(UnsentDeliveries::new(processor, undelivered, &mut charge, message::size_hint));
        self.charge = Some(charge);
        self
    }

    fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        let is_empty = |answer: &Self| answer.deliveries.as_ref().is_none_or(UnsentDeliveries::is_empty);
        if self.status.is_none() && is_empty(self) && !self.delivery_timestamp {
            return std::mem::take(&mut self.trailers).then(|| wire::trailers(Code::Ok, ""));
        }
        let part = |content| pb::ReceiveMessageResponse { content: Some(content) };
        let deliveries = self.deliveries.iter().flat_map(UnsentDeliveries::iter);
        let size: usize = deliveries.map(|leased| message::size_hint(&leased.delivery.message)).sum();
        let mut packer = Packer::new(size + 64);
        if let Some(status) = self.status.take() {
            packer.push(&part(Content::Status(status)));
        }
        while !packer.is_full() {
            let next = self.deliveries.as_mut().and_then(UnsentDeliveries::next);
            let Some(LeasedDelivery { delivery, handle }) = next else { break };
            packer.push(&part(Content::Message(message::delivered(delivery, Some(handle), self.digest))));
        }
        if is_empty(self) && std::mem::take(&mut self.delivery_timestamp) {
            packer.push(&part(Content::DeliveryTimestamp(convert::timestamp(SystemTime::now()))));
        }
        Some(packer.finish())
    }
}

impl Stream for ReceiveAnswer {
    type Item = Frame<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Frame<Bytes>>> {
        Poll::Ready(self.next_frame())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_clients_get_a_code_that_they_know() {
        for (version, kind) in [
            ("5.0.7", ErrorKind::IllegalPollingTime),
            ("5.0.10", ErrorKind::BadRequest),
            ("4.9.9", ErrorKind::BadRequest),
            ("", ErrorKind::BadRequest),
        ] {
            let error = for_client_version(version, Error::new(ErrorKind::IllegalPollingTime, "x"));
            assert_eq!(error.kind, kind, "{version}");
        }
    }
}
