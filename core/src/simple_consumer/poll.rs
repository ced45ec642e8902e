//! The long polls of receives. Each receive runs one poll for every broker of every topic.
//!
//! A poll is a task. It continues if its receive is cancelled, or returns with the deliveries of another poll. Then
//! the deliveries of the poll go to a stream or to the next receive, which takes over the running poll. A receive that
//! waits longer than a server holds a poll starts further polls.

mod running_poll;

use std::{collections::HashMap, sync::Arc, time::Instant};

use futures::future::try_join_all;
use parking_lot::Mutex;

use self::running_poll::{IdlePolls, RunningPoll};
use super::prefetched::Prefetched;
use crate::{
    consumer::{LONGEST_POLL, Poller, SHORTEST_POLL, Subscribed, Subscriptions},
    error::{Error, ErrorKind, Result},
    message::Delivery,
    options::ReceiveOptions,
    route::Routes,
    rpc::{RetryDecision, retry_decision},
    session::Session,
    wire::Poll,
};

/// The id of a subscription, and a broker's name.
type BrokerKey = (u64, Arc<str>);

/// The polls of one topic at one broker.
struct BrokerPolls {
    poller: Poller,
    idle: IdlePolls,
}

/// All polls that the receives of a consumer have started.
pub(super) struct Polls {
    session: Arc<Session>,
    routes: Arc<Routes>,
    subscriptions: Arc<Subscriptions>,
    brokers: Mutex<HashMap<BrokerKey, Arc<BrokerPolls>>>,
    prefetched: Arc<Prefetched>,
}

impl Polls {
    pub(super) fn new(subscriptions: Arc<Subscriptions>, prefetched: Arc<Prefetched>) -> Arc<Self> {
        let (session, routes) = (subscriptions.session.clone(), subscriptions.routes.clone());
        Arc::new(Self { session, routes, subscriptions, brokers: Mutex::default(), prefetched })
    }

    /// Returns waiting deliveries if there are any. Otherwise waits for the first deliveries of any poll.
    pub(super) async fn receive(self: &Arc<Self>, options: &ReceiveOptions) -> Result<Vec<Delivery>> {
        let wait = options.await_duration;
        let deadline = crate::options::deadline(Instant::now(), wait);
        let receive = self.wait_for_deliveries(options, deadline);
        let stop = self.subscriptions.stop();
        match stop.run_until_cancelled(receive).await {
            // A close ends the polls, which looks as if they had found no message.
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
        let mut changes = self.prefetched.changes();
        // There must be no `await` between taking deliveries and returning them, because a receive can be cancelled.
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
            let over = claims.iter().any(|claim| claim.running.may_poll_again());
            if subscriptions.has_changed().unwrap_or(false) || over && Instant::now() < deadline {
                subscriptions.mark_unchanged();
                drop(claims);
                claims = self.claim(options, deadline).await?;
            }
            let running = claims.iter().any(|claim| !claim.running.has_ended());
            if let Some(refusal) = claims.iter().find_map(|claim| claim.running.refusal()) {
                return Err(refusal);
            }
            let pending = running || self.prefetched.is_renewing();
            let in_time =
                pending && tokio::time::timeout_at(deadline.into(), changes.changed()).await.is_ok();
            if !in_time {
                // A poll may have ended at the same time as the wait.
                let error = claims.iter().find_map(|claim| claim.running.error());
                return match (take(), error) {
                    (Some(deliveries), _) => Ok(deliveries),
                    (None, Some(error)) => Err(error),
                    (None, None) => Ok(Vec::new()),
                };
            }
        }
    }

    /// Takes over or starts a poll for every broker of every topic.
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
                let running = broker.idle.claim(&poll, deadline).unwrap_or_else(|| {
                    let running = RunningPoll::new(poll, deadline, subscribed.stop.child_token());
                    self.start(subscribed, &broker, running)
                });
                claims.push(Claim { broker, running });
            }
        }
        Ok(claims)
    }

    fn broker(&self, subscribed: &Subscribed, name: Arc<str>) -> Arc<BrokerPolls> {
        let make = || {
            let (session, routes) = (self.session.clone(), self.routes.clone());
            let poller = Poller::new(session, routes, subscribed.source.clone(), name.clone());
            Arc::new(BrokerPolls { poller, idle: IdlePolls::default() })
        };
        self.brokers.lock().entry((subscribed.id, name.clone())).or_insert_with(make).clone()
    }

    fn start(
        self: &Arc<Self>,
        subscribed: &Arc<Subscribed>,
        broker: &Arc<BrokerPolls>,
        running: RunningPoll,
    ) -> Arc<RunningPoll> {
        let running = Arc::new(running);
        let (polls, subscribed) = (self.clone(), subscribed.clone());
        let (broker, own) = (broker.clone(), running.clone());
        self.prefetched.spawn_poll(async move {
            let result = tokio::select! {
                // First: when it is stopped, it may have messages.
                biased;
                result = polls.poll(&broker.poller, &own) => result,
                () = own.stop.cancelled() => Ok(Vec::new()),
            };
            match result {
                Ok(deliveries) => {
                    polls.prefetched.add_received(deliveries);
                    own.end(None);
                }
                Err(error) => own.end(Some(error)),
            }
            polls.prefetched.notify();
            if subscribed.stop.is_cancelled() {
                polls.prefetched.give_back_topic(&subscribed.source.topic).await;
            }
        });
        running
    }

    /// Polls until the server answers. Returns an error if it is permanent, or lasts as long as the wait.
    async fn poll(&self, poller: &Poller, running: &RunningPoll) -> Result<Vec<Delivery>> {
        let shortest = Instant::now() + running.poll.wait;
        loop {
            let report = |error| running.report_delay(error);
            let error = match poller.poll(running.poll, report, running.stop.cancelled()).await {
                Ok(deliveries) => return Ok(deliveries),
                Err(error) => error,
            };
            let give_up = running.deadline().max(shortest);
            if retry_decision(&error) == RetryDecision::Fail || Instant::now() + poller.pause() >= give_up {
                return Err(error);
            }
            running.record_failure(error);
            self.prefetched.notify();
        }
    }
}

/// A poll that a receive waits for. Becomes idle when dropped.
struct Claim {
    broker: Arc<BrokerPolls>,
    running: Arc<RunningPoll>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.broker.idle.release(self.running.clone());
    }
}
