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

use super::budget::Reservation;
use crate::{
    consumer::{InvisibleDurationChange, Leases},
    error::{ErrorKind, Result},
    message::{Delivery, Lease},
    options::LONGEST_WAIT,
    session::Session,
    wire::decompress_body,
};

/// How long deliveries of a stream wait while the application takes none. Then they are given back, so that another
/// consumer can get them.
///
/// Longer than most applications take for a batch, because giving a delivery back may count as an attempt.
const MAX_STREAM_IDLE_TIME: Duration = Duration::from_secs(300);

/// The same for deliveries of a receive that has returned or was cancelled. Another receive may never follow.
const MAX_RECEIVE_IDLE_TIME: Duration = Duration::from_secs(60);

/// The minimum pause after a failed renewal of the same lease.
const MIN_RENEWAL_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The deliveries of one consumer that wait for the application. Polls of receives and streams add them, and any
/// receive or stream takes them. Their leases are renewed.
///
/// Does not limit the number of deliveries; the callers that fetch them do.
pub(crate) struct Prefetched {
    session: Arc<Session>,
    leases: Arc<Leases>,
    state: Mutex<PrefetchState>,
    /// Changes whenever receives and streams should check for deliveries or errors.
    changes: watch::Sender<u64>,
    /// Notified when the application takes deliveries after it was idle.
    activated: Notify,
    ended: CancellationToken,
    /// The tasks that poll, and add deliveries. A close waits until they have ended.
    polls: TaskTracker,
    tasks: TaskTracker,
    /// The runtime of tasks. Deliveries may be put back from any thread.
    runtime: Handle,
}

#[derive(Default)]
struct PrefetchState {
    waiting: VecDeque<PrefetchedEntry>,
    /// When the application last asked for deliveries.
    last_taken: Option<Instant>,
    /// Whether the task that gives deliveries back when the application is idle runs.
    idle_watch_running: bool,
    /// Whether deliveries of a stream were given back because the application took none. Streams stop polling then.
    idle: bool,
    closed: bool,
}

struct PrefetchedEntry {
    delivery: Delivery,
    /// The token of the stream that fetched the delivery or put it back; cancelled when that stream ends. `None` for a
    /// delivery of a receive.
    stream: Option<CancellationToken>,
    /// When the delivery was added.
    since: Instant,
    /// The part of the stream's budget that the delivery uses while it waits.
    _reservation: Option<Reservation>,
    /// Whether a renewal that [`Prefetched::take`] started is in flight. The delivery can't be taken until it is done.
    renewing: bool,
    /// The earliest time of the next renewal.
    not_before: Instant,
}

