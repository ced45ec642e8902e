//! Deliveries that arrived while no receive was waiting for them.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore, watch},
};
use tokio_util::task::TaskTracker;

use super::settle::Change;
use crate::{
    error::{ErrorKind, Result},
    message::{Delivery, Lease},
    options::LONGEST_WAIT,
    session::Session,
};

/// How long a delivery is kept for the next receive; then it is given back, so that another consumer can have it.
///
/// Longer than most applications work between two receives: giving a delivery back may count as an attempt.
const MAX_HOLD: Duration = Duration::from_secs(300);

/// The most renewals, and the most deliveries given back, at the same time.
const MAX_CONCURRENT_CHANGES: usize = 32;

/// The shortest pause between two attempts to renew the same lease.
const MIN_RENEWAL_PAUSE: Duration = Duration::from_secs(1);

/// Deliveries that wait for a receive of their consumer. Their leases are renewed at half-time.
///
/// There are at most as many as the consumer's polls have asked for: a receive takes what waits here before it
/// starts a poll.
pub(super) struct Prefetched {
    session: Arc<Session>,
    group: String,
    state: Mutex<State>,
    /// Changes whenever a receive should look again.
    news: watch::Sender<u64>,
    /// Wakes the maintenance task.
    wake: Notify,
    permits: Semaphore,
    tasks: TaskTracker,
    /// Where tasks run: deliveries may be put back from any thread.
    runtime: Handle,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Entry>,
    /// When the maintenance task wakes next; `None` if it doesn't run.
    next_maintenance: Option<Instant>,
    closed: bool,
}

struct Entry {
    delivery: Delivery,
    /// When the delivery is given back.
    hold_until: Instant,
    /// Whether a renewal is under way. The delivery can't be taken until it is over.
    renewing: bool,
    /// The earliest next renewal, after one failed.
    not_before: Instant,
}

/// Where new entries are queued.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Front,
    Back,
}

impl Prefetched {
    pub(super) fn new(session: Arc<Session>, group: String) -> Arc<Self> {
        Arc::new(Self {
            session,
            group,
            state: Mutex::default(),
            news: watch::Sender::new(0),
            wake: Notify::new(),
            permits: Semaphore::new(MAX_CONCURRENT_CHANGES),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
        })
    }

    /// Changes whenever there may be something to take, or [`announce`](Self::announce) was called.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Has all waiting receives look again.
    pub(super) fn announce(&self) {
        self.news.send_modify(|news| *news += 1);
    }

    /// Keeps what a poll has brought.
    pub(super) fn keep(self: &Arc<Self>, deliveries: Vec<Delivery>) {
        self.insert(deliveries, Place::Back);
    }

    /// Keeps what was taken and has not been seen. It goes first, because it was received first.
    pub(super) fn put_back(self: &Arc<Self>, deliveries: Vec<Delivery>) {
        self.insert(deliveries, Place::Front);
    }

    /// Up to `max` deliveries whose leases last for at least half of `invisible`. Shorter leases are renewed
    /// first; [`news`](Self::news) changes when that is done.
    ///
    /// Doesn't wait, so that a cancelled receive loses nothing.
    pub(super) fn take(self: &Arc<Self>, max: u32, invisible: Duration) -> Vec<Delivery> {
        let now = Instant::now();
        let invisible = invisible.min(LONGEST_WAIT);
        let mut taken = Vec::new();
        let mut state = self.state.lock();
        let mut at = 0;
        while let Some(entry) = state.waiting.get_mut(at)
            && taken.len() < max as usize
        {
            let left = entry.lease().until().saturating_duration_since(now);
            if entry.renewing {
                at += 1;
            } else if left.is_zero() {
                state.waiting.remove(at);
            } else if left >= invisible / 2 {
                taken.extend(state.waiting.remove(at).map(|entry| entry.delivery));
            } else {
                if entry.not_before <= now {
                    self.start_renewal(entry, invisible);
                }
                at += 1;
            }
        }
        taken
    }

    /// Whether a renewal is under way that may make a delivery available.
    pub(super) fn is_renewing(&self) -> bool {
        self.state.lock().waiting.iter().any(|entry| entry.renewing)
    }

