//! Fetches the deliveries of a stream ahead of the application, within its limits.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{SimpleConsumer, budget::Budget, prefetched::Prefetched};
use crate::{
    consumer::{LONGEST_POLL, Poller, SHORTEST_POLL, Subscribed, Subscriptions},
    error::{Error, Result},
    message::Delivery,
    options::StreamOptions,
    route::Routes,
    rpc::{Backoff, RetryDecision, retry_decision},
    session::Session,
    wire,
};

/// Servers return at most this many messages for one poll.
const MAX_BATCH: usize = 32;

/// The assumed size of a body, in bytes, until the first one arrives.
const INITIAL_BODY_SIZE: usize = 1024;

/// How many errors wait for the application at most. Beyond that, the oldest is dropped.
const MAX_ERRORS: usize = 16;

/// Fetches deliveries for one stream. Each subscription has a task, which polls every broker of the topic.
pub(super) struct Feed {
    session: Arc<Session>,
    routes: Arc<Routes>,
    subscriptions: Arc<Subscriptions>,
    invisible: Duration,
    prefetched: Arc<Prefetched>,
    budget: Arc<Budget>,
    state: Mutex<FeedState>,
    stop: CancellationToken,
    runtime: Handle,
}

#[derive(Default)]
struct FeedState {
    /// Refusals that the application has not seen yet.
    errors: VecDeque<Error>,
    /// How many polls share the budget.
    polls: usize,
}

/// Polls one topic at one broker, and adapts how many messages it asks for.
struct StreamPoller {
    name: Arc<str>,
    poller: Poller,
    /// How many messages the next poll asks for, if the budget allows. `None` before the first poll, which asks for
    /// an equal share of the budget.
    wanted: Option<usize>,
    /// A moving average of body sizes, in bytes.
    size: usize,
    /// Whether the application has been given the error of a server that refuses the polls.
    refused: bool,
}

impl Feed {
    /// Starts to fetch.
    pub(super) fn start(
        subscriptions: Arc<Subscriptions>,
        prefetched: Arc<Prefetched>,
        options: StreamOptions,
    ) -> Arc<Self> {
        let feed = Arc::new(Self {
            session: subscriptions.session.clone(),
            routes: subscriptions.routes.clone(),
            stop: subscriptions.stop().child_token(),
            subscriptions,
            invisible: options.invisible_duration,
            prefetched,
            budget: Budget::new(options.max_messages, options.max_bytes),
            state: Mutex::default(),
            runtime: Handle::current(),
        });
        let (following, stop) = (feed.clone().follow_subscriptions(), feed.stop.clone());
        feed.session.spawn(async move {
            stop.run_until_cancelled(following).await;
        });
        feed
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.prefetched.changes()
    }

    /// Takes up to `max` deliveries that have arrived, or an error. Ready with `None` once the stream has ended.
    pub(super) fn take(&self, max: usize) -> Poll<Option<Result<Vec<Delivery>>>> {
        if self.stop.is_cancelled() {
            return Poll::Ready(None);
        }
        let deliveries = self.prefetched.take(max, self.invisible);
        if !deliveries.is_empty() {
            return Poll::Ready(Some(Ok(deliveries)));
        }
        match self.state.lock().errors.pop_front() {
            Some(error) => Poll::Ready(Some(Err(error))),
            None => Poll::Pending,
        }
    }

    pub(super) fn put_back(&self, deliveries: Vec<Delivery>) {
        self.prefetched.put_back(deliveries, Some(&self.stop));
    }

    /// Ends the stream, and gives back its waiting deliveries in the background. Keeps the consumer alive until that is
    /// done.
    pub(super) fn close(&self, consumer: SimpleConsumer) -> JoinHandle<()> {
        self.stop.cancel();
        self.prefetched.notify();
        let giving_back = self.prefetched.give_back_ended();
        self.runtime.spawn(async move {
            giving_back.await;
            drop(consumer);
        })
    }

    /// Starts a task for each subscription, including those that are added later.
    async fn follow_subscriptions(self: Arc<Self>) {
        let mut subscriptions = self.subscriptions.watch();
        let mut known = Vec::new();
        loop {
            let current = subscriptions.borrow_and_update().clone();
            known.retain(|id| current.iter().any(|it| it.id == *id));
            for subscribed in current.iter() {
                if !known.contains(&subscribed.id) {
                    known.push(subscribed.id);
                    self.prefetched.spawn_poll(self.clone().poll_topic(subscribed.clone()));
                }
            }
            if subscriptions.changed().await.is_err() {
                return;
            }
        }
    }

    /// Polls all brokers of a topic until its subscription ends.
    async fn poll_topic(self: Arc<Self>, subscribed: Arc<Subscribed>) {
        let mut polls = FuturesUnordered::new();
        tokio::select! {
            biased;
            () = self.stopped(&subscribed.stop) => {}
            () = self.poll_brokers(&subscribed, &mut polls) => {}
        }
        // They are stopped, too, and keep what has arrived.
        while polls.next().await.is_some() {}
        if subscribed.stop.is_cancelled() {
            self.prefetched.give_back_topic(&subscribed.source.topic).await;
        } else {
            self.prefetched.give_back_ended().await;
        }
    }

