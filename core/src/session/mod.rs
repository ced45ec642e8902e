//! The session of a producer or consumer with its servers: settings exchanged over telemetry, heartbeats, and the
//! notification when it ends.

mod inbox;
mod observe;
mod stream;
mod subscriptions;
mod verification;

use std::{
    collections::HashMap,
    sync::{Arc, Once},
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
    health::{Component, SessionHealth},
    message::Orphan,
    metrics::Recorder,
    options::{Address, ClientOptions, Endpoints, RetryOptions},
    rpc::{
        Channel, ChannelPool, ClientContext, NotifyClientTermination, ReplaySettings, RetryDecision, Rpc,
        retry_decision,
    },
    wire::{ConsumerSettings, Role, Settings, build_settings},
};

/// Servers remove a client after two minutes without a heartbeat. Heartbeats also detect dead connections: two that time
/// out close the connection, at most 25 s after the server has stopped answering.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long calls wait for a lost telemetry stream to reopen. After that they use the settings of the lost stream.
const STREAM_GRACE: Duration = Duration::from_secs(1);

/// How long an application may take to set a checker. Orphan checks that arrive before it are repeated by the server.
const CHECKER_GRACE: Duration = Duration::from_secs(1);

/// How many orphan checks, and how many messages to verify, wait at most. Each holds a message in memory. The server
/// repeats an orphan check that is dropped.
const MAX_WAITING_MESSAGES: usize = 16;

/// How many revocations of lite topics wait at most. If one is dropped, the server repeats it when the consumer
/// subscribes again.
const MAX_WAITING_REVOCATIONS: usize = 4096;

/// The minimum time for notifying servers that a client ends, even if the deadline of the close has passed. Servers that
/// are not notified keep the client's resources.
const MIN_TERMINATION_TIME: Duration = Duration::from_millis(250);

