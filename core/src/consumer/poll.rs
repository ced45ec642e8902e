//! Long polls: one for each topic, broker and waiting receive.
//!
//! A poll is a task. It goes on if its receive returns with the deliveries of another poll or is cancelled. Its
//! deliveries go to the next receive or to a stream. The next receive waits for it if it still runs. A receive polls
//! again if it waits longer than a server holds a poll.

pub(crate) mod poller;
mod running;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use parking_lot::Mutex;

pub(crate) use self::poller::Poller;
use self::running::{Idle, Running};
use super::{
    prefetched::Prefetched,
    subscriptions::{Subscribed, Subscriptions},
};
use crate::{
    error::{Error, ErrorKind, Result},
    message::Delivery,
    options::ReceiveOptions,
    route::Routes,
    rpc::{Verdict, verdict},
    session::Session,
    wire::Poll,
};

/// Servers cut longer and shorter polls to these limits.
pub(crate) const SHORTEST_POLL: Duration = Duration::from_secs(5);
pub(crate) const LONGEST_POLL: Duration = Duration::from_secs(20);

/// The id of a subscription, and a broker's name.
type BrokerKey = (u64, Arc<str>);

/// The polls of one topic at one broker.
struct Broker {
    poller: Poller,
    idle: Idle,
}

/// All polls that the receives of a consumer have started.
pub(super) struct Polls {
    session: Arc<Session>,
    routes: Arc<Routes>,
    subscriptions: Arc<Subscriptions>,
    brokers: Mutex<HashMap<BrokerKey, Arc<Broker>>>,
    prefetched: Arc<Prefetched>,
}

impl Polls {
    pub(super) fn new(subscriptions: Arc<Subscriptions>, prefetched: Arc<Prefetched>) -> Arc<Self> {
        let (session, routes) = (subscriptions.session.clone(), subscriptions.routes.clone());
        Arc::new(Self { session, routes, subscriptions, brokers: Mutex::default(), prefetched })
    }

    /// Returns waiting deliveries, or else the first ones that the polls of all topics and brokers bring.
    pub(super) async fn receive(self: &Arc<Self>, options: &ReceiveOptions) -> Result<Vec<Delivery>> {
        let wait = options.await_duration;
        let deadline = crate::options::deadline(Instant::now(), wait);
        let receive = self.wait_for_deliveries(options, deadline);
        let stop = self.subscriptions.stop();
        match stop.run_until_cancelled(receive).await {
            // A close ends the polls, as if they had found nothing.
            Some(Ok(deliveries)) if deliveries.is_empty() && stop.is_cancelled() => {
                Err(Error::closed("receive"))
            }
            Some(result) => result,
            None => Err(Error::closed("receive")),
        }
    }

    async fn wait_for_deliveries(
        self: &Arc<Self>,
        options: &ReceiveOptions,
        deadline: Instant,
    ) -> Result<Vec<Delivery>> {
        let mut news = self.prefetched.news();
        // Nothing may be awaited between taking deliveries and returning them: a receive can be cancelled.
        let take = || {
            let max = options.max_messages as usize;
            let deliveries = self.prefetched.take(max, options.invisible_duration);
            (!deliveries.is_empty()).then_some(deliveries)
        };
        if let Some(deliveries) = take() {
            return Ok(deliveries);
        }
        let mut subscriptions = self.subscriptions.watch();
        let mut claims = self.claim(options, deadline).await?;
        loop {
            if let Some(deliveries) = take() {
                return Ok(deliveries);
            }
            let over = claims.iter().any(|claim| claim.running.may_be_followed());
            if subscriptions.has_changed().unwrap_or(false) || over && Instant::now() < deadline {
                subscriptions.mark_unchanged();
                drop(claims);
                claims = self.claim(options, deadline).await?;
            }
            let running = claims.iter().any(|claim| !claim.running.has_ended());
            let mut errors = claims.iter().filter_map(|claim| claim.running.error());
            let refused = errors.clone().find(|error| verdict(error) == Verdict::Fail);
            if let Some(error) = refused {
                return Err(error);
            }
            let pending = running || self.prefetched.is_renewing();
            let in_time = pending && tokio::time::timeout_at(deadline.into(), news.changed()).await.is_ok();
            if !in_time {
                // A poll may have ended while the time ran out.
                let error = errors.next();
                return match (take(), error) {
                    (Some(deliveries), _) => Ok(deliveries),
                    (None, Some(error)) => Err(error),
                    (None, None) => Ok(Vec::new()),
                };
            }
        }
    }

