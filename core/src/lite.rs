//! The lite topics of a lite consumer, and their synchronization with the servers.

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
    options::OffsetOption,
    route::Routes,
    rpc::{Backoff, Retry, SyncLiteSubscription, time_for_request},
    session::Session,
    wire::{ILLEGAL_LITE_TOPIC, LITE_QUOTA_EXCEEDED, LiteChange, build_sync_lite},
};

/// How often the complete set is sent to the servers, because they may lose it without notice.
const FULL_SYNC_INTERVAL: Duration = Duration::from_secs(30);

/// How many revocations wait for the application at most. Beyond that, the oldest is dropped.
const MAX_REVOCATIONS: usize = 4096;

/// The lite topics of one topic that a consumer is subscribed to.
pub(crate) struct LiteTopics {
    session: Arc<Session>,
    routes: Arc<Routes>,
    group: String,
    topic: String,
    state: Mutex<LiteState>,
    /// Held during a sync, so that a complete set does not overtake a change.
    sync_lock: tokio::sync::Mutex<()>,
    /// Makes the background task send the complete set.
    resync: Notify,
    /// Changes when a server has revoked a subscription, or the consumer is closed.
    revocations: watch::Sender<u64>,
}

/// The lite topics that servers revoke because another consumer of the group has taken them over. Returned by
/// `lite_revocations`. Cheap to clone; each revocation goes to one of the clones.
#[derive(Clone)]
pub struct LiteRevocations(pub(crate) Arc<LiteTopics>);

impl LiteRevocations {
    /// Waits for the next revoked lite topic, to which the consumer is no longer subscribed. Returns `None` once the
    /// consumer is closed. Cancelling the future loses no revocation.
    pub async fn next(&self) -> Option<String> {
        self.0.next_revocation().await
    }
}

impl fmt::Debug for LiteRevocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiteRevocations").field("topic", &self.0.topic).finish_non_exhaustive()
    }
}

/// Defines the functions of lite consumers. `$Consumer` needs a function `lite`, which returns the lite topics, and a
/// function `run`, which runs an operation.
macro_rules! lite_functions {
    ($Consumer:ident, $lite:literal) => {
        #[doc = concat!("For lite consumers, which are created with [`", $lite, "`](crate::", $lite, ").")]
        impl $Consumer {
            /// Subscribes to a lite topic of the topic that the group is bound to. Does nothing if the consumer is
            /// subscribed to it already. Returns once the servers have the subscription.
            ///
            /// The group continues where it was in the lite topic; [`subscribe_lite_from`](Self::subscribe_lite_from)
            /// starts elsewhere.
            ///
            /// The client repeats the complete set of lite topics every 30 s and after each reconnect. Cancelling the
            /// future does not cancel the change.
            ///
            /// # Errors
            ///
            /// `Throttled` with code 42902 if the consumer has as many lite topics as its group allows, and with code
            /// 42901 if the server has too many; `InvalidArgument` for a name that servers don't accept, and if this
            /// is not a lite consumer; otherwise the refusal of a server. On an error the consumer is not subscribed.
            pub async fn subscribe_lite(&self, lite_topic: &str) -> crate::Result<()> {
                const OPERATION: &str = "subscribe_lite";
                let topics = crate::lite::require_lite(self.lite(), OPERATION)?;
                let name = lite_topic.to_owned();
                self.run(OPERATION, async move { topics.subscribe(&name, None).await }).await
            }

            /// Subscribes to a lite topic as [`subscribe_lite`](Self::subscribe_lite) does, and moves the group to
            /// `start` in it. All consumers of the group share the position. If the consumer is subscribed already,
            /// nothing changes: unsubscribe first.
            ///
            /// # Errors
            ///
            /// As for [`subscribe_lite`](Self::subscribe_lite). Servers may have moved the group in spite of an error.
            pub async fn subscribe_lite_from(
                &self,
                lite_topic: &str,
                start: crate::OffsetOption,
            ) -> crate::Result<()> {
                const OPERATION: &str = "subscribe_lite";
                let topics = crate::lite::require_lite(self.lite(), OPERATION)?;
                let name = lite_topic.to_owned();
                self.run(OPERATION, async move { topics.subscribe(&name, Some(start)).await }).await
            }

            /// Ends the subscription of a lite topic, if there is one. Returns once the servers have ended it.
            /// Received deliveries stay valid, and waiting messages are still handled. Cancelling the future does not
            /// cancel the change.
            ///
            /// # Errors
            ///
            /// The refusal of a server; `InvalidArgument` if this is not a lite consumer.
            pub async fn unsubscribe_lite(&self, lite_topic: &str) -> crate::Result<()> {
                const OPERATION: &str = "unsubscribe_lite";
                let topics = crate::lite::require_lite(self.lite(), OPERATION)?;
                let name = lite_topic.to_owned();
                self.run(OPERATION, async move { topics.unsubscribe(&name).await }).await
            }

            /// The lite topics that the consumer is subscribed to, sorted. Empty if this is not a lite consumer.
            #[must_use]
            pub fn lite_topics(&self) -> Vec<String> {
                self.lite().map(|topics| topics.names()).unwrap_or_default()
            }

            /// Returns a handle that yields the lite topics that servers revoke.
            ///
            /// # Errors
            ///
            /// `InvalidArgument` if this is not a lite consumer.
            pub fn lite_revocations(&self) -> crate::Result<crate::LiteRevocations> {
                crate::lite::require_lite(self.lite(), "lite_revocations").map(crate::LiteRevocations)
            }
        }
    };
}
pub(crate) use lite_functions;

