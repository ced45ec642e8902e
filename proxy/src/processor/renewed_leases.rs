//! The leases that the proxy renews for clients.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use super::clients::ClientKey;
use super::handle::SealedLease;
use super::host_budget::{HostBudget, Reservation};
use crate::counts;
use crate::service::Settle;

/// The maximum number of leases that are renewed for one client. Further leases expire without renewal.
const MAX_LEASES_OF_CLIENT: usize = 20_000;
/// The maximum number of bytes of the leases of all clients, which is enough for about 200,000.
const MAX_BYTES: usize = 192 << 20;
/// The approximate size of a lease without its texts.
const LEASE_BYTES: usize = 640;

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
    pub(super) holder: Arc<LeaseHolder>,
    /// The current lease.
    pub(super) entry: Settle,
    pub(super) attempt: i32,
    /// When the first lease began.
    pub(super) since: Instant,
    /// When the current lease ends. Steps of the wall clock, by which the entry tells the same, don't affect the lease.
    pub(super) ends_at: Instant,
    /// The number of renewals so far.
    pub(super) renewed: usize,
    /// The number of consecutive failures.
    pub(super) failures: u32,
}

impl Renewal {
    /// The renewal of a delivery's first lease.
    pub(super) fn new(holder: Arc<LeaseHolder>, entry: Settle, attempt: i32) -> Self {
        let since = Instant::now();
        Self { holder, attempt, since, ends_at: since + entry.invisible, entry, renewed: 0, failures: 0 }
    }

    /// The approximate size of the renewal with its handle.
    fn size(&self, handle: &str) -> usize {
        let (LeaseHolder { topic, group, .. }, entry) = (&*self.holder, &self.entry);
        let lite_topic = entry.lite_topic.as_ref().map_or(0, String::len);
        let texts = [handle, topic, group, &entry.coordinates, &entry.message_id].map(str::len);
        LEASE_BYTES + lite_topic + texts.iter().sum::<usize>()
    }

    fn lease(&self) -> SealedLease {
        let Settle { coordinates, received_at, invisible, .. } = self.entry.clone();
        SealedLease { received_at, invisible, cluster: self.holder.cluster.as_ref().to_owned(), coordinates }
    }

    fn is_due(&self, now: Instant, ahead: Duration) -> bool {
        self.ends_at <= now + ahead
    }
}

// A renewal holds the inner lock during its call. An acknowledgement waits for it instead of settling a lease that is
// being replaced. `None` once the lease is settled.
pub(super) type RenewalSlot = Arc<tokio::sync::Mutex<Option<Renewal>>>;

/// The leases under renewal, by the client's handle.
pub(super) struct RenewedLeases {
    budget: Arc<HostBudget>,
    slots: Mutex<Slots>,
    // Saves taking the lock for each acknowledgement if no lease is renewed, as on most proxies.
    count: AtomicUsize,
    /// The number of renewals since the start.
    pub(super) renewals: AtomicU64,
    /// The number of failed renewals since the start, and of leases that are not renewed because there are too many.
    pub(super) failures: AtomicU64,
}

#[derive(Default)]
struct Slots {
    by_handle: HashMap<String, OwnedSlot>,
    /// The number of leases of each client.
    of_client: HashMap<ClientKey, usize>,
}

struct OwnedSlot {
    client: ClientKey,
    slot: RenewalSlot,
    _taken: Reservation,
}

