//! Fetches deliveries ahead of the application, as far as there is room for them.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch};
use tokio_util::sync::CancellationToken;

use super::{
    SimpleConsumer,
    budget::Budget,
    poll::{LONGEST_POLL, SHORTEST_POLL, poller::Poller},
    prefetched::Prefetched,
    subscriptions::{Subscribed, Subscriptions},
};
use crate::{
    error::{Error, Result},
    message::Delivery,
    options::StreamOptions,
    route::Routes,
    rpc::{Backoff, Verdict, verdict},
    session::Session,
    wire,
};

/// Servers return at most this many messages to one receive.
const MAX_BATCH: usize = 32;

/// The size of a body before one has arrived.
const GUESSED_SIZE: usize = 1024;

/// The most errors that wait for the application. The oldest gives way.
const MAX_ERRORS: usize = 16;

/// What fetches for one stream: a loop for each subscription, with a poll for each broker.
pub(super) struct Feed {
    session: Arc<Session>,
    routes: Arc<Routes>,
    subscriptions: Arc<Subscriptions>,
    invisible: Duration,
    prefetched: Arc<Prefetched>,
    budget: Arc<Budget>,
    state: Mutex<State>,
    stop: CancellationToken,
    runtime: Handle,
}

#[derive(Default)]
struct State {
    errors: VecDeque<Error>,
    /// How many polls share the room.
    polls: usize,
}

/// The polls of one topic at one broker.
struct Broker {
    name: Arc<str>,
    poller: Poller,
    /// How many messages the next poll asks for, if there is room. Unknown before the first: its share.
    wanted: Option<usize>,
    /// The size of a body, as it was lately.
    size: usize,
    /// Whether the application was told that the server refuses the polls.
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
        feed.spawn(feed.clone().follow_subscriptions());
        feed
    }

    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.prefetched.news()
    }

    /// Deliveries that have arrived, or an error; `None` after the end.
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

    /// Ends the stream, and gives back what waits of it.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.prefetched.announce();
        self.prefetched.give_back_ended().await;
    }

    /// As [`close`](Self::close), in the background. The consumer lives until that is done.
    pub(super) fn abandon(self: &Arc<Self>, consumer: SimpleConsumer) {
        self.stop.cancel();
        let feed = self.clone();
        self.runtime.spawn(async move {
            feed.close().await;
            drop(consumer);
        });
    }

    /// Runs `work` until it or the stream ends.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.session.spawn(async move {
            stop.run_until_cancelled(work).await;
        });
    }

    /// Starts a loop for each subscription, also for those that are added later.
    async fn follow_subscriptions(self: Arc<Self>) {
        let mut subscriptions = self.subscriptions.watch();
        let mut known = Vec::new();
        loop {
            let current = subscriptions.borrow_and_update().clone();
            known.retain(|id| current.iter().any(|it| it.id == *id));
            for subscribed in current.iter() {
                if !known.contains(&subscribed.id) {
                    known.push(subscribed.id);
                    self.spawn(self.clone().follow(subscribed.clone()));
                }
            }
            if subscriptions.changed().await.is_err() {
                return;
            }
        }
    }

    /// Polls all brokers of a topic until its subscription ends.
    async fn follow(self: Arc<Self>, subscribed: Arc<Subscribed>) {
        subscribed.stop.run_until_cancelled(self.poll_all(&subscribed)).await;
        // What arrived meanwhile.
        self.prefetched.give_back_topic(&subscribed.source.topic).await;
    }

    async fn poll_all(&self, subscribed: &Subscribed) {
        let mut backoff = Backoff::for_receiving();
        let mut refused = false;
        let mut idle: HashMap<Arc<str>, Broker> = HashMap::new();
        let mut running: HashMap<Arc<str>, Share<'_>> = HashMap::new();
        let mut polls: FuturesUnordered<BoxFuture<'_, Broker>> = FuturesUnordered::new();
        loop {
            match self.brokers(subscribed).await {
                Ok(brokers) => {
                    refused = false;
                    backoff = Backoff::for_receiving();
                    for name in brokers {
                        if let Entry::Vacant(place) = running.entry(name) {
                            let name = place.key();
                            let broker = idle.remove(name).unwrap_or_else(|| self.broker(subscribed, name));
                            place.insert(Share::new(&self.state));
                            polls.push(Box::pin(self.poll(broker)));
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

    /// The brokers of a topic by its route now.
    async fn brokers(&self, subscribed: &Subscribed) -> Result<Vec<Arc<str>>> {
        let timeout = self.session.options().operation_timeout;
        let deadline = crate::options::deadline(Instant::now(), timeout);
        self.routes.get(&subscribed.source.topic, deadline).await?.readable_brokers()
    }

    fn broker(&self, subscribed: &Subscribed, name: &Arc<str>) -> Broker {
        let (session, routes) = (self.session.clone(), self.routes.clone());
        let poller = Poller::new(session, routes, subscribed.source.clone(), name.clone());
        Broker { name: name.clone(), poller, wanted: None, size: GUESSED_SIZE, refused: false }
    }

    /// Polls once, as soon as there is room.
    async fn poll(&self, mut broker: Broker) -> Broker {
        self.prefetched.active().await;
        let polls = self.state.lock().polls.max(self.subscriptions.current().len());
        let share = (self.budget.max_messages() / polls.max(1)).max(1);
        let room = self.budget.room(broker.wanted.unwrap_or(share).min(MAX_BATCH), broker.size).await;
        // With less room than polls, they take turns.
        let wait = if polls > self.budget.max_messages() { SHORTEST_POLL } else { LONGEST_POLL };
        let max_messages = u32::try_from(room.messages()).unwrap_or(u32::MAX);
        let poll = wire::Poll { max_messages, invisible: self.invisible, wait };
        match broker.poller.poll(poll, |_| {}).await {
            Ok(deliveries) => {
                broker.learn(&deliveries, share);
                if !deliveries.is_empty() {
                    self.prefetched.keep_in(deliveries, room, &self.stop);
                }
            }
            Err(error) => {
                tracing::debug!(%error, broker = &*broker.name, "a poll failed; the next one follows");
                if verdict(&error) == Verdict::Fail && !std::mem::replace(&mut broker.refused, true) {
                    self.report(error);
                }
            }
        }
        broker
    }

    fn report(&self, error: Error) {
        if verdict(&error) != Verdict::Fail {
            tracing::warn!(%error, "a stream of messages waits until the servers answer");
            return;
        }
        let errors = &mut self.state.lock().errors;
        errors.push_back(error.during("receive"));
        if errors.len() > MAX_ERRORS {
            errors.pop_front();
        }
        self.prefetched.announce();
    }
}

impl Broker {
    /// Adapts to what the latest poll brought: a queue that is empty does not hold the room of others.
    fn learn(&mut self, deliveries: &[Delivery], share: usize) {
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

/// One of the polls that share the room, while it runs.
struct Share<'a>(&'a Mutex<State>);

impl<'a> Share<'a> {
    fn new(state: &'a Mutex<State>) -> Self {
        state.lock().polls += 1;
        Self(state)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.0.lock().polls -= 1;
    }
}
