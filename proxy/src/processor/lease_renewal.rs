//! Leases that the proxy renews for clients that ask for it. Soft state: if a proxy dies, the renewed handles run out,
//! which costs its clients a redelivery.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use super::clients::ClientKey;
use super::environment::Environment;
use super::group;
use super::handle::Lease;
use crate::error::Error;
use crate::service::{ChangeInvisible, InvisibleOutcome, NextAttempt, Settle};

/// Successive renewal lengths, as multiples of the first lease. The last one repeats.
const LENGTHS: [u32; 6] = [1, 3, 5, 10, 30, 60];
/// Failures in a row after which a lease is not renewed any more.
const MAX_FAILURES: u32 = 3;
/// How soon the message of a client that is gone becomes visible to others. The delivery counts as an attempt.
const RELEASE_AFTER: Duration = Duration::from_secs(1);
/// Leases that are renewed at most, for all clients and for one. Others run out, which costs a redelivery.
const MAX_LEASES: usize = 200_000;
const MAX_LEASES_OF_CLIENT: usize = 20_000;

/// Who holds a lease, and what it was received from. Shared by the deliveries of one receive.
#[derive(Clone, Debug)]
pub(super) struct LeaseHolder {
    pub(super) client: ClientKey,
    pub(super) cluster: Arc<str>,
    pub(super) topic: String,
    pub(super) group: String,
}

/// A lease under renewal.
#[derive(Clone, Debug)]
pub(super) struct Renewal {
    holder: Arc<LeaseHolder>,
    /// The lease in force.
    entry: Settle,
    attempt: i32,
    since: Instant,
    renewed: usize,
    failures: u32,
}

impl Renewal {
    /// The first lease of a delivery.
    pub(super) fn new(holder: Arc<LeaseHolder>, entry: Settle, attempt: i32) -> Self {
        Self { holder, entry, attempt, since: Instant::now(), renewed: 0, failures: 0 }
    }

    fn lease(&self) -> Lease {
        let Settle { coordinates, received_at, invisible, .. } = self.entry.clone();
        Lease { received_at, invisible, cluster: self.holder.cluster.as_ref().to_owned(), coordinates }
    }

    fn due(&self, now: SystemTime, ahead: Duration) -> bool {
        self.entry.received_at + self.entry.invisible <= now + ahead
    }
}

// A renewal holds the inner lock during its call, so that an acknowledgement waits for it instead of settling a
// lease that is just being replaced. `None` once it is settled.
type Slot = Arc<tokio::sync::Mutex<Option<Renewal>>>;

/// The leases under renewal, by the handle that the client holds.
#[derive(Default)]
pub(super) struct RenewedLeases {
    slots: Mutex<Slots>,
    // Most proxies renew nothing, and should not pay for a lock per acknowledgement.
    count: AtomicUsize,
    renewals: AtomicU64,
    failures: AtomicU64,
}

#[derive(Default)]
struct Slots {
    by_handle: HashMap<String, OwnedSlot>,
    of_client: HashMap<ClientKey, usize>,
}

struct OwnedSlot {
    client: ClientKey,
    slot: Slot,
}

/// A lease that is about to be renewed.
struct Due {
    handle: String,
    renewal: OwnedMutexGuard<Option<Renewal>>,
}

impl Slots {
    fn discount(&mut self, client: &ClientKey) {
        if let Some(count) = self.of_client.get_mut(client) {
            *count -= 1;
            if *count == 0 {
                self.of_client.remove(client);
            }
        }
    }
}

impl RenewedLeases {
    /// Renews this lease from now on, if not too many are renewed already.
    pub(super) fn keep(&self, handle: String, renewal: Renewal) {
        let client = renewal.holder.client.clone();
        let mut slots = self.slots.lock();
        let of_client = slots.of_client.get(&client).copied().unwrap_or_default();
        if slots.by_handle.len() >= MAX_LEASES || of_client >= MAX_LEASES_OF_CLIENT {
            tracing::debug!(client_id = &*client.id, "too many leases to renew: one runs out");
            return;
        }
        *slots.of_client.entry(client.clone()).or_default() += 1;
        let slot = Arc::new(tokio::sync::Mutex::new(Some(renewal)));
        if let Some(replaced) = slots.by_handle.insert(handle, OwnedSlot { client, slot }) {
            slots.discount(&replaced.client);
        }
        self.count.store(slots.by_handle.len(), Ordering::Release);
    }