/// The session of one producer or consumer. Has a telemetry stream for each address that it talks to.
#[derive(Debug)]
pub(crate) struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    rpc: Rpc,
    context: Arc<ClientContext>,
    role: Mutex<Role>,
    /// The settings that a server sent last.
    settings: Mutex<Settings>,
    health: Arc<SessionHealth>,
    streams: Mutex<HashMap<Address, Arc<Stream>>>,
    orphans: Inbox<Orphan>,
    /// For the warning that an orphan check has arrived, but there is no checker.
    no_checker: Once,
    began: tokio::time::Instant,
    revocations: Inbox<String>,
    verifications: Inbox<Verification>,
    /// Counts the streams that have received settings.
    connected: watch::Sender<u64>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Session {
    /// Creates a session without streams. Its tasks end when it is dropped.
    pub(crate) fn new(rpc: Rpc, context: Arc<ClientContext>, role: Role) -> Self {
        let health = context.monitor.register_session();
        let inner = Arc::new(Inner {
            rpc,
            context,
            role: Mutex::new(role),
            settings: Mutex::default(),
            health,
            streams: Mutex::default(),
            orphans: Inbox::new(MAX_WAITING_MESSAGES),
            no_checker: Once::new(),
            began: tokio::time::Instant::now(),
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

    pub(crate) fn pool(&self) -> &ChannelPool {
        &self.inner.context.pool
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.inner.context.options
    }

    pub(crate) fn settings(&self) -> Settings {
        self.inner.settings.lock().clone()
    }

    /// The server's settings for a consumer; defaults until a server has sent some.
    pub(crate) fn consumer_settings(&self) -> Arc<ConsumerSettings> {
        self.inner.settings.lock().consumer.clone().unwrap_or_default()
    }

    /// Subscribes to the orphan checks for this producer. Without a subscriber they are dropped.
    pub(crate) fn orphan_checks(&self) -> mpsc::Receiver<Orphan> {
        self.inner.orphans.subscribe()
    }

    /// A receiver that changes when a new telemetry stream has received settings.
    pub(crate) fn connected(&self) -> watch::Receiver<u64> {
        self.inner.connected.subscribe()
    }

    /// Subscribes to the lite topics that servers revoke.
    pub(crate) fn lite_revocations(&self) -> mpsc::Receiver<String> {
        self.inner.revocations.subscribe()
    }

    /// Subscribes to the messages that servers want this consumer to verify. Without a subscriber, servers get the reply
    /// that the command is not supported.
    pub(crate) fn verifications(&self) -> mpsc::Receiver<Verification> {
        self.inner.verifications.subscribe()
    }

    /// A token that is cancelled when the session ends.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.inner.stop
    }

    /// Spawns `work`, which is dropped when the session ends.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.inner.spawn(work);
    }

    /// The retry options of the user, with the pauses that the server has set.
    pub(crate) fn retry(&self) -> RetryOptions {
        let options = self.inner.context.options.retry;
        match self.settings().pauses {
            Some((initial, max)) => RetryOptions { initial, max, ..options },
            None => options,
        }
    }

    /// Starts to connect to a server at the user's endpoints, without waiting for it.
    pub(crate) fn connect_in_background(&self) -> Result<(), Error> {
        let channel = self.inner.context.pick_configured()?;
        self.inner.stream(&channel);
        Ok(())
    }

    /// Waits until a server at the user's endpoints has sent settings.
    pub(crate) async fn wait_until_ready(&self, deadline: Instant) -> Result<(), Error> {
        self.ready(&self.inner.context.configured_endpoints, deadline).await.map(drop)
    }

    /// Waits until the best address of `endpoints` has the settings of this client.
    pub(crate) async fn ready(
        &self,
        endpoints: &Endpoints,
        deadline: Instant,
    ) -> Result<Arc<Channel>, Error> {
        self.ready_reporting(endpoints, deadline, |_| {}).await
    }

    /// Like [`ready`](Self::ready). Calls `on_error` with each error that delays it.
    pub(crate) async fn ready_reporting(
        &self,
        endpoints: &Endpoints,
        deadline: Instant,
        on_error: impl Fn(Error),
    ) -> Result<Arc<Channel>, Error> {
        loop {
            let channel = self.inner.context.pool.pick(endpoints)?;
            let mut state = self.inner.stream(&channel).watch();
            let (before, until) = match &*state.borrow_and_update() {
                StreamState::Ready { .. } => return Ok(channel),
                StreamState::Opening { failures, error, lost_at } => {
                    error.iter().for_each(|error| on_error(error.clone()));
                    (*failures, lost_at.map(|since| since + STREAM_GRACE))
                }
            };
            // The settings of the lost stream are still valid.
            if until.is_some_and(|until| until <= Instant::now()) {
                return Ok(channel);
            }
            let until = until.map_or(deadline, |until| until.min(deadline));
            // Waits for settings, or for a failure, after which another address may be better.
            let seen = wait_until(&mut state, until, |state| match state {
                StreamState::Ready { .. } => true,
                StreamState::Opening { failures, error, .. } => {
                    *failures > before || error.as_ref().is_some_and(|error| !error.retryable())
                }
            });
            match seen.await {
                Some(true) => {}
                Some(false) if until < deadline => return Ok(channel),
                Some(false) => {
                    return Err(self.explain(&channel, missing_settings(&channel, &state.borrow())));
                }
                None if self.inner.stop.is_cancelled() => return Err(Error::closed("telemetry")),
                // The stream has just been given up. The next iteration opens a new one.
                None => continue,
            }
            match &*state.borrow() {
                StreamState::Ready { .. } => return Ok(channel),
                StreamState::Opening { error: Some(error), lost_at: None, .. }
                    if retry_decision(error) == RetryDecision::Fail =>
                {
                    return Err(error.clone());
                }
                StreamState::Opening { .. } => {}
            }
        }
    }

    /// Adds to the error of an unreachable address which server named the address, unless the user gave it.
    pub(crate) fn explain(&self, channel: &Channel, error: Error) -> Error {
        let unreachable = error.kind() == ErrorKind::Unavailable && error.code().is_none();
        if !unreachable || error.maybe_delivered() || self.inner.context.is_configured(channel) {
            return error;
        }
        let asked = &self.inner.context.configured_endpoints;
        error.explained(&format!("the server at {asked} names this address for the topic"))
    }

    /// Sends the settings again and waits until the server has them.
    pub(crate) async fn replay(&self, channel: &Arc<Channel>, deadline: Instant) -> Result<(), Error> {
        let deadline = deadline
            .min(crate::options::deadline(Instant::now(), self.inner.context.options.request_timeout));
        let stream = self.inner.stream(channel);
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
            Some(false) => Err(missing_settings(channel, &state.borrow())),
            None => Err(Error::closed("telemetry")),
        }
    }

    /// The health of this session, to which failures are reported.
    pub(crate) fn health(&self) -> &SessionHealth {
        &self.inner.health
    }

    /// Notifies the servers that this producer sends to one more topic.
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

    /// Notifies each server that the client ends, and closes all streams. Takes until `deadline` or
    /// [`MIN_TERMINATION_TIME`] at most, whichever is later.
    pub(crate) async fn end(&self, deadline: Instant) {
        let notifications =
            self.inner.channels(Stream::is_ready).into_iter().map(|channel| self.notify_termination(channel));
        let until = deadline.max(Instant::now() + MIN_TERMINATION_TIME);
        // A timeout here says nothing about the servers, so it is ignored.
        let _ = tokio::time::timeout_at(until.into(), join_all(notifications)).await;
        self.inner.health.end();
        self.inner.stop.cancel();
        self.inner.tasks.close();
        // A handler that blocks its thread does not end. Others end at once.
        let until = until.max(Instant::now() + MIN_TERMINATION_TIME);
        let _ = tokio::time::timeout_at(until.into(), self.inner.tasks.wait()).await;
        // A connection closes with the last stream that uses it.
        self.inner.streams.lock().clear();
    }

    async fn notify_termination(&self, channel: Arc<Channel>) {
        let limit = self.inner.context.options.request_timeout;
        let request = v2::NotifyClientTerminationRequest { group: self.inner.group() };
        let result = self.inner.rpc.unary::<NotifyClientTermination>(&channel, request, limit).await;
        if let Err(error) = result {
            tracing::debug!(%error, "failed to notify the server that the client ends");
        }
    }
}

