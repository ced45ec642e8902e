//! Leases that the proxy renews for clients that ask for it. Soft state: a proxy that dies costs its clients a
//! redelivery, as their handles then run out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use super::handle::Lease;
use super::{Processor, max_attempts};
use crate::service::{ChangeInvisible, InvisibleOutcome, RetryPolicy, Services, Settle};

/// Renewals become rarer: so many times the first lease, one after the other, the last one again and again.
const LENGTHS: [u32; 6] = [1, 3, 5, 10, 30, 60];
/// Failures in a row after which a lease is given up.
const MAX_FAILURES: u32 = 3;

/// A lease under renewal.
#[derive(Clone, Debug)]
pub(super) struct Renewal {
    client_id: Arc<str>,
    pub(super) cluster: Arc<str>,
    pub(super) topic: Arc<str>,
    pub(super) group: Arc<str>,
    /// The lease in force.
    pub(super) entry: Settle,
    attempt: i32,
    since: Instant,
    renewed: usize,
    failures: u32,
}

impl Renewal {
    /// The first lease of a delivery to this client, of this cluster, topic and group.
    pub(super) fn new(
        [client_id, cluster, topic, group]: [&Arc<str>; 4],
        entry: Settle,
        attempt: i32,
    ) -> Self {
        let [client_id, cluster, topic, group] = [client_id, cluster, topic, group].map(Arc::clone);
        Self {
            client_id,
            cluster,
            topic,
            group,
            entry,
            attempt,
            since: Instant::now(),
            renewed: 0,
            failures: 0,
        }
    }

    /// The lease in force.
    pub(super) fn lease(&self) -> Lease {
        let Settle { coordinates, received_at, invisible, .. } = self.entry.clone();
        Lease { received_at, invisible, cluster: self.cluster.as_ref().to_owned(), coordinates }
    }

    fn due(&self, now: SystemTime, ahead: Duration) -> bool {
        self.entry.received_at + self.entry.invisible <= now + ahead
    }
}

// A renewal holds the inner lock over its call, so that an acknowledgement waits for it instead of settling a
// lease that is just being replaced. None: settled.
type Slot = Arc<tokio::sync::Mutex<Option<Renewal>>>;

/// The leases under renewal, by the handle that the client holds.
#[derive(Default)]
pub(super) struct Leases {
    slots: Mutex<HashMap<String, (Arc<str>, Slot)>>,
    // Most proxies renew nothing; they should not pay for a lock per acknowledgement.
    count: AtomicUsize,
}

impl Leases {
    /// Renews this lease from now on.
    pub(super) fn keep(&self, handle: String, renewal: Renewal) {
        let client = renewal.client_id.clone();
        let mut slots = self.slots.lock();
        slots.insert(handle, (client, Arc::new(tokio::sync::Mutex::new(Some(renewal)))));
        self.count.store(slots.len(), Ordering::Release);
    }

    /// Stops renewing. Whoever then can't settle the lease keeps it again.
    pub(super) async fn take(&self, handle: &str) -> Option<Renewal> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let slot = {
            let mut slots = self.slots.lock();
            let removed = slots.remove(handle);
            self.count.store(slots.len(), Ordering::Release);
            removed?.1
        };
        slot.lock().await.take()
    }

    /// Stops renewing everything of a client.
    pub(super) async fn take_client(&self, client_id: &str) -> Vec<Renewal> {
        let gone: Vec<Slot> = {
            let mut slots = self.slots.lock();
            let gone = slots.extract_if(|_, (client, _)| client.as_ref() == client_id);
            let gone = gone.map(|(_, (_, slot))| slot).collect();
            self.count.store(slots.len(), Ordering::Release);
            gone
        };
        let mut renewals = Vec::with_capacity(gone.len());
        for slot in gone {
            renewals.extend(slot.lock().await.take());
        }
        renewals
    }

    fn all(&self) -> Vec<(String, Arc<str>, Slot)> {
        let slots = self.slots.lock();
        slots.iter().map(|(handle, (client, slot))| (handle.clone(), client.clone(), slot.clone())).collect()
    }

    fn forget(&self, handle: &str) {
        let mut slots = self.slots.lock();
        slots.remove(handle);
        self.count.store(slots.len(), Ordering::Release);
    }
}

impl Processor {
    /// Renews leases, and forgets clients that are gone, until the proxy drains.
    pub(super) async fn keep_leases(&self) {
        let mut ticks = tokio::time::interval(self.limits.renew_every.max(Duration::from_millis(1)));
        loop {
            tokio::select! {
                () = self.draining.cancelled() => return,
                _ = ticks.tick() => {}
            }
            for client_id in self.sessions.sweep() {
                self.release(&client_id).await;
            }
            self.renew_due().await;
        }
    }

