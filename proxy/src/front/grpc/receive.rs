//! ReceiveMessage: a status, the messages, then the time of delivery. In that order, after a refusal too.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
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

use super::wire::{self, Body, Packer};
use super::{Shared, convert, message, status};
use crate::context::Context;
use crate::error::Error;
use crate::layer::Operation;
use crate::processor::{Handed, ReceiveCommand, Received, is_blank};

pub(super) async fn receive(
    shared: &Arc<Shared>,
    context: Result<Context, Error>,
    request: pb::ReceiveMessageRequest,
) -> Response<Body> {
    let context = match context {
        Ok(context) => context,
        // As for every call without a client id: nothing but the status.
        Err(error) => return wire::streaming(Answer::new(shared, status::of(&error)).ends_there()),
    };
    let command = command(request);
    let (topic, group) = (command.topic.clone(), command.group.clone());
    let work = pin!(shared.processor.receive(&context, command));
    let received = shared.layers.run(&context, Operation::Receive, work).await;
    let not_found =
        |message: &str| pb::Status { code: pb::Code::MessageNotFound.into(), message: message.to_owned() };
    wire::streaming(match received {
        Ok(Received::Messages(handed)) => Answer::new(shared, status::ok()).with(handed, topic, group),
        Ok(Received::NoMatch) => Answer::new(shared, not_found("no match message")),
        Ok(Received::Nothing) => Answer::new(shared, not_found("no new message")),
        Err(error) => Answer::new(shared, status::of(&error)),
    })
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

/// The answer, made frame by frame as the connection takes it. What a client that went away did not take is
/// given back.
struct Answer {
    shared: Arc<Shared>,
    status: Option<pb::Status>,
    topic: String,
    group: String,
    handed: VecDeque<Handed>,
    delivery_timestamp: bool,
    trailers: bool,
}

impl Answer {
    fn new(shared: &Arc<Shared>, status: pb::Status) -> Self {
        Self {
            shared: shared.clone(),
            status: Some(status),
            topic: String::new(),
            group: String::new(),
            handed: VecDeque::new(),
            delivery_timestamp: true,
            trailers: true,
        }
    }

    fn ends_there(mut self) -> Self {
        self.delivery_timestamp = false;
        self
    }

    fn with(mut self, handed: Vec<Handed>, topic: String, group: String) -> Self {
        (self.handed, self.topic, self.group) = (handed.into(), topic, group);
        self
    }

    fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        if self.status.is_none() && self.handed.is_empty() && !self.delivery_timestamp {
            return std::mem::take(&mut self.trailers).then(|| wire::trailers(Code::Ok, ""));
        }
        let part = |content| pb::ReceiveMessageResponse { content: Some(content) };
        let size =
            self.handed.iter().map(|handed| message::size_hint(&handed.delivery.message)).sum::<usize>();
        let mut packer = Packer::new(size + 64);
        if let Some(status) = self.status.take() {
            packer.push(&part(Content::Status(status)));
        }
        while !packer.is_full() {
            let Some(handed) = self.handed.pop_front() else { break };
            let Handed { delivery, handle } = handed;
            packer.push(&part(Content::Message(message::delivered(delivery, Some(handle)))));
        }
        if self.handed.is_empty() && std::mem::take(&mut self.delivery_timestamp) {
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

impl Drop for Answer {
    fn drop(&mut self) {
        if self.handed.is_empty() {
            return;
        }
        let (shared, undelivered) = (self.shared.clone(), std::mem::take(&mut self.handed).into());
        let (topic, group) = (std::mem::take(&mut self.topic), std::mem::take(&mut self.group));
        tokio::spawn(async move { shared.processor.give_back(&topic, &group, undelivered).await });
    }
}
