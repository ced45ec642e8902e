//! One address of a server, and how it has been doing.

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

/// How long an address is avoided after its first failure; it doubles with each.
const FIRST_AVOIDANCE: Duration = Duration::from_secs(1);
const LONGEST_AVOIDANCE: Duration = Duration::from_secs(30);

/// The way to one address, shared by everything that talks to it.
pub(crate) struct Link {
    address: Address,
    name: Arc<str>,
    connections: Arc<Connections>,
    state: Mutex<State>,
    monitor: Arc<Monitor>,
    keeps_batches: AtomicBool,
}

#[derive(Debug)]
struct State {
    health: Health,
    /// The latest failure, while the health is bad.
    error: Option<Error>,
}

/// What the latest calls tell about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Untried,
    Good,
    Bad { failures: u32, until: Instant },
}

impl Link {
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
            state: Mutex::new(State { health: Health::Untried, error: None }),
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

    /// The connection for short calls, opened if there is none.
    pub(super) async fn for_call(&self, deadline: Instant) -> Result<Arc<Connection>, Error> {
        self.within(deadline, self.connections.for_call()).await
    }

    /// A place for a long poll.
    pub(super) async fn for_poll(&self, deadline: Instant) -> Result<PollSlot, Error> {
        self.within(deadline, self.connections.for_poll(deadline)).await
    }

    /// What `connecting` brings until the deadline. A failure counts against the address.
    async fn within<T>(
        &self,
        deadline: Instant,
        connecting: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let connected = tokio::time::timeout_at(deadline.into(), connecting).await;
        // What an earlier attempt has shown says more than that the time is over.
        let connected = connected.unwrap_or_else(|_| Err(self.error().unwrap_or_else(|| self.timeout())));
        if let Err(error) = &connected {
            self.failed(error);
        }
        connected
    }

    fn timeout(&self) -> Error {
        let message = "connect timed out: the server does not answer as a RocketMQ proxy does";
        Error::new(ErrorKind::Unavailable, "connect", message)
            .with_retryable(true)
            .with_endpoint(self.name.to_string())
            .unreached()
    }

    /// Further connections that have answered nothing for `age`.
    pub(super) fn to_probe(&self, age: Duration) -> Vec<Arc<Connection>> {
        self.connections.to_probe(age)
    }

    /// Notes that a call over `connection`, begun at `start`, got no answer in time.
    pub(super) fn timed_out(&self, connection: &Arc<Connection>, start: Instant) {
        if connection.timed_out(start) {
            self.connections.replace(connection);
        }
    }

    pub(super) fn health(&self) -> Health {
        self.state.lock().health
    }

    /// The latest failure, unless the server has answered since.
    pub(super) fn error(&self) -> Option<Error> {
        self.state.lock().error.clone()
    }

    /// Whether several messages may share one request, as the latest answer said.
    pub(crate) fn keeps_batches(&self) -> bool {
        self.keeps_batches.load(Ordering::Relaxed)
    }

    /// Notes that the server answered.
    pub(crate) fn reached(&self) {
        let before = {
            let mut state = self.state.lock();
            state.error = None;
            std::mem::replace(&mut state.health, Health::Good)
        };
        if before != Health::Good {
            if before != Health::Untried {
                tracing::info!(endpoint = %self.name, "the server answers again");
            }
            self.monitor.poke();
        }
    }

    /// Notes the metadata of an answer.
    pub(super) fn answered(&self, metadata: &MetadataMap) {
        self.reached();
        self.keeps_batches.store(metadata.contains_key(KEEPS_BATCHES), Ordering::Relaxed);
    }

    /// Notes that the address could not be reached or did not answer. The next answer may come from another
    /// server.
    pub(crate) fn failed(&self, error: &Error) {
        self.keeps_batches.store(false, Ordering::Relaxed);
        let before = {
            let mut state = self.state.lock();
            state.error = Some(error.clone());
            let after = state.health.after_failure(Instant::now());
            std::mem::replace(&mut state.health, after)
        };
        if !matches!(before, Health::Bad { .. }) {
            tracing::warn!(endpoint = %self.name, %error, "the server can't be reached or does not answer");
        }
        self.monitor.poke();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("address", &self.name)
            .field("connections", &self.connections())
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

impl Health {
    fn after_failure(self, now: Instant) -> Self {
        let failures = match self {
            Self::Bad { failures, .. } => failures.saturating_add(1),
            Self::Untried | Self::Good => 1,
        };
        let avoidance = FIRST_AVOIDANCE.saturating_mul(1 << (failures - 1).min(5));
        Self::Bad { failures, until: now + avoidance.min(LONGEST_AVOIDANCE) }
    }

    /// The address with the lowest rank is chosen first.
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
        let once = Health::Good.after_failure(now);
        assert_eq!(once, Health::Bad { failures: 1, until: now + Duration::from_secs(1) });
        let often = (0..100).fold(Health::Untried, |health, _| health.after_failure(now));
        assert_eq!(often, Health::Bad { failures: 100, until: now + LONGEST_AVOIDANCE });
    }

    #[test]
    fn working_addresses_come_first_and_then_those_that_failed_longest_ago() {
        let now = Instant::now();
        let bad = |until| Health::Bad { failures: 1, until };
        let ranks = [
            Health::Good,
            Health::Untried,
            bad(now),
            bad(now + Duration::from_secs(1)),
            bad(now + Duration::from_secs(2)),
        ]
        .map(|health| health.rank(now));
        assert!(ranks.is_sorted());
        assert_ne!(ranks[2], ranks[3]);
    }
}
