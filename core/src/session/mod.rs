//! A protocol client as its servers see it: settings exchanged over telemetry, heartbeats, and a notice at the end.

mod inbox;
mod observe;
mod stream;
mod subscriptions;
mod verification;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use parking_lot::Mutex;
use rocketmq_thin_proto::v2;
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::verification::{Verification, VerificationReply};
use self::{
    inbox::Inbox,
    stream::{Stream, StreamState},
};
use crate::{
    error::{Error, ErrorKind},
    health::{Part, SessionHealth},
    message::Orphan,
    metrics::Recorder,
    options::{Address, ClientOptions, Endpoints, RetryOptions},
    rpc::{Link, NotifyClientTermination, Pool, ReplaySettings, Rpc, Servers, Verdict, verdict},
    wire::{ConsumerSettings, Role, Settings, build_settings},
};

/// Servers forget a client that they haven't heard from for two minutes. Heartbeats also find dead connections:
/// two that time out end one, at most 25 s after the server fell silent.
const HEARTBEAT: Duration = Duration::from_secs(10);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long calls wait for a lost telemetry stream to come back, before they go on with the settings it brought.
const STREAM_GRACE: Duration = Duration::from_secs(1);

/// The most orphan checks, or messages to verify, that wait. Each holds a message. The server repeats a check that is
/// dropped.
const MAX_WAITING_MESSAGES: usize = 16;

/// The most revocations of lite topics that wait. The server repeats one that is dropped when the consumer subscribes
/// again.
const MAX_WAITING_REVOCATIONS: usize = 4096;

/// How long servers are told that a client ends after a close whose time is up. Without being told, they keep what it holds.
const GOOD_BYE: Duration = Duration::from_millis(250);

