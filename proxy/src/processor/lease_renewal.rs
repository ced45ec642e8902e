//! Renews leases for clients that request it. This is soft state: if a proxy dies, the leases expire and the messages are
//! delivered again.

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
use super::handle::SealedLease;
use crate::error::Error;
use crate::service::{ChangeInvisible, InvisibleOutcome, NextAttempt, Settle};

/// Successive renewal lengths, as multiples of the first lease. The last one repeats.
const LEASE_MULTIPLES: [u32; 6] = [1, 3, 5, 10, 30, 60];
/// The number of consecutive failures after which a lease is not renewed any more.
const MAX_FAILURES: u32 = 3;
/// The time after which a message becomes visible again when its client is gone. The delivery counts as an attempt.
const RELEASE_AFTER: Duration = Duration::from_secs(1);
/// The most leases that are renewed for all clients, and for one client. Further leases expire without renewal.
const MAX_LEASES: usize = 200_000;
const MAX_LEASES_OF_CLIENT: usize = 20_000;

/// The client that holds a lease, and the source of the delivery. Shared by the deliveries of one receive.
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
    /// The current lease.
    entry: Settle,
    attempt: i32,
    /// When the first lease began.
    since: Instant,
    /// The number of renewals so far.
    renewed: usize,
    /// The number of consecutive failures.
    failures: u32,
}

impl Renewal {
    /// The renewal of a delivery's first lease.
    pub(super) fn new(holder: Arc<LeaseHolder>, entry: Settle, attempt: i32) -> Self {
        Self { holder, entry, attempt, since: Instant::now(), renewed: 0, failures: 0 }
    }

    fn lease(&self) -> SealedLease {
        let Settle { coordinates, received_at, invisible, .. } = self.entry.clone();
        SealedLease { received_at, invisible, cluster: self.holder.cluster.as_ref().to_owned(), coordinates }
    }

    fn is_due(&self, now: SystemTime, ahead: Duration) -> bool {
        self.entry.received_at + self.entry.invisible <= now + ahead
    }
}

// A renewal holds the inner lock during its call. An acknowledgement waits for it instead of settling a lease that is
// being replaced. `None` once the lease is settled.
type Slot = Arc<tokio::sync::Mutex<Option<Renewal>>>;

/// The leases under renewal, by the client's handle.
#[derive(Default)]
pub(super) struct RenewedLeases {
    slots: Mutex<Slots>,
    // Saves taking the lock for each acknowledgement if no lease is renewed, as on most proxies.
    count: AtomicUsize,
    renewals: AtomicU64,
    failures: AtomicU64,
}

#[derive(Default)]
struct Slots {
    by_handle: HashMap<String, OwnedSlot>,
    /// The number of leases of each client.
    of_client: HashMap<ClientKey, usize>,
}

struct OwnedSlot {
    client: ClientKey,
    slot: Slot,
}

/// A lease that is about to be renewed.
struct DueRenewal {
    handle: String,
    renewal: OwnedMutexGuard<Option<Renewal>>,
}

impl Slots {
    fn decrement_count(&mut self, client: &ClientKey) {
        if let Some(count) = self.of_client.get_mut(client) {
            *count -= 1;
            if *count == 0 {
                self.of_client.remove(client);
            }
        }
    }
}

impl RenewedLeases {
    /// Renews this lease from now on, unless too many leases are renewed already.
    pub(super) fn add(&self, handle: String, renewal: Renewal) {
        let client = renewal.holder.client.clone();
        let mut slots = self.slots.lock();
        let of_client = slots.of_client.get(&client).copied().unwrap_or_default();
        if slots.by_handle.len() >= MAX_LEASES || of_client >= MAX_LEASES_OF_CLIENT {
            tracing::debug!(client_id = &*client.id, "too many leases to renew; a lease will expire");
            return;
        }
        *slots.of_client.entry(client.clone()).or_default() += 1;
        let slot = Arc::new(tokio::sync::Mutex::new(Some(renewal)));
        if let Some(replaced) = slots.by_handle.insert(handle, OwnedSlot { client, slot }) {
            slots.decrement_count(&replaced.client);
        }
        self.count.store(slots.by_handle.len(), Ordering::Release);
    }

