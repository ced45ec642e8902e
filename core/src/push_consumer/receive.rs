//! The long polls of a push consumer: one at a time for each broker of each topic, within the limits of the cache.

use std::{collections::HashSet, sync::Arc, time::Instant};

use futures::{
    StreamExt,
    future::{BoxFuture, FutureExt},
    stream::FuturesUnordered,
};

use super::inner::Inner;
use crate::{
    consumer::{LONGEST_POLL, Poller, SHORTEST_POLL, Subscribed},
    error::{Error, Result},
    health::Component,
    route::TopicRoute,
    rpc::{Backoff, RetryDecision, retry_decision},
    wire::{Poll, Source},
};

/// Polls one topic at one broker, and reports when that fails.
struct PushPoller {
    inner: Arc<Inner>,
    name: Arc<str>,
    subscribed: Arc<Subscribed>,
    poller: Poller,
    /// Whether the latest poll failed.
    failing: bool,
    /// The entry in the session's health while the server refuses to deliver.
    refused: Option<Component>,
}

impl Inner {
    /// Starts the consumer's tasks.
    pub(super) fn start_receiving(self: &Arc<Self>) {
        let _runtime = self.runtime.enter();
        let verifications = self.state.lock().verifications.take();
        if let Some(verifications) = verifications {
            self.session().spawn(self.clone().verify(verifications));
        }
        self.session().spawn(self.clone().run_alarm());
        self.session().spawn(self.clone().follow_subscriptions());
    }

    /// Starts a task for each subscription, including those that are added later.
    async fn follow_subscriptions(self: Arc<Self>) {
        let mut subscriptions = self.subscriptions.watch();
        let mut started = None;
        loop {
            let current = subscriptions.borrow_and_update().clone();
            for subscribed in current.iter().filter(|it| Some(it.id) > started) {
                let receive = self.clone().receive_topic(subscribed.clone());
                self.session().spawn(self.receiving.track_future(receive));
            }
            started = current.iter().map(|it| it.id).max().max(started);
            if subscriptions.changed().await.is_err() {
                return;
            }
        }
    }

    /// Receives from a topic until its subscription ends.
    async fn receive_topic(self: Arc<Self>, subscribed: Arc<Subscribed>) {
        let mut polls = FuturesUnordered::new();
        tokio::select! {
            biased;
            () = subscribed.stop.cancelled() => {}
            () = self.poll_brokers(&subscribed, &mut polls) => {}
        }
        // They are stopped, too, and return what has arrived.
        while polls.next().await.is_some() {}
    }

    /// Polls every broker of a topic, including brokers that are added to its route later.
    async fn poll_brokers(
        self: &Arc<Self>,
        subscribed: &Arc<Subscribed>,
        polls: &mut FuturesUnordered<BoxFuture<'static, PushPoller>>,
    ) {
        let source = &subscribed.source;
        let mut known: Option<Arc<TopicRoute>> = None;
        let (mut wanted, mut polled) = (HashSet::new(), HashSet::new());
        let mut backoff = Backoff::for_receiving();
        // A poll that begins after the stop ends at once.
        while !subscribed.stop.is_cancelled() {
            match self.new_route(source, known.as_ref()).await {
                Ok(None) => {}
                Ok(Some((route, brokers))) => {
                    wanted = brokers;
                    known = Some(route);
                    let added = wanted.iter().filter(|name| polled.insert(Arc::clone(name)));
                    polls.extend(
                        added.map(|name| PushPoller::new(self, subscribed, name.clone()).poll().boxed()),
                    );
                    backoff = Backoff::for_receiving();
                }
                Err(error) => {
                    let topic = &*source.topic;
                    tracing::warn!(%error, topic, "receiving from the topic failed; trying again");
                    (known, wanted) = (None, HashSet::new());
                    self.subscriptions.routes.refresh(topic);
                }
            }
            match polls.next().await {
                Some(broker) if wanted.contains(&broker.name) => polls.push(broker.poll().boxed()),
                // A later route may contain the broker again.
                Some(broker) => drop(polled.remove(&broker.name)),
                None => tokio::time::sleep(backoff.next()).await,
            }
        }
    }

