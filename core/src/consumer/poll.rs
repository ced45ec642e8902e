//! Long polls: one for each topic, broker and waiting receive.
//!
//! A poll is a task. It goes on if its receive returns with the deliveries of another poll or is cancelled. The next
//! receive gets its deliveries, and waits for it if it still runs.

mod poller;
mod running;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use self::{
    poller::Poller,
    running::{Idle, Running},
};
use super::prefetched::Prefetched;
use crate::{
    error::{Error, Result},
    message::{Delivery, Group},
    options::{ReceiveOptions, SimpleConsumerOptions, Subscription},
    route::Routes,
    rpc::{Verdict, verdict},
    session::Session,
    wire::{Poll, Source},
};

/// Servers cut longer and shorter polls to these limits.
const SHORTEST_POLL: Duration = Duration::from_secs(5);
const LONGEST_POLL: Duration = Duration::from_secs(20);

/// The index of a subscription, and a broker's name.
type BrokerKey = (usize, Arc<str>);

/// The polls of one topic at one broker.
struct Broker {
    poller: Poller,
    idle: Idle,
}

/// All polls of a consumer, and the deliveries that wait for a receive.
pub(super) struct Polls {
    session: Arc<Session>,
    routes: Arc<Routes>,
    sources: Vec<Arc<Source>>,
    brokers: Mutex<HashMap<BrokerKey, Arc<Broker>>>,
    prefetched: Arc<Prefetched>,
    stop: CancellationToken,
}

impl Polls {
    pub(super) fn new(
        session: Arc<Session>,
        routes: Arc<Routes>,
        group: &Arc<Group>,
        options: SimpleConsumerOptions,
    ) -> Arc<Self> {
        let max_body_size = options.decode.max_body_size;
        let sources = options
            .subscriptions
            .into_iter()
            .map(|Subscription { topic, filter }| {
                Arc::new(Source { group: group.clone(), topic, filter, max_body_size })
            })
            .collect();
        let stop = session.stop().child_token();
        let prefetched = Prefetched::new(session.clone(), options.group);
        Arc::new(Self { session, routes, sources, brokers: Mutex::default(), prefetched, stop })
    }

    /// Keeps deliveries that the application has not seen for the next receive. After a close, gives them back.
    pub(super) fn put_back(&self, deliveries: Vec<Delivery>) {
        self.prefetched.put_back(deliveries);
    }

    /// Ends all polls, and gives back the deliveries that wait.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.prefetched.close().await;
    }

    /// Returns deliveries that wait, or else the first that polls of all topics and brokers bring.
    pub(super) async fn receive(self: &Arc<Self>, options: &ReceiveOptions) -> Result<Vec<Delivery>> {
        let wait = options.await_duration;
        let deadline = crate::options::deadline(Instant::now(), wait);
        let receive = self.wait_for_deliveries(options, deadline);
        match self.stop.run_until_cancelled(receive).await {
            // A close ends the polls, too, which looks as if they had found nothing.
            Some(Ok(deliveries)) if deliveries.is_empty() && self.stop.is_cancelled() => {
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
            let deliveries = self.prefetched.take(options.max_messages, options.invisible_duration);
            (!deliveries.is_empty()).then_some(deliveries)
        };
        if let Some(deliveries) = take() {
            return Ok(deliveries);
        }
        let poll = Poll {
            max_messages: options.max_messages,
            invisible: options.invisible_duration,
            wait: options.await_duration.clamp(SHORTEST_POLL, LONGEST_POLL),
        };
        let claims = self.claim(&poll, deadline).await?;
        loop {
            if let Some(deliveries) = take() {
                return Ok(deliveries);
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
    async fn claim(self: &Arc<Self>, poll: &Poll, deadline: Instant) -> Result<Vec<Claim>> {
        let routes = try_join_all(self.sources.iter().map(|it| self.routes.get(&it.topic, deadline))).await?;
        let mut claims = Vec::new();
        for (at, route) in routes.iter().enumerate() {
            for broker in route.readable_brokers()? {
                let broker = self.broker(at, broker);
                let running = broker.idle.claim(poll).unwrap_or_else(|| self.start(&broker, *poll));
                claims.push(Claim { broker, running });
            }
        }
        Ok(claims)
    }

    fn broker(&self, source: usize, name: Arc<str>) -> Arc<Broker> {
        let make = || {
            let (session, routes) = (self.session.clone(), self.routes.clone());
            let poller = Poller::new(session, routes, self.sources[source].clone(), name.clone());
            Arc::new(Broker { poller, idle: Idle::default() })
        };
        self.brokers.lock().entry((source, name.clone())).or_insert_with(make).clone()
    }

    fn start(self: &Arc<Self>, broker: &Arc<Broker>, poll: Poll) -> Arc<Running> {
        let stop = self.stop.child_token();
        let running = Arc::new(Running::new(poll, stop.clone()));
        let (polls, broker, own) = (self.clone(), broker.clone(), running.clone());
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
        });
        running
    }

    /// Polls until there is an answer, or a failure that is permanent or lasts as long as the wait.
    async fn poll(&self, poller: &Poller, running: &Running) -> Result<Vec<Delivery>> {
        let give_up = crate::options::deadline(Instant::now(), running.poll.wait);
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
