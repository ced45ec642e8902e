//! A protocol client's standing with its servers: settings exchanged over telemetry, presence kept by
//! heartbeats, a farewell at the end.

mod stream;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use parking_lot::Mutex;
use rocketmq_thin_proto::v2;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::stream::{Stream, StreamState};
use crate::{
    error::{Error, ErrorKind},
    options::{Address, ClientOptions, Endpoints, RetryOptions},
    rpc::{Link, NotifyClientTermination, Pool, ReplaySettings, Rpc, Servers, Verdict, verdict},
    wire::{Role, Settings, build_settings},
};

/// Servers forget a client that they haven't heard from for two minutes. Heartbeats also find dead connections:
/// two that time out end one, at most 25 s after the server fell silent.
const HEARTBEAT: Duration = Duration::from_secs(10);
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long calls wait for a lost telemetry stream to come back, before they go on with the settings it brought.
const STREAM_GRACE: Duration = Duration::from_secs(1);

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
    /// What the server said last.
    settings: Mutex<Settings>,
    streams: Mutex<HashMap<Address, Arc<Stream>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Session {
    /// A session without streams; its tasks end with it.
    pub(crate) fn new(rpc: Rpc, servers: Arc<Servers>, role: Role) -> Self {
        let inner = Arc::new(Inner {
            rpc,
            servers,
            role: Mutex::new(role),
            settings: Mutex::default(),
            streams: Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        inner.spawn(inner.clone().beat());
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
        *self.inner.settings.lock()
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

    /// Waits until one of the access points has sent settings.
    pub(crate) async fn start(&self, deadline: Instant) -> Result<(), Error> {
        self.ready(&self.inner.servers.access, deadline).await.map(drop)
    }

    /// The best address of `endpoints` that knows our settings.
    pub(crate) async fn ready(&self, endpoints: &Endpoints, deadline: Instant) -> Result<Arc<Link>, Error> {
        self.ready_telling(endpoints, deadline, |_| {}).await
    }

    /// As [`ready`](Self::ready). `tell` gets the errors that delay it.
    pub(crate) async fn ready_telling(
        &self,
        endpoints: &Endpoints,
        deadline: Instant,
        tell: impl Fn(Error),
    ) -> Result<Arc<Link>, Error> {
        loop {
            let link = self.inner.servers.pool.pick(endpoints)?;
            let mut state = self.inner.stream(&link).watch();
            let (before, until) = match &*state.borrow_and_update() {
                StreamState::Ready { .. } => return Ok(link),
                StreamState::Opening { failures, error, settings_since } => {
                    error.iter().for_each(|error| tell(error.clone()));
                    (*failures, settings_since.map(|since| since + STREAM_GRACE))
                }
            };
            // The settings of the earlier stream are still good.
            if until.is_some_and(|until| until <= Instant::now()) {
                return Ok(link);
            }
            let until = until.map_or(deadline, |until| until.min(deadline));
            // Woken by settings, or by a failure, after which another address may be better.
            let seen = wait_until(&mut state, until, |state| match state {
                StreamState::Ready { .. } => true,
                StreamState::Opening { failures, error, .. } => {
                    *failures > before || error.as_ref().is_some_and(|error| !error.retryable())
                }
            });
            match seen.await {
                Some(true) => {}
                Some(false) if until < deadline => return Ok(link),
                Some(false) => return Err(self.explain(&link, silence(&link, &state.borrow()))),
                None if self.inner.stop.is_cancelled() => return Err(Error::closed("telemetry")),
                // Given up just now; this call opens a new one.
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

    /// Says of an address that can't be reached where it came from, if the user never wrote it.
    pub(crate) fn explain(&self, link: &Link, error: Error) -> Error {
        let unreachable = error.kind() == ErrorKind::Unavailable && error.code().is_none();
        if !unreachable || error.maybe_delivered() || self.inner.servers.is_access(link) {
            return error;
        }
        let access = &self.inner.servers.access;
        error.explained(&format!("the server at {access} names this address for the topic"))
    }

    /// Sends our settings once more and waits until the server has them.
    pub(crate) async fn replay(&self, link: &Arc<Link>, deadline: Instant) -> Result<(), Error> {
        let deadline = deadline
            .min(crate::options::deadline(Instant::now(), self.inner.servers.options.request_timeout));
        let stream = self.inner.stream(link);
        let mut state = stream.watch();
        let before = match &*state.borrow() {
            StreamState::Ready { turn } => *turn,
            StreamState::Opening { .. } => 0,
        };
        stream.resend();
        let renewed = wait_until(
            &mut state,
            deadline,
            |state| matches!(state, StreamState::Ready { turn } if *turn > before),
        );
        match renewed.await {
            Some(true) => Ok(()),
            Some(false) => Err(silence(link, &state.borrow())),
            None => Err(Error::closed("telemetry")),
        }
    }

    /// Tells servers of one more topic that this producer sends to.
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

    /// Says good-bye to each server, at most until `deadline`, and ends all streams.
    pub(crate) async fn end(&self, deadline: Instant) {
        let farewells =
            self.inner.links(Stream::is_ready).into_iter().map(|link| self.farewell(link, deadline));
        join_all(farewells).await;
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        // Their connections end with the last stream that needs them.
        self.inner.streams.lock().clear();
    }

    async fn farewell(&self, link: Arc<Link>, deadline: Instant) {
        let limit = deadline
            .saturating_duration_since(Instant::now())
            .min(self.inner.servers.options.request_timeout);
        let request = v2::NotifyClientTerminationRequest { group: self.inner.group() };
        let result = self.inner.rpc.unary::<NotifyClientTermination>(&link, request, limit).await;
        if let Err(error) = result {
            tracing::debug!(%error, "the server heard no farewell");
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
}

impl Drop for Session {
    fn drop(&mut self) {
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
        self.streams.lock().remove(link.address());
    }

    /// The first command of a stream.
    fn own_settings(&self) -> v2::Settings {
        build_settings(&self.rpc, &self.servers, &self.role.lock())
    }

    fn group(&self) -> Option<v2::Resource> {
        match &*self.role.lock() {
            Role::Producer { .. } => None,
            Role::SimpleConsumer { group, .. } => Some(self.rpc.resource(group)),
        }
    }

    fn client_type(&self) -> v2::ClientType {
        match &*self.role.lock() {
            Role::Producer { .. } => v2::ClientType::Producer,
            Role::SimpleConsumer { .. } => v2::ClientType::SimpleConsumer,
        }
    }

    /// The links of the streams that pass `filter`.
    fn links(&self, filter: impl Fn(&Stream) -> bool) -> Vec<Arc<Link>> {
        self.streams.lock().values().filter(|stream| filter(stream)).map(|it| it.link().clone()).collect()
    }

    /// Keeps us known to every server that has our settings.
    async fn beat(self: Arc<Self>) {
        let mut ticks = tokio::time::interval_at((Instant::now() + HEARTBEAT).into(), HEARTBEAT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let links = self.links(Stream::has_settings);
            join_all(links.iter().map(|link| self.beat_once(link))).await;
        }
    }

    async fn beat_once(self: &Arc<Self>, link: &Arc<Link>) {
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

/// Whether `wanted` came true before the deadline; nothing when the stream is no more.
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
fn silence(link: &Link, state: &StreamState) -> Error {
    match state {
        StreamState::Opening { error: Some(error), .. } => error.clone(),
        _ => Error::new(ErrorKind::Timeout, "telemetry", "the server sent no settings in time")
            .with_retryable(true)
            .with_endpoint(link.name().to_string()),
    }
}