    /// Takes or starts a poll of every broker of every topic.
    async fn claim(self: &Arc<Self>, options: &ReceiveOptions, deadline: Instant) -> Result<Vec<Claim>> {
        let subscriptions = self.subscriptions.current();
        if subscriptions.is_empty() {
            let message = "the consumer is subscribed to no topic";
            return Err(Error::new(ErrorKind::InvalidArgument, "receive", message));
        }
        self.brokers.lock().retain(|(id, _), _| subscriptions.iter().any(|it| it.id == *id));
        let routes = subscriptions.iter().map(|it| self.routes.get(&it.source.topic, deadline));
        let routes = try_join_all(routes).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        let poll = Poll {
            max_messages: options.max_messages,
            invisible: options.invisible_duration,
            wait: left.clamp(SHORTEST_POLL, LONGEST_POLL),
        };
        let mut claims = Vec::new();
        for (subscribed, route) in subscriptions.iter().zip(&routes) {
            for broker in route.readable_brokers()? {
                let broker = self.broker(subscribed, broker);
                let running = broker
                    .idle
                    .claim(&poll)
                    .unwrap_or_else(|| self.start(subscribed, &broker, (poll, deadline)));
                claims.push(Claim { broker, running });
            }
        }
        Ok(claims)
    }

    fn broker(&self, subscribed: &Subscribed, name: Arc<str>) -> Arc<Broker> {
        let make = || {
            let (session, routes) = (self.session.clone(), self.routes.clone());
            let poller = Poller::new(session, routes, subscribed.source.clone(), name.clone());
            Arc::new(Broker { poller, idle: Idle::default() })
        };
        self.brokers.lock().entry((subscribed.id, name.clone())).or_insert_with(make).clone()
    }

    fn start(
        self: &Arc<Self>,
        subscribed: &Arc<Subscribed>,
        broker: &Arc<Broker>,
        (poll, deadline): (Poll, Instant),
    ) -> Arc<Running> {
        let stop = subscribed.stop.child_token();
        let running = Arc::new(Running::new(poll, deadline, stop.clone()));
        let (polls, subscribed) = (self.clone(), subscribed.clone());
        let (broker, own) = (broker.clone(), running.clone());
        self.session.spawn(async move {
            let polling = polls.poll(&broker.poller, &own);
            let result = stop.run_until_cancelled(polling).await.unwrap_or_else(|| Ok(Vec::new()));
            match result {
                Ok(deliveries) => {
                    polls.prefetched.keep(deliveries);
                    own.end(None);
                }
                Err(error) => own.end(Some(error)),
            }
            polls.prefetched.announce();
            if subscribed.stop.is_cancelled() {
                polls.prefetched.give_back_topic(&subscribed.source.topic).await;
            }
        });
        running
    }

    /// Polls until there is an answer, or a failure that is permanent or lasts as long as the wait.
    async fn poll(&self, poller: &Poller, running: &Running) -> Result<Vec<Delivery>> {
        let give_up = running.deadline.max(Instant::now() + running.poll.wait);
        loop {
            let error = match poller.poll(running.poll, |error| running.set_error(error)).await {
                Ok(deliveries) => return Ok(deliveries),
                Err(error) => error,
            };
            if verdict(&error) == Verdict::Fail || Instant::now() + poller.pause() >= give_up {
                return Err(error);
            }
            running.set_error(Some(error));
            self.prefetched.announce();
        }
    }
}

/// A poll that a receive waits for. Becomes idle when dropped.
struct Claim {
    broker: Arc<Broker>,
    running: Arc<Running>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.broker.idle.release(self.running.clone());
    }
}