    /// Stops renewing a lease that is about to be settled.
    pub(super) async fn take(&self, handle: &str) -> Taken<'_> {
        let mut taken = Taken { leases: self, kept: None };
        if self.count.load(Ordering::Acquire) == 0 {
            return taken;
        }
        let Some(slot) = self.slots.lock().by_handle.get(handle).map(|owned| owned.slot.clone()) else {
            return taken;
        };
        // It stays in the table during the wait, as the caller may be cancelled meanwhile.
        if let Some(renewal) = slot.lock().await.take() {
            self.forget(handle);
            taken.kept = Some((handle.to_owned(), renewal));
        }
        taken
    }

    /// Stops renewing the leases of these clients.
    fn remove(&self, client: impl Fn(&ClientKey) -> bool) -> Vec<Slot> {
        let mut slots = self.slots.lock();
        let gone: HashSet<_> = slots.of_client.keys().filter(|key| client(key)).cloned().collect();
        if gone.is_empty() {
            return Vec::new();
        }
        slots.of_client.retain(|key, _| !gone.contains(key));
        let removed = slots.by_handle.extract_if(|_, owned| gone.contains(&owned.client));
        let removed = removed.map(|(_, owned)| owned.slot).collect();
        self.count.store(slots.by_handle.len(), Ordering::Release);
        removed
    }

    /// The leases that end soon, each locked for its renewal. Those that are being renewed already are left out.
    fn due(&self, ahead: Duration) -> Vec<Due> {
        let now = SystemTime::now();
        let slots = self.slots.lock();
        let due = slots.by_handle.iter().filter_map(|(handle, owned)| {
            let renewal = owned.slot.clone().try_lock_owned().ok()?;
            renewal.as_ref()?.due(now, ahead).then(|| Due { handle: handle.clone(), renewal })
        });
        due.collect()
    }

    /// How many leases are under renewal, how many renewals there were, and how many failed.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (self.count.load(Ordering::Relaxed) as u64, load(&self.renewals), load(&self.failures))
    }

    fn all(&self) -> Vec<Slot> {
        self.slots.lock().by_handle.values().map(|owned| owned.slot.clone()).collect()
    }

    fn forget(&self, handle: &str) {
        let mut slots = self.slots.lock();
        if let Some(owned) = slots.by_handle.remove(handle) {
            slots.discount(&owned.client);
        }
        self.count.store(slots.by_handle.len(), Ordering::Release);
    }
}

/// A lease that is being settled, with its renewals if there were any. Unless it is [`settled`](Taken::settled),
/// dropping it, for example on cancellation, renews the lease again: the client will try again with the handle that it
/// has, which does not know of the renewals.
pub(super) struct Taken<'a> {
    leases: &'a RenewedLeases,
    kept: Option<(String, Renewal)>,
}

impl Taken<'_> {
    /// The lease in force, if this proxy renewed it.
    pub(super) fn lease(&self) -> Option<Lease> {
        self.kept.as_ref().map(|(_, renewal)| renewal.lease())
    }

    /// Nothing is left to renew.
    pub(super) fn settled(mut self) {
        self.kept = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some((handle, renewal)) = self.kept.take() {
            self.leases.keep(handle, renewal);
        }
    }
}

/// Renews leases, and forgets clients that are gone, until the proxy drains. Then ends the leases that it has renewed.
pub(super) async fn renew_leases(environment: &Environment) {
    let Environment { leases, clients, limits, draining, .. } = environment;
    let mut ticks = tokio::time::interval(limits.renew_every.max(Duration::from_millis(1)));
    // No change waits for another one, and the next tick waits for none: otherwise a broker that does not answer would
    // let the leases of all others run out. There is at most one change per lease.
    let mut changes: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = draining.cancelled() => break,
            Some(()) = changes.next() => {}
            _ = ticks.tick() => {
                clients.sweep();
                let gone = leases.remove(|client| !clients.is_present(client));
                changes.extend(gone.into_iter().map(|slot| release_slot(environment, slot).boxed()));
                let due = leases.due(limits.renew_ahead);
                changes.extend(due.into_iter().map(|due| renew(environment, due).boxed()));
            }
        }
    }
    changes.extend(leases.all().into_iter().map(|slot| end_renewed(environment, slot).boxed()));
    while changes.next().await.is_some() {}
}

/// Ends the leases of a client that is gone, so that others get its messages.
pub(super) async fn release(environment: &Environment, client: &ClientKey) {
    let slots = environment.leases.remove(|gone| gone == client);
    join_all(slots.into_iter().map(|slot| release_slot(environment, slot))).await;
}

