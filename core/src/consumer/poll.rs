//! Long polls, one at a time for each topic, broker and waiting receive.
//!
//! A poll is a task of its own. It outlives the receive that started it, when that was served by another poll
//! or cancelled: what it brings waits for the next receive, which takes the poll over if it still runs.

mod poller;

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::{join_all, try_join_all};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::poller::{Poller, Running};
use super::settle::Change;
use crate::{
    error::{Error, Result},
    message::Delivery,
    options::{ReceiveOptions, SimpleConsumerOptions},
    route::Routes,
    rpc::{Verdict, verdict},
    session::Session,
    wire::{Poll, Source},
};

/// Servers poll for no less and no more, whatever they are asked.
const SHORTEST_POLL: Duration = Duration::from_secs(5);
const LONGEST_POLL: Duration = Duration::from_secs(20);

/// The number of a topic among the subscribed ones, and a broker's name.
type Place = (usize, Arc<str>);

/// All polls of a consumer, and what they brought.
pub(super) struct Polls {
    session: Arc<Session>,
    routes: Arc<Routes>,
    group: String,
    sources: Vec<Arc<Source>>,
    pollers: Mutex<HashMap<Place, Arc<Poller>>>,
    /// What came for nobody yet.
    arrived: Mutex<VecDeque<Arrival>>,
    /// Changes whenever a poll ends or fails.
    news: watch::Sender<u64>,
    stop: CancellationToken,
}

impl Polls {
    pub(super) fn new(
        session: Arc<Session>,
        routes: Arc<Routes>,
        options: SimpleConsumerOptions,
    ) -> Arc<Self> {
        let max_body_size = options.decode.max_body_size;
        let sources = options
            .subscriptions
            .into_iter()
            .map(|it| Arc::new(Source { topic: it.topic, filter: it.filter, max_body_size }))
            .collect();
        let stop = session.stop().child_token();
        Arc::new(Self {
            session,
            routes,
            group: options.group,
            sources,
            pollers: Mutex::default(),
            arrived: Mutex::default(),
            news: watch::Sender::new(0),
            stop,
        })
    }

    /// Ends all polls, and returns what nobody has received.
    pub(super) fn stop(&self) -> Vec<Delivery> {
        self.stop.cancel();
        let arrived = mem::take(&mut *self.arrived.lock());
        arrived.into_iter().map(|arrival| arrival.delivery).filter(is_alive).collect()
    }

    /// What has arrived, or what the polls of all topics and brokers bring first.
    pub(super) async fn receive(self: &Arc<Self>, options: &ReceiveOptions) -> Result<Vec<Delivery>> {
        let wait = options.await_duration;
        let deadline = crate::options::deadline(Instant::now(), wait);
        let receive = self.await_news(options, deadline);
        match self.stop.run_until_cancelled(receive).await {
            // A close ends the polls as well, which may look as if they had found nothing.
            Some(Ok(deliveries)) if deliveries.is_empty() && self.stop.is_cancelled() => {
                Err(Error::closed("receive"))
            }
            Some(result) => result,
            None => Err(Error::closed("receive")),
        }
    }

    async fn await_news(
        self: &Arc<Self>,
        options: &ReceiveOptions,
        deadline: Instant,
    ) -> Result<Vec<Delivery>> {
        let mut news = self.news.subscribe();
        if let Some(deliveries) = self.take(options.max_messages).await {
            return Ok(deliveries);
        }
        let poll = Poll {
            max_messages: options.max_messages,
            invisible: options.invisible_duration,
            wait: options.await_duration.clamp(SHORTEST_POLL, LONGEST_POLL),
        };
        let claims = self.claim(&poll, deadline).await?;
        loop {
            if let Some(deliveries) = self.take(options.max_messages).await {
                return Ok(deliveries);
            }
            let running = claims.iter().filter(|claim| !claim.running.has_ended()).count();
            let mut errors = claims.iter().filter_map(|claim| claim.running.error());
            let refused = errors.clone().find(|error| verdict(error) == Verdict::Fail);
            if let Some(error) = refused {
                return Err(error);
            }
            let in_time =
                running > 0 && tokio::time::timeout_at(deadline.into(), news.changed()).await.is_ok();
            if !in_time {
                // The last look: a poll may have ended while the time ran out.
                let error = errors.next();
                return match (self.take(options.max_messages).await, error) {
                    (Some(deliveries), _) => Ok(deliveries),
                    (None, Some(error)) => Err(error),
                    (None, None) => Ok(Vec::new()),
                };
            }
        }
    }

