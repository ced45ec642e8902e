//! Receiving messages as a stream of server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;

use super::call::{Caller, PathParams, QueryParams};
use super::message::{self, BodyFormat, ReceivedMessage};
use super::problem::Problem;
use super::receive::ReceiveParams;
use super::shared::Shared;
use super::stream_deliveries::{StreamDeliveries, StreamedLease};
use crate::context::{Context, WireProtocol};
use crate::error::Error;
use crate::front::unsent_deliveries::UnsentDeliveries;
use crate::layer::AccessGrant;
use crate::processor::{
    AckEntry, ChangeInvisibleCommand, LeasedDelivery, ReceiveCommand, Received, Undelivered,
};

const EVENT_STREAM: &str = "text/event-stream";
/// The interval of keep-alive comments in a stream without messages.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// The delay before the next receive if the filter has rejected all messages: such a receive returns immediately.
const NO_MATCH_DELAY: Duration = Duration::from_millis(250);
/// How long the answer waits for the first receive, whose refusal becomes an HTTP status. Later refusals are sent in the
/// stream.
const FIRST_RECEIVE_TIMEOUT: Duration = Duration::from_millis(500);
/// The delay after which browsers reconnect.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// Receive messages as server-sent events
///
/// Each event `message` is a message with its receipt handle, as in a receive. At most `max` messages are unsettled: settle
/// them by their handles to receive more. When the client disconnects, unsettled messages are immediately delivered to other
/// consumers. An event `problem` says why the stream ends.
#[utoipa::path(
    get, path = "/v1/groups/{group}/topics/{topic}/receive", operation_id = "streamMessages", tag = "messages",
    params(
        ("group" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 120),
        ("topic" = String, Path, pattern = "^[%|a-zA-Z0-9_-]+$", max_length = 127),
        ReceiveParams,
    ),
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream"),
        (status = "default", description = "The request was refused", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn stream(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    PathParams((group, topic)): PathParams<(String, String)>,
    QueryParams(params): QueryParams<ReceiveParams>,
) -> Result<Response, Problem> {
    if !caller.accepts(EVENT_STREAM) {
        let detail =
            "this is a stream of events: send accept: text/event-stream, or use POST to receive once";
        return Err(Problem::http(StatusCode::NOT_ACCEPTABLE, detail));
    }
    let command = params.command(&group, &topic)?;
    let deliveries = shared.streams.open();
    let mut events = Events {
        shared,
        caller,
        command,
        format: params.bodies,
        deliveries,
        receiving: None,
        granted: AccessGrant::default(),
        outgoing: None,
        ended: false,
    };
    // An early refusal becomes the HTTP status of the answer.
    if let Ok(received) = tokio::time::timeout(FIRST_RECEIVE_TIMEOUT, events.receive()).await {
        received?;
    }
    let stream = futures::stream::unfold(events, |mut events| async move {
        let event = events.next().await?;
        Some((Ok::<_, Infallible>(event), events))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL)).into_response())
}

/// A stream of events. Dropping it ends the leases of its unsettled deliveries.
struct Events {
    shared: Arc<Shared>,
    caller: Caller,
    command: ReceiveCommand,
    format: BodyFormat,
    deliveries: Arc<StreamDeliveries>,
    /// The receive in progress.
    receiving: Option<BoxFuture<'static, Result<(Received, AccessGrant), Error>>>,
    /// The grant of the last receive.
    granted: AccessGrant,
    /// Received messages that were not yet passed to the connection.
    outgoing: Option<UnsentDeliveries>,
    ended: bool,
}

impl Events {
    /// The next event. `None` at the end of the stream: the proxy drains, or a problem was sent.
    async fn next(&mut self) -> Option<Event> {
        let draining = self.shared.processor.draining().clone();
        while !self.ended {
            if let Some(leased) = self.outgoing.as_mut().and_then(UnsentDeliveries::next) {
                return Some(self.event(leased));
            }
            tokio::select! {
                () = draining.cancelled() => return None,
                received = self.receive() => if let Err(problem) = received {
                    self.ended = true;
                    return Event::default().event("problem").json_data(problem).ok();
                },
            }
        }
        None
    }

    /// Waits until a further message may be delivered, and then receives. Cancel safe.
    async fn receive(&mut self) -> Result<(), Problem> {
        if self.receiving.is_none() {
            self.outgoing = None;
            let _ = self.caller.charge.lock().set(0);
            let room = loop {
                let open = i32::try_from(self.deliveries.count()).unwrap_or(i32::MAX);
                match self.command.batch_size.saturating_sub(open) {
                    ..=0 => tokio::select! {
                        () = self.deliveries.wait_for_change() => {}
                        revoked = self.granted.revoked() => return Err(revoked.reason.into()),
                    },
                    room => break room,
                }
            };
            let command = ReceiveCommand { batch_size: room, ..self.command.clone() };
            let context = Context { received: Instant::now(), ..self.caller.context.clone() };
            let shared = self.shared.clone();
            self.receiving = Some(Box::pin(async move { shared.processor.begin(&context, command).await }));
        }
        let Some(receiving) = &mut self.receiving else { return Ok(()) };
        let received = receiving.await;
        self.receiving = None;
        let (received, granted) = received?;
        self.granted = granted;
        match received {
            Received::Messages(deliveries) => {
                let (topic, group) = (self.command.topic.clone(), self.command.group.clone());
                let undelivered = Undelivered { topic, group, deliveries };
                let mut charge = self.caller.charge.lock();
                let processor = &self.shared.processor;
                self.outgoing =
                    Some(UnsentDeliveries::new(processor, undelivered, &mut charge, message::size_hint));
            }
            Received::NoMatch => tokio::time::sleep(NO_MATCH_DELAY).await,
            Received::Nothing => {}
        }
        Ok(())
    }

    /// Registers a delivery, and converts it to an event.
    fn event(&self, leased: LeasedDelivery) -> Event {
        let delivery = &leased.delivery;
        let left = (delivery.received_at + delivery.invisible).duration_since(SystemTime::now());
        let lease = StreamedLease {
            message_id: delivery.message.id.clone(),
            lite_topic: delivery.message.lite_topic.clone(),
            until: Instant::now() + left.unwrap_or_default(),
        };
        let mut event = Event::default().event("message").retry(RECONNECT_DELAY);
        if !lease.message_id.contains(['\n', '\r', '\0']) {
            event = event.id(&lease.message_id);
        }
        self.deliveries.insert(leased.handle.clone(), lease);
        event.json_data(ReceivedMessage::new(leased, self.format)).unwrap_or_default()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut left = self.deliveries.drain();
        left.retain(|(_, lease)| lease.until > now);
        if left.is_empty() {
            return;
        }
        let (topic, group) = (self.command.topic.clone(), self.command.group.clone());
        let context = Context::of_connection(
            WireProtocol::Http,
            &self.caller.context.client_id,
            &self.caller.context.peer,
        );
        let shared = self.shared.clone();
        tokio::spawn(async move {
            for (handle, StreamedLease { message_id, lite_topic, .. }) in left {
                let entry = AckEntry { handle, message_id, lite_topic };
                let (topic, group) = (topic.clone(), group.clone());
                let command = ChangeInvisibleCommand { topic, group, entry, invisible_ms: 0, suspend: false };
                if let Err(error) = shared.processor.run(&context, command).await {
                    tracing::debug!(%error, "failed to give back a message of an ended stream, which stays invisible until its lease ends");
                }
            }
        });
    }
}
