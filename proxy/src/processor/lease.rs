//! Leases that the proxy renews for clients that ask for it. Soft state: a proxy that dies costs its clients a
//! redelivery, as their handles then run out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use super::handle::Lease;
use super::{Processor, max_attempts};
use crate::error::Error;
use crate::service::{ChangeInvisible, InvisibleOutcome, RetryPolicy, Settle};

/// Renewals become rarer: so many times the first lease, one after the other, the last one again and again.
const LENGTHS: [u32; 6] = [1, 3, 5, 10, 30, 60];
/// Failures in a row after which a lease is given up.
const MAX_FAILURES: u32 = 3;
/// How long what nobody renews any more stays with its client.
const SOON: Duration = Duration::from_secs(1);

/// A lease under renewal.
#[derive(Clone, Debug)]
pub(super) struct Renewal {
    client_id: Arc<str>,
    cluster: Arc<str>,
    topic: Arc<str>,
    group: Arc<str>,
    /// The lease in force.
    entry: Settle,
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

    fn lease(&self) -> Lease {
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

    /// That nothing is renewed.
    pub(super) fn nothing(&self) -> Taken<'_> {
        Taken { leases: self, kept: None }
    }

    /// Stops renewing, for whoever is about to settle the lease.
    pub(super) async fn take(&self, handle: &str) -> Taken<'_> {
        let mut taken = self.nothing();
        if self.count.load(Ordering::Acquire) == 0 {
            return taken;
        }
        let Some(slot) = self.slots.lock().get(handle).map(|(_, slot)| slot.clone()) else { return taken };
        // It stays where it is while a renewal is waited for, as the caller may go away meanwhile.
        if let Some(renewal) = slot.lock().await.take() {
            self.forget(handle);
            taken.kept = Some((handle.to_owned(), renewal));
        }
        taken
    }

    /// Stops renewing for these clients.
    fn remove(&self, client: impl Fn(&str) -> bool) -> Vec<Slot> {
        let mut slots = self.slots.lock();
        let gone = slots.extract_if(|_, (client_id, _)| client(client_id));
        let gone = gone.map(|(_, (_, slot))| slot).collect();
        self.count.store(slots.len(), Ordering::Release);
        gone
    }

    /// The leases that end soon, each held for its renewal. One that is being renewed already is left out.
    fn due(&self, ahead: Duration) -> Vec<(String, OwnedMutexGuard<Option<Renewal>>)> {
        let now = SystemTime::now();
        let slots = self.slots.lock();
        let held = slots.iter().filter_map(|(handle, (_, slot))| {
            let held = slot.clone().try_lock_owned().ok()?;
            held.as_ref()?.due(now, ahead).then(|| (handle.clone(), held))
        });
        held.collect()
    }

    fn all(&self) -> Vec<Slot> {
        self.slots.lock().values().map(|(_, slot)| slot.clone()).collect()
    }

    fn forget(&self, handle: &str) {
        let mut slots = self.slots.lock();
        slots.remove(handle);
        self.count.store(slots.len(), Ordering::Release);
    }
}

/// What was renewed of a lease that is being settled, if it was renewed at all. It is renewed again when this is
/// dropped, be it half-way: the client will try again with the handle it has, and that says nothing of the renewals.
pub(super) struct Taken<'a> {
    leases: &'a Leases,
    kept: Option<(String, Renewal)>,
}

impl Taken<'_> {
    /// The lease in force.
    pub(super) fn lease(&self) -> Option<Lease> {
        self.kept.as_ref().map(|(_, renewal)| renewal.lease())
    }

    /// There is nothing left to renew.
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

