//! Deliveries that wait for the application.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{budget::Room, leases::Leases, settle::Change};
use crate::{
    error::{ErrorKind, Result},
    message::{Delivery, Lease},
    options::LONGEST_WAIT,
    session::Session,
};

/// How long deliveries of a stream are kept while the application takes none; then they are given back, so that another
/// consumer can have them.
///
/// Longer than most applications work on what they have: giving a delivery back may count as an attempt.
const STREAM_HOLD: Duration = Duration::from_secs(300);

/// The same for those of a receive that has returned or was cancelled. Nothing says that another receive will follow.
const RECEIVE_HOLD: Duration = Duration::from_secs(60);

/// The shortest pause between two attempts to renew the same lease.
const MIN_RENEWAL_PAUSE: Duration = Duration::from_secs(1);

/// The deliveries of one consumer that wait for the application, whether the poll of a receive or a stream has fetched
/// them. Whoever asks first gets the first ones. Their leases are kept.
///
/// The code that fetches them limits their number.
pub(crate) struct Prefetched {
    session: Arc<Session>,
    leases: Arc<Leases>,
    state: Mutex<State>,
    /// Changes whenever the application should look again.
    news: watch::Sender<u64>,
    /// Wakes those who wait until the application takes deliveries again.
    active: Notify,
    ended: CancellationToken,
    tasks: TaskTracker,
    /// Where tasks run: deliveries may be put back from any thread.
    runtime: Handle,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Entry>,
    /// When the application last took deliveries, or some arrived.
    touched: Option<Instant>,
    /// Whether a task waits until the application has been idle for too long.
    watched: bool,
    /// Whether deliveries were given back because the application took none.
    idle: bool,
    closed: bool,
}

