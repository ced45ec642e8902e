//! The simple consumer: receives messages, and settles their deliveries.

mod budget;
mod feed;
mod lite;
mod messages;
mod poll;
mod prefetched;

use std::{
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::future::{BoxFuture, FutureExt};

pub use self::messages::Messages;
use self::{feed::Feed, poll::Polls, prefetched::Prefetched};
use crate::{
    client_base::{ClientBase, Closable, close_in_task},
    consumer::{
        AckBatcher, Destination, ForwardToDeadLetter, InvisibleDurationChange, Leases, Subscriptions,
        batcher_for, submit_ack,
    },
    error::{Error, ErrorKind, Result},
    lite::{LiteTopics, refuse_lite},
    message::{CloseReport, Delivery, Group},
    options::{self, ReceiveOptions, SimpleConsumerOptions, StreamOptions, Subscription},
    route::Routes,
    rpc::{PendingResult, wait_all},
    session::Session,
};

/// Receives messages, one call at a time. Cheap to clone; clones are the same consumer.
///
/// All topics and brokers are polled concurrently. A poll continues for up to 20 s after its
/// [`receive`](Self::receive) has returned or was cancelled; its deliveries are kept for the next receive or
/// [stream](Self::messages). The client renews the leases of these waiting deliveries. If the application calls no
/// receive for a minute, the waiting deliveries are given back, so that another consumer of the group can get them.
/// Servers since 5.5.0 do not count this as an attempt, except in FIFO groups.
///
/// Dropping the last clone without [`close`](Self::close) ends polling, and gives back waiting deliveries in the
/// background. Deliveries that the application has received and not acknowledged are delivered again after their
/// invisible time.
#[derive(Clone)]
pub struct SimpleConsumer(Arc<Inner>);

struct Inner {
    base: ClientBase<Destination, AckBatcher>,
    group: Arc<Group>,
    leases: Arc<Leases>,
    subscriptions: Arc<Subscriptions>,
    /// The lite topics, if this is a lite consumer.
    lite: Option<Arc<LiteTopics>>,
    polls: Arc<Polls>,
    /// Deliveries that wait for a receive or a stream.
    prefetched: Arc<Prefetched>,
}

impl SimpleConsumer {
    pub(crate) fn new(session: Session, routes: Arc<Routes>, options: SimpleConsumerOptions) -> Self {
        let namespace = session.options().namespace.clone();
        let group = Arc::new(Group { namespace, name: options.group.clone() });
        let base = ClientBase::new(session);
        let session = base.session();
        let leases = Leases::new(session.clone());
        let lite = options
            .bind_topic
            .clone()
            .map(|topic| LiteTopics::start(session.clone(), routes.clone(), options.group.clone(), topic));
        let sources = (options.sources(), options.decode);
        let subscriptions = Subscriptions::new(session.clone(), routes, group.clone(), sources);
        let prefetched = Prefetched::new(session.clone(), leases.clone());
        let polls = Polls::new(subscriptions.clone(), prefetched.clone());
        Self(Arc::new(Inner { base, group, leases, subscriptions, lite, polls, prefetched }))
    }

    /// The handle through which the client closes this consumer.
    pub(crate) fn as_member(&self) -> Weak<dyn Closable> {
        let inner: Weak<Inner> = Arc::downgrade(&self.0);
        inner
    }

    /// Subscribes to a topic, or changes the filter of a subscription. Receives that are waiting include the topic.
    ///
    /// The servers are notified at once. All consumers of a group must have the same subscriptions. Waiting
    /// deliveries that matched the previous filter are given back. Cancelling the future does not cancel the change.
    ///
    /// # Errors
    ///
    /// `TopicNotFound` if the topic does not exist; `InvalidArgument` for an empty topic or filter, and for a lite
    /// consumer; otherwise the refusal of a server. On an error the subscriptions do not change.
    pub async fn subscribe(&self, subscription: impl Into<Subscription>) -> Result<()> {
        refuse_lite(self.lite(), "subscribe")?;
        let (inner, subscription) = (self.0.clone(), subscription.into());
        self.run("subscribe", async move {
            let topic = subscription.topic.clone();
            let replaced = inner.subscriptions.subscribe(subscription).await?;
            inner.apply_subscription_change(replaced.then_some(&*topic)).await;
            Ok(())
        })
        .await
    }

    /// Ends the subscription of a topic, if there is one. Waits until its waiting deliveries are given back.
    ///
    /// The servers are notified at once, and polls of the topic end. Deliveries that the application has received can
    /// still be settled. Cancelling the future does not cancel the change.
    ///
    /// # Errors
    ///
    /// The refusal of a server. On an error the subscriptions do not change.
    pub async fn unsubscribe(&self, topic: &str) -> Result<()> {
        refuse_lite(self.lite(), "unsubscribe")?;
        let (inner, topic) = (self.0.clone(), topic.to_owned());
        self.run("unsubscribe", async move {
            let removed = inner.subscriptions.unsubscribe(&topic).await?;
            inner.apply_subscription_change(removed.then_some(&*topic)).await;
            Ok(())
        })
        .await
    }

    /// The current subscriptions. A lite consumer has one, for the topic that its group is bound to.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<Subscription> {
        self.0.subscriptions.list()
    }

    /// Waits for messages of any subscribed topic. Returns an empty list if nothing arrives in time. With a wait of
    /// zero it returns the deliveries that have already arrived, and starts a poll whose messages, or error, go to a
    /// later receive.
    ///
    /// Cancelling the future loses no message: its deliveries go to the next receive or to a
    /// [stream](Self::messages).
    ///
    /// # Errors
    ///
    /// The refusal of a server, at once. A temporary failure only if it lasts as long as the wait: the cause of the
    /// last attempt that failed. `InvalidArgument` if there is no subscription.
    pub async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Delivery>> {
        options::check("receive", options.flaw())?;
        self.0.polls.receive(&options).await.map_err(|error| error.during("receive"))
    }

    /// Starts to fetch messages of all subscribed topics ahead of the application, and returns them as a stream.
    ///
    /// The stream fetches while the limits in `options` allow more messages and bytes. Later subscriptions are
    /// included. The leases of waiting deliveries are renewed until the application has taken none for five minutes.
    /// Then they are given back, and the stream fetches again when the application asks for the next delivery.
    /// [`keep_lease`](Self::keep_lease) renews the lease of a delivery that the application has received.
    ///
    /// The stream yields an error when a server refuses, for instance because a topic was deleted. It continues after
    /// an error, and yields the same refusal again only if the server has answered in between. While servers
    /// can't be reached, the stream waits and retries. It ends only when the consumer, its client or
    /// [the stream](Messages::close) is closed.
    ///
    /// Receives and other streams of this consumer share the fetched deliveries: each is handed out once, to the
    /// first that asks. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// `Closed`; `InvalidOptions` if a limit is zero.
    pub fn messages(&self, options: StreamOptions) -> Result<Messages> {
        options::check("messages", options.flaw())?;
        let Inner { base, subscriptions, prefetched, .. } = &*self.0;
        base.begin("messages")?;
        let feed = Feed::start(subscriptions.clone(), prefetched.clone(), options);
        Ok(Messages::new(self.clone(), feed))
    }

    /// Puts back deliveries that the application has not seen. This is for libraries on top of this crate, such as a
    /// language binding whose receive was cancelled after its deliveries had arrived.
    ///
    /// The deliveries go to a waiting [`receive`](Self::receive) or stream, or to the next one. If the consumer is
    /// closed, they are given back to the server at once. Deliveries of another group are ignored. May be called from
    /// any thread.
    pub fn put_back(&self, mut deliveries: Vec<Delivery>) {
        deliveries.retain(|delivery| self.is_own(delivery));
        self.0.prefetched.put_back(deliveries, None);
    }

    /// Acknowledges a delivery: its message is not delivered to the group again.
    ///
    /// Acks that run at the same time may share a request. Cancelling the future stops waiting, but does not
    /// cancel the ack.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` if the lease has ended: the message is delivered again, or was already. `InvalidArgument` if
    /// a consumer of another group received the delivery.
    pub async fn ack(&self, delivery: &Delivery) -> Result<()> {
        self.submit_ack(delivery)?.wait().await
    }

    /// Acknowledges many deliveries. The results are in the order of the deliveries.
    pub async fn ack_all(&self, deliveries: &[Delivery]) -> Vec<Result<()>> {
        let answers: Vec<_> = deliveries.iter().map(|delivery| self.submit_ack(delivery)).collect();
        wait_all(answers).await
    }

    /// Hides a delivery from other consumers for `invisible` from now; zero gives it back at once.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` if the lease has ended or the delivery is settled; `InvalidArgument` above 12 h, or if a
    /// consumer of another group received the delivery.
    pub async fn change_invisible(&self, delivery: &Delivery, invisible: Duration) -> Result<()> {
        self.check_unsettled(delivery, "change_invisible")?;
        if invisible.is_zero() {
            self.0.leases.release(&delivery.lease);
        }
        let change = InvisibleDurationChange::new(self.0.base.session().clone(), delivery, invisible);
        let (leases, lease) = (self.0.leases.clone(), delivery.lease.clone());
        let change = async move {
            change.run().await?;
            leases.reschedule(&lease);
            Ok(())
        };
        self.run("change_invisible", change).await
    }

    /// Returns a delivery that could not be processed. Its message is delivered again after `after`, as a further
    /// attempt; zero means at once. The client stops renewing the lease.
    ///
    /// After the last attempt that the group allows, the server makes the message a dead letter. Cancelling the
    /// future does not cancel the call.
    ///
    /// # Errors
    ///
    /// As for [`change_invisible`](Self::change_invisible).
    pub async fn nack(&self, delivery: &Delivery, after: Duration) -> Result<()> {
        self.check_unsettled(delivery, "nack")?;
        let change =
            InvisibleDurationChange::nack(self.0.base.session().clone(), delivery.lease.clone(), after);
        self.settle("nack", delivery, change.run()).await
    }

    /// Moves the message of a delivery to the dead-letter topic of the group, whose name is `%DLQ%` followed by the
    /// name of the group. The message is not delivered again.
    ///
    /// If the response is lost, the request is repeated, and the message may become a dead letter twice. Cancelling
    /// the future does not cancel the call.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` if the server does not accept the receipt handle, or the delivery is settled; `InvalidArgument`
    /// if a consumer of another group received the delivery.
    pub async fn dead_letter(&self, delivery: &Delivery) -> Result<()> {
        self.check_unsettled(delivery, "dead_letter")?;
        let forward =
            ForwardToDeadLetter::new(self.0.base.session().clone(), delivery.lease.clone(), delivery.attempt);
        self.settle("dead_letter", delivery, forward.run()).await
    }

    /// Keeps the lease of a delivery alive while the application works on it: the client renews the lease for its
    /// original length whenever half of it has passed.
    ///
    /// Renewal ends when the delivery is settled (acknowledged, returned, or made a dead letter), when its last clone
    /// is dropped, `max` from now, or when the consumer is closed or dropped. Another call replaces `max`. One
    /// task renews all leases of a consumer. A failed renewal is retried while the lease lasts.
    ///
    /// The lease can still be lost, if the servers can't be reached for long or have ended it. Then
    /// [`Delivery::is_lease_lost`] is true, settling fails with kind `InvalidReceipt`, the message is delivered
    /// again, and a warning is logged.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` if the lease has ended; `Closed`; `InvalidArgument` if a consumer of another group received
    /// the delivery.
    pub fn keep_lease(&self, delivery: &Delivery, max: Duration) -> Result<()> {
        const OPERATION: &str = "keep_lease";
        self.0.base.begin(OPERATION)?;
        self.check_group(delivery, OPERATION)?;
        if delivery.is_lease_lost() || delivery.lease.is_settled() {
            let message = "the lease of the delivery has ended";
            return Err(Error::new(ErrorKind::InvalidReceipt, OPERATION, message));
        }
        self.0.leases.keep(&delivery.lease, options::deadline(Instant::now(), max));
        Ok(())
    }

    /// Refuses further calls, gives back deliveries that no receive or stream has returned, waits at most `deadline`
    /// for acks in flight, and tells the servers that the consumer has closed.
    ///
    /// A close continues if the caller stops waiting. Another call waits for it.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        close_in_task(self.0.clone().close(deadline)).await
    }

    fn submit_ack(&self, delivery: &Delivery) -> Result<PendingResult<()>> {
        let Inner { base, leases, .. } = &*self.0;
        let guard = base.begin("ack")?;
        self.check_group(delivery, "ack")?;
        let batcher = batcher_for(base, leases, &delivery.lease);
        Ok(submit_ack(&batcher, &delivery.lease, guard, base.session().options()))
    }

    /// Runs `work`, which settles a delivery, and stops renewing the lease once it is settled.
    async fn settle(
        &self,
        operation: &'static str,
        delivery: &Delivery,
        work: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Result<()> {
        let (leases, lease) = (self.0.leases.clone(), delivery.lease.clone());
        self.run(operation, async move {
            let result = work.await;
            leases.record_result(&lease, &result);
            result
        })
        .await
    }

    /// Runs `work` in its own task, so that it completes even if the caller stops waiting.
    async fn run(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Result<()> {
        self.0.base.run(operation, work).await
    }

    fn is_own(&self, delivery: &Delivery) -> bool {
        *delivery.lease.message().group == *self.0.group
    }

    /// Checked by the client, because servers answer OK to a request for a settled delivery, and ignore it.
    fn check_unsettled(&self, delivery: &Delivery, operation: &'static str) -> Result<()> {
        self.check_group(delivery, operation)?;
        if delivery.lease.is_settled() {
            return Err(Error::new(ErrorKind::InvalidReceipt, operation, "the delivery is settled already"));
        }
        Ok(())
    }

    /// Checked by the client, because a server may answer OK to a group that doesn't hold the lease, and deliver the
    /// message again.
    fn check_group(&self, delivery: &Delivery, operation: &'static str) -> Result<()> {
        let (holder, group) = (&*delivery.lease.message().group, &*self.0.group);
        if holder == group {
            return Ok(());
        }
        let message =
            format!("the delivery was received by group {holder}; this consumer is in group {group}");
        Err(Error::new(ErrorKind::InvalidArgument, operation, message))
    }
}

impl Inner {
    /// Wakes receives so that they poll the changed subscriptions, and gives back waiting deliveries of `topic`.
    async fn apply_subscription_change(&self, topic: Option<&str>) {
        self.prefetched.notify();
        if let Some(topic) = topic {
            self.prefetched.give_back_topic(topic).await;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Cancelled first: a task of the session would be dropped later, with what a concurrent poll gives to it.
        self.base.session().stop().cancel();
        self.prefetched.abandon();
    }
}

impl Closable for Inner {
    fn close(self: Arc<Self>, deadline: Duration) -> BoxFuture<'static, CloseReport> {
        async move {
            let Self { base, leases, subscriptions, prefetched, .. } = &*self;
            let before = leases.given_back();
            subscriptions.close();
            let report = base.close(deadline, prefetched.close()).await;
            CloseReport { given_back: leases.given_back() - before, ..report }
        }
        .boxed()
    }

    fn is_closed(&self) -> bool {
        self.base.is_closed()
    }
}

impl fmt::Debug for SimpleConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimpleConsumer")
            .field("group", &self.0.group.name)
            .field("client_id", &self.0.base.session().rpc().identity().client_id())
            .finish_non_exhaustive()
    }
}