    async fn renew_due(&self) {
        for (handle, client_id, slot) in self.leases.all() {
            if !self.sessions.is_present(&client_id) {
                self.release(&client_id).await;
                continue;
            }
            let mut held = slot.lock().await;
            let keep = match held.as_mut() {
                Some(renewal) if renewal.due(SystemTime::now(), self.limits.renew_ahead) => {
                    self.renew(renewal).await
                }
                Some(_) => true,
                None => false,
            };
            if !keep {
                self.leases.forget(&handle);
            }
        }
    }

    // Whether to go on renewing.
    async fn renew(&self, renewal: &mut Renewal) -> bool {
        let Ok(cluster) = self.placement.named(&renewal.cluster) else { return false };
        let too_long = renewal.since.elapsed() > self.limits.renew_for;
        let invisible = if too_long {
            self.retry_pause(&cluster.services, &renewal.group, renewal.attempt).await
        } else {
            self.limits.renewed_lease * LENGTHS[renewal.renewed.min(LENGTHS.len() - 1)]
        };
        let change = ChangeInvisible {
            topic: renewal.topic.as_ref().to_owned(),
            group: renewal.group.as_ref().to_owned(),
            entry: renewal.entry.clone(),
            invisible,
            suspend: false,
            deadline: Instant::now() + self.limits.call,
        };
        match cluster.services.messages.change_invisible(change).await {
            Ok(InvisibleOutcome::Changed { coordinates, received_at }) => {
                renewal.entry = Settle { coordinates, received_at, invisible, ..renewal.entry.clone() };
                renewal.renewed += 1;
                renewal.failures = 0;
                !too_long
            }
            Ok(InvisibleOutcome::Expired) => false,
            Err(error) => {
                tracing::warn!(topic = %renewal.topic, group = %renewal.group, %error, "a lease is not renewed");
                renewal.failures += 1;
                renewal.failures < MAX_FAILURES
            }
        }
    }

    async fn retry_pause(&self, services: &Services, group: &str, attempt: i32) -> Duration {
        let Ok(config) = services.metadata.group(group).await else {
            return self.limits.renewed_lease;
        };
        pause_before(&config.retry, attempt.min(max_attempts(&config)))
    }
}

/// The pause that a group asks for before the delivery after this attempt.
fn pause_before(retry: &RetryPolicy, attempt: i32) -> Duration {
    let retries = u32::try_from(attempt.saturating_sub(1)).unwrap_or_default();
    match retry {
        RetryPolicy::Customized(pauses) => {
            let last = pauses.len().saturating_sub(1);
            let index = usize::try_from(retries).unwrap_or(usize::MAX).min(last);
            pauses.get(index).copied().unwrap_or_default()
        }
        RetryPolicy::Exponential { initial, max, multiplier } => {
            let factor = f64::from(*multiplier).powf(f64::from(retries));
            Duration::try_from_secs_f64(initial.as_secs_f64() * factor).map_or(*max, |pause| pause.min(*max))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_follow_the_groups_policy() {
        let secs = Duration::from_secs;
        let table = RetryPolicy::Customized(vec![secs(1), secs(5), secs(10)]);
        let growing = RetryPolicy::Exponential { initial: secs(5), max: secs(30), multiplier: 2.0 };
        for (attempt, from_table, grown) in [(1, 1, 5), (2, 5, 10), (3, 10, 20), (4, 10, 30), (1000, 10, 30)]
        {
            assert_eq!(pause_before(&table, attempt), secs(from_table), "{attempt}");
            assert_eq!(pause_before(&growing, attempt), secs(grown), "{attempt}");
        }
    }

    #[tokio::test]
    async fn a_lease_is_taken_once() {
        let leases = Leases::default();
        let name: Arc<str> = "x".into();
        let entry = Settle {
            coordinates: "q".to_owned(),
            message_id: "m".to_owned(),
            lite_topic: None,
            received_at: SystemTime::UNIX_EPOCH,
            invisible: Duration::from_secs(60),
        };
        leases.keep("h1".to_owned(), Renewal::new([&name, &name, &name, &name], entry.clone(), 1));
        leases.keep("h2".to_owned(), Renewal::new([&name, &name, &name, &name], entry, 1));
        assert_eq!(leases.take("h1").await.map(|renewal| renewal.lease().coordinates).as_deref(), Some("q"));
        assert!(leases.take("h1").await.is_none());
        assert_eq!(leases.take_client("y").await.len(), 0);
        assert_eq!(leases.take_client("x").await.len(), 1);
        assert!(leases.take("h2").await.is_none());
    }
}