/// The end of the queue that new entries are added to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum QueueEnd {
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
            changes: watch::Sender::new(0),
            activated: Notify::new(),
            polls: TaskTracker::new(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
        })
    }

    /// A receiver that changes whenever there may be deliveries to take, or [`notify`](Self::notify) is called.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Spawns a task that polls. It is dropped when the session ends.
    pub(super) fn spawn_poll(&self, poll: impl Future<Output = ()> + Send + 'static) {
        self.session.spawn(self.polls.track_future(poll));
    }

    /// Wakes all waiting receives and streams.
    pub(crate) fn notify(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Adds the deliveries of a poll that a receive has started.
    pub(crate) fn add_received(self: &Arc<Self>, deliveries: Vec<Delivery>) {
        self.insert(deliveries.into_iter().map(|delivery| (delivery, None)), None, QueueEnd::Back);
    }

    /// Adds the deliveries of a poll of a stream. Each keeps its part of `reservation` while it waits. `stream` is
    /// cancelled when the stream ends.
    pub(super) fn add_streamed(
        self: &Arc<Self>,
        deliveries: Vec<Delivery>,
        reservation: Reservation,
        stream: &CancellationToken,
    ) {
        let reservations = reservation.divide(&deliveries);
        self.insert(deliveries.into_iter().zip(reservations), Some(stream), QueueEnd::Back);
    }

    /// Puts back deliveries that a receive or a stream has taken and the application has not seen. They are handed out
    /// first, because they were received first.
    pub(crate) fn put_back(self: &Arc<Self>, deliveries: Vec<Delivery>, stream: Option<&CancellationToken>) {
        self.insert(deliveries.into_iter().map(|delivery| (delivery, None)), stream, QueueEnd::Front);
    }

    /// Takes up to `max` deliveries whose leases last for at least half of `invisible`. Starts the renewal of shorter
    /// leases; [`changes`](Self::changes) changes when it is done.
    ///
    /// A delivery whose body is still compressed is taken alone, and decompressed: all of them together may be too large.
    ///
    /// Not async, so that a cancelled receive loses no delivery.
    pub(crate) fn take(self: &Arc<Self>, max: usize, invisible: Duration) -> Vec<Delivery> {
        let now = Instant::now();
        let invisible = invisible.min(LONGEST_WAIT);
        let mut taken = Vec::new();
        let mut state = self.state.lock();
        state.last_taken = Some(now);
        if std::mem::take(&mut state.idle) {
            self.activated.notify_waiters();
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
                let alone = entry.delivery.compressed.is_some();
                if alone && !taken.is_empty() {
                    break;
                }
                taken.extend(state.remove(at, &self.leases));
                if alone {
                    break;
                }
            } else {
                if entry.not_before <= now {
                    self.start_renewal(entry, invisible);
                }
                at += 1;
            }
        }
        drop(state);
        taken.iter_mut().for_each(decompress_body);
        taken
    }

    /// Whether a renewal is in flight that may make a delivery available.
    pub(crate) fn is_renewing(&self) -> bool {
        self.state.lock().waiting.iter().any(|entry| entry.renewing)
    }

    /// Waits while the application is idle, until it asks for deliveries again.
    pub(super) async fn wait_until_active(&self) {
        loop {
            let activated = self.activated.notified();
            if !self.state.lock().idle {
                return;
            }
            activated.await;
        }
    }

    /// Gives back the waiting deliveries of `topic`.
    pub(super) async fn give_back_topic(&self, topic: &str) {
        self.give_back(|entry| entry.delivery.topic == topic).await;
    }

    /// Removes the waiting deliveries of streams that have ended. The future gives them back.
    pub(super) fn give_back_ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let unwanted = self.remove_all(|entry| has_ended(entry.stream.as_ref()));
        let leases = self.leases.clone();
        async move { leases.give_back(unwanted).await }
    }

    /// Gives back all deliveries, including those of the polls, which have been stopped. Deliveries that are added later
    /// are given back at once.
    pub(crate) async fn close(&self) {
        self.state.lock().closed = true;
        self.ended.cancel();
        self.notify();
        self.polls.close();
        tokio::join!(self.polls.wait(), self.give_back(|_| true));
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Gives back all deliveries in the background, because the consumer was dropped.
    pub(super) fn abandon(&self) {
        self.state.lock().closed = true;
        self.leases.give_back_detached(self.remove_all(|_| true));
    }

    async fn give_back(&self, chosen: impl Fn(&PrefetchedEntry) -> bool) {
        let unwanted = self.remove_all(chosen);
        self.leases.give_back(unwanted).await;
    }

    /// Removes the chosen deliveries. Returns the changes that give them back.
    fn remove_all(&self, chosen: impl Fn(&PrefetchedEntry) -> bool) -> Vec<InvisibleDurationChange> {
        let mut state = self.state.lock();
        let (unwanted, waiting) = state.waiting.drain(..).partition::<VecDeque<_>, _>(chosen);
        state.waiting = waiting;
        unwanted.into_iter().map(|entry| self.giving_back(entry.delivery)).collect()
    }

    /// The change that gives back a delivery.
    fn giving_back(&self, delivery: Delivery) -> InvisibleDurationChange {
        InvisibleDurationChange::give_back(self.session.clone(), delivery.lease)
    }

    fn insert(
        self: &Arc<Self>,
        deliveries: impl DoubleEndedIterator<Item = (Delivery, Option<Reservation>)>,
        stream: Option<&CancellationToken>,
        end: QueueEnd,
    ) {
        let now = Instant::now();
        let mut state = self.state.lock();
        // Checked under the lock: deliveries that are inserted before the stream ends are given back when it ends.
        let closed = state.closed || has_ended(stream);
        let deliveries = deliveries.filter(|(delivery, _)| !delivery.lease.has_ended(now));
        if closed {
            drop(state);
            return self.give_back_late(deliveries.map(|(delivery, _)| self.giving_back(delivery)).collect());
        }
        let entry = |(delivery, reservation): (Delivery, Option<Reservation>)| {
            self.leases.keep(&delivery.lease, crate::options::deadline(now, LONGEST_WAIT));
            PrefetchedEntry {
                delivery,
                stream: stream.cloned(),
                since: now,
                _reservation: reservation,
                renewing: false,
                not_before: now,
            }
        };
        match end {
            QueueEnd::Back => state.waiting.extend(deliveries.map(entry)),
            QueueEnd::Front => deliveries.map(entry).rev().for_each(|entry| state.waiting.push_front(entry)),
        }
        if !state.idle_watch_running && !state.waiting.is_empty() {
            state.idle_watch_running = true;
            let (ended, work) = (self.ended.clone(), self.clone().give_back_when_idle());
            self.runtime.spawn(async move { ended.run_until_cancelled(work).await });
        }
        drop(state);
        self.notify();
    }

    /// Gives back deliveries that were added after the end. A close that is in progress waits for this.
    fn give_back_late(&self, unwanted: Vec<InvisibleDurationChange>) {
        if self.tasks.is_closed() || self.session.stop().is_cancelled() {
            return self.leases.give_back_detached(unwanted);
        }
        let leases = self.leases.clone();
        self.spawn(async move { leases.give_back(unwanted).await });
    }

    /// Spawns `work`, which is dropped when the session ends.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.session.stop().clone();
        let work = async move {
            stop.run_until_cancelled(work).await;
        };
        self.tasks.spawn_on(work, &self.runtime);
    }

    /// Gives back deliveries once the application has taken none for too long. Ends when none are left.
    async fn give_back_when_idle(self: Arc<Self>) {
        loop {
            let due = {
                let mut state = self.state.lock();
                let due = state.waiting.iter().map(|entry| entry.idle_due(state.last_taken)).min();
                match due {
                    Some(due) => due,
                    None => {
                        state.idle_watch_running = false;
                        return;
                    }
                }
            };
            tokio::time::sleep_until(due.into()).await;
            let expired = {
                let mut state = self.state.lock();
                let (now, last_taken) = (Instant::now(), state.last_taken);
                let (expired, waiting): (VecDeque<_>, _) =
                    state.waiting.drain(..).partition(|entry| entry.idle_due(last_taken) <= now);
                state.waiting = waiting;
                state.idle |= expired.iter().any(|entry| entry.stream.is_some());
                expired
            };
            if !expired.is_empty() {
                tracing::debug!("the application takes no deliveries; the waiting ones are given back");
                // In a task of their own: a close ends this one, and waits for that one.
                let expired = expired.into_iter().map(|entry| self.giving_back(entry.delivery));
                self.give_back_late(expired.collect());
            }
        }
    }

    fn start_renewal(self: &Arc<Self>, entry: &mut PrefetchedEntry, invisible: Duration) {
        entry.renewing = true;
        let change =
            InvisibleDurationChange::renewal(self.session.clone(), entry.lease().clone()).lasting(invisible);
        let (this, lease) = (self.clone(), entry.lease().clone());
        self.spawn(async move {
            let result = change.run().await;
            this.finish_renewal(&lease, &result);
        });
    }

    /// Makes a delivery available again, unless its lease has ended.
    fn finish_renewal(&self, lease: &Arc<Lease>, result: &Result<()>) {
        let now = Instant::now();
        let left = lease.until().saturating_duration_since(now);
        let mut state = self.state.lock();
        let Some(at) = state.waiting.iter().position(|entry| Arc::ptr_eq(entry.lease(), lease)) else {
            return;
        };
        let lost = result.as_ref().is_err_and(|error| {
            tracing::debug!(%error, "failed to renew the lease of a waiting delivery");
            error.kind() == ErrorKind::InvalidReceipt || left.is_zero()
        });
        if lost {
            drop(state.remove(at, &self.leases));
        } else if let Some(entry) = state.waiting.get_mut(at) {
            entry.renewing = false;
            if result.is_err() || !lease.is_open() {
                entry.not_before = now + (left / 2).max(MIN_RENEWAL_RETRY_PAUSE);
            }
        }
        drop(state);
        self.notify();
    }
}

