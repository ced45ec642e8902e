//! The subscriptions of a consumer, which may change while it runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, ErrorKind, Result},
    message::Group,
    options::{DecodeOptions, Subscription},
    route::Routes,
    session::Session,
    wire::Source,
};

/// One subscription of a consumer.
pub(crate) struct Subscribed {
    /// Unique within the consumer. A new subscription of the same topic gets a new id.
    pub(crate) id: u64,
    pub(crate) source: Arc<Source>,
    /// Cancelled when the subscription or the consumer ends.
    pub(crate) stop: CancellationToken,
}

/// The subscriptions of a consumer.
pub(crate) struct Subscriptions {
    pub(crate) session: Arc<Session>,
    pub(crate) routes: Arc<Routes>,
    group: Arc<Group>,
    max_body_size: usize,
    ids: AtomicU64,
    current: watch::Sender<Arc<[Arc<Subscribed>]>>,
    /// Held during a change, so that changes run one at a time.
    change: tokio::sync::Mutex<()>,
    stop: CancellationToken,
}

impl Subscriptions {
    pub(crate) fn new(
        session: Arc<Session>,
        routes: Arc<Routes>,
        group: Arc<Group>,
        (sources, decode): (Vec<Subscription>, DecodeOptions),
    ) -> Arc<Self> {
        let stop = session.stop().child_token();
        let this = Self {
            session,
            routes,
            group,
            max_body_size: decode.max_body_size,
            ids: AtomicU64::new(0),
            current: watch::Sender::new(Arc::new([])),
            change: tokio::sync::Mutex::default(),
            stop,
        };
        let subscribed = sources.into_iter().map(|it| this.new_subscription(it)).collect();
        this.current.send_replace(subscribed);
        Arc::new(this)
    }

    /// A receiver of the current subscriptions.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<[Arc<Subscribed>]>> {
        self.current.subscribe()
    }

    pub(crate) fn current(&self) -> Arc<[Arc<Subscribed>]> {
        self.current.borrow().clone()
    }

    /// The current subscriptions, as the application gave them.
    pub(crate) fn list(&self) -> Vec<Subscription> {
        let subscribed = self.current();
        subscribed.iter().map(|it| Subscription::new(&*it.source.topic, it.source.filter.clone())).collect()
    }

    /// Cancels all polls.
    pub(crate) fn close(&self) {
        self.stop.cancel();
    }

    /// The token that is cancelled when the consumer ends.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Adds a subscription, or replaces the subscription of the same topic. Returns whether one was replaced.
    ///
    /// # Errors
    ///
    /// A missing topic, or the refusal of a server. The subscriptions do not change then.
    pub(crate) async fn subscribe(&self, subscription: Subscription) -> Result<bool> {
        if let Some(flaw) = subscription.flaw() {
            return Err(Error::new(ErrorKind::InvalidArgument, "subscribe", flaw));
        }
        let _guard = self.change.lock().await;
        let before = self.current.borrow().clone();
        let old = before.iter().find(|it| *it.source.topic == *subscription.topic);
        if old.is_some_and(|old| old.source.filter == subscription.filter) {
            return Ok(false);
        }
        let timeout = self.session.options().operation_timeout;
        let deadline = crate::options::deadline(Instant::now(), timeout);
        self.routes.get(&subscription.topic, deadline).await?.readable_brokers()?;
        let new = subscription.clone();
        self.session
            .change_subscriptions(deadline, |all| {
                all.retain(|it| it.topic != new.topic);
                all.push(new);
            })
            .await?;
        self.replace(&subscription.topic.clone(), Some(subscription));
        Ok(old.is_some())
    }

    /// Removes the subscription of a topic. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// The refusal of a server. The subscriptions do not change then.
    pub(crate) async fn unsubscribe(&self, topic: &str) -> Result<bool> {
        let _guard = self.change.lock().await;
        if !self.current.borrow().iter().any(|it| *it.source.topic == *topic) {
            return Ok(false);
        }
        let timeout = self.session.options().operation_timeout;
        let deadline = crate::options::deadline(Instant::now(), timeout);
        self.session.change_subscriptions(deadline, |all| all.retain(|it| it.topic != topic)).await?;
        self.replace(topic, None);
        Ok(true)
    }

    fn replace(&self, topic: &str, subscription: Option<Subscription>) {
        let before = self.current.borrow().clone();
        let (old, mut all) = before.iter().cloned().partition::<Vec<_>, _>(|it| *it.source.topic == *topic);
        all.extend(subscription.map(|it| self.new_subscription(it)));
        self.current.send_replace(all.into());
        for subscribed in old {
            subscribed.stop.cancel();
        }
    }

    fn new_subscription(&self, Subscription { topic, filter }: Subscription) -> Arc<Subscribed> {
        let source = Source {
            group: self.group.clone(),
            topic: topic.into(),
            filter,
            max_body_size: self.max_body_size,
        };
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        Arc::new(Subscribed { id, source: Arc::new(source), stop: self.stop.child_token() })
    }
}