async fn release_slot(environment: &Environment, slot: Slot) {
    if let Some(mut renewal) = slot.lock().await.take() {
        end_soon(environment, &mut renewal).await;
    }
}

// For every other proxy, the client's handle of a lease that was renewed here has expired, and the lease would only
// hide the message. Until it ends, the client can still settle it here. A lease that was never renewed has a
// handle that is valid everywhere, and is left alone.
async fn end_renewed(environment: &Environment, slot: Slot) {
    let mut held = slot.lock().await;
    if let Some(renewal) = held.as_mut().filter(|renewal| renewal.renewed > 0) {
        end_soon(environment, renewal).await;
    }
}

async fn end_soon(environment: &Environment, renewal: &mut Renewal) {
    if let Err(error) = change(environment, renewal, RELEASE_AFTER).await {
        let client_id = &*renewal.holder.client.id;
        tracing::debug!(client_id, %error, "the message of a client that is gone stays invisible until its lease ends");
    }
}

async fn renew(environment: &Environment, due: Due) {
    let Due { handle, mut renewal } = due;
    let Some(renewal) = renewal.as_mut() else { return };
    if !renew_once(environment, renewal).await {
        environment.leases.forget(&handle);
    }
}

/// Renews a lease. Returns whether to go on renewing it.
async fn renew_once(environment: &Environment, renewal: &mut Renewal) -> bool {
    let limits = &environment.limits;
    let too_long = renewal.since.elapsed() > limits.renew_for;
    let invisible = if too_long {
        retry_pause(environment, renewal).await
    } else {
        limits.renewed_lease.saturating_mul(LENGTHS[renewal.renewed.min(LENGTHS.len() - 1)])
    };
    match change(environment, renewal, invisible).await {
        Ok(true) => {
            environment.leases.renewals.fetch_add(1, Ordering::Relaxed);
            renewal.renewed += 1;
            renewal.failures = 0;
            !too_long
        }
        Ok(false) => false,
        Err(error) => {
            let LeaseHolder { topic, group, .. } = &*renewal.holder;
            tracing::warn!(topic, group, %error, "a lease could not be renewed");
            environment.leases.failures.fetch_add(1, Ordering::Relaxed);
            renewal.failures += 1;
            renewal.failures < MAX_FAILURES
        }
    }
}

/// Makes a lease end this long from now. Returns whether it was still in force.
async fn change(
    environment: &Environment,
    renewal: &mut Renewal,
    invisible: Duration,
) -> Result<bool, Error> {
    let services = &environment.clusters.get(&renewal.holder.cluster)?.services;
    let change = ChangeInvisible {
        topic: renewal.holder.topic.clone(),
        group: renewal.holder.group.clone(),
        entry: renewal.entry.clone(),
        invisible,
        next_attempt: NextAttempt::Counts,
        deadline: Instant::now() + environment.limits.call,
    };
    let outcome = services.messages.change_invisible(change).await?;
    let InvisibleOutcome::Changed { coordinates, received_at } = outcome else { return Ok(false) };
    renewal.entry = Settle { coordinates, received_at, invisible, ..renewal.entry.clone() };
    Ok(true)
}

