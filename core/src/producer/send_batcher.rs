//! Puts the sends of one topic into requests: chooses the queue and the server, builds the request, and reads the
//! results. `rpc/batcher.rs` decides which sends form a batch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;

use super::{half_messages::HalfSlot, in_flight_limits::InFlightPermits};
use crate::{
    error::{Error, ErrorKind},
    message::{Message, MessageType, Receipt},
    metrics::{Recorder, SendSeries},
    options::{Endpoints, RetryOptions},
    route::{QueueChoice, Routes},
    rpc::{BatchCall, Channel, Identity, PendingItem, ReplaySettings, SendMessage, time_for_request},
    session::Session,
    wire::{OutgoingMessage, build_send, process_send},
};

/// A message to send, with its permits to be in flight.
pub(super) struct PendingSend {
    pub(super) outgoing: OutgoingMessage,
    /// Its slot in a transaction, if it is a half message.
    pub(super) half: Option<HalfSlot>,
    pub(super) _permits: InFlightPermits,
}

/// Sends the messages of one topic.
pub(super) struct SendBatcher {
    topic: String,
    born_host: String,
    session: Arc<Session>,
    routes: Arc<Routes>,
    series: Arc<SendSeries>,
    /// Counts sends, to choose the queues by round robin.
    queue_counter: AtomicUsize,
    /// Whether the servers were told that the producer sends to the topic.
    published: AtomicBool,
}

/// The queue for a message, and the channel to its server.
struct ChosenQueue {
    id: i32,
    channel: Arc<Channel>,
}

impl SendBatcher {
    pub(super) fn new(topic: &str, session: Arc<Session>, routes: Arc<Routes>) -> Self {
        Self {
            topic: topic.to_owned(),
            born_host: Identity::host(),
            series: session.metrics().sends(topic),
            session,
            routes,
            // Starts at random, so that not all producers of a topic start with its first queue.
            queue_counter: AtomicUsize::new(rand::random::<u16>().into()),
            published: AtomicBool::new(false),
        }
    }

    /// Chooses the queue for the message, and the channel to its server.
    async fn choose_queue(&self, send: &PendingSend, deadline: Instant) -> Result<ChosenQueue, Error> {
        let OutgoingMessage { message, message_type, .. } = &send.outgoing;
        let route = self.routes.get(&self.topic, deadline).await?;
        let queue = route.writable(match &message.message_group {
            Some(group) => QueueChoice::Group(group),
            None => QueueChoice::RoundRobin(self.queue_counter.fetch_add(1, Ordering::Relaxed)),
        })?;
        if self.session.settings().validate_message_type {
            queue.accepts.check(*message_type)?;
        }
        let channel = if *message_type == MessageType::Transaction {
            // The server sends orphan checks over a telemetry stream, so there must be one.
            self.publish();
            self.session.ready(&queue.endpoints, deadline).await?
        } else {
            self.session.pool().pick(&queue.endpoints)?
        };
        Ok(ChosenQueue { id: queue.id, channel })
    }

    /// Tells the servers, once, that this producer sends to the topic.
    fn publish(&self) {
        if !self.published.swap(true, Ordering::Relaxed) {
            self.session.publish(&self.topic);
        }
    }

    /// Sends one request. Waiting for the route does not shorten its time: with the rest of the attempt's time, it could
    /// expire just after the server has stored the messages.
    async fn send_request(
        &self,
        items: &[PendingItem<Self>],
        queue: &ChosenQueue,
    ) -> Result<Vec<Result<Receipt, Error>>, Error> {
        let deadline = items.iter().map(PendingItem::deadline).max().unwrap_or_else(Instant::now);
        let limit = time_for_request(Self::OPERATION, deadline, self.request_timeout())?;
        let (session, channel) = (&self.session, &*queue.channel);
        let messages = || items.iter().map(|pending| &pending.item.outgoing);
        let topic = session.rpc().resource(&*self.topic);
        let request = build_send(&topic, queue.id, &self.born_host, messages());
        let answer = session.rpc().unary::<SendMessage>(channel, request, limit).await;
        let (call, response) = answer.map_err(|error| session.explain(channel, error))?;
        let results = process_send(&call, response, messages())?;
        for (pending, result) in items.iter().zip(&results) {
            if let (Some(half), Ok(receipt)) = (&pending.item.half, result) {
                half.record_stored(receipt, Endpoints::from_iter([channel.address().clone()]));
            }
        }
        Ok(results)
    }