    /// Stops renewing a lease that is about to be settled.
    pub(super) async fn take(&self, handle: &str) -> TakenLease<'_> {
        let mut taken = TakenLease { leases: self, renewal: None };
        if self.count.load(Ordering::Acquire) == 0 {
            return taken;
        }
        let Some(slot) = self.slots.lock().by_handle.get(handle).map(|owned| owned.slot.clone()) else {
            return taken;
        };
        // The lease stays in the table during the wait, because the caller may be cancelled.
        if let Some(renewal) = slot.lock().await.take() {
            self.remove_handle(handle);
            taken.renewal = Some((handle.to_owned(), renewal));
        }
        taken
    }

    /// Stops renewing the leases of the clients that match, and returns their leases.
    fn remove_clients(&self, matches: impl Fn(&ClientKey) -> bool) -> Vec<Slot> {
        let mut slots = self.slots.lock();
        let clients: HashSet<_> = slots.of_client.keys().filter(|key| matches(key)).cloned().collect();
        if clients.is_empty() {
            return Vec::new();
        }
        slots.of_client.retain(|key, _| !clients.contains(key));
        let removed = slots.by_handle.extract_if(|_, owned| clients.contains(&owned.client));
        let removed = removed.map(|(_, owned)| owned.slot).collect();
        self.count.store(slots.by_handle.len(), Ordering::Release);
        removed
    }

    /// The leases that end within `ahead`, each locked for its renewal. Leases that are being renewed already are left out.
    fn due_renewals(&self, ahead: Duration) -> Vec<DueRenewal> {
        let now = SystemTime::now();
        let slots = self.slots.lock();
        let due = slots.by_handle.iter().filter_map(|(handle, owned)| {
            let renewal = owned.slot.clone().try_lock_owned().ok()?;
            renewal.as_ref()?.is_due(now, ahead).then(|| DueRenewal { handle: handle.clone(), renewal })
        });
        due.collect()
    }

    /// (leases under renewal, renewals so far, failed renewals so far)
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (self.count.load(Ordering::Relaxed) as u64, load(&self.renewals), load(&self.failures))
    }

    fn all(&self) -> Vec<Slot> {
        self.slots.lock().by_handle.values().map(|owned| owned.slot.clone()).collect()
    }

    fn remove_handle(&self, handle: &str) {
        let mut slots = self.slots.lock();
        if let Some(owned) = slots.by_handle.remove(handle) {
            slots.decrement_count(&owned.client);
        }
        self.count.store(slots.by_handle.len(), Ordering::Release);
    }
}

/// A lease that is being settled. If it is dropped before it is [`settled`](TakenLease::settled), for example on
/// cancellation, its renewal continues: the client will try again with its handle, which is that of the first lease.
pub(super) struct TakenLease<'a> {
    leases: &'a RenewedLeases,
    /// The client's handle and the renewal; `None` if this proxy does not renew the lease.
    renewal: Option<(String, Renewal)>,
}

impl TakenLease<'_> {
    /// The current lease, if this proxy renews it.
    pub(super) fn lease(&self) -> Option<SealedLease> {
        self.renewal.as_ref().map(|(_, renewal)| renewal.lease())
    }

    /// Ends the renewal, because the lease was settled or has expired.
    pub(super) fn settled(mut self) {
        self.renewal = None;
    }
}

impl Drop for TakenLease<'_> {
    fn drop(&mut self) {
        if let Some((handle, renewal)) = self.renewal.take() {
            self.leases.add(handle, renewal);
        }
    }
}