/// One protocol client and its telemetry streams, one for each address it talks to.
#[derive(Debug)]
pub(crate) struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    rpc: Rpc,
    servers: Arc<Servers>,
    role: Mutex<Role>,
    /// The server's latest settings.
    settings: Mutex<Settings>,
    health: Arc<SessionHealth>,
    streams: Mutex<HashMap<Address, Arc<Stream>>>,
    orphans: Inbox<Orphan>,
    revocations: Inbox<String>,
    verifications: Inbox<Verification>,
    /// How many streams have brought settings.
    connected: watch::Sender<u64>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Session {
    /// A session without streams. Its tasks end when it is dropped.
    pub(crate) fn new(rpc: Rpc, servers: Arc<Servers>, role: Role) -> Self {
        let health = servers.monitor.watch_session();
        let inner = Arc::new(Inner {
            rpc,
            servers,
            role: Mutex::new(role),
            settings: Mutex::default(),
            health,
            streams: Mutex::default(),
            orphans: Inbox::new(MAX_WAITING_MESSAGES),
            revocations: Inbox::new(MAX_WAITING_REVOCATIONS),
            verifications: Inbox::new(MAX_WAITING_MESSAGES),
            connected: watch::Sender::new(0),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        inner.spawn(inner.clone().send_heartbeats());
        Self { inner }
    }

    pub(crate) fn rpc(&self) -> &Rpc {
        &self.inner.rpc
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.inner.servers.pool
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.inner.servers.options
    }

    pub(crate) fn settings(&self) -> Settings {
        self.inner.settings.lock().clone()
    }

    /// The server's settings for a consumer.
    pub(crate) fn consumer_settings(&self) -> Arc<ConsumerSettings> {
        self.inner.settings.lock().consumer.clone().unwrap_or_default()
    }

    /// The orphan checks that servers ask this producer for. Without a subscriber they are dropped.
    pub(crate) fn orphan_checks(&self) -> mpsc::Receiver<Orphan> {
        self.inner.orphans.subscribe()
    }

    /// Changes when a new telemetry stream has brought the settings of its server.
    pub(crate) fn connected(&self) -> watch::Receiver<u64> {
        self.inner.connected.subscribe()
    }

    /// The lite topics that servers revoke from now on.
    pub(crate) fn lite_revocations(&self) -> mpsc::Receiver<String> {
        self.inner.revocations.subscribe()
    }

    /// The messages that servers want this consumer to verify. Without a subscriber they are told that it can't.
    pub(crate) fn verifications(&self) -> mpsc::Receiver<Verification> {
        self.inner.verifications.subscribe()
    }

    /// A token that is cancelled when the session ends.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.inner.stop
    }

    /// Runs `work` until it or the session ends.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.inner.spawn(work);
    }

    /// The user's number of attempts at the server's pace.
    pub(crate) fn retry(&self) -> RetryOptions {
        let options = self.inner.servers.options.retry;
        match self.settings().pauses {
            Some((initial, max)) => RetryOptions { initial, max, ..options },
            None => options,
        }
    }

    /// Begins to connect to a server at the user's endpoints, without waiting for it.
    pub(crate) fn begin(&self) -> Result<(), Error> {
        let link = self.inner.servers.pick_access()?;
        self.inner.stream(&link);
        Ok(())
    }

    /// Waits until a server at the user's endpoints has sent settings.
    pub(crate) async fn start(&self, deadline: Instant) -> Result<(), Error> {
        self.ready(&self.inner.servers.access, deadline).await.map(drop)
    }

    /// The best address of `endpoints` that has the settings of this client.
    pub(crate) async fn ready(&self, endpoints: &Endpoints, deadline: Instant) -> Result<Arc<Link>, Error> {
        self.ready_reporting(endpoints, deadline, |_| {}).await
    }

    /// As [`ready`](Self::ready). `on_error` gets the errors that delay it.
    pub(crate) async fn ready_reporting(
        &self,
        endpoints: &Endpoints,
        deadline: Instant,
        on_error: impl Fn(Error),
    ) -> Result<Arc<Link>, Error> {
        loop {
            let link = self.inner.servers.pool.pick(endpoints)?;
            let mut state = self.inner.stream(&link).watch();
            let (before, until) = match &*state.borrow_and_update() {
                StreamState::Ready { .. } => return Ok(link),
                StreamState::Opening { failures, error, settings_since } => {
                    error.iter().for_each(|error| on_error(error.clone()));
                    (*failures, settings_since.map(|since| since + STREAM_GRACE))
                }
            };
            // The settings of the earlier stream are still good.
            if until.is_some_and(|until| until <= Instant::now()) {
                return Ok(link);
            }
            let until = until.map_or(deadline, |until| until.min(deadline));
            // Ends with settings, or with a failure, after which another address may be better.
            let seen = wait_until(&mut state, until, |state| match state {
                StreamState::Ready { .. } => true,
                StreamState::Opening { failures, error, .. } => {
                    *failures > before || error.as_ref().is_some_and(|error| !error.retryable())
                }
            });
            match seen.await {
                Some(true) => {}
                Some(false) if until < deadline => return Ok(link),
                Some(false) => return Err(self.explain(&link, missing_settings(&link, &state.borrow()))),
                None if self.inner.stop.is_cancelled() => return Err(Error::closed("telemetry")),
                // The stream was given up just now. The next round opens a new one.
                None => continue,
            }
            match &*state.borrow() {
                StreamState::Ready { .. } => return Ok(link),
                StreamState::Opening { error: Some(error), settings_since: None, .. }
                    if verdict(error) == Verdict::Fail =>
                {
                    return Err(error.clone());
                }
                StreamState::Opening { .. } => {}
            }
        }
    }

    /// Adds to the error of an unreachable address where the address came from, unless the user gave it.
    pub(crate) fn explain(&self, link: &Link, error: Error) -> Error {
        let unreachable = error.kind() == ErrorKind::Unavailable && error.code().is_none();
        if !unreachable || error.maybe_delivered() || self.inner.servers.is_access(link) {
            return error;
        }
        let access = &self.inner.servers.access;
        error.explained(&format!("the server at {access} names this address for the topic"))
    }

    /// Sends the settings again and waits until the server has them.
    pub(crate) async fn replay(&self, link: &Arc<Link>, deadline: Instant) -> Result<(), Error> {
        let deadline = deadline
            .min(crate::options::deadline(Instant::now(), self.inner.servers.options.request_timeout));
        let stream = self.inner.stream(link);
        let mut state = stream.watch();
        let before = match &*state.borrow() {
            StreamState::Ready { received } => *received,
            StreamState::Opening { .. } => 0,
        };
        stream.resend();
        let renewed = wait_until(
            &mut state,
            deadline,
            |state| matches!(state, StreamState::Ready { received } if *received > before),
        );
        match renewed.await {
            Some(true) => Ok(()),
            Some(false) => Err(missing_settings(link, &state.borrow())),
            None => Err(Error::closed("telemetry")),
        }
    }

    /// Where it is noted what does not work.
    pub(crate) fn health(&self) -> &SessionHealth {
        &self.inner.health
    }

    /// Tells the servers that this producer sends to one more topic.
    pub(crate) fn publish(&self, topic: &str) {
        if let Role::Producer { topics } = &mut *self.inner.role.lock() {
            if topics.iter().any(|known| known == topic) {
                return;
            }
            topics.push(topic.to_owned());
        }
        for stream in self.inner.streams.lock().values() {
            stream.resend();
        }
    }

    /// Tells each server that the client ends, at most until `deadline` or for [`GOOD_BYE`], and ends all streams.
    pub(crate) async fn end(&self, deadline: Instant) {
        let notifications =
            self.inner.links(Stream::is_ready).into_iter().map(|link| self.notify_termination(link));
        let until = deadline.max(Instant::now() + GOOD_BYE);
        // A wait that is cut short says nothing about the servers.
        let _ = tokio::time::timeout_at(until.into(), join_all(notifications)).await;
        self.inner.health.end();
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        // Their connections end with the last stream that needs them.
        self.inner.streams.lock().clear();
    }

    async fn notify_termination(&self, link: Arc<Link>) {
        let limit = self.inner.servers.options.request_timeout;
        let request = v2::NotifyClientTerminationRequest { group: self.inner.group() };
        let result = self.inner.rpc.unary::<NotifyClientTermination>(&link, request, limit).await;
        if let Err(error) = result {
            tracing::debug!(%error, "the server could not be told that the client ends");
        }
    }
}

