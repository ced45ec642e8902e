//! Receiving and settling.

mod poll;
mod prefetched;
mod settle;

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt, join_all};

use self::{
    poll::Polls,
    settle::{Acks, Change},
};
use crate::{
    error::{Error, ErrorKind, Result},
    member::{Closable, Member},
    message::{CloseReport, Delivery, Group},
    options::{Endpoints, ReceiveOptions, SimpleConsumerOptions},
    route::Routes,
    rpc::Answer,
    session::Session,
};

/// Receives messages, one call at a time. Cheap to clone; clones are the same consumer.
///
/// Polls of several topics and brokers run side by side. A poll goes on when its [`receive`](Self::receive) has
/// returned or was cancelled; what it brings is kept for the next receive. The lease of a delivery that waits is
/// renewed, for up to five minutes. After that the delivery is given back, so that another consumer of the group
/// can have it; servers since 5.5.0 do not count this as an attempt, except in FIFO groups.
///
/// Dropping the last clone without [`close`](Self::close) ends polling. What was received and not acknowledged
/// comes again after its invisible time.
#[derive(Clone)]
pub struct SimpleConsumer(Arc<Inner>);

/// Where acks go that may share a request: a topic, and the server that gave its messages out.
type Destination = (String, Endpoints);

struct Inner {
    member: Member<Destination, Acks>,
    group: Arc<Group>,
    polls: Arc<Polls>,
}

impl SimpleConsumer {
    pub(crate) fn new(session: Session, routes: Arc<Routes>, options: SimpleConsumerOptions) -> Self {
        let namespace = session.options().namespace.clone();
        let group = Arc::new(Group { namespace, name: options.group.clone() });
        let member = Member::new(session);
        let polls = Polls::new(member.session().clone(), routes, &group, options);
        Self(Arc::new(Inner { member, group, polls }))
    }

    /// What its client closes.
    pub(crate) fn as_member(&self) -> Weak<dyn Closable> {
        let inner: Weak<Inner> = Arc::downgrade(&self.0);
        inner
    }

    /// Waits for messages of any subscribed topic. Returns an empty list if nothing arrives in time.
    ///
    /// Cancelling the future loses no message: what has arrived goes to the next receive.
    ///
    /// # Errors
    ///
    /// A refusal by the server at once; a failure that may pass only if it lasts as long as the wait.
    pub async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Delivery>> {
        if options.max_messages == 0 {
            return Err(Error::new(ErrorKind::InvalidOptions, "receive", "max_messages is 0"));
        }
        self.0.polls.receive(&options).await.map_err(|error| error.during("receive"))
    }

    /// Takes back deliveries that the application has not seen, for those who build on this crate, such as a
    /// language's binding whose receive was cancelled after its deliveries had arrived.
    ///
    /// They go to a [`receive`](Self::receive) that waits now, or to the next one. On a closed consumer they are
    /// given back to the server at once. Deliveries of another group are ignored. May be called from any thread.
    pub fn put_back(&self, mut deliveries: Vec<Delivery>) {
        deliveries.retain(|delivery| *delivery.lease.group() == *self.0.group);
        self.0.polls.put_back(deliveries);
    }

    /// Acknowledges a delivery: its message does not come again.
    ///
    /// Acks that run at the same time may share a request. Cancelling the future stops waiting, but does not
    /// cancel the ack.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` if the lease is over: the message comes, or came, again. `InvalidArgument` if a consumer
    /// of another group received the delivery.
    pub async fn ack(&self, delivery: &Delivery) -> Result<()> {
        self.submit_ack(delivery)?.wait().await
    }

    /// Acknowledges many deliveries. The results are in the order of the deliveries.
    pub async fn ack_all(&self, deliveries: &[Delivery]) -> Vec<Result<()>> {
        let answers: Vec<_> = deliveries.iter().map(|delivery| self.submit_ack(delivery)).collect();
        join_all(answers.into_iter().map(|answer| async { answer?.wait().await })).await
    }

    /// Hides a delivery from others for `invisible` from now; zero gives it back at once.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` if the lease is over; `InvalidArgument` above 12 h, or if a consumer of another group
    /// received the delivery.
    pub async fn change_invisible(&self, delivery: &Delivery, invisible: Duration) -> Result<()> {
        let guard = self.0.member.begin("change_invisible")?;
        self.check_group(delivery, "change_invisible")?;
        let session = self.0.member.session();
        let change = Change::new(session.clone(), &self.0.group.name, delivery, invisible);
        // A task of its own, so that the new handle is stored even if the caller stops waiting.
        let stop = session.stop().clone();
        let work = tokio::spawn(async move {
            let result = stop.run_until_cancelled(change.run()).await;
            if matches!(result, Some(Ok(()))) {
                guard.succeeded();
            }
            drop(guard);
            result
        });
        match work.await {
            Ok(Some(result)) => result,
            Ok(None) | Err(_) => Err(Error::closed("change_invisible").maybe()),
        }
    }

    /// Accepts no more calls, gives back what no receive has returned, waits at most `deadline` for acks in
    /// flight, and tells the servers that the consumer is gone.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        self.0.member.close(deadline, self.0.polls.close()).await
    }

    fn submit_ack(&self, delivery: &Delivery) -> Result<Answer<()>> {
        let Inner { member, group, .. } = &*self.0;
        let guard = member.begin("ack")?;
        self.check_group(delivery, "ack")?;
        let destination = (delivery.topic.clone(), delivery.lease.endpoints().clone());
        let batcher = member.batcher(&destination, || {
            let (topic, endpoints) = &destination;
            Acks::new(member.session().clone(), &group.name, topic, endpoints.clone())
        });
        Ok(settle::submit_ack(&batcher, delivery, guard, member.session().options()))
    }

    /// A server may answer OK to a group that doesn't hold the lease, and deliver the message again.
    fn check_group(&self, delivery: &Delivery, operation: &'static str) -> Result<()> {
        let (holder, group) = (delivery.lease.group(), &*self.0.group);
        if holder == group {
            return Ok(());
        }
        let message =
            format!("the delivery was received by group {holder}; this consumer is in group {group}");
        Err(Error::new(ErrorKind::InvalidArgument, operation, message))
    }
}

impl Closable for Inner {
    fn close(self: Arc<Self>, deadline: Duration) -> BoxFuture<'static, CloseReport> {
        async move { SimpleConsumer(self).close(deadline).await }.boxed()
    }
}

impl fmt::Debug for SimpleConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimpleConsumer")
            .field("group", &self.0.group.name)
            .field("client_id", &self.0.member.session().rpc().identity().client_id())
            .finish_non_exhaustive()
    }
}