/// Renews leases and removes expired sessions of clients until the proxy drains. Then ends the leases that it has renewed.
pub(super) async fn renew_leases(environment: &Environment) {
    let Environment { leases, clients, limits, draining, .. } = environment;
    let mut ticks = tokio::time::interval(limits.renew_every.max(Duration::from_millis(1)));
    // Changes run concurrently with each other and with the next ticks, so that a broker that does not answer does not let
    // the leases at other brokers expire. There is at most one change per lease.
    let mut changes: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = draining.cancelled() => break,
            Some(()) = changes.next() => {}
            _ = ticks.tick() => {
                clients.remove_expired();
                let abandoned = leases.remove_clients(|client| !clients.is_present(client));
                changes.extend(abandoned.into_iter().map(|slot| release_slot(environment, slot).boxed()));
                let due = leases.due_renewals(limits.renew_ahead);
                changes.extend(due.into_iter().map(|due| renew(environment, due).boxed()));
            }
        }
    }
    changes.extend(leases.all().into_iter().map(|slot| end_renewed(environment, slot).boxed()));
    while changes.next().await.is_some() {}
}

/// Ends the leases of a client whose session has ended, so that other clients get its messages.
pub(super) async fn release(environment: &Environment, client: &ClientKey) {
    let slots = environment.leases.remove_clients(|other| other == client);
    join_all(slots.into_iter().map(|slot| release_slot(environment, slot))).await;
}

async fn release_slot(environment: &Environment, slot: Slot) {
    if let Some(mut renewal) = slot.lock().await.take() {
        end_soon(environment, &mut renewal).await;
    }
}

// Other proxies treat the handle of a renewed lease as expired, so after this proxy's end the lease would only hide the
// message. Until the lease ends, the client can still settle it at this proxy. The handle of a lease that was never
// renewed is valid at every proxy, so that lease is left unchanged.
async fn end_renewed(environment: &Environment, slot: Slot) {
    let mut locked = slot.lock().await;
    if let Some(renewal) = locked.as_mut().filter(|renewal| renewal.renewed > 0) {
        end_soon(environment, renewal).await;
    }
}

async fn end_soon(environment: &Environment, renewal: &mut Renewal) {
    if let Err(error) = change(environment, renewal, RELEASE_AFTER).await {
        let client_id = &*renewal.holder.client.id;
        tracing::debug!(client_id, %error, "could not release a message of a closed client; it stays invisible until its lease ends");
    }
}

async fn renew(environment: &Environment, due: DueRenewal) {
    let DueRenewal { handle, mut renewal } = due;
    let Some(renewal) = renewal.as_mut() else { return };
    if !renew_once(environment, renewal).await {
        environment.leases.remove_handle(&handle);
    }
}

/// Renews a lease. Returns whether to continue renewing it.
async fn renew_once(environment: &Environment, renewal: &mut Renewal) -> bool {
    let limits = &environment.limits;
    let too_long = renewal.since.elapsed() > limits.renew_for;
    let invisible = if too_long {
        retry_pause(environment, renewal).await
    } else {
        let index = renewal.renewed.min(LEASE_MULTIPLES.len() - 1);
        limits.renewed_lease.saturating_mul(LEASE_MULTIPLES[index])
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
            tracing::warn!(topic, group, %error, "could not renew a lease");
            environment.leases.failures.fetch_add(1, Ordering::Relaxed);
            renewal.failures += 1;
            renewal.failures < MAX_FAILURES
        }
    }
}

/// Lets a lease end this long from now. Returns whether the lease had not expired yet.
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

