//! ReceiveMessage, answered by a status, the messages, and the time of delivery, in this order. A refusal has the time,
//! too.

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
use super::wire::{self, Body, Packer};
use super::{Shared, convert, message, status};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::front::outgoing::Outgoing;
use crate::front::port::Charge;
use crate::processor::{LeasedDelivery, Processor, ReceiveCommand, Received, Undelivered, is_blank};

pub(super) async fn receive(
    shared: &Shared,
    context: Result<Context, Error>,
    request: pb::ReceiveMessageRequest,
    (digest, charge): (BodyDigest, Charge),
) -> Response<Body> {
    let context = match context {
        Ok(context) => context,
        // As for every call without a client id, the answer is the status alone.
        Err(error) => return wire::streaming(Answer::new(status::of(&error)).ends_there()),
    };
    let command = command(request);
    let (topic, group) = (command.topic.clone(), command.group.clone());
    let received = shared.processor.run(&context, command).await;
    let not_found =
        |message: &str| pb::Status { code: pb::Code::MessageNotFound.into(), message: message.to_owned() };
    wire::streaming(match received {
        Ok(Received::Messages(deliveries)) => {
            let undelivered = Undelivered { topic, group, deliveries };
            Answer::new(status::ok()).with(&shared.processor, undelivered, (digest, charge))
        }
        Ok(Received::NoMatch) => Answer::new(not_found("no match message")),
        Ok(Received::Nothing) => Answer::new(not_found("no new message")),
        Err(error) => Answer::new(status::of(&known_to(&context.client_version, error))),
    })
}

/// Older clients don't know `IllegalPollingTime`. Versions are compared as texts, as Apache's proxy does.
fn known_to(client_version: &str, error: Error) -> Error {
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

/// The answer, made frame by frame as the connection takes it.
struct Answer {
    status: Option<pb::Status>,
    deliveries: Option<Outgoing>,
    delivery_timestamp: bool,
    trailers: bool,
    digest: BodyDigest,
    /// The memory that the deliveries hold.
    charge: Option<Charge>,
}

impl Answer {
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

    fn ends_there(mut self) -> Self {
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
        self.deliveries = Some(Outgoing::new(processor, undelivered, &mut charge, message::size_hint));
        self.charge = Some(charge);
        self
    }

    fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        let is_empty = |answer: &Self| answer.deliveries.as_ref().is_none_or(Outgoing::is_empty);
        if self.status.is_none() && is_empty(self) && !self.delivery_timestamp {
            return std::mem::take(&mut self.trailers).then(|| wire::trailers(Code::Ok, ""));
        }
        let part = |content| pb::ReceiveMessageResponse { content: Some(content) };
        let deliveries = self.deliveries.iter().flat_map(Outgoing::iter);
        let size: usize = deliveries.map(|leased| message::size_hint(&leased.delivery.message)).sum();
        let mut packer = Packer::new(size + 64);
        if let Some(status) = self.status.take() {
            packer.push(&part(Content::Status(status)));
        }
        while !packer.is_full() {
            let next = self.deliveries.as_mut().and_then(Outgoing::next);
            let Some(LeasedDelivery { delivery, handle }) = next else { break };
            packer.push(&part(Content::Message(message::delivered(delivery, Some(handle), self.digest))));
        }
        if is_empty(self) && std::mem::take(&mut self.delivery_timestamp) {
            packer.push(&part(Content::DeliveryTimestamp(convert::timestamp(SystemTime::now()))));
        }
        Some(packer.finish())
    }
}

impl Stream for Answer {
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
            let error = known_to(version, Error::new(ErrorKind::IllegalPollingTime, "x"));
            assert_eq!(error.kind, kind, "{version}");
        }
    }
}