impl Processor {
    /// Renews leases, and forgets clients that are gone, until the proxy drains. Then gives up what it has renewed.
    pub(super) async fn renew_leases(&self) {
        let mut ticks = tokio::time::interval(self.limits.renew_every.max(Duration::from_millis(1)));
        // None waits for another, nor does the next look for this one: the leases of a broker that does not answer
        // would let all others run out. There are as many as clients have deliveries in hand.
        let mut changes: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = self.draining.cancelled() => break,
                Some(()) = changes.next() => {}
                _ = ticks.tick() => {
                    self.clients.sweep();
                    let gone = self.leases.remove(|client_id| !self.clients.is_present(client_id));
                    changes.extend(gone.into_iter().map(|slot| self.give_up(slot).boxed()));
                    let due = self.leases.due(self.limits.renew_ahead);
                    changes.extend(due.into_iter().map(|(handle, held)| self.renew(handle, held).boxed()));
                }
            }
        }
        changes.extend(self.leases.all().into_iter().map(|slot| self.leave(slot).boxed()));
        while changes.next().await.is_some() {}
    }

    /// Ends the leases of a client that is gone, so that others get its messages.
    pub(super) async fn release(&self, client_id: &str) {
        let slots = self.leases.remove(|gone| gone == client_id);
        join_all(slots.into_iter().map(|slot| self.give_up(slot))).await;
    }

    async fn give_up(&self, slot: Slot) {
        if let Some(mut renewal) = slot.lock().await.take() {
            self.end_soon(&mut renewal).await;
        }
    }

    // The client's handle of a lease that was renewed here is over for every other proxy, and the lease would only
    // hide the message. Whoever settles it here in this last second still can. One that was never renewed has a
    // handle that is good everywhere.
    async fn leave(&self, slot: Slot) {
        let mut held = slot.lock().await;
        if let Some(renewal) = held.as_mut().filter(|renewal| renewal.renewed > 0) {
            self.end_soon(renewal).await;
        }
    }

    async fn end_soon(&self, renewal: &mut Renewal) {
        if let Err(error) = self.change(renewal, SOON).await {
            let client_id = renewal.client_id.as_ref();
            tracing::debug!(client_id, %error, "a delivery that nobody will settle waits out its lease");
        }
    }

    async fn renew(&self, handle: String, mut held: OwnedMutexGuard<Option<Renewal>>) {
        let Some(renewal) = held.as_mut() else { return };
        if !self.renewed(renewal).await {
            self.leases.forget(&handle);
        }
    }

    // Whether to go on renewing.
    async fn renewed(&self, renewal: &mut Renewal) -> bool {
        let too_long = renewal.since.elapsed() > self.limits.renew_for;
        let invisible = if too_long {
            self.retry_pause(renewal).await
        } else {
            self.limits.renewed_lease * LENGTHS[renewal.renewed.min(LENGTHS.len() - 1)]
        };
        match self.change(renewal, invisible).await {
            Ok(true) => {
                renewal.renewed += 1;
                renewal.failures = 0;
                !too_long
            }
            Ok(false) => false,
            Err(error) => {
                tracing::warn!(topic = %renewal.topic, group = %renewal.group, %error, "a lease is not renewed");
                renewal.failures += 1;
                renewal.failures < MAX_FAILURES
            }
        }
    }

    // Makes a lease end so long from now. Whether it was still in force.
    async fn change(&self, renewal: &mut Renewal, invisible: Duration) -> Result<bool, Error> {
        let services = &self.clusters.get(&renewal.cluster)?.services;
        let change = ChangeInvisible {
            topic: renewal.topic.as_ref().to_owned(),
            group: renewal.group.as_ref().to_owned(),
            entry: renewal.entry.clone(),
            invisible,
            suspend: false,
            deadline: Instant::now() + self.limits.call,
        };
        let outcome = services.messages.change_invisible(change).await?;
        let InvisibleOutcome::Changed { coordinates, received_at } = outcome else { return Ok(false) };
        renewal.entry = Settle { coordinates, received_at, invisible, ..renewal.entry.clone() };
        Ok(true)
    }

    async fn retry_pause(&self, renewal: &Renewal) -> Duration {
        let Ok(cluster) = self.clusters.get(&renewal.cluster) else {
            return self.limits.renewed_lease;
        };
        let Ok(config) = cluster.services.metadata.group(&renewal.group).await else {
            return self.limits.renewed_lease;
        };
        pause_before(&config.retry, renewal.attempt.min(max_attempts(&config)))
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
    use super::super::scripted;
    use super::super::{ClusterRouter, Limits, Role};
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

    fn renewal(client_id: &str, entry: Settle) -> Renewal {
        let names = [client_id, "", "t", "g"].map(Arc::from);
        Renewal::new(names.each_ref(), entry, 1)
    }

    #[tokio::test]
    async fn a_lease_is_taken_once() {
        let leases = Leases::default();
        for handle in ["h1", "h2"] {
            leases.keep(handle.to_owned(), renewal("x", entry("q", SystemTime::UNIX_EPOCH)));
        }
        let taken = leases.take("h1").await;
        assert_eq!(taken.lease().map(|lease| lease.coordinates).as_deref(), Some("q"));
        assert!(leases.take("h1").await.lease().is_none());
        taken.settled();
        assert!(leases.take("h1").await.lease().is_none());
        assert_eq!(leases.remove(|client_id| client_id == "y").len(), 0);
        assert_eq!(leases.remove(|client_id| client_id == "x").len(), 1);
        assert!(leases.take("h2").await.lease().is_none());
    }

    #[tokio::test]
    async fn a_lease_is_renewed_again_unless_it_was_settled() {
        let leases = Leases::default();
        leases.keep("h".to_owned(), renewal("x", entry("q", SystemTime::UNIX_EPOCH)));
        let renewing = leases.due(Duration::ZERO);
        // Given up while it waits for the renewal, and after that.
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

    fn renew_leases(processor: &Arc<Processor>) -> tokio::task::JoinHandle<()> {
        let processor = processor.clone();
        tokio::spawn(async move { processor.renew_leases().await })
    }

    #[tokio::test]
    async fn a_renewal_without_an_answer_holds_up_no_other() {
        let (processor, mut asked) = processor();
        scripted::connect(&processor, "c", Role::None);
        let house = renew_leases(&processor);
        processor.leases.keep("sick".to_owned(), renewal("c", entry("sick", SystemTime::UNIX_EPOCH)));
        let (change, _unanswered) = scripted::change(&mut asked).await;
        assert_eq!(change.entry.coordinates, "sick");
        for _ in 0..3 {
            processor.leases.keep("well".to_owned(), renewal("c", entry("well", SystemTime::UNIX_EPOCH)));
            let (change, answer) = scripted::change(&mut asked).await;
            assert_eq!(change.entry.coordinates, "well");
            answer.send(Ok(anew())).expect("a renewal");
            let taken = processor.leases.take("well").await;
            assert_eq!(taken.lease().map(|lease| lease.coordinates).as_deref(), Some("anew"));
            taken.settled();
        }
        house.abort();
    }

    #[tokio::test]
    async fn a_drain_gives_up_what_was_renewed_and_nothing_else() {
        let (processor, mut asked) = processor();
        scripted::connect(&processor, "c", Role::None);
        processor.leases.keep("old".to_owned(), renewal("c", entry("old", SystemTime::UNIX_EPOCH)));
        processor.leases.keep("new".to_owned(), renewal("c", entry("new", SystemTime::now())));
        let house = renew_leases(&processor);
        let (change, answer) = scripted::change(&mut asked).await;
        assert_eq!(change.entry.coordinates, "old");
        // The renewal is still under way.
        processor.draining.cancel();
        answer.send(Ok(anew())).expect("a renewal");
        let (change, answer) = scripted::change(&mut asked).await;
        assert_eq!((change.entry.coordinates.as_str(), change.invisible), ("anew", SOON));
        answer.send(Ok(InvisibleOutcome::Expired)).expect("the end of a lease");
        house.await.expect("the end");
        assert!(asked.try_recv().is_err());
    }
}
