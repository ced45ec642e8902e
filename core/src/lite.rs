//! The lite topics of a lite consumer, which the client and its servers keep in step.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

use crate::{
    error::{Error, ErrorKind, Result},
    route::Routes,
    rpc::{Backoff, Retry, SyncLiteSubscription},
    session::Session,
    wire::{ILLEGAL_LITE_TOPIC, LITE_QUOTA_EXCEEDED, LiteChange, build_sync_lite},
};

/// How often the servers get the complete set, because they may lose it without a word.
const COMPLETE_SYNC: Duration = Duration::from_secs(30);

/// The most revocations that wait for the application. The oldest gives way.
const MAX_REVOCATIONS: usize = 4096;

/// The lite topics that a consumer is subscribed to, below one topic.
pub(crate) struct LiteTopics {
    session: Arc<Session>,
    routes: Arc<Routes>,
    group: String,
    topic: String,
    state: Mutex<State>,
    /// Held by the request under way, so that a complete set does not overtake a change.
    turn: tokio::sync::Mutex<()>,
    /// Makes the task send the complete set.
    incomplete: Notify,
    /// Changes when a server has revoked a subscription, or the consumer is closed.
    revocations: watch::Sender<u64>,
}

/// The lite topics that servers revoke, because another consumer of the group has taken them. Made by
/// `lite_revocations`. Cheap to clone; each revocation goes to one of the clones.
#[derive(Clone)]
pub struct LiteRevocations(pub(crate) Arc<LiteTopics>);

impl LiteRevocations {
    /// Waits for the next lite topic that is revoked. The consumer is no longer subscribed to it. `None` once the
    /// consumer is closed. Cancelling the future loses none.
    pub async fn next(&self) -> Option<String> {
        self.0.revoked().await
    }
}

impl fmt::Debug for LiteRevocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiteRevocations").field("topic", &self.0.topic).finish_non_exhaustive()
    }
}

/// The functions that lite consumers have. Their `lite` returns the lite topics, and their `run` runs a call.
macro_rules! lite_functions {
    ($Consumer:ident, $lite:literal) => {
        #[doc = concat!("Lite consumers, made by [`", $lite, "`](crate::", $lite, ").")]
        impl $Consumer {
            /// Subscribes to a lite topic below the topic that the group is bound to, if it is not subscribed to yet.
            /// Returns once the servers have it.
            ///
            /// The client repeats the complete set of lite topics every 30 s and after each reconnect. Cancelling the
            /// future does not cancel the change.
            ///
            /// # Errors
            ///
            /// `Throttled` with code 42902 if the consumer has as many lite topics as its group allows, and with code
            /// 42901 if the server has too many; `InvalidArgument` for a name that servers don't take, and if this is
            /// not a lite consumer; otherwise what a server says against it. The consumer is not subscribed then.
            pub async fn subscribe_lite(&self, lite_topic: &str) -> crate::Result<()> {
                const OPERATION: &str = "subscribe_lite";
                let topics = crate::lite::required(self.lite(), OPERATION)?;
                let name = lite_topic.to_owned();
                self.run(OPERATION, async move { topics.subscribe(&name).await }).await
            }

            /// Ends the subscription of a lite topic, if there is one. Returns once the servers know it. What was
            /// received stays valid, and what waits for a handler is still handled. Cancelling the future does not
            /// cancel the change.
            ///
            /// # Errors
            ///
            /// What a server says against it; `InvalidArgument` if this is not a lite consumer.
            pub async fn unsubscribe_lite(&self, lite_topic: &str) -> crate::Result<()> {
                const OPERATION: &str = "unsubscribe_lite";
                let topics = crate::lite::required(self.lite(), OPERATION)?;
                let name = lite_topic.to_owned();
                self.run(OPERATION, async move { topics.unsubscribe(&name).await }).await
            }

            /// The lite topics that the consumer is subscribed to, sorted. Empty if this is not a lite consumer.
            #[must_use]
            pub fn lite_topics(&self) -> Vec<String> {
                self.lite().map(|topics| topics.names()).unwrap_or_default()
            }

            /// The lite topics that servers revoke, to be waited for.
            ///
            /// # Errors
            ///
            /// `InvalidArgument` if this is not a lite consumer.
            pub fn lite_revocations(&self) -> crate::Result<crate::LiteRevocations> {
                crate::lite::required(self.lite(), "lite_revocations").map(crate::LiteRevocations)
            }
        }
    };
}
pub(crate) use lite_functions;

/// The lite topics of a consumer, for an operation that only lite consumers have.
///
/// # Errors
///
/// `InvalidArgument` if it is not a lite consumer.
pub(crate) fn required(lite: Option<&Arc<LiteTopics>>, operation: &'static str) -> Result<Arc<LiteTopics>> {
    lite.cloned().ok_or_else(|| {
        Error::new(ErrorKind::InvalidArgument, operation, "the consumer was not made as a lite consumer")
    })
}

#[derive(Default)]
struct State {
    names: BTreeSet<String>,
    /// Whether the servers have ever been told a name.
    told: bool,
    /// Those that servers have revoked and the application has not heard of.
    revoked: VecDeque<String>,
}

impl LiteTopics {
    /// An empty set, and the tasks that keep it in step until the session ends.
    pub(crate) fn start(
        session: Arc<Session>,
        routes: Arc<Routes>,
        group: impl Into<String>,
        topic: impl Into<String>,
    ) -> Arc<Self> {
        let this = Arc::new(Self {
            group: group.into(),
            topic: topic.into(),
            routes,
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            incomplete: Notify::new(),
            revocations: watch::Sender::new(0),
            session,
        });
        let connected = this.session.connected();
        let revoked = this.session.lite_revocations();
        this.session.spawn(this.clone().keep_complete(connected));
        this.session.spawn(this.clone().follow_revocations(revoked));
        this
    }

