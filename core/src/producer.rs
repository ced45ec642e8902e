//! The producer: checks messages, limits how many are in flight, and queues them for sending.

mod fifo_order;
mod half_messages;
mod in_flight_limits;
mod orphan_checks;
mod recall;
mod send_batcher;
mod transaction;

use std::{
    fmt,
    future::ready,
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime},
};

use futures::future::{BoxFuture, FutureExt};
use tokio::sync::MutexGuard;

use self::{
    fifo_order::FifoOrder,
    half_messages::HalfSlot,
    in_flight_limits::{Admission, InFlightLimits},
    send_batcher::{PendingSend, SendBatcher},
};
pub use self::{
    orphan_checks::{OrphanCheck, OrphanChecks},
    transaction::{Decision, Transaction},
};
use crate::{
    client_base::{ClientBase, Closable, close_in_task},
    error::{Error, ErrorKind, Result},
    message::{CloseReport, Message, MessageType, Receipt},
    options::ProducerOptions,
    route::Routes,
    rpc::{Batcher, PendingItem, PendingResult, wait_all},
    session::Session,
    wire::{MessageIds, OutgoingMessage, compress},
};

/// Bodies up to this size, in bytes, are compressed on the caller's thread, which takes less than a millisecond. Larger
/// ones are compressed on a blocking thread.
const MAX_INLINE_COMPRESSION: usize = 64 * 1024;

/// Sends messages. Cheap to clone; clones are the same producer.
///
/// Dropping the last clone without [`close`](Self::close) abandons the sends in flight.
#[derive(Clone)]
pub struct Producer(Arc<Inner>);

struct Inner {
    /// Has a batcher for each topic.
    base: ClientBase<String, SendBatcher>,
    routes: Arc<Routes>,
    ids: MessageIds,
    limits: InFlightLimits,
    fifo_order: Arc<FifoOrder>,
    compress_above: Option<usize>,
}

/// A message that is submitted for sending.
enum Submission<'a> {
    /// The message is queued.
    Done(PendingResult<Receipt>),
    /// The future queues the message, once it is compressed and the limits allow it.
    Waiting(BoxFuture<'a, Result<PendingResult<Receipt>>>),
}

impl Producer {
    pub(crate) fn new(session: Session, routes: Arc<Routes>, options: &ProducerOptions) -> Self {
        Self(Arc::new(Inner {
            base: ClientBase::new(session),
            routes,
            ids: MessageIds::new(),
            limits: InFlightLimits::new(options),
            fifo_order: Arc::default(),
            compress_above: options.compress_above,
        }))
    }

    /// The handle through which the client closes this producer.
    pub(crate) fn as_member(&self) -> Weak<dyn Closable> {
        let inner: Weak<Inner> = Arc::downgrade(&self.0);
        inner
    }

    /// Sends one message and waits until the server has stored it.
    ///
    /// NORMAL messages that are sent at the same time may share a request, if the server supports it. FIFO messages
    /// of one message group are sent one after the other, in the order of the calls, even if one of them is retried;
    /// messages of different groups are sent concurrently. If a FIFO message fails after all retries, the next one of
    /// its group is sent. Messages of other types each have their own request. See [`Message`] for the types.
    ///
    /// Cancelling the future stops waiting, but does not cancel a send in flight.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if fields of the message contradict each other, and `TypeMismatch` if its topic does not
    /// accept its type. Otherwise the server's refusal, or the last failure if no attempt succeeded within
    /// [`operation_timeout`](crate::ClientOptions::operation_timeout); see [`Error::maybe_delivered`].
    pub async fn send(&self, message: Message) -> Result<Receipt> {
        self.submit(message, None).await?.wait().await
    }

    /// Sends many messages, of any types. The results are in the order of the messages.
    pub async fn send_all(&self, messages: Vec<Message>) -> Vec<Result<Receipt>> {
        let mut answers = Vec::with_capacity(messages.len());
        for message in messages {
            answers.push(self.submit(message, None).await);
        }
        wait_all(answers).await
    }