impl Default for RenewedLeases {
    fn default() -> Self {
        Self {
            budget: HostBudget::new(MAX_BYTES),
            slots: Mutex::default(),
            count: AtomicUsize::new(0),
            renewals: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }
}

/// Numbers of leases and renewals.
#[derive(Clone, Copy, Debug)]
pub(super) struct RenewalCounts {
    /// The leases under renewal.
    pub(super) leases: u64,
    /// The renewals since the start.
    pub(super) renewals: u64,
    /// The failed renewals since the start.
    pub(super) failures: u64,
}

/// A lease that is about to be renewed.
pub(super) struct DueRenewal {
    pub(super) handle: String,
    pub(super) renewal: OwnedMutexGuard<Option<Renewal>>,
}

impl RenewedLeases {
    /// Renews this lease from now on, unless too many leases are renewed already. That counts as a failed renewal.
    pub(super) fn add(&self, handle: String, renewal: Renewal) {
        let client = renewal.holder.client.clone();
        let mut slots = self.slots.lock();
        let of_client = slots.of_client.get(&client).copied().unwrap_or_default();
        let taken = match of_client < MAX_LEASES_OF_CLIENT {
            true => self.budget.take(client.host.clone(), renewal.size(&handle)),
            false => None,
        };
        let Some(taken) = taken else {
            self.failures.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(client_id = &*client.id, "too many leases to renew; a lease will expire");
            return;
        };
        *slots.of_client.entry(client.clone()).or_default() += 1;
        let slot = Arc::new(tokio::sync::Mutex::new(Some(renewal)));
        if let Some(replaced) = slots.by_handle.insert(handle, OwnedSlot { client, slot, _taken: taken }) {
            counts::subtract(&mut slots.of_client, &replaced.client, 1);
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
    pub(super) fn remove_clients(&self, matches: impl Fn(&ClientKey) -> bool) -> Vec<RenewalSlot> {
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
    pub(super) fn due_renewals(&self, ahead: Duration) -> Vec<DueRenewal> {
        let now = Instant::now();
        let slots = self.slots.lock();
        let due = slots.by_handle.iter().filter_map(|(handle, owned)| {
            let renewal = owned.slot.clone().try_lock_owned().ok()?;
            renewal.as_ref()?.is_due(now, ahead).then(|| DueRenewal { handle: handle.clone(), renewal })
        });
        due.collect()
    }

    /// The numbers of leases and of renewals.
    pub(super) fn counts(&self) -> RenewalCounts {
        RenewalCounts {
            leases: self.count.load(Ordering::Relaxed) as u64,
            renewals: self.renewals.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }

    /// All leases under renewal.
    pub(super) fn all(&self) -> Vec<RenewalSlot> {
        self.slots.lock().by_handle.values().map(|owned| owned.slot.clone()).collect()
    }

    /// Stops renewing the lease with this handle.
    pub(super) fn remove_handle(&self, handle: &str) {
        let mut slots = self.slots.lock();
        if let Some(owned) = slots.by_handle.remove(handle) {
            counts::subtract(&mut slots.of_client, &owned.client, 1);
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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use futures::FutureExt;

    use super::super::scripted::{renewal, settle_entry as entry};
    use super::*;
    use crate::context::Context;

    #[tokio::test]
    async fn a_lease_is_taken_once() {
        let leases = RenewedLeases::default();
        for handle in ["h1", "h2"] {
            leases.add(handle.to_owned(), renewal("x", entry("q", Duration::ZERO)));
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

    #[test]
    fn a_step_of_the_wall_clock_delays_no_renewal() {
        let leases = RenewedLeases::default();
        let hour = Duration::from_secs(3600);
        for (handle, invisible) in [("due", Duration::ZERO), ("not due", hour)] {
            // As if the wall clock was set back, or forward, since the receive.
            let received_at = SystemTime::now() + hour - 2 * invisible;
            let entry = Settle { received_at, ..entry("q", invisible) };
            leases.add(handle.to_owned(), renewal("x", entry));
        }
        let due = leases.due_renewals(Duration::from_secs(10));
        assert_eq!(due.iter().map(|due| due.handle.as_str()).collect::<Vec<_>>(), ["due"]);
    }

    #[tokio::test]
    async fn a_lease_is_renewed_again_unless_it_was_settled() {
        let leases = RenewedLeases::default();
        leases.add("h".to_owned(), renewal("x", entry("q", Duration::ZERO)));
        let renewing = leases.due_renewals(Duration::ZERO);
        // Taking the lease is cancelled while it waits for the renewal, and after that.
        assert!(leases.take("h").now_or_never().is_none());
        drop(renewing);
        drop(leases.take("h").await);
        assert_eq!(leases.due_renewals(Duration::ZERO).len(), 1);
        leases.take("h").await.settled();
        assert!(leases.due_renewals(Duration::ZERO).is_empty());
    }

    #[test]
    fn one_client_has_a_share_of_the_renewed_leases() {
        let leases = RenewedLeases::default();
        let add = |client: &str, number: usize| {
            leases.add(number.to_string(), renewal(client, entry("q", Duration::ZERO)));
        };
        (0..MAX_LEASES_OF_CLIENT + 5).for_each(|number| add("greedy", number));
        assert_eq!(leases.all().len(), MAX_LEASES_OF_CLIENT);
        assert_eq!(leases.counts().failures, 5);
        add("other", usize::MAX);
        assert_eq!(leases.all().len(), MAX_LEASES_OF_CLIENT + 1);
        leases.remove_handle("0");
        add("greedy", usize::MAX - 1);
        assert_eq!(leases.all().len(), MAX_LEASES_OF_CLIENT + 1);
        assert_eq!(leases.remove_clients(|_| true).len(), MAX_LEASES_OF_CLIENT + 1);
        assert!(leases.slots.lock().of_client.is_empty());
        assert_eq!(leases.budget.hosts(), 0);
    }

    #[test]
    fn one_host_has_a_share_of_the_memory_for_leases_however_many_clients_it_has() {
        const LONG: usize = 1 << 20;
        let leases = RenewedLeases::default();
        let add = |host: &str, client: usize| {
            let context = Context { peer: host.into(), ..Context::of_client(&client.to_string()) };
            let entry = Settle { message_id: "m".repeat(LONG), ..entry("q", Duration::ZERO) };
            let holder = LeaseHolder {
                client: ClientKey::of(&context),
                ..(*renewal("x", entry.clone()).holder).clone()
            };
            leases.add(format!("{host} {client}"), Renewal::new(Arc::new(holder), entry, 1));
        };
        (0..MAX_BYTES / LONG).for_each(|client| add("192.0.2.1:1", client));
        let of_host = leases.all().len();
        assert!(of_host < MAX_BYTES / LONG * 7 / 8, "{of_host}");
        add("192.0.2.2:1", 0);
        assert_eq!(leases.all().len(), of_host + 1);
        // A lease that is settled makes room for another.
        leases.remove_handle("192.0.2.1:1 0");
        leases.remove_handle("192.0.2.1:1 1");
        add("192.0.2.1:1", 0);
        assert_eq!(leases.all().len(), of_host);
    }
}