    /// The route of a topic and its brokers; `None` if the route has not changed from `known`.
    async fn new_route(
        &self,
        source: &Source,
        known: Option<&Arc<TopicRoute>>,
    ) -> Result<Option<(Arc<TopicRoute>, HashSet<Arc<str>>)>> {
        let timeout = self.session().options().operation_timeout;
        let deadline = crate::options::deadline(Instant::now(), timeout);
        let route = self.subscriptions.routes.get(&source.topic, deadline).await?;
        if known.is_some_and(|known| Arc::ptr_eq(known, &route)) {
            return Ok(None);
        }
        let brokers = route.readable_brokers()?.into_iter().collect();
        Ok(Some((route, brokers)))
    }
}

impl PushPoller {
    fn new(inner: &Arc<Inner>, subscribed: &Arc<Subscribed>, name: Arc<str>) -> Self {
        inner.state.lock().dispatch.add_poll();
        let (session, routes) = (inner.session().clone(), inner.subscriptions.routes.clone());
        Self {
            inner: inner.clone(),
            poller: Poller::new(session, routes, subscribed.source.clone(), name.clone()),
            subscribed: subscribed.clone(),
            name,
            failing: false,
            refused: None,
        }
    }

    /// Polls once. Ends when the subscription ends.
    async fn poll(mut self) -> Self {
        let stop = self.subscribed.stop.clone();
        tokio::select! {
            // First: a poll that is stopped may have messages.
            biased;
            () = self.poll_once() => {}
            () = stop.cancelled() => {}
        }
        self
    }

    /// Polls as soon as there is room for a message.
    async fn poll_once(&mut self) {
        let inner = self.inner.clone();
        let settings = inner.session().consumer_settings();
        let batch = usize::try_from(settings.receive_batch_size).unwrap_or(usize::MAX);
        let reservation = inner.reserve(batch).await;
        let poll = Poll {
            max_messages: u32::try_from(reservation.messages).unwrap_or(u32::MAX),
            invisible: inner.options.invisible_duration,
            wait: settings.long_polling_timeout.clamp(SHORTEST_POLL, LONGEST_POLL),
        };
        let subscribed = self.subscribed.clone();
        let stopped = subscribed.stop.cancelled();
        match self.poller.poll(poll, |error| self.log_delay(error), stopped).await {
            Ok(deliveries) => {
                self.record_success();
                inner.insert_received(reservation, (&subscribed, &self.name), deliveries);
            }
            Err(error) => self.record_failure(&error),
        }
    }

    fn topic(&self) -> &str {
        &self.subscribed.source.topic
    }

    fn log_delay(&self, error: Option<Error>) {
        if let Some(error) = error {
            tracing::debug!(%error, topic = self.topic(), broker = &*self.name, "a receive is delayed");
        }
    }

    fn record_success(&mut self) {
        self.clear_refusal();
        if std::mem::take(&mut self.failing) {
            tracing::info!(
                topic = self.topic(),
                broker = &*self.name,
                "receiving from the topic works again"
            );
        }
    }

    fn record_failure(&mut self, error: &Error) {
        let was_failing = std::mem::replace(&mut self.failing, true);
        let (topic, broker) = (self.topic(), &*self.name);
        if retry_decision(error) == RetryDecision::Fail {
            if self.refused.is_none() {
                tracing::error!(%error, topic, broker, "the server refuses to deliver messages; trying again");
            }
            self.report_refusal(error);
        } else if was_failing {
            tracing::debug!(%error, topic, broker, "a receive failed again");
        } else {
            tracing::warn!(%error, topic, broker, "a receive failed; trying again");
        }
    }

    /// Reports the refusal in the client's health, because handlers don't see it.
    fn report_refusal(&mut self, error: &Error) {
        let Some(endpoint) = error.endpoint() else { return };
        let source = Some((self.subscribed.source.topic.clone(), self.name.clone()));
        let component = Component { endpoint: endpoint.into(), source };
        if self.refused.as_ref() != Some(&component) {
            self.clear_refusal();
        }
        self.inner.session().health().report(component.clone(), &error.clone().during("receive"));
        self.refused = Some(component);
    }

    fn clear_refusal(&mut self) {
        if let Some(component) = self.refused.take() {
            self.inner.session().health().clear(&component);
        }
    }
}

impl Drop for PushPoller {
    fn drop(&mut self) {
        self.clear_refusal();
        self.inner.state.lock().dispatch.remove_poll();
    }
}