/// The pause of the group's retry policy after this attempt.
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

    fn processor() -> (Arc<Processor>, scripted::BackendCalls) {
        let ([services], [calls]) = scripted::backends();
        let limits = Limits { renew_every: Duration::ZERO, ..Limits::default() };
        (scripted::processor(ClusterRouter::single(services), limits), calls)
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
            leases.add(handle.to_owned(), renewal("x", entry("q", SystemTime::UNIX_EPOCH)));
        }
        let taken = leases.take("h1").await;
        assert_eq!(taken.lease().map(|lease| lease.coordinates).as_deref(), Some("q"));
        assert!(leases.take("h1").await.lease().is_none());
        taken.settled();
        assert!(leases.take("h1").await.lease().is_none());
        assert_eq!(leases.remove_clients(|client| &*client.id == "y").len(), 0);
        assert_eq!(leases.remove_clients(|client| &*client.id == "x").len(), 1);
        assert!(leases.take("h2").await.lease().is_none());
    }

    #[tokio::test]
    async fn a_lease_is_renewed_again_unless_it_was_settled() {
        let leases = RenewedLeases::default();
        leases.add("h".to_owned(), renewal("x", entry("q", SystemTime::UNIX_EPOCH)));
        let renewing = leases.due_renewals(Duration::ZERO);
        // Taking the lease is cancelled while it waits for the renewal, and after that.
        assert!(leases.take("h").now_or_never().is_none());
        drop(renewing);
        drop(leases.take("h").await);
        assert_eq!(leases.due_renewals(Duration::ZERO).len(), 1);
        leases.take("h").await.settled();
        assert!(leases.due_renewals(Duration::ZERO).is_empty());
    }

    fn renewed_outcome() -> InvisibleOutcome {
        InvisibleOutcome::Changed { coordinates: "renewed".to_owned(), received_at: SystemTime::now() }
    }

    fn start(processor: &Arc<Processor>) -> tokio::task::JoinHandle<()> {
        let processor = processor.clone();
        tokio::spawn(async move { renew_leases(&processor.environment).await })
    }

    #[test]
    fn one_client_has_a_share_of_the_renewed_leases() {
        let leases = RenewedLeases::default();
        let add = |client: &str, number: usize| {
            leases.add(number.to_string(), renewal(client, entry("q", SystemTime::UNIX_EPOCH)));
        };
        (0..MAX_LEASES_OF_CLIENT + 5).for_each(|number| add("greedy", number));
        assert_eq!(leases.all().len(), MAX_LEASES_OF_CLIENT);
        add("other", MAX_LEASES);
        assert_eq!(leases.all().len(), MAX_LEASES_OF_CLIENT + 1);
        leases.remove_handle("0");
        add("greedy", MAX_LEASES + 1);
        assert_eq!(leases.all().len(), MAX_LEASES_OF_CLIENT + 1);
        assert_eq!(leases.remove_clients(|_| true).len(), MAX_LEASES_OF_CLIENT + 1);
        assert!(leases.slots.lock().of_client.is_empty());
    }

    #[tokio::test]
    async fn a_renewal_without_an_answer_delays_no_other() {
        let (processor, mut calls) = processor();
        let _connected = scripted::connect(&processor, "c", &[]);
        let maintenance = start(&processor);
        processor
            .environment
            .leases
            .add("silent".to_owned(), renewal("c", entry("silent", SystemTime::UNIX_EPOCH)));
        let (change, _unanswered) = scripted::change(&mut calls).await;
        assert_eq!(change.entry.coordinates, "silent");
        for _ in 0..3 {
            processor
                .environment
                .leases
                .add("other".to_owned(), renewal("c", entry("other", SystemTime::UNIX_EPOCH)));
            let (change, answer) = scripted::change(&mut calls).await;
            assert_eq!(change.entry.coordinates, "other");
            answer.send(Ok(renewed_outcome())).expect("a renewal");
            let taken = processor.environment.leases.take("other").await;
            assert_eq!(taken.lease().map(|lease| lease.coordinates).as_deref(), Some("renewed"));
            taken.settled();
        }
        maintenance.abort();
    }

    #[tokio::test]
    async fn a_drain_ends_the_leases_that_were_renewed_and_no_others() {
        let (processor, mut calls) = processor();
        let _connected = scripted::connect(&processor, "c", &[]);
        processor
            .environment
            .leases
            .add("old".to_owned(), renewal("c", entry("old", SystemTime::UNIX_EPOCH)));
        processor.environment.leases.add("new".to_owned(), renewal("c", entry("new", SystemTime::now())));
        let maintenance = start(&processor);
        let (change, answer) = scripted::change(&mut calls).await;
        assert_eq!(change.entry.coordinates, "old");
        // The renewal is still under way.
        processor.draining().cancel();
        answer.send(Ok(renewed_outcome())).expect("a renewal");
        let (change, answer) = scripted::change(&mut calls).await;
        assert_eq!((change.entry.coordinates.as_str(), change.invisible), ("renewed", RELEASE_AFTER));
        answer.send(Ok(InvisibleOutcome::Expired)).expect("the end of a lease");
        maintenance.await.expect("the end");
        assert!(calls.try_recv().is_err());
    }
}
