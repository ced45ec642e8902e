//! One connection to one address, and how it has been doing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rocketmq_thin_proto::{KEEPS_BATCHES, v2::messaging_service_client::MessagingServiceClient};
use tonic::{metadata::MetadataMap, transport::Channel};

use crate::options::Address;

/// A response of a server larger than this is an error.
const MAX_RESPONSE: usize = 64 * 1024 * 1024;
/// How long an address is avoided after its first failure; it doubles with each.
const FIRST_AVOIDANCE: Duration = Duration::from_secs(1);
const LONGEST_AVOIDANCE: Duration = Duration::from_secs(30);

/// The generated client over a connection that makes and remakes itself.
pub(super) type Stub = MessagingServiceClient<Channel>;

/// One connection, shared by everything that talks to its address.
#[derive(Debug)]
pub(crate) struct Link {
    address: Address,
    name: Arc<str>,
    stub: Stub,
    health: Mutex<Health>,
    keeps_batches: AtomicBool,
}

/// What the latest calls tell about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Untried,
    Good,
    Bad { failures: u32, until: Instant },
}

impl Link {
    pub(super) fn new(address: Address, channel: Channel) -> Arc<Self> {
        let name = Arc::from(address.to_string());
        let stub = MessagingServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE);
        let health = Mutex::new(Health::Untried);
        Arc::new(Self { address, name, stub, health, keeps_batches: AtomicBool::new(false) })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The address as text.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn stub(&self) -> Stub {
        self.stub.clone()
    }

    pub(super) fn health(&self) -> Health {
        *self.health.lock()
    }

    /// Whether several messages may travel in one request: whoever answered last has said so.
    pub(crate) fn keeps_batches(&self) -> bool {
        self.keeps_batches.load(Ordering::Relaxed)
    }

    /// It is there.
    pub(crate) fn reached(&self) {
        *self.health.lock() = Health::Good;
    }

    /// It answered, whatever it said.
    pub(crate) fn answered(&self, metadata: &MetadataMap) {
        self.reached();
        self.keeps_batches.store(metadata.contains_key(KEEPS_BATCHES), Ordering::Relaxed);
    }

    /// It could not be reached, or kept silent. Who answers next may be another.
    pub(crate) fn failed(&self) {
        self.keeps_batches.store(false, Ordering::Relaxed);
        let mut health = self.health.lock();
        *health = health.after_failure(Instant::now());
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

    /// The lower, the sooner an address is chosen; equals are chosen in turn.
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
    fn a_failing_address_is_avoided_longer_each_time() {
        let now = Instant::now();
        let once = Health::Good.after_failure(now);
        assert_eq!(once, Health::Bad { failures: 1, until: now + Duration::from_secs(1) });
        let often = (0..100).fold(Health::Untried, |health, _| health.after_failure(now));
        assert_eq!(often, Health::Bad { failures: 100, until: now + LONGEST_AVOIDANCE });
    }

    #[test]
    fn what_works_comes_first_and_what_failed_longest_ago_before_the_rest() {
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