/// The lite topics of a consumer, for an operation that only lite consumers support.
///
/// # Errors
///
/// `InvalidArgument` if it is not a lite consumer.
pub(crate) fn require_lite(
    lite: Option<&Arc<LiteTopics>>,
    operation: &'static str,
) -> Result<Arc<LiteTopics>> {
    lite.cloned().ok_or_else(|| {
        Error::new(ErrorKind::InvalidArgument, operation, "the consumer is not a lite consumer")
    })
}

/// Refuses an operation that lite consumers don't support.
///
/// # Errors
///
/// `InvalidArgument` if it is a lite consumer.
pub(crate) fn refuse_lite(lite: Option<&Arc<LiteTopics>>, operation: &'static str) -> Result<()> {
    match lite {
        None => Ok(()),
        Some(_) => {
            let message = "a lite consumer subscribes to lite topics only";
            Err(Error::new(ErrorKind::InvalidArgument, operation, message))
        }
    }
}

#[derive(Default)]
struct LiteState {
    names: BTreeSet<String>,
    /// Whether a lite topic was ever sent to the servers.
    has_synced: bool,
    /// Revoked lite topics that the application has not taken yet.
    revoked: VecDeque<String>,
}

impl LiteTopics {
    /// Creates an empty set, and starts the tasks that synchronize it until the session ends.
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
            sync_lock: tokio::sync::Mutex::default(),
            resync: Notify::new(),
            revocations: watch::Sender::new(0),
            session,
        });
        let connected = this.session.connected();
        let revoked = this.session.lite_revocations();
        this.session.spawn(this.clone().keep_complete(connected));
        this.session.spawn(this.clone().follow_revocations(revoked));
        this
    }

    /// Subscribes to a lite topic at all servers, then adds it to the set. The group starts in it at `start`, or where
    /// it was.
    ///
    /// # Errors
    ///
    /// The refusal of a server. Then the consumer is not subscribed.
    pub(crate) async fn subscribe(&self, name: &str, start: Option<OffsetOption>) -> Result<()> {
        const OPERATION: &str = "subscribe_lite";
        let _guard = self.sync_lock.lock().await;
        if self.state.lock().names.contains(name) {
            return Ok(());
        }
        self.check(name).map_err(|error| error.during(OPERATION))?;
        self.state.lock().has_synced = true;
        let result = self.sync(OPERATION, LiteChange::Add(start), &[name.to_owned()]).await;
        match result {
            Ok(()) => drop(self.state.lock().names.insert(name.to_owned())),
            // Some of the servers may have accepted it.
            Err(_) => self.resync.notify_one(),
        }
        result
    }

    /// Unsubscribes from a lite topic at all servers, then removes it from the set.
    ///
    /// # Errors
    ///
    /// The refusal of a server. Then the consumer is still subscribed.
    pub(crate) async fn unsubscribe(&self, name: &str) -> Result<()> {
        let _guard = self.sync_lock.lock().await;
        if !self.state.lock().names.contains(name) {
            return Ok(());
        }
        let result = self.sync("unsubscribe_lite", LiteChange::Remove, &[name.to_owned()]).await;
        match result {
            Ok(()) => drop(self.state.lock().names.remove(name)),
            Err(_) => self.resync.notify_one(),
        }
        result
    }

    /// The lite topics, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        self.state.lock().names.iter().cloned().collect()
    }

    /// Waits for the next revoked lite topic; `None` once the session has ended.
    pub(crate) async fn next_revocation(&self) -> Option<String> {
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

    /// Checks a name and the quota, which servers leave to clients. Errors have the codes that servers define for them.
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
            let message = format!("the consumer has {quota} lite topics, which is the maximum in its group");
            let error = Error::new(ErrorKind::Throttled, "subscribe_lite", message);
            return Err(error.with_code(LITE_QUOTA_EXCEEDED));
        }
        Ok(())
    }

    /// Sends the complete set periodically, and whenever a server may lack it.
    async fn keep_complete(self: Arc<Self>, mut connected: watch::Receiver<u64>) {
        let mut ticks =
            tokio::time::interval_at((Instant::now() + FULL_SYNC_INTERVAL).into(), FULL_SYNC_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.resync.notified() => {}
                // Some servers drop the lite topics of a client when its stream ends.
                changed = connected.changed() => if changed.is_err() { return },
            }
            let mut backoff = Backoff::for_receiving();
            while let Err(error) = self.sync_complete().await {
                tracing::debug!(%error, topic = self.topic, "failed to send the lite topics; trying again");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }

    async fn sync_complete(&self) -> Result<()> {
        let _guard = self.sync_lock.lock().await;
        let names: Vec<String> = {
            let state = self.state.lock();
            if !state.has_synced {
                return Ok(());
            }
            state.names.iter().cloned().collect()
        };
        self.sync("subscribe_lite", LiteChange::Complete, &names).await
    }

    /// Sends a change to every server of the topic, with retries.
    async fn sync(&self, operation: &'static str, change: LiteChange, names: &[String]) -> Result<()> {
        let options = self.session.options();
        let deadline = crate::options::deadline(Instant::now(), options.operation_timeout);
        let servers = self.routes.get(&self.topic, deadline).await.map(|route| route.readable_servers());
        let servers = servers.map_err(|error| error.during(operation))?;
        let rpc = self.session.rpc();
        let requests = servers.iter().map(async |server| {
            let retry = Retry::new(operation, &options.retry, options.request_timeout, deadline);
            let sync_once = async |limit| {
                let channel = self.session.ready(server, deadline).await?;
                let (group, topic) = (rpc.resource(&*self.group), rpc.resource(&*self.topic));
                let request = build_sync_lite(group, topic, change, names);
                let limit = time_for_request(operation, deadline, limit)?;
                let (call, response) = rpc.unary::<SyncLiteSubscription>(&channel, request, limit).await?;
                call.check(response.status.as_ref()).map(drop)
            };
            retry.run(&*self.session, sync_once).await
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