    /// Up to `max` of what has arrived and can still be worked on.
    async fn take(&self, max: u32) -> Option<Vec<Delivery>> {
        loop {
            let taken: Vec<Arrival> = {
                let mut arrived = self.arrived.lock();
                let count = arrived.len().min(max as usize);
                arrived.drain(..count).collect()
            };
            if taken.is_empty() {
                return None;
            }
            let fresh = join_all(taken.into_iter().map(|arrival| self.renew_if_half_spent(arrival))).await;
            let fresh: Vec<Delivery> = fresh.into_iter().flatten().collect();
            if !fresh.is_empty() {
                return Some(fresh);
            }
        }
    }

    /// Extends a lease of which half went by before anybody asked for the delivery.
    async fn renew_if_half_spent(&self, arrival: Arrival) -> Option<Delivery> {
        let Arrival { delivery, invisible } = arrival;
        let left = delivery.lease.until().saturating_duration_since(Instant::now());
        if left > invisible / 2 {
            return Some(delivery);
        }
        let change = Change::new(self.session.clone(), &self.group, &delivery, invisible);
        // Without it, the delivery belongs to others soon: it comes again.
        (!left.is_zero() && change.run().await.is_ok()).then_some(delivery)
    }

    /// One poll of every broker of every topic.
    async fn claim(self: &Arc<Self>, poll: &Poll, deadline: Instant) -> Result<Vec<Claim>> {
        let routes = try_join_all(self.sources.iter().map(|it| self.routes.get(&it.topic, deadline))).await?;
        let mut claims = Vec::new();
        for (at, route) in routes.iter().enumerate() {
            for broker in route.readable_brokers()? {
                let poller = self.poller(at, broker);
                let running = poller.claim(poll).unwrap_or_else(|| self.start(&poller, *poll));
                claims.push(Claim { poller, running });
            }
        }
        Ok(claims)
    }

    fn poller(&self, source: usize, broker: Arc<str>) -> Arc<Poller> {
        let make = || Arc::new(Poller::new(self.sources[source].clone(), broker.clone()));
        self.pollers.lock().entry((source, broker.clone())).or_insert_with(make).clone()
    }

    fn start(self: &Arc<Self>, poller: &Arc<Poller>, poll: Poll) -> Arc<Running> {
        let stop = self.stop.child_token();
        let running = Arc::new(Running::new(poll, stop.clone()));
        let (polls, poller, own) = (self.clone(), poller.clone(), running.clone());
        self.session.spawn(async move {
            let polling = poller.poll(&polls, &own);
            let result = stop.run_until_cancelled(polling).await.unwrap_or_else(|| Ok(Vec::new()));
            match result {
                Ok(deliveries) => {
                    let arrival = |delivery| Arrival { delivery, invisible: poll.invisible };
                    polls.arrived.lock().extend(deliveries.into_iter().map(arrival));
                    own.end(None);
                }
                Err(error) => own.end(Some(error)),
            }
            polls.announce();
        });
        running
    }

    fn announce(&self) {
        self.news.send_modify(|news| *news += 1);
    }
}

fn is_alive(delivery: &Delivery) -> bool {
    delivery.lease.until() > Instant::now()
}

/// A delivery that waits for a receive.
struct Arrival {
    delivery: Delivery,
    /// The length of its lease.
    invisible: Duration,
}

/// A poll that one receive waits for; handed back when that is over.
struct Claim {
    poller: Arc<Poller>,
    running: Arc<Running>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.poller.hand_back(self.running.clone());
    }
}