struct Entry {
    delivery: Delivery,
    /// Cancelled when the stream ends that has fetched it or put it back.
    stream: Option<CancellationToken>,
    /// What it takes up of a limit while it waits.
    _room: Option<Room>,
    /// Whether a renewal that a take has asked for is under way. The delivery can't be taken until it is over.
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
    pub(crate) fn new(session: Arc<Session>, leases: Arc<Leases>) -> Arc<Self> {
        Arc::new(Self {
            ended: session.stop().child_token(),
            session,
            leases,
            state: Mutex::default(),
            news: watch::Sender::new(0),
            active: Notify::new(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
        })
    }

    /// Changes whenever there may be something to take, or [`announce`](Self::announce) was called.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Makes all waiting receives and streams look again.
    pub(crate) fn announce(&self) {
        self.news.send_modify(|news| *news += 1);
    }

    /// Keeps the deliveries of a poll that a receive has started.
    pub(crate) fn keep(self: &Arc<Self>, deliveries: Vec<Delivery>) {
        self.insert(deliveries.into_iter().map(|delivery| (delivery, None)), None, Place::Back);
    }

    /// Keeps the deliveries of a poll of a stream, with the room that each takes up while it waits. `stream` is cancelled
    /// when the stream ends.
    pub(super) fn keep_in(
        self: &Arc<Self>,
        deliveries: Vec<Delivery>,
        room: Room,
        stream: &CancellationToken,
    ) {
        let rooms = room.divide(&deliveries);
        self.insert(deliveries.into_iter().zip(rooms), Some(stream), Place::Back);
    }

    /// Keeps deliveries that a receive or a stream has taken and the application has not seen. They go first, because
    /// they were received first.
    pub(crate) fn put_back(self: &Arc<Self>, deliveries: Vec<Delivery>, stream: Option<&CancellationToken>) {
        self.insert(deliveries.into_iter().map(|delivery| (delivery, None)), stream, Place::Front);
    }

    /// Up to `max` deliveries whose leases last for at least half of `invisible`. Shorter leases are renewed
    /// first; [`news`](Self::news) changes when that is done.
    ///
    /// Doesn't wait, so that a cancelled receive loses nothing.
    pub(crate) fn take(self: &Arc<Self>, max: usize, invisible: Duration) -> Vec<Delivery> {
        let now = Instant::now();
        let invisible = invisible.min(LONGEST_WAIT);
        let mut taken = Vec::new();
        let mut state = self.state.lock();
        state.touched = Some(now);
        if std::mem::take(&mut state.idle) {
            self.active.notify_waiters();
        }
        let mut at = 0;
        while let Some(entry) = state.waiting.get_mut(at)
            && taken.len() < max
        {
            if entry.renewing {
                at += 1;
            } else if entry.lease().has_ended(now) {
                drop(state.remove(at, &self.leases));
            } else if entry.lasts(now, invisible) {
                taken.extend(state.remove(at, &self.leases));
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
    pub(crate) fn is_renewing(&self) -> bool {
        self.state.lock().waiting.iter().any(|entry| entry.renewing)
    }

    /// Waits while deliveries are given back because the application takes none.
    pub(super) async fn active(&self) {
        loop {
            let active = self.active.notified();
            if !self.state.lock().idle {
                return;
            }
            active.await;
        }
    }

    /// Gives back the waiting deliveries of `topic`.
    pub(super) async fn give_back_topic(&self, topic: &str) {
        self.give_back(|entry| entry.delivery.topic == topic).await;
    }

    /// Gives back the waiting deliveries of streams that have ended.
    pub(super) async fn give_back_ended(&self) {
        self.give_back(|entry| has_ended(entry.stream.as_ref())).await;
    }

    /// Gives everything back. What is kept from now on is given back at once.
    pub(crate) async fn close(&self) {
        self.state.lock().closed = true;
        self.ended.cancel();
        self.announce();
        self.give_back(|_| true).await;
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn give_back(&self, chosen: impl Fn(&Entry) -> bool) {
        let unwanted = {
            let mut state = self.state.lock();
            let (unwanted, waiting) = state.waiting.drain(..).partition::<VecDeque<_>, _>(chosen);
            state.waiting = waiting;
            unwanted.into_iter().map(|entry| entry.delivery.lease).collect()
        };
        self.leases.give_back(unwanted).await;
    }

    fn insert(
        self: &Arc<Self>,
        deliveries: impl DoubleEndedIterator<Item = (Delivery, Option<Room>)>,
        stream: Option<&CancellationToken>,
        place: Place,
    ) {
        let now = Instant::now();
        let mut state = self.state.lock();
        // Looked at under the lock: what is inserted before the stream ends is given back by its end.
        let closed = state.closed || has_ended(stream);
        let deliveries = deliveries.filter(|(delivery, _)| !delivery.lease.has_ended(now));
        if closed {
            drop(state);
            return deliveries.for_each(|(delivery, _)| self.leases.give_back_late(delivery.lease));
        }
        let entry = |(delivery, room): (Delivery, Option<Room>)| {
            self.leases.keep(&delivery.lease, crate::options::deadline(now, LONGEST_WAIT));
            Entry { delivery, stream: stream.cloned(), _room: room, renewing: false, not_before: now }
        };
        match place {
            Place::Back => state.waiting.extend(deliveries.map(entry)),
            Place::Front => deliveries.map(entry).rev().for_each(|entry| state.waiting.push_front(entry)),
        }
        state.touched = Some(now);
        if !state.watched && !state.waiting.is_empty() {
            state.watched = true;
            let (ended, work) = (self.ended.clone(), self.clone().watch());
            self.runtime.spawn(async move { ended.run_until_cancelled(work).await });
        }
        drop(state);
        self.announce();
    }

    /// Runs `work` until it or the session ends.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.session.stop().clone();
        let work = async move {
            stop.run_until_cancelled(work).await;
        };
        self.tasks.spawn_on(work, &self.runtime);
    }

    /// Gives everything back once the application has taken nothing for too long.
    async fn watch(self: Arc<Self>) {
        loop {
            let due = {
                let mut state = self.state.lock();
                match (state.touched, state.waiting.iter().map(Entry::hold).min()) {
                    (Some(touched), Some(hold)) => touched + hold,
                    _ => {
                        state.watched = false;
                        return;
                    }
                }
            };
            tokio::time::sleep_until(due.into()).await;
            let expired = {
                let mut state = self.state.lock();
                let untouched = state.touched.map_or(Duration::MAX, |touched| touched.elapsed());
                let (expired, waiting): (VecDeque<_>, _) =
                    state.waiting.drain(..).partition(|entry| entry.hold() <= untouched);
                state.waiting = waiting;
                state.idle |= expired.iter().any(|entry| entry.stream.is_some());
                expired
            };
            if !expired.is_empty() {
                tracing::debug!("the application takes no deliveries; those that wait for it are given back");
                self.leases.give_back(expired.into_iter().map(|entry| entry.delivery.lease).collect()).await;
            }
        }
    }

    fn start_renewal(self: &Arc<Self>, entry: &mut Entry, invisible: Duration) {
        entry.renewing = true;
        let change = Change::renewal(self.session.clone(), entry.lease().clone(), invisible);
        let (this, lease) = (self.clone(), entry.lease().clone());
        self.spawn(async move {
            let result = change.run().await;
            this.finish_renewal(&lease, &result);
        });
    }

    /// Makes a delivery available again, unless its lease is over.
    fn finish_renewal(&self, lease: &Arc<Lease>, result: &Result<()>) {
        let now = Instant::now();
        let left = lease.until().saturating_duration_since(now);
        let mut state = self.state.lock();
        let Some(at) = state.waiting.iter().position(|entry| Arc::ptr_eq(entry.lease(), lease)) else {
            return;
        };
        let lost = result.as_ref().is_err_and(|error| {
            tracing::debug!(%error, "the lease of a waiting delivery was not renewed");
            error.kind() == ErrorKind::InvalidReceipt || left.is_zero()
        });
        if lost {
            drop(state.remove(at, &self.leases));
        } else if let Some(entry) = state.waiting.get_mut(at) {
            entry.renewing = false;
            if result.is_err() || !lease.is_open() {
                entry.not_before = now + (left / 2).max(MIN_RENEWAL_PAUSE);
            }
        }
        drop(state);
        self.announce();
    }
}

fn has_ended(stream: Option<&CancellationToken>) -> bool {
    stream.is_some_and(CancellationToken::is_cancelled)
}

impl State {
    /// Takes out an entry. Its lease is no longer kept, and its room is free.
    fn remove(&mut self, at: usize, leases: &Leases) -> Option<Delivery> {
        let entry = self.waiting.remove(at)?;
        leases.release(entry.lease());
        Some(entry.delivery)
    }
}

impl Entry {
    /// How long it is kept while the application takes nothing.
    fn hold(&self) -> Duration {
        if self.stream.is_some() { STREAM_HOLD } else { RECEIVE_HOLD }
    }

    fn lease(&self) -> &Arc<Lease> {
        &self.delivery.lease
    }

    /// Whether at least half of `invisible` is left of the lease.
    fn lasts(&self, now: Instant, invisible: Duration) -> bool {
        self.lease().until().saturating_duration_since(now) >= invisible / 2
    }
}
