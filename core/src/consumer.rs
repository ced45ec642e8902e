//! Receiving and settling.

mod budget;
mod dead_letter;
mod feed;
mod leases;
mod lite;
mod messages;
mod poll;
mod prefetched;
mod settle;
mod subscriptions;

use std::{
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::future::{BoxFuture, FutureExt};

pub use self::messages::Messages;
pub(crate) use self::{
    dead_letter::DeadLetter,
    leases::Leases,
    poll::{LONGEST_POLL, Poller, SHORTEST_POLL},
    settle::{Acks, Change, Destination, ack_with_callback, batcher_for, submit_ack},
};
use self::{feed::Feed, poll::Polls, prefetched::Prefetched, subscriptions::Subscriptions};
use crate::{
    error::{Error, ErrorKind, Result},
    lite::LiteTopics,
    member::{Closable, Member},
    message::{CloseReport, Delivery, Group},
    options::{ReceiveOptions, SimpleConsumerOptions, StreamOptions, Subscription},
    route::Routes,
    rpc::{Answer, wait_all},
    session::Session,
};

/// Receives messages, one call at a time. Cheap to clone; clones are the same consumer.
///
/// Polls of several topics and brokers run side by side. A poll goes on when its [`receive`](Self::receive) has
/// returned or was cancelled, for up to 20 s; what it brings is kept for the next receive or [stream](Self::messages). The
/// leases of deliveries that wait are kept until nothing was received for a minute. After that the deliveries are given back,
/// so that another consumer of the group can have them; servers since 5.5.0 do not count this as an attempt, except in FIFO groups.
///
/// Dropping the last clone without [`close`](Self::close) ends polling. What was received and not acknowledged
/// comes again after its invisible time.
#[derive(Clone)]
pub struct SimpleConsumer(Arc<Inner>);

struct Inner {
    member: Member<Destination, Acks>,
    group: Arc<Group>,
    leases: Arc<Leases>,
    subscriptions: Arc<Subscriptions>,
    /// Of a lite consumer.
    lite: Option<Arc<LiteTopics>>,
    polls: Arc<Polls>,
    /// What receives and streams hand out.
    prefetched: Arc<Prefetched>,
}

impl SimpleConsumer {
    pub(crate) fn new(session: Session, routes: Arc<Routes>, options: SimpleConsumerOptions) -> Self {
        let namespace = session.options().namespace.clone();
        let group = Arc::new(Group { namespace, name: options.group.clone() });
        let member = Member::new(session);
        let session = member.session();
        let leases = Leases::new(session.clone());
        let lite = options
            .bind_topic
            .clone()
            .map(|topic| LiteTopics::start(session.clone(), routes.clone(), options.group.clone(), topic));
        let subscriptions = Subscriptions::new(session.clone(), routes, group.clone(), options);
        let prefetched = Prefetched::new(session.clone(), leases.clone());
        let polls = Polls::new(subscriptions.clone(), prefetched.clone());
        Self(Arc::new(Inner { member, group, leases, subscriptions, lite, polls, prefetched }))
    }

    /// What its client closes.
    pub(crate) fn as_member(&self) -> Weak<dyn Closable> {
        let inner: Weak<Inner> = Arc::downgrade(&self.0);
        inner
    }

    /// Subscribes to a topic, or changes the filter of one. Receives that wait now receive from it, too.
    ///
    /// The servers are told at once. All consumers of the group must have the same subscriptions. Deliveries that
    /// wait and came through an earlier filter are given back. Cancelling the future does not cancel the change.
    ///
    /// # Errors
    ///
    /// `TopicNotFound` if the topic does not exist, `InvalidArgument` for an empty topic or filter and for a lite
    /// consumer, or what a server says against it. The subscriptions are as before then.
    pub async fn subscribe(&self, subscription: impl Into<Subscription>) -> Result<()> {
        self.check_not_lite("subscribe")?;
        let (inner, subscription) = (self.0.clone(), subscription.into());
        self.run("subscribe", async move {
            let topic = subscription.topic.clone();
            let replaced = inner.subscriptions.subscribe(subscription).await?;
            inner.resubscribed(replaced.then_some(&*topic)).await;
            Ok(())
        })
        .await
    }

    /// Ends the subscription of a topic, if there is one. Returns when what waited of it is given back.
    ///
    /// The servers are told at once, and polls of the topic end. What was received stays valid: it can be settled.
    /// Cancelling the future does not cancel the change.
    ///
    /// # Errors
    ///
    /// What a server says against it. The subscriptions are as before then.
    pub async fn unsubscribe(&self, topic: &str) -> Result<()> {
        self.check_not_lite("unsubscribe")?;
        let (inner, topic) = (self.0.clone(), topic.to_owned());
        self.run("unsubscribe", async move {
            let removed = inner.subscriptions.unsubscribe(&topic).await?;
            inner.resubscribed(removed.then_some(&*topic)).await;
            Ok(())
        })
        .await
    }

    /// What the consumer is subscribed to now; of a lite consumer, the topic that it is bound to.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<Subscription> {
        let subscribed = self.0.subscriptions.current();
        subscribed.iter().map(|it| Subscription::new(&*it.source.topic, it.source.filter.clone())).collect()
    }

    /// Waits for messages of any subscribed topic. Returns an empty list if nothing arrives in time. A wait of zero returns what
    /// has arrived already: the poll that it starts brings messages, or an error, to a later receive.
    ///
    /// Cancelling the future loses no message: what has arrived goes to the next receive or to a
    /// [stream](Self::messages).
    ///
    /// # Errors
    ///
    /// A refusal by the server at once; a failure that may pass only if it lasts as long as the wait.
    /// `InvalidArgument` without a subscription.
    pub async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Delivery>> {
        if options.max_messages == 0 {
            return Err(Error::new(ErrorKind::InvalidOptions, "receive", "max_messages is 0"));
        }
        self.0.polls.receive(&options).await.map_err(|error| error.during("receive"))
    }

    /// Starts to fetch messages of all subscribed topics ahead of the application, and returns them as a stream.
    ///
    /// It fetches whenever there is room for more messages and bytes. Topics that are subscribed to later are
    /// included. The leases of deliveries that wait are kept until the application has taken none for five minutes;
    /// then what waits is given back, and the stream fetches again when the application asks for the next one.
    /// [`keep_lease`](Self::keep_lease) keeps the lease of a delivery that was handed out.
    ///
    /// What the stream yields as an error is a refusal by a server, as for a topic that was deleted. The stream goes
    /// on after it, and yields the same refusal again only if the server has answered in between. While servers
    /// can't be reached, the stream waits and tries again. It ends when the consumer, its client or
    /// [the stream](Messages::close) is closed, and with nothing else.
    ///
    /// Receives and other streams of this consumer share what was fetched: each delivery is handed out once, to whichever
    /// asks first. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// `Closed`.
    pub fn messages(&self, options: StreamOptions) -> Result<Messages> {
        let Inner { member, subscriptions, prefetched, .. } = &*self.0;
        member.begin("messages")?;
        let feed = Feed::start(subscriptions.clone(), prefetched.clone(), options);
        Ok(Messages::new(self.clone(), feed))
    }

    /// Takes back deliveries that the application has not seen, for those who build on this crate, such as a
    /// language's binding whose receive was cancelled after its deliveries had arrived.
    ///
    /// They go to a [`receive`](Self::receive) or stream that waits now, or to the next one. On a closed consumer they
    /// are given back to the server at once. Deliveries of another group are ignored. May be called from any thread.
    pub fn put_back(&self, mut deliveries: Vec<Delivery>) {
        deliveries.retain(|delivery| self.is_own(delivery));
        self.0.prefetched.put_back(deliveries, None);
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
        wait_all(answers).await
    }

    /// Hides a delivery from others for `invisible` from now; zero gives it back at once.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` if the lease is over or the delivery is settled; `InvalidArgument` above 12 h, or if a consumer
    /// of another group received the delivery.
    pub async fn change_invisible(&self, delivery: &Delivery, invisible: Duration) -> Result<()> {
        self.check_unsettled(delivery, "change_invisible")?;
        if invisible.is_zero() {
            self.0.leases.release(&delivery.lease);
        }
        let change = Change::new(self.0.member.session().clone(), delivery, invisible);
        self.run("change_invisible", change.run()).await
    }

    /// Returns a delivery that could not be processed. Its message comes again after `after`, as a further attempt;
    /// zero means at once. The lease is no longer kept.
    ///
    /// After the last attempt that the group allows, the server makes the message a dead letter. Cancelling the
    /// future does not cancel the call.
    ///
    /// # Errors
    ///
    /// As for [`change_invisible`](Self::change_invisible).
    pub async fn nack(&self, delivery: &Delivery, after: Duration) -> Result<()> {
        self.check_unsettled(delivery, "nack")?;
        let change = Change::nack(self.0.member.session().clone(), delivery.lease.clone(), after);
        self.settle("nack", delivery, change.run()).await
    }

    /// Gives up on a delivery: its message moves to the dead-letter topic of the group, `%DLQ%` and the name of the
    /// group, and does not come again.
    ///
    /// If the answer of the server is lost, the request is repeated, and the message may become a dead letter
    /// twice. Cancelling the future does not cancel the call.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` if the server does not accept the receipt handle, or the delivery is settled; `InvalidArgument`
    /// if a consumer of another group received the delivery.
    pub async fn dead_letter(&self, delivery: &Delivery) -> Result<()> {
        self.check_unsettled(delivery, "dead_letter")?;
        let forward =
            DeadLetter::new(self.0.member.session().clone(), delivery.lease.clone(), delivery.attempt);
        self.settle("dead_letter", delivery, forward.run()).await
    }

    /// Keeps the lease of a delivery while the application works on it: the client renews it for the same time as
    /// before whenever half of it is over.
    ///
    /// That ends when the delivery is settled (acknowledged, returned, or made a dead letter), when its last clone
    /// is dropped, `max` from now, or when the consumer is closed or dropped. Called again, it replaces `max`. One
    /// task keeps all leases of a consumer. A failed renewal is repeated while the lease lasts.
    ///
    /// If the lease is lost all the same, because the servers can't be reached for long or have ended it, then
    /// [`Delivery::is_lease_lost`] is true, settling fails with kind `InvalidReceipt`, the message comes again, and
    /// there is a warning in the log.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` if the lease is over; `Closed`; `InvalidArgument` if a consumer of another group received
    /// the delivery.
    pub fn keep_lease(&self, delivery: &Delivery, max: Duration) -> Result<()> {
        const OPERATION: &str = "keep_lease";
        self.0.member.begin(OPERATION)?;
        self.check_group(delivery, OPERATION)?;
        if delivery.is_lease_lost() || delivery.lease.is_settled() {
            let message = "the lease of the delivery is over";
            return Err(Error::new(ErrorKind::InvalidReceipt, OPERATION, message));
        }
        self.0.leases.keep(&delivery.lease, crate::options::deadline(Instant::now(), max));
        Ok(())
    }

    /// Accepts no more calls, gives back what no receive or stream has returned, waits at most `deadline` for acks in
    /// flight, and tells the servers that the consumer is gone.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        let Inner { member, subscriptions, prefetched, .. } = &*self.0;
        subscriptions.close();
        member.close(deadline, prefetched.close()).await
    }

    fn submit_ack(&self, delivery: &Delivery) -> Result<Answer<()>> {
        let Inner { member, leases, .. } = &*self.0;
        let guard = member.begin("ack")?;
        self.check_group(delivery, "ack")?;
        let batcher = batcher_for(member, leases, &delivery.lease);
        Ok(submit_ack(&batcher, &delivery.lease, guard, member.session().options()))
    }

    /// Runs work that settles a delivery, whose lease is not kept afterwards.
    async fn settle(
        &self,
        operation: &'static str,
        delivery: &Delivery,
        work: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Result<()> {
        let (leases, lease) = (self.0.leases.clone(), delivery.lease.clone());
        self.run(operation, async move {
            let result = work.await;
            leases.note(&lease, &result);
            result
        })
        .await
    }

    /// Runs `work` in a task of its own, so that it is finished even if the caller stops waiting.
    async fn run(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Result<()> {
        self.0.member.run(operation, work).await
    }

    fn is_own(&self, delivery: &Delivery) -> bool {
        *delivery.lease.message().group == *self.0.group
    }

    /// Servers answer OK to what comes after an ack, and do nothing.
    fn check_unsettled(&self, delivery: &Delivery, operation: &'static str) -> Result<()> {
        self.check_group(delivery, operation)?;
        if delivery.lease.is_settled() {
            return Err(Error::new(ErrorKind::InvalidReceipt, operation, "the delivery is settled already"));
        }
        Ok(())
    }

    /// A server may answer OK to a group that doesn't hold the lease, and deliver the message again.
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
    /// Makes receives look for new polls, and gives back what waits of `topic`.
    async fn resubscribed(&self, topic: Option<&str>) {
        self.prefetched.announce();
        if let Some(topic) = topic {
            self.prefetched.give_back_topic(topic).await;
        }
    }
}

impl Closable for Inner {
    fn close(self: Arc<Self>, deadline: Duration) -> BoxFuture<'static, CloseReport> {
        async move { SimpleConsumer(self).close(deadline).await }.boxed()
    }

    fn is_closed(&self) -> bool {
        self.member.is_closed()
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
