//! Requests with the messages of one topic.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::OwnedSemaphorePermit;

use crate::{
    error::{Error, ErrorKind},
    message::Receipt,
    options::RetryOptions,
    route::Routes,
    rpc::{Freight, Identity, Parcel, SendMessage, Ticket},
    session::Session,
    wire::{Outgoing, build_send, process_send},
};

/// A message with its place among those under way.
pub(super) struct Load {
    pub(super) outgoing: Outgoing,
    pub(super) _ticket: Ticket,
    pub(super) _room: [OwnedSemaphorePermit; 2],
}

/// Sends the messages of one topic.
pub(super) struct Shipments {
    topic: String,
    born_host: String,
    session: Arc<Session>,
    routes: Arc<Routes>,
    turn: AtomicUsize,
    published: AtomicBool,
}

impl Shipments {
    pub(super) fn new(topic: &str, session: Arc<Session>, routes: Arc<Routes>) -> Self {
        Self {
            topic: topic.to_owned(),
            born_host: Identity::host(),
            session,
            routes,
            // Many producers of one topic should not all start with its first queue.
            turn: AtomicUsize::new(rand::random::<u16>().into()),
            published: AtomicBool::new(false),
        }
    }

    async fn ship(
        &self,
        parcels: &[Parcel<Self>],
        limit: Duration,
    ) -> Result<Vec<Result<Receipt, Error>>, Error> {
        let deadline = crate::options::deadline(Instant::now(), limit);
        let session = &self.session;
        let route = self.routes.get(&self.topic, deadline).await?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let queue = route.writable(turn, session.settings().validate_message_type)?;
        let link = session.pool().pick(&queue.endpoints)?;
        let messages = || parcels.iter().map(|parcel| &parcel.item.outgoing);
        let topic = session.rpc().resource(&*self.topic);
        let request = build_send(&topic, queue.id, &self.born_host, messages());
        let limit = deadline.saturating_duration_since(Instant::now());
        let answer = session.rpc().unary::<SendMessage>(&link, request, limit).await;
        let (origin, response) = answer.map_err(|error| session.explain(&link, error))?;
        process_send(&origin, response, messages())
    }

    /// A refusal may come from a route that is no longer right.
    fn look_at(&self, result: &Result<Vec<Result<Receipt, Error>>, Error>) {
        match result {
            Ok(_) => {
                if !self.published.swap(true, Ordering::Relaxed) {
                    self.session.publish(&self.topic);
                }
            }
            Err(error) => {
                if matches!(
                    error.kind(),
                    ErrorKind::Unavailable
                        | ErrorKind::Timeout
                        | ErrorKind::TopicNotFound
                        | ErrorKind::PermissionDenied
                        | ErrorKind::TypeMismatch
                ) {
                    self.routes.suspect(&self.topic);
                }
            }
        }
    }
}

impl Freight for Shipments {
    type Item = Load;
    type Output = Receipt;

    const OPERATION: &'static str = "send";
    const MAX_ITEMS: usize = 32;
    const MAX_BYTES: usize = 1024 * 1024;

    fn size(load: &Load) -> usize {
        load.outgoing.message.body.len()
    }

    fn retry(&self) -> RetryOptions {
        self.session.retry()
    }

    fn request_timeout(&self) -> Duration {
        self.session.options().request_timeout
    }

    async fn carry(
        &self,
        parcels: &[Parcel<Self>],
        limit: Duration,
    ) -> Result<Vec<Result<Receipt, Error>>, Error> {
        let result = self.ship(parcels, limit).await;
        self.look_at(&result);
        result.map_err(|error| error.during("send"))
    }
}