    /// Gives everything back. What is kept from now on is given back at once.
    pub(super) async fn close(&self) {
        let waiting: Vec<Entry> = {
            let mut state = self.state.lock();
            state.closed = true;
            // The others are given back once their renewal is over, by the handle that it brings.
            let (renewing, idle) = state.waiting.drain(..).partition(|entry| entry.renewing);
            state.waiting = renewing;
            idle.into()
        };
        self.wake.notify_one();
        let give_back = async |entry: Entry| self.give_back(&entry.delivery).run().await;
        futures::stream::iter(waiting)
            .for_each_concurrent(MAX_CONCURRENT_CHANGES, async |entry| log_failure(give_back(entry).await))
            .await;
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn insert(self: &Arc<Self>, deliveries: Vec<Delivery>, place: Place) {
        let now = Instant::now();
        let deliveries = deliveries.into_iter().filter(|delivery| delivery.lease.until() > now);
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            for delivery in deliveries {
                // The session may have ended already.
                let change = self.give_back(&delivery);
                self.runtime.spawn(async move { log_failure(change.run_once().await) });
            }
            return;
        }
        let entry =
            |delivery| Entry { delivery, hold_until: now + MAX_HOLD, renewing: false, not_before: now };
        match place {
            Place::Back => state.waiting.extend(deliveries.map(entry)),
            Place::Front => deliveries.map(entry).rev().for_each(|entry| state.waiting.push_front(entry)),
        }
        self.ensure_maintenance(&mut state);
        drop(state);
        self.announce();
    }

    /// Starts the maintenance task, or wakes it if something is due before it wakes by itself.
    fn ensure_maintenance(self: &Arc<Self>, state: &mut State) {
        let Some(due) = state.waiting.iter().map(Entry::due).min() else { return };
        match state.next_maintenance {
            Some(next) if next <= due => {}
            Some(_) => self.wake.notify_one(),
            None => {
                state.next_maintenance = Some(due);
                self.spawn(self.clone().maintain());
            }
        }
    }

    /// Runs `work` until it or the session ends.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.session.stop().clone();
        let work = async move {
            stop.run_until_cancelled(work).await;
        };
        self.tasks.spawn_on(work, &self.runtime);
    }

    /// Renews leases and gives deliveries back when it is time, until none is left.
    async fn maintain(self: Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state.lock();
                state.next_maintenance = self.start_due(&mut state);
                match state.next_maintenance {
                    Some(next) => next,
                    None => return,
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Starts what is due; returns when to look again, or `None` if no delivery is left.
    fn start_due(self: &Arc<Self>, state: &mut State) -> Option<Instant> {
        let now = Instant::now();
        state.waiting.retain_mut(|entry| {
            if entry.renewing {
                return true;
            }
            if entry.lease().until() <= now {
                return false;
            }
            if entry.hold_until <= now {
                let change = self.give_back(&entry.delivery);
                self.spawn(async move { log_failure(change.run().await) });
                return false;
            }
            if entry.due() <= now {
                self.start_renewal(entry, entry.lease().length());
            }
            true
        });
        state.waiting.iter().map(Entry::due).min()
    }

    fn start_renewal(self: &Arc<Self>, entry: &mut Entry, invisible: Duration) {
        entry.renewing = true;
        let change = Change::new(self.session.clone(), &self.group, &entry.delivery, invisible);
        let (this, lease) = (self.clone(), entry.lease().clone());
        self.spawn(async move {
            let result = {
                let _permit = this.permits.acquire().await;
                change.run().await
            };
            if let Some(delivery) = this.finish_renewal(&lease, result) {
                log_failure(this.give_back(&delivery).run().await);
            }
        });
    }

    /// Makes a delivery available again, unless its lease is over. Returns it if it has to be given back.
    fn finish_renewal(&self, lease: &Arc<Lease>, result: Result<()>) -> Option<Delivery> {
        let now = Instant::now();
        let left = lease.until().saturating_duration_since(now);
        let mut state = self.state.lock();
        let at = state.waiting.iter().position(|entry| Arc::ptr_eq(entry.lease(), lease))?;
        let lost = match &result {
            Ok(()) => false,
            Err(error) => {
                tracing::debug!(%error, "the lease of a waiting delivery was not renewed");
                error.kind() == ErrorKind::InvalidReceipt || left.is_zero()
            }
        };
        let mut unwanted = None;
        if lost || state.closed {
            unwanted = state.waiting.remove(at).filter(|_| !lost).map(|entry| entry.delivery);
        } else if let Some(entry) = state.waiting.get_mut(at) {
            entry.renewing = false;
            if result.is_err() {
                entry.not_before = now + (left / 2).max(MIN_RENEWAL_PAUSE);
            }
        }
        drop(state);
        self.wake.notify_one();
        self.announce();
        unwanted
    }

    fn give_back(&self, delivery: &Delivery) -> Change {
        Change::give_back(self.session.clone(), &self.group, delivery)
    }
}

impl Entry {
    fn lease(&self) -> &Arc<Lease> {
        &self.delivery.lease
    }

    /// When something has to be done about the delivery.
    fn due(&self) -> Instant {
        if self.renewing {
            return self.hold_until.max(Instant::now() + MIN_RENEWAL_PAUSE);
        }
        self.lease().half_time().max(self.not_before).min(self.hold_until)
    }
}

/// A delivery that could not be given back comes again when its lease is over.
fn log_failure(result: Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a delivery could not be given back");
    }
}