    /// Ready when the subscription or the stream ends.
    async fn stopped(&self, unsubscribed: &CancellationToken) {
        tokio::select! {
            () = unsubscribed.cancelled() => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn poll_brokers<'a>(
        &'a self,
        subscribed: &'a Subscribed,
        polls: &mut FuturesUnordered<BoxFuture<'a, StreamPoller>>,
    ) {
        let mut backoff = Backoff::for_receiving();
        let mut refused = false;
        let mut idle: HashMap<Arc<str>, StreamPoller> = HashMap::new();
        let mut running: HashMap<Arc<str>, PollShare<'_>> = HashMap::new();
        // A poll that begins after the stop ends at once.
        while !(self.stop.is_cancelled() || subscribed.stop.is_cancelled()) {
            match self.brokers(subscribed).await {
                Ok(brokers) => {
                    refused = false;
                    backoff = Backoff::for_receiving();
                    for name in brokers {
                        if let Entry::Vacant(slot) = running.entry(name) {
                            let name = slot.key();
                            let broker = idle.remove(name).unwrap_or_else(|| self.broker(subscribed, name));
                            slot.insert(PollShare::new(&self.state));
                            polls.push(Box::pin(self.poll(broker, &subscribed.stop)));
                        }
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut refused, true) {
                        self.report(error);
                    }
                    if polls.is_empty() {
                        tokio::time::sleep(backoff.next()).await;
                        continue;
                    }
                }
            }
            if let Some(broker) = polls.next().await {
                running.remove(&broker.name);
                idle.insert(broker.name.clone(), broker);
            }
        }
    }

    /// The brokers of the topic's current route.
    async fn brokers(&self, subscribed: &Subscribed) -> Result<Vec<Arc<str>>> {
        let timeout = self.session.options().operation_timeout;
        let deadline = crate::options::deadline(Instant::now(), timeout);
        self.routes.get(&subscribed.source.topic, deadline).await?.readable_brokers()
    }

    fn broker(&self, subscribed: &Subscribed, name: &Arc<str>) -> StreamPoller {
        let (session, routes) = (self.session.clone(), self.routes.clone());
        let poller = Poller::new(session, routes, subscribed.source.clone(), name.clone());
        StreamPoller { name: name.clone(), poller, wanted: None, size: INITIAL_BODY_SIZE, refused: false }
    }

    /// Polls once. Ends when the subscription or the stream does.
    async fn poll(&self, mut broker: StreamPoller, unsubscribed: &CancellationToken) -> StreamPoller {
        tokio::select! {
            // First: a poll that is stopped may have messages.
            biased;
            () = self.poll_once(&mut broker, unsubscribed) => {}
            () = self.stopped(unsubscribed) => {}
        }
        broker
    }

    /// Polls as soon as the budget allows.
    async fn poll_once(&self, broker: &mut StreamPoller, unsubscribed: &CancellationToken) {
        self.prefetched.wait_until_active().await;
        let polls = self.state.lock().polls.max(self.subscriptions.current().len());
        let share = (self.budget.max_messages() / polls.max(1)).max(1);
        let reservation =
            self.budget.reserve(broker.wanted.unwrap_or(share).min(MAX_BATCH), broker.size).await;
        // If there are more polls than the budget has messages, short polls take turns.
        let wait = if polls > self.budget.max_messages() { SHORTEST_POLL } else { LONGEST_POLL };
        let max_messages = u32::try_from(reservation.messages()).unwrap_or(u32::MAX);
        let poll = wire::Poll { max_messages, invisible: self.invisible, wait };
        match broker.poller.poll(poll, |_| {}, self.stopped(unsubscribed)).await {
            Ok(deliveries) => {
                broker.adapt(&deliveries, share);
                if !deliveries.is_empty() {
                    self.prefetched.add_streamed(deliveries, reservation, &self.stop);
                }
            }
            Err(error) => {
                tracing::debug!(%error, broker = &*broker.name, "a poll failed; polling again");
                if retry_decision(&error) == RetryDecision::Fail
                    && !std::mem::replace(&mut broker.refused, true)
                {
                    self.report(error);
                }
            }
        }
    }

    fn report(&self, error: Error) {
        if retry_decision(&error) != RetryDecision::Fail {
            tracing::warn!(%error, "the servers do not answer; a stream of messages waits");
            return;
        }
        let errors = &mut self.state.lock().errors;
        errors.push_back(error.during("receive"));
        if errors.len() > MAX_ERRORS {
            errors.pop_front();
        }
        self.prefetched.notify();
    }
}

impl StreamPoller {
    /// Adapts to the result of the latest poll, so that an empty queue reserves less of the budget.
    fn adapt(&mut self, deliveries: &[Delivery], share: usize) {
        self.refused = false;
        if let Some(bytes) =
            deliveries.iter().map(|it| it.body.len()).sum::<usize>().checked_div(deliveries.len())
        {
            self.size = self.size.midpoint(bytes);
        }
        self.wanted = Some(match deliveries.len() {
            0 => (share / 2).max(1),
            count => (count * 2).max(share),
        });
    }
}

/// Counts a running poll among those that share the budget, until it is dropped.
struct PollShare<'a>(&'a Mutex<FeedState>);

impl<'a> PollShare<'a> {
    fn new(state: &'a Mutex<FeedState>) -> Self {
        state.lock().polls += 1;
        Self(state)
    }
}

impl Drop for PollShare<'_> {
    fn drop(&mut self) {
        self.0.lock().polls -= 1;
    }
}