async fn retry_pause(environment: &Environment, renewal: &Renewal) -> Duration {
    let LeaseHolder { cluster, group, .. } = &*renewal.holder;
    let Ok(cluster) = environment.clusters.get(cluster) else { return environment.limits.renewed_lease };
    let Ok(config) = cluster.services.metadata.group(group).await else {
        return environment.limits.renewed_lease;
    };
    group::pause_after(&config.retry, renewal.attempt.min(config.max_attempts()))
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{self, renewal};
    use super::super::{ClusterRouter, Limits, Processor};
    use super::*;

    fn processor() -> (Arc<Processor>, scripted::Questions) {
        let ([services], [asked]) = scripted::backends();
        let often = Limits { renew_every: Duration::ZERO, ..Limits::default() };
        (scripted::processor(ClusterRouter::single(services), often), asked)
    }

    fn entry(coordinates: &str, received_at: SystemTime) -> Settle {
        Settle {
            coordinates: coordinates.to_owned(),
            message_id: "m".to_owned(),
            lite_topic: None,
            received_at,
            invisible: Duration::from_secs(60),
        }
    }

    #[tokio::test]
    async fn a_lease_is_taken_once() {
        let leases = RenewedLeases::default();
        for handle in ["h1", "h2"] {
            leases.keep(handle.to_owned(), renewal("x", entry("q", SystemTime::UNIX_EPOCH)));
        }
        let taken = leases.take("h1").await;
        assert_eq!(taken.lease().map(|lease| lease.coordinates).as_deref(), Some("q"));
        assert!(leases.take("h1").await.lease().is_none());
        taken.settled();
        assert!(leases.take("h1").await.lease().is_none());
        assert_eq!(leases.remove(|client| &*client.id == "y").len(), 0);
        assert_eq!(leases.remove(|client| &*client.id == "x").len(), 1);
        assert!(leases.take("h2").await.lease().is_none());
    }

    #[tokio::test]
    async fn a_lease_is_renewed_again_unless_it_was_settled() {
        let leases = RenewedLeases::default();
        leases.keep("h".to_owned(), renewal("x", entry("q", SystemTime::UNIX_EPOCH)));
        let renewing = leases.due(Duration::ZERO);
        // Cancelled while it waits for the renewal, and after that.
        assert!(leases.take("h").now_or_never().is_none());
        drop(renewing);
        drop(leases.take("h").await);
        assert_eq!(leases.due(Duration::ZERO).len(), 1);
        leases.take("h").await.settled();
        assert!(leases.due(Duration::ZERO).is_empty());
    }

    fn anew() -> InvisibleOutcome {
        InvisibleOutcome::Changed { coordinates: "anew".to_owned(), received_at: SystemTime::now() }
    }

    fn start(processor: &Arc<Processor>) -> tokio::task::JoinHandle<()> {
        let processor = processor.clone();
        tokio::spawn(async move { renew_leases(&processor.environment).await })
    }

    #[test]
    fn one_client_has_a_share_of_the_renewed_leases() {
        let leases = RenewedLeases::default();
        let keep = |client: &str, number: usize| {
            leases.keep(number.to_string(), renewal(client, entry("q", SystemTime::UNIX_EPOCH)));
        };
        (0..MAX_LEASES_OF_CLIENT + 5).for_each(|number| keep("greedy", number));
        assert_eq!(leases.all().len(), MAX_LEASES_OF_CLIENT);
        keep("other", MAX_LEASES);
        assert_eq!(leases.all().len(), MAX_LEASES_OF_CLIENT + 1);
        leases.forget("0");
        keep("greedy", MAX_LEASES + 1);
        assert_eq!(leases.all().len(), MAX_LEASES_OF_CLIENT + 1);
        assert_eq!(leases.remove(|_| true).len(), MAX_LEASES_OF_CLIENT + 1);
        assert!(leases.slots.lock().of_client.is_empty());
    }

    #[tokio::test]
    async fn a_renewal_without_an_answer_delays_no_other() {
        let (processor, mut asked) = processor();
        let _connected = scripted::connect(&processor, "c", &[]);
        let maintenance = start(&processor);
        processor
            .environment
            .leases
            .keep("sick".to_owned(), renewal("c", entry("sick", SystemTime::UNIX_EPOCH)));
        let (change, _unanswered) = scripted::change(&mut asked).await;
        assert_eq!(change.entry.coordinates, "sick");
        for _ in 0..3 {
            processor
                .environment
                .leases
                .keep("well".to_owned(), renewal("c", entry("well", SystemTime::UNIX_EPOCH)));
            let (change, answer) = scripted::change(&mut asked).await;
            assert_eq!(change.entry.coordinates, "well");
            answer.send(Ok(anew())).expect("a renewal");
            let taken = processor.environment.leases.take("well").await;
            assert_eq!(taken.lease().map(|lease| lease.coordinates).as_deref(), Some("anew"));
            taken.settled();
        }
        maintenance.abort();
    }

    #[tokio::test]
    async fn a_drain_ends_the_leases_that_were_renewed_and_no_others() {
        let (processor, mut asked) = processor();
        let _connected = scripted::connect(&processor, "c", &[]);
        processor
            .environment
            .leases
            .keep("old".to_owned(), renewal("c", entry("old", SystemTime::UNIX_EPOCH)));
        processor.environment.leases.keep("new".to_owned(), renewal("c", entry("new", SystemTime::now())));
        let maintenance = start(&processor);
        let (change, answer) = scripted::change(&mut asked).await;
        assert_eq!(change.entry.coordinates, "old");
        // The renewal is still under way.
        processor.draining().cancel();
        answer.send(Ok(anew())).expect("a renewal");
        let (change, answer) = scripted::change(&mut asked).await;
        assert_eq!((change.entry.coordinates.as_str(), change.invisible), ("anew", RELEASE_AFTER));
        answer.send(Ok(InvisibleOutcome::Expired)).expect("the end of a lease");
        maintenance.await.expect("the end");
        assert!(asked.try_recv().is_err());
    }
}
