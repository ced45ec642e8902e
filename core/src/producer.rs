//! Sending.

mod send_batcher;

use std::{
    fmt,
    future::ready,
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime},
};

use futures::future::{BoxFuture, FutureExt, join_all};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::send_batcher::{PendingSend, SendBatcher};
use crate::{
    error::{Error, ErrorKind, Result},
    member::{Closable, Member},
    message::{CloseReport, Message, Receipt},
    options::ProducerOptions,
    route::Routes,
    rpc::{Answer, Batcher},
    session::Session,
    wire::{MessageIds, Outgoing},
};

/// Sends messages. Cheap to clone; clones are the same producer.
///
/// Dropping the last clone without [`close`](Self::close) abandons the sends in flight.
#[derive(Clone)]
pub struct Producer(Arc<Inner>);

struct Inner {
    /// With a batcher for each topic.
    member: Member<String, SendBatcher>,
    routes: Arc<Routes>,
    ids: MessageIds,
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_bytes: u32,
}

impl Producer {
    pub(crate) fn new(session: Session, routes: Arc<Routes>, options: &ProducerOptions) -> Self {
        let max_bytes = u32::try_from(options.max_in_flight_bytes).unwrap_or(u32::MAX).max(1);
        let max_messages = options.max_in_flight_messages.clamp(1, Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner {
            member: Member::new(session),
            routes,
            ids: MessageIds::new(),
            messages: Arc::new(Semaphore::new(max_messages)),
            bytes: Arc::new(Semaphore::new(max_bytes as usize)),
            max_bytes,
        }))
    }

    /// What its client closes.
    pub(crate) fn as_member(&self) -> Weak<dyn Closable> {
        let inner: Weak<Inner> = Arc::downgrade(&self.0);
        inner
    }

    /// Sends one message and waits until the server has stored it.
    ///
    /// Sends that run at the same time may share a request, if the server supports it. Cancelling the future stops
    /// waiting, but does not cancel the send.
    ///
    /// # Errors
    ///
    /// The server's refusal, or the last failure if there was no answer within
    /// [`operation_timeout`](crate::ClientOptions::operation_timeout); see [`Error::maybe_delivered`].
    pub async fn send(&self, message: Message) -> Result<Receipt> {
        self.submit(message).await?.wait().await
    }

    /// Sends many messages. The results are in the order of the messages.
    pub async fn send_all(&self, messages: Vec<Message>) -> Vec<Result<Receipt>> {
        let mut answers = Vec::with_capacity(messages.len());
        for message in messages {
            answers.push(self.submit(message).await);
        }
        join_all(answers.into_iter().map(|answer| async { answer?.wait().await })).await
    }

    /// Accepts no more sends, waits at most `deadline` for those in flight, and tells the servers that the
    /// producer is gone.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        let Inner { member, messages, bytes, .. } = &*self.0;
        let report = member.close(deadline, ready(())).await;
        // Sends that still wait for room fail now.
        messages.close();
        bytes.close();
        report
    }

    /// Queues a message once there is room for it.
    async fn submit(&self, message: Message) -> Result<Answer<Receipt>> {
        let Inner { member, ids, .. } = &*self.0;
        let timeout = member.session().options().operation_timeout;
        let deadline = crate::options::deadline(Instant::now(), timeout);
        let guard = member.begin("send")?;
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
        match self.0.member.session().settings().max_body_size {
            Some(max) if size > max => Err(Error::new(
                ErrorKind::TooLarge,
                "send",
                format!("the body has {size} bytes; the server takes at most {max}"),
            )),
            _ => Ok(()),
        }
    }

    /// Waits until the limits of messages and bytes in flight allow for `message`.
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
                "deadline expired while the limit of messages or bytes in flight was reached",
            )
            .with_retryable(true)),
        }
    }

    fn batcher(&self, topic: &str) -> Arc<Batcher<SendBatcher>> {
        let Inner { member, routes, .. } = &*self.0;
        member.batcher(topic, || SendBatcher::new(topic, member.session().clone(), routes.clone()))
    }
}

impl Closable for Inner {
    fn close(self: Arc<Self>, deadline: Duration) -> BoxFuture<'static, CloseReport> {
        async move { Producer(self).close(deadline).await }.boxed()
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("client_id", &self.0.member.session().rpc().identity().client_id())
            .finish_non_exhaustive()
    }
}
