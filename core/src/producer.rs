//! Sending.

mod send_batcher;

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::send_batcher::{PendingSend, SendBatcher};
use crate::{
    error::{Error, ErrorKind, Result},
    message::{CloseReport, Message, Receipt},
    options::ProducerOptions,
    route::Routes,
    rpc::{Answer, Batcher, InFlight},
    session::Session,
    wire::{MessageIds, Outgoing},
};

/// Sends messages. Cheap to clone; clones are the same producer.
///
/// Dropping the last clone without [`close`](Self::close) gives up what is under way.
#[derive(Clone)]
pub struct Producer(Arc<Inner>);

pub(crate) struct Inner {
    session: Arc<Session>,
    routes: Arc<Routes>,
    batchers: Mutex<HashMap<String, Arc<Batcher<SendBatcher>>>>,
    ids: MessageIds,
    in_flight: Arc<InFlight>,
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_bytes: u32,
}

impl Producer {
    pub(crate) fn new(session: Session, routes: Arc<Routes>, options: &ProducerOptions) -> Self {
        let max_bytes = u32::try_from(options.max_in_flight_bytes).unwrap_or(u32::MAX).max(1);
        let max_messages = options.max_in_flight_messages.clamp(1, Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner {
            session: Arc::new(session),
            routes,
            batchers: Mutex::default(),
            ids: MessageIds::new(),
            in_flight: Arc::default(),
            messages: Arc::new(Semaphore::new(max_messages)),
            bytes: Arc::new(Semaphore::new(max_bytes as usize)),
            max_bytes,
        }))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    /// Sends one message and waits until the server has stored it.
    ///
    /// Sends that run at the same time travel together where that costs no time, and the server says that it keeps
    /// them apart. Cancelling the future gives up waiting, not the message.
    ///
    /// # Errors
    ///
    /// The server's refusal, or what kept an answer from coming within
    /// [`operation_timeout`](crate::ClientOptions::operation_timeout); see [`Error::maybe_delivered`].
    pub async fn send(&self, message: Message) -> Result<Receipt> {
        self.submit(message).await?.wait().await
    }

    /// Sends many messages; the results stand in the order of the messages.
    pub async fn send_all(&self, messages: Vec<Message>) -> Vec<Result<Receipt>> {
        let mut answers = Vec::with_capacity(messages.len());
        for message in messages {
            answers.push(self.submit(message).await);
        }
        join_all(answers.into_iter().map(|answer| async { answer?.wait().await })).await
    }

    /// Takes no more sends, waits at most `deadline` for those under way, and says good-bye to the servers.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        let start = Instant::now();
        let deadline = crate::options::deadline(start, deadline);
        let first = self.0.in_flight.stop_accepting();
        let report = self.0.in_flight.drain(deadline).await;
        if first {
            self.0.messages.close();
            self.0.bytes.close();
            self.0.session.end(deadline).await;
            for (_, batcher) in self.0.batchers.lock().drain() {
                batcher.abandon();
            }
        }
        report.since(start)
    }

    /// Queues a message once there is room for it.
    async fn submit(&self, message: Message) -> Result<Answer<Receipt>> {
        let Inner { session, in_flight, ids, .. } = &*self.0;
        let deadline = crate::options::deadline(Instant::now(), session.options().operation_timeout);
        let guard = in_flight.begin().ok_or_else(|| Error::closed("send"))?;
        self.check_size(&message)?;
        let room = self.room(&message, deadline).await?;
        let batcher = self.batcher(&message.topic);
        let born_at = SystemTime::now();
        let id = ids.next(born_at);
        let outgoing = Outgoing { message, id, born_at };
        Ok(batcher.submit(PendingSend { outgoing, _room: room }, deadline, guard))
    }

    fn check_size(&self, message: &Message) -> Result<()> {
        let size = message.body.len();
        match self.0.session.settings().max_body_size {
            Some(max) if size > max => Err(Error::new(
                ErrorKind::TooLarge,
                "send",
                format!("the body has {size} bytes; the server takes at most {max}"),
            )),
            _ => Ok(()),
        }
    }

    /// Waits for a place among the messages and bytes under way.
    async fn room(&self, message: &Message, deadline: Instant) -> Result<[OwnedSemaphorePermit; 2]> {
        let Inner { messages, bytes, max_bytes, .. } = &*self.0;
        let size = u32::try_from(message.body.len()).unwrap_or(u32::MAX).min(*max_bytes);
        if let Ok(place) = messages.clone().try_acquire_owned()
            && let Ok(space) = bytes.clone().try_acquire_many_owned(size)
        {
            return Ok([place, space]);
        }
        let wait = async {
            let place = messages.clone().acquire_owned().await?;
            Ok([place, bytes.clone().acquire_many_owned(size).await?])
        };
        match tokio::time::timeout_at(deadline.into(), wait).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err::<_, tokio::sync::AcquireError>(_)) => Err(Error::closed("send")),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                "send",
                "too many messages were under way for this one to get its turn",
            )
            .with_retryable(true)),
        }
    }

    fn batcher(&self, topic: &str) -> Arc<Batcher<SendBatcher>> {
        let mut batchers = self.0.batchers.lock();
        if let Some(batcher) = batchers.get(topic) {
            return batcher.clone();
        }
        let sends = SendBatcher::new(topic, self.0.session.clone(), self.0.routes.clone());
        let batcher = Batcher::new(sends, self.0.session.stop().clone());
        batchers.insert(topic.to_owned(), batcher.clone());
        batcher
    }
}

impl Drop for Inner {
    /// What is under way holds on to the session, so that dropping that alone would not end it.
    fn drop(&mut self) {
        self.session.stop().cancel();
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("client_id", &self.0.session.rpc().identity().client_id())
            .finish_non_exhaustive()
    }
}
