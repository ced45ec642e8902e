//! Sending.

mod fifo_order;
mod orphan_checks;
mod recall;
mod room;
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
    room::Room,
    send_batcher::{PendingSend, SendBatcher},
    transaction::HalfSlot,
};
pub use self::{
    orphan_checks::{OrphanCheck, OrphanChecks},
    transaction::{Decision, Transaction},
};
use crate::{
    error::{Error, ErrorKind, Result},
    member::{Closable, Member},
    message::{CloseReport, Message, MessageType, Receipt},
    options::ProducerOptions,
    route::Routes,
    rpc::{Answer, Batcher, InFlightGuard, PendingItem, wait_all},
    session::Session,
    wire::{MessageIds, Outgoing, compress},
};

/// Bodies up to this size are compressed by the caller's thread, which takes less than a millisecond.
const COMPRESSED_IN_PLACE: usize = 64 * 1024;

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
    room: Room,
    fifo_order: Arc<FifoOrder>,
    compress_above: Option<usize>,
}

/// A message on its way into the queue.
enum Queueing<'a> {
    Done(Answer<Receipt>),
    /// There is no room for it yet, or it has to be compressed.
    Waiting(BoxFuture<'a, Result<Answer<Receipt>>>),
}

impl Producer {
    pub(crate) fn new(session: Session, routes: Arc<Routes>, options: &ProducerOptions) -> Self {
        Self(Arc::new(Inner {
            member: Member::new(session),
            routes,
            ids: MessageIds::new(),
            room: Room::new(options),
            fifo_order: Arc::default(),
            compress_above: options.compress_above,
        }))
    }

    /// What its client closes.
    pub(crate) fn as_member(&self) -> Weak<dyn Closable> {
        let inner: Weak<Inner> = Arc::downgrade(&self.0);
        inner
    }

    /// Sends one message and waits until the server has stored it.
    ///
    /// NORMAL messages that are sent at the same time may share a request, if the server supports it. FIFO messages
    /// of one group are sent one after the other, in the order of the calls, even if one of them has to be sent
    /// again; those of different groups are sent side by side. If a FIFO message fails for good, the next one of
    /// its group is sent. The other types travel alone. See [`Message`] for the types.
    ///
    /// Cancelling the future stops waiting, but does not cancel a send that is under way.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if fields of the message contradict each other, and `TypeMismatch` if its topic does not
    /// take its type. Otherwise the server's refusal, or the last failure if there was no answer within
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

    /// Accepts no more sends, waits at most `deadline` for those in flight, and tells the servers that the
    /// producer is gone.
    ///
    /// Transactions have to be decided before: afterwards, `commit` and `rollback` fail with `Closed`.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        let Inner { member, room, .. } = &*self.0;
        let report = member.close(deadline, ready(())).await;
        // Sends that still wait for room fail now.
        room.close();
        report
    }

    /// Queues a message once there is room for it. A half message has a place in its transaction.
    ///
    /// What can be done at once is done in the call, and the rest is boxed: the futures of sends, of which there are many,
    /// are small that way.
    fn submit(
        &self,
        mut message: Message,
        half: Option<HalfSlot>,
    ) -> impl Future<Output = Result<Answer<Receipt>>> + Send {
        let session = self.0.member.session();
        let copy = session.sending(&mut message).map(Box::new);
        let queueing = self.queue(message, half);
        async move {
            let answer = match queueing {
                Ok(Queueing::Done(answer)) => Ok(answer),
                Ok(Queueing::Waiting(queued)) => queued.await,
                Err(error) => Err(error),
            };
            if let Err(error) = &answer {
                session.refused(copy.as_deref(), error);
            }
            answer
        }
    }

    fn queue(&self, message: Message, half: Option<HalfSlot>) -> Result<Queueing<'_>> {
        let Inner { member, ids, room, compress_above, .. } = &*self.0;
        let timeout = member.session().options().operation_timeout;
        let deadline = crate::options::deadline(Instant::now(), timeout);
        let guard = member.begin("send")?;
        let now = SystemTime::now();
        let mut outgoing = Outgoing::new(message, half.is_some(), ids.next(now), now)?;
        let size = outgoing.message.body.len();
        let compresses = compress_above.is_some_and(|limit| size > limit);
        if !compresses {
            self.check_size(&outgoing)?;
            if let Some((share, door)) = room.try_enter(size) {
                let send = PendingSend { outgoing, half, _share: share };
                return Ok(Queueing::Done(self.enter(send, door, (deadline, guard))));
            }
        }
        let waiting = async move {
            let (share, door) = room.enter(size, deadline).await?;
            if compresses {
                outgoing = compressed(outgoing).await?;
                self.check_size(&outgoing)?;
            }
            let send = PendingSend { outgoing, half, _share: share };
            Ok(self.enter(send, door, (deadline, guard)))
        };
        Ok(Queueing::Waiting(waiting.boxed()))
    }

    /// Hands a message for which there is room to the batcher of its topic. `door` keeps the order of the calls.
    fn enter(
        &self,
        send: PendingSend,
        door: MutexGuard<'_, ()>,
        (deadline, guard): (Instant, InFlightGuard),
    ) -> Answer<Receipt> {
        let Message { topic, message_group, .. } = &send.outgoing.message;
        let batcher = self.batcher(topic);
        let turn = message_group.as_ref().map(|group| self.0.fifo_order.join(topic.clone(), group.clone()));
        drop(door);
        if send.outgoing.message_type == MessageType::Normal {
            return batcher.submit(send, deadline, guard);
        }
        let (pending, answer) = PendingItem::new(send, deadline, guard);
        match turn {
            Some(turn) => batcher.submit_alone(pending, turn),
            None => batcher.submit_alone(pending, ready(())),
        }
        answer
    }

    fn check_size(&self, outgoing: &Outgoing) -> Result<()> {
        let size = outgoing.message.body.len();
        match self.0.member.session().settings().max_body_size {
            Some(max) if size > max => Err(Error::new(
                ErrorKind::TooLarge,
                "send",
                format!("the body has {size} bytes; the server takes at most {max}"),
            )),
            _ => Ok(()),
        }
    }

    fn batcher(&self, topic: &str) -> Arc<Batcher<SendBatcher>> {
        let Inner { member, routes, .. } = &*self.0;
        member.batcher(topic, || SendBatcher::new(topic, member.session().clone(), routes.clone()))
    }
}

/// The message with its body compressed, if that makes it smaller.
async fn compressed(mut outgoing: Outgoing) -> Result<Outgoing> {
    let body = outgoing.message.body.clone();
    let packed = if body.len() <= COMPRESSED_IN_PLACE {
        compress(&body)
    } else {
        let work = tokio::task::spawn_blocking(move || compress(&body));
        work.await.map_err(|_| Error::closed("send"))?
    };
    if let Some(packed) = packed {
        outgoing.message.body = packed;
        outgoing.compressed = true;
    }
    Ok(outgoing)
}

impl Closable for Inner {
    fn close(self: Arc<Self>, deadline: Duration) -> BoxFuture<'static, CloseReport> {
        async move { Producer(self).close(deadline).await }.boxed()
    }

    fn is_closed(&self) -> bool {
        self.member.is_closed()
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("client_id", &self.0.member.session().rpc().identity().client_id())
            .finish_non_exhaustive()
    }
}