impl ReplaySettings for Session {
    async fn replay_settings(&self, error: &Error, deadline: Instant) -> Result<(), Error> {
        match error.endpoint().and_then(|name| self.pool().find(name)) {
            Some(channel) => self.replay(&channel, deadline).await,
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

    /// The stream to an address. Opens one if there is none.
    fn stream(self: &Arc<Self>, channel: &Arc<Channel>) -> Arc<Stream> {
        let mut streams = self.streams.lock();
        if let Some(stream) = streams.get(channel.address()) {
            return stream.clone();
        }
        let (stream, work) = Stream::open(self.clone(), channel.clone());
        self.spawn(work);
        let stream = Arc::new(stream);
        streams.insert(channel.address().clone(), stream.clone());
        stream
    }

    /// Removes the stream to an address, which was given up.
    fn remove_stream(&self, channel: &Channel) {
        self.health.clear(&Component::telemetry(channel.name()));
        self.streams.lock().remove(channel.address());
    }

    /// The settings of this client, which are the first command of every stream.
    fn own_settings(&self) -> v2::Settings {
        build_settings(&self.rpc, &self.context, &self.role.lock())
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

    /// The channels of the streams that match `filter`.
    fn channels(&self, filter: impl Fn(&Stream) -> bool) -> Vec<Arc<Channel>> {
        self.streams.lock().values().filter(|stream| filter(stream)).map(|it| it.channel().clone()).collect()
    }

    /// Sends a heartbeat periodically to every server that has the settings.
    async fn send_heartbeats(self: Arc<Self>) {
        let mut ticks =
            tokio::time::interval_at((Instant::now() + HEARTBEAT_INTERVAL).into(), HEARTBEAT_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let channels = self.channels(Stream::has_settings);
            join_all(channels.iter().map(|channel| self.heartbeat(channel))).await;
        }
    }

    async fn heartbeat(self: &Arc<Self>, channel: &Arc<Channel>) {
        let limit = self.context.options.request_timeout.min(HEARTBEAT_TIMEOUT);
        let request = v2::HeartbeatRequest { group: self.group(), client_type: self.client_type().into() };
        let answer = self.rpc.heartbeat(channel, request, limit).await;
        let Err(error) = answer.and_then(|(call, response)| call.check(response.status.as_ref())) else {
            return;
        };
        tracing::debug!(%error, "a heartbeat failed");
        if retry_decision(&error) == RetryDecision::Replay {
            self.stream(channel).resend();
        }
    }
}

/// Waits until the state is `wanted`. Returns whether that happened before the deadline; `None` if the stream was given
/// up.
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

/// The error of a stream that has not received settings in time.
fn missing_settings(channel: &Channel, state: &StreamState) -> Error {
    match state {
        StreamState::Opening { error: Some(error), .. } => error.clone(),
        _ => Error::new(ErrorKind::Timeout, "telemetry", "the server sent no settings in time")
            .with_retryable(true)
            .with_endpoint(channel.name().to_string()),
    }
}