fn has_ended(stream: Option<&CancellationToken>) -> bool {
    stream.is_some_and(CancellationToken::is_cancelled)
}

impl PrefetchState {
    /// Removes an entry. Stops renewing its lease, and frees its part of the budget.
    fn remove(&mut self, at: usize, leases: &Leases) -> Option<Delivery> {
        let entry = self.waiting.remove(at)?;
        leases.release(entry.lease());
        Some(entry.delivery)
    }
}

impl PrefetchedEntry {
    /// Until when the delivery waits if the application, which last asked at `last_taken`, takes none.
    ///
    /// Deliveries that arrive later do not extend this, or a stream whose broker is busy would keep its deliveries.
    fn idle_due(&self, last_taken: Option<Instant>) -> Instant {
        let max = if self.stream.is_some() { MAX_STREAM_IDLE_TIME } else { MAX_RECEIVE_IDLE_TIME };
        last_taken.map_or(self.since, |taken| taken.max(self.since)) + max
    }

    fn lease(&self) -> &Arc<Lease> {
        &self.delivery.lease
    }

    /// Whether the rest of the lease is at least half of `invisible`.
    fn lasts(&self, now: Instant, invisible: Duration) -> bool {
        self.lease().until().saturating_duration_since(now) >= invisible / 2
    }
}