    /// Refuses further sends, waits at most `deadline` for sends in flight, and tells the servers that the producer has
    /// closed.
    ///
    /// Decide transactions before: after a close, `commit` and `rollback` fail with `Closed`.
    ///
    /// A close continues if the caller stops waiting. Another call waits for it.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        close_in_task(self.0.clone().close(deadline)).await
    }

    /// Queues a message once the limits of messages in flight allow it. `half` is its slot in a transaction, if it is a
    /// half message.
    ///
    /// Queues the message in the call itself if possible. Only the waiting part is a boxed future, so that the futures
    /// of sends are small.
    fn submit(
        &self,
        mut message: Message,
        half: Option<HalfSlot>,
    ) -> impl Future<Output = Result<PendingResult<Receipt>>> + Send {
        let session = self.0.base.session();
        let copy = session.intercept_send(&mut message).map(Box::new);
        let submission = self.queue(message, half);
        async move {
            let answer = match submission {
                Ok(Submission::Done(answer)) => Ok(answer),
                Ok(Submission::Waiting(queued)) => queued.await,
                Err(error) => Err(error),
            };
            if let Err(error) = &answer {
                session.record_refused_send(copy.as_deref(), error);
            }
            answer
        }
    }

    fn queue(&self, message: Message, half: Option<HalfSlot>) -> Result<Submission<'_>> {
        let Inner { base, ids, limits, compress_above, .. } = &*self.0;
        let timeout = base.session().options().operation_timeout;
        let deadline = crate::options::deadline(Instant::now(), timeout);
        let guard = base.begin("send")?;
        let now = SystemTime::now();
        let mut outgoing = OutgoingMessage::new(message, half.is_some(), ids.next(now), now)?;
        let size = outgoing.message.body.len();
        let compresses = compress_above.is_some_and(|limit| size > limit);
        if !compresses {
            self.check_size(&outgoing)?;
            if let Some(Admission { permits, order }) = limits.try_acquire(size) {
                let send = PendingSend { outgoing, half, _permits: permits };
                let (pending, answer) = PendingItem::new(send, deadline, guard);
                self.hand_to_batcher(pending, order);
                return Ok(Submission::Done(answer));
            }
        }
        let waiting = async move {
            let Admission { permits, order } = limits.acquire(size, deadline).await?;
            if compresses {
                outgoing = compress_body(outgoing).await?;
                self.check_size(&outgoing)?;
            }
            let send = PendingSend { outgoing, half, _permits: permits };
            let (pending, answer) = PendingItem::new(send, deadline, guard);
            self.hand_to_batcher(pending, order);
            Ok(answer)
        };
        Ok(Submission::Waiting(waiting.boxed()))
    }

    /// Hands a message to the batcher of its topic. `order` is held until the position of a FIFO message is reserved, so
    /// that messages keep the order of the calls.
    fn hand_to_batcher(&self, pending: PendingItem<SendBatcher>, order: MutexGuard<'_, ()>) {
        let OutgoingMessage { message, message_type, .. } = &pending.item.outgoing;
        let batcher = self.batcher(&message.topic);
        let group = message.message_group.as_ref();
        let turn = group.map(|group| self.0.fifo_order.enqueue(message.topic.clone(), group.clone()));
        drop(order);
        if *message_type == MessageType::Normal {
            return batcher.queue(pending);
        }
        match turn {
            Some(turn) => batcher.submit_alone(pending, turn),
            None => batcher.submit_alone(pending, ready(())),
        }
    }

    fn check_size(&self, outgoing: &OutgoingMessage) -> Result<()> {
        let size = outgoing.message.body.len();
        match self.0.base.session().settings().max_body_size {
            Some(max) if size > max => Err(Error::new(
                ErrorKind::TooLarge,
                "send",
                format!("the body has {size} bytes; the server takes at most {max}"),
            )),
            _ => Ok(()),
        }
    }

    fn batcher(&self, topic: &str) -> Arc<Batcher<SendBatcher>> {
        let Inner { base, routes, .. } = &*self.0;
        base.batcher(topic, || SendBatcher::new(topic, base.session().clone(), routes.clone()))
    }
}

/// Compresses the body, if that makes it smaller.
async fn compress_body(mut outgoing: OutgoingMessage) -> Result<OutgoingMessage> {
    let body = outgoing.message.body.clone();
    let packed = if body.len() <= MAX_INLINE_COMPRESSION {
        compress(&body)
    } else {
        let work = tokio::task::spawn_blocking(move || compress(&body));
        work.await.map_err(|ended| Error::of_ended_task("send", ended))?
    };
    if let Some(packed) = packed {
        outgoing.message.body = packed;
        outgoing.compressed = true;
    }
    Ok(outgoing)
}

impl Closable for Inner {
    fn close(self: Arc<Self>, deadline: Duration) -> BoxFuture<'static, CloseReport> {
        async move {
            let report = self.base.close(deadline, ready(())).await;
            // Sends that still wait for the limits fail now.
            self.limits.close();
            report
        }
        .boxed()
    }

    fn is_closed(&self) -> bool {
        self.base.is_closed()
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("client_id", &self.0.base.session().rpc().identity().client_id())
            .finish_non_exhaustive()
    }
}