impl ReplaySettings for Session {
    async fn replay_settings(&self, error: &Error, deadline: Instant) -> Result<(), Error> {
        match error.endpoint().and_then(|name| self.pool().find(name)) {
            Some(link) => self.replay(&link, deadline).await,
            None => Ok(()),
        }
    }

    fn metrics(&self) -> Option<&Recorder> {
        Some(self.pool().metrics())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.inner.health.end();
        self.inner.stop.cancel();
    }
}

impl Inner {
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(work).await;
        });
    }

    /// The stream to an address, opened if there is none.
    fn stream(self: &Arc<Self>, link: &Arc<Link>) -> Arc<Stream> {
        let mut streams = self.streams.lock();
        if let Some(stream) = streams.get(link.address()) {
            return stream.clone();
        }
        let (stream, work) = Stream::open(self.clone(), link.clone());
        self.spawn(work);
        let stream = Arc::new(stream);
        streams.insert(link.address().clone(), stream.clone());
        stream
    }

    fn forget(&self, link: &Link) {
        self.health.good(&Part::telemetry(link.name()));
        self.streams.lock().remove(link.address());
    }

    /// The first command of a stream.
    fn own_settings(&self) -> v2::Settings {
        build_settings(&self.rpc, &self.servers, &self.role.lock())
    }

    fn group(&self) -> Option<v2::Resource> {
        match &*self.role.lock() {
            Role::Producer { .. } => None,
            Role::Consumer { group, .. } => Some(self.rpc.resource(group)),
        }
    }

    fn client_type(&self) -> v2::ClientType {
        self.role.lock().client_type()
    }

    /// The links of the streams that pass `filter`.
    fn links(&self, filter: impl Fn(&Stream) -> bool) -> Vec<Arc<Link>> {
        self.streams.lock().values().filter(|stream| filter(stream)).map(|it| it.link().clone()).collect()
    }

    /// Sends a heartbeat to every server that has the settings, again and again.
    async fn send_heartbeats(self: Arc<Self>) {
        let mut ticks = tokio::time::interval_at((Instant::now() + HEARTBEAT).into(), HEARTBEAT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let links = self.links(Stream::has_settings);
            join_all(links.iter().map(|link| self.heartbeat(link))).await;
        }
    }

    async fn heartbeat(self: &Arc<Self>, link: &Arc<Link>) {
        let limit = self.servers.options.request_timeout.min(HEARTBEAT_TIMEOUT);
        let request = v2::HeartbeatRequest { group: self.group(), client_type: self.client_type().into() };
        let answer = self.rpc.heartbeat(link, request, limit).await;
        let Err(error) = answer.and_then(|(origin, response)| origin.check(response.status.as_ref())) else {
            return;
        };
        tracing::debug!(%error, "a heartbeat failed");
        if verdict(&error) == Verdict::Replay {
            self.stream(link).resend();
        }
    }
}

/// Whether `wanted` came true before the deadline; `None` if the stream was given up.
async fn wait_until(
    state: &mut watch::Receiver<StreamState>,
    deadline: Instant,
    wanted: impl FnMut(&StreamState) -> bool,
) -> Option<bool> {
    match tokio::time::timeout_at(deadline.into(), state.wait_for(wanted)).await {
        Ok(Ok(_)) => Some(true),
        Ok(Err(_)) => None,
        Err(_) => Some(false),
    }
}

/// What kept settings from coming in time.
fn missing_settings(link: &Link, state: &StreamState) -> Error {
    match state {
        StreamState::Opening { error: Some(error), .. } => error.clone(),
        _ => Error::new(ErrorKind::Timeout, "telemetry", "the server sent no settings in time")
            .with_retryable(true)
            .with_endpoint(link.name().to_string()),
    }
}
