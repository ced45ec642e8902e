//! One address of a server: its connections, and whether it has answered lately.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rocketmq_thin_proto::KEEPS_BATCHES;
use tonic::metadata::MetadataMap;

use super::{
    connection::Connection,
    connections::{Connections, PollSlot},
    transport::Transport,
};
use crate::{
    error::{Error, ErrorKind},
    health::Monitor,
    metrics::Recorder,
    options::Address,
};

/// How long an address is avoided after its first failure. Doubles with each further failure.
const MIN_AVOIDANCE: Duration = Duration::from_secs(1);
const MAX_AVOIDANCE: Duration = Duration::from_secs(30);

/// One address of a server, shared by all requests to it.
pub(crate) struct Channel {
    address: Address,
    name: Arc<str>,
    connections: Arc<Connections>,
    state: Mutex<ChannelState>,
    monitor: Arc<Monitor>,
    /// Whether the latest answer said that several messages may share a request.
    keeps_batches: AtomicBool,
}

#[derive(Debug)]
struct ChannelState {
    health: ChannelHealth,
    /// The latest failure; `None` unless the health is bad.
    error: Option<Error>,
}

/// Whether an address works, according to the latest calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelHealth {
    Untried,
    Good,
    Bad { failures: u32, until: Instant },
}

impl Channel {
    pub(super) fn new(
        address: Address,
        transport: Transport,
        monitor: Arc<Monitor>,
        metrics: Arc<Recorder>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: Arc::from(address.to_string()),
            connections: Connections::new(address.clone(), transport, metrics),
            address,
            state: Mutex::new(ChannelState { health: ChannelHealth::Untried, error: None }),
            monitor,
            keeps_batches: AtomicBool::new(false),
        })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The address as text.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
        self.connections.count()
    }

    /// The connection for short calls. Opens one if there is none.
    pub(super) async fn for_call(&self, deadline: Instant) -> Result<Arc<Connection>, Error> {
        self.connect_until(deadline, self.connections.for_call()).await
    }

    /// Reserves a stream for a long poll.
    pub(super) async fn for_poll(&self, deadline: Instant) -> Result<PollSlot, Error> {
        self.connect_until(deadline, self.connections.for_poll(deadline)).await
    }

    /// Runs `connecting` until the deadline. Records a failure of the address.
    async fn connect_until<T>(
        &self,
        deadline: Instant,
        connecting: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let connected = tokio::time::timeout_at(deadline.into(), connecting).await;
        // The error of an earlier attempt is more specific than a timeout.
        let connected = connected.unwrap_or_else(|_| Err(self.error().unwrap_or_else(|| self.timeout())));
        if let Err(error) = &connected {
            self.record_failure(error);
        }
        connected
    }

    fn timeout(&self) -> Error {
        let message = "connect timed out: the server does not respond like a RocketMQ proxy";
        Error::new(ErrorKind::Unavailable, "connect", message)
            .with_retryable(true)
            .with_endpoint(self.name.to_string())
            .unreached()
    }

    /// The connections for long polls that have been silent for `age`. Each is returned once per `age`.
    pub(super) fn begin_probes(&self, age: Duration) -> Vec<Arc<Connection>> {
        self.connections.begin_probes(age)
    }

    /// Records that a call over `connection`, which began at `start`, timed out. Replaces the connection if it is dead.
    pub(super) fn record_timeout(&self, connection: &Arc<Connection>, start: Instant) {
        if connection.record_timeout(start) {
            self.connections.replace(connection);
        }
    }

    pub(super) fn health(&self) -> ChannelHealth {
        self.state.lock().health
    }

    /// The latest failure, unless the server has answered since.
    pub(super) fn error(&self) -> Option<Error> {
        self.state.lock().error.clone()
    }

    /// Whether several messages may share a request, according to the latest answer.
    pub(crate) fn keeps_batches(&self) -> bool {
        self.keeps_batches.load(Ordering::Relaxed)
    }

    /// Records that the server answered.
    pub(crate) fn record_success(&self) {
        let before = {
            let mut state = self.state.lock();
            state.error = None;
            std::mem::replace(&mut state.health, ChannelHealth::Good)
        };
        if before != ChannelHealth::Good {
            if before != ChannelHealth::Untried {
                tracing::info!(endpoint = %self.name, "the server answers again");
            }
            self.monitor.notify();
        }
    }

    /// Records that the server answered, with this metadata.
    pub(super) fn record_answer(&self, metadata: &MetadataMap) {
        self.record_success();
        self.keeps_batches.store(metadata.contains_key(KEEPS_BATCHES), Ordering::Relaxed);
    }

    /// Records that the address could not be reached or did not answer. The next answer may come from another server, so
    /// the batch support is unknown.
    pub(crate) fn record_failure(&self, error: &Error) {
        self.keeps_batches.store(false, Ordering::Relaxed);
        let before = {
            let mut state = self.state.lock();
            state.error = Some(error.clone());
            let after = state.health.after_failure(Instant::now());
            std::mem::replace(&mut state.health, after)
        };
        if !matches!(before, ChannelHealth::Bad { .. }) {
            tracing::warn!(endpoint = %self.name, %error, "the server can't be reached or does not answer");
        }
        self.monitor.notify();
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("address", &self.name)
            .field("connections", &self.connections())
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

impl ChannelHealth {
    fn after_failure(self, now: Instant) -> Self {
        let failures = match self {
            Self::Bad { failures, .. } => failures.saturating_add(1),
            Self::Untried | Self::Good => 1,
        };
        let avoidance = MIN_AVOIDANCE.saturating_mul(1 << (failures - 1).min(5));
        Self::Bad { failures, until: now + avoidance.min(MAX_AVOIDANCE) }
    }

    /// The order in which addresses are chosen: lowest first.
    pub(super) fn rank(self, now: Instant) -> (u8, Option<Instant>) {
        match self {
            Self::Good => (0, None),
            Self::Untried => (1, None),
            Self::Bad { until, .. } if until <= now => (2, None),
            Self::Bad { until, .. } => (3, Some(until)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_avoided_longer_with_each_failure() {
        let now = Instant::now();
        let once = ChannelHealth::Good.after_failure(now);
        assert_eq!(once, ChannelHealth::Bad { failures: 1, until: now + Duration::from_secs(1) });
        let often = (0..100).fold(ChannelHealth::Untried, |health, _| health.after_failure(now));
        assert_eq!(often, ChannelHealth::Bad { failures: 100, until: now + MAX_AVOIDANCE });
    }

    #[test]
    fn working_addresses_come_first_and_then_those_that_failed_longest_ago() {
        let now = Instant::now();
        let bad = |until| ChannelHealth::Bad { failures: 1, until };
        let ranks = [
            ChannelHealth::Good,
            ChannelHealth::Untried,
            bad(now),
            bad(now + Duration::from_secs(1)),
            bad(now + Duration::from_secs(2)),
        ]
        .map(|health| health.rank(now));
        assert!(ranks.is_sorted());
        assert_ne!(ranks[2], ranks[3]);
    }
}