    /// Adds a lite topic, once all servers have it.
    ///
    /// # Errors
    ///
    /// The refusal of a server. Then the consumer is not subscribed.
    pub(crate) async fn subscribe(&self, name: &str) -> Result<()> {
        const OPERATION: &str = "subscribe_lite";
        let _turn = self.turn.lock().await;
        if self.state.lock().names.contains(name) {
            return Ok(());
        }
        self.check(name).map_err(|error| error.during(OPERATION))?;
        self.state.lock().told = true;
        let result = self.tell(OPERATION, LiteChange::Add, &[name.to_owned()]).await;
        match result {
            Ok(()) => drop(self.state.lock().names.insert(name.to_owned())),
            // Some of several servers may have accepted it.
            Err(_) => self.incomplete.notify_one(),
        }
        result
    }

    /// Removes a lite topic, if it is there.
    ///
    /// # Errors
    ///
    /// The refusal of a server. Then the consumer is still subscribed.
    pub(crate) async fn unsubscribe(&self, name: &str) -> Result<()> {
        let _turn = self.turn.lock().await;
        if !self.state.lock().names.contains(name) {
            return Ok(());
        }
        let result = self.tell("unsubscribe_lite", LiteChange::Remove, &[name.to_owned()]).await;
        match result {
            Ok(()) => drop(self.state.lock().names.remove(name)),
            Err(_) => self.incomplete.notify_one(),
        }
        result
    }

    /// The lite topics, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        self.state.lock().names.iter().cloned().collect()
    }

    /// Waits until a server has revoked a lite topic; `None` once the session has ended.
    pub(crate) async fn revoked(&self) -> Option<String> {
        let mut changes = self.revocations.subscribe();
        let next = async {
            loop {
                if let Some(name) = self.state.lock().revoked.pop_front() {
                    return Some(name);
                }
                changes.changed().await.ok()?;
            }
        };
        self.session.stop().run_until_cancelled(next).await.flatten()
    }

    /// Checks what servers leave to clients. The codes are those that servers have for it.
    fn check(&self, name: &str) -> Result<()> {
        let settings = self.session.consumer_settings();
        let invalid = |message: String| {
            let error = Error::new(ErrorKind::InvalidArgument, "subscribe_lite", message);
            Err(error.with_code(ILLEGAL_LITE_TOPIC))
        };
        if name.trim().is_empty() {
            return invalid("the name of the lite topic is empty".to_owned());
        }
        if let Some(max) = settings.max_lite_topic_size.filter(|max| name.len() > *max) {
            let size = name.len();
            return invalid(format!(
                "the name of the lite topic has {size} bytes; the server takes at most {max}"
            ));
        }
        let count = self.state.lock().names.len();
        if let Some(quota) = settings.lite_quota.filter(|quota| count >= *quota) {
            let message = format!("the group allows a consumer {quota} lite topics, and this one has them");
            let error = Error::new(ErrorKind::Throttled, "subscribe_lite", message);
            return Err(error.with_code(LITE_QUOTA_EXCEEDED));
        }
        Ok(())
    }

    /// Sends the complete set from time to time, and whenever a server may not have it.
    async fn keep_complete(self: Arc<Self>, mut connected: watch::Receiver<u64>) {
        let mut ticks = tokio::time::interval_at((Instant::now() + COMPLETE_SYNC).into(), COMPLETE_SYNC);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.incomplete.notified() => {}
                // Some servers forget the lite topics of a client whose stream ends.
                changed = connected.changed() => if changed.is_err() { return },
            }
            let mut backoff = Backoff::for_receiving();
            while let Err(error) = self.tell_all().await {
                tracing::debug!(%error, topic = self.topic, "the lite topics could not be sent; they are sent again");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }

    async fn tell_all(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        let names: Vec<String> = {
            let state = self.state.lock();
            if !state.told {
                return Ok(());
            }
            state.names.iter().cloned().collect()
        };
        self.tell("subscribe_lite", LiteChange::Complete, &names).await
    }

    /// Tells every server of the topic, with retries.
    async fn tell(&self, operation: &'static str, change: LiteChange, names: &[String]) -> Result<()> {
        let options = self.session.options();
        let deadline = crate::options::deadline(Instant::now(), options.operation_timeout);
        let servers = self.routes.get(&self.topic, deadline).await.map(|route| route.readable_servers());
        let servers = servers.map_err(|error| error.during(operation))?;
        let rpc = self.session.rpc();
        let requests = servers.iter().map(async |server| {
            let retry = Retry::new(operation, &options.retry, options.request_timeout, deadline);
            let tell_once = async |limit| {
                let link = self.session.ready(server, deadline).await?;
                let (group, topic) = (rpc.resource(&*self.group), rpc.resource(&*self.topic));
                let request = build_sync_lite(group, topic, change, names);
                let (origin, response) = rpc.unary::<SyncLiteSubscription>(&link, request, limit).await?;
                origin.check(response.status.as_ref()).map(drop)
            };
            retry.run(&*self.session, tell_once).await
        });
        try_join_all(requests).await.map_err(|error| error.during(operation))?;
        Ok(())
    }

    async fn follow_revocations(self: Arc<Self>, mut revoked: mpsc::Receiver<String>) {
        while let Some(name) = revoked.recv().await {
            {
                let mut state = self.state.lock();
                if !state.names.remove(&name) {
                    continue;
                }
                if state.revoked.len() == MAX_REVOCATIONS {
                    state.revoked.pop_front();
                }
                state.revoked.push_back(name.clone());
            }
            tracing::warn!(topic = self.topic, lite_topic = name, "a server has revoked a lite subscription");
            self.revocations.send_modify(|count| *count += 1);
        }
    }
}