    /// Sends all messages in one request if the server supports it, otherwise each in its own request.
    async fn send_batch(
        &self,
        items: &[PendingItem<Self>],
        deadline: Instant,
    ) -> Result<Vec<Result<Receipt, Error>>, Error> {
        let Some(first) = items.first() else { return Ok(Vec::new()) };
        let queue = self.choose_queue(&first.item, deadline).await?;
        if items.len() == 1 || queue.channel.keeps_batches() {
            return self.send_request(items, &queue).await;
        }
        let each = items.chunks(1).map(async |pending| {
            let queue = self.choose_queue(&pending[0].item, deadline).await;
            let queue = queue.map_err(|error| error.during(Self::OPERATION))?;
            let results = self.send_request(pending, &queue).await;
            self.apply_result(&results);
            results?
                .pop()
                .unwrap_or_else(|| Err(Error::new(ErrorKind::Protocol, Self::OPERATION, "no result")))
        });
        Ok(join_all(each).await)
    }

    /// Publishes the topic after a success. Refreshes the route after a failure that an outdated route may have caused.
    fn apply_result(&self, result: &Result<Vec<Result<Receipt, Error>>, Error>) {
        match result {
            Ok(_) => self.publish(),
            Err(error) => {
                if matches!(
                    error.kind(),
                    ErrorKind::Unavailable
                        | ErrorKind::Timeout
                        | ErrorKind::TopicNotFound
                        | ErrorKind::PermissionDenied
                        | ErrorKind::TypeMismatch
                ) {
                    self.routes.refresh(&self.topic);
                }
            }
        }
    }
}

impl ReplaySettings for SendBatcher {
    async fn replay_settings(&self, error: &Error, deadline: Instant) -> Result<(), Error> {
        self.session.replay_settings(error, deadline).await
    }

    fn metrics(&self) -> Option<&Recorder> {
        Some(self.session.metrics())
    }
}

impl BatchCall for SendBatcher {
    type Item = PendingSend;
    type Output = Receipt;

    const OPERATION: &'static str = "send";
    const MAX_ITEMS: usize = 32;
    const MAX_BYTES: usize = 1024 * 1024;

    fn size(send: &PendingSend) -> usize {
        let Message { body, keys, properties, .. } = &send.outgoing.message;
        let keys: usize = keys.iter().map(String::len).sum();
        let properties: usize = properties.iter().map(|(name, value)| name.len() + value.len()).sum();
        body.len() + keys + properties
    }

    /// A half message that may be stored is not sent again. Otherwise the server could store it twice, and one of the two
    /// would never be decided.
    fn may_repeat(send: &PendingSend, error: &Error) -> bool {
        send.half.is_none() || !error.maybe_delivered()
    }

    fn finished(&self, send: &PendingSend, submitted: Instant, result: Result<&Receipt, &Error>) {
        self.series.count_send(submitted.elapsed(), result.is_ok());
        self.session.record_send(&send.outgoing.message, result);
    }

    fn retry(&self) -> RetryOptions {
        self.session.retry()
    }

    fn request_timeout(&self) -> Duration {
        self.session.options().request_timeout
    }

    async fn execute(
        &self,
        items: &[PendingItem<Self>],
        limit: Duration,
    ) -> Result<Vec<Result<Receipt, Error>>, Error> {
        let deadline = crate::options::deadline(Instant::now(), limit);
        let result = self.send_batch(items, deadline).await;
        self.apply_result(&result);
        result.map_err(|error| error.during(Self::OPERATION))
    }
}
