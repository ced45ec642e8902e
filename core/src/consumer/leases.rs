//! Renews leases: each when half of it has passed. Logs a warning when a lease is lost.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{
    StreamExt,
    future::{BoxFuture, FutureExt},
    stream::FuturesUnordered,
};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify};

use super::invisible_duration_change::InvisibleDurationChange;
use crate::{
    error::{Error, ErrorKind, Result},
    message::{Lease, Renewal},
    options::Endpoints,
    session::Session,
};

/// How many renewals are in flight to one server at most.
const MAX_RENEWALS_PER_SERVER: usize = 16;

/// The minimum time between two renewals of the same lease.
const MIN_RENEWAL_INTERVAL: Duration = Duration::from_millis(250);

/// The minimum pause after a failed renewal.
const MIN_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How many deliveries are given back concurrently at most.
const MAX_CONCURRENT_GIVE_BACKS: usize = 32;

/// When a lease is to be checked. The number distinguishes leases that are due at the same time.
type Due = (Instant, u64);

/// The leases that one consumer renews. One task renews all of them; it runs while there are any.
///
/// A lease is renewed until it is [released](Self::release), settled or lost, until the last clone of its delivery is
/// dropped, or until the requested time is over.
pub(crate) struct Leases {
    session: Arc<Session>,
    state: Mutex<LeasesState>,
    wake: Notify,
    /// How many deliveries the servers have accepted back.
    given_back: AtomicUsize,
    /// The runtime of the task. [`keep`](Self::keep) may be called from any thread.
    runtime: Handle,
}

#[derive(Default)]
struct LeasesState {
    due: BTreeMap<Due, Weak<Lease>>,
    numbers: u64,
    task: TaskState,
}

/// The state of the task that renews leases.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum TaskState {
    #[default]
    Ended,
    Working,
    /// Sleeping until this time, or until a renewal is done; `None` if no lease is due.
    Sleeping(Option<Instant>),
}

/// The renewals in flight to one server, and the leases that wait for their turn.
#[derive(Default)]
struct ServerRenewals {
    under_way: usize,
    waiting: VecDeque<Weak<Lease>>,
}

/// A lease, its server, and the result of the renewal.
type RenewalResult = (Weak<Lease>, Endpoints, Result<()>);

/// The renewals that the task has started or is about to start.
#[derive(Default)]
struct Renewals {
    servers: HashMap<Endpoints, ServerRenewals>,
    under_way: FuturesUnordered<BoxFuture<'static, RenewalResult>>,
}

impl Leases {
    pub(crate) fn new(session: Arc<Session>) -> Arc<Self> {
        Arc::new(Self {
            session,
            state: Mutex::default(),
            wake: Notify::new(),
            given_back: AtomicUsize::new(0),
            runtime: Handle::current(),
        })
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Renews a lease until `keep_until`, which replaces an earlier value.
    pub(crate) fn keep(self: &Arc<Self>, lease: &Arc<Lease>, keep_until: Instant) {
        let due = lease.half_time().min(keep_until);
        let mut state = self.state.lock();
        state.numbers += 1;
        let due = (due, state.numbers);
        let before = lease.with_renewal(|renewal| renewal.replace(Renewal { keep_until, due: Some(due) }));
        if let Some(Renewal { due, .. }) = before {
            match due {
                Some(due) => drop(state.due.remove(&due)),
                // The renewal in flight schedules the next one when it is done.
                None => {
                    lease.with_renewal(|renewal| *renewal = Some(Renewal { keep_until, due: None }));
                    return;
                }
            }
        }
        state.due.insert(due, Arc::downgrade(lease));
        self.wake_for(&mut state, due.0);
    }

    /// Schedules the next renewal of a lease again, because its length has changed.
    pub(crate) fn reschedule(self: &Arc<Self>, lease: &Arc<Lease>) {
        let mut state = self.state.lock();
        // A renewal in flight schedules the next one when it is done.
        let Some(Renewal { keep_until, due: Some(due) }) = lease.renewal() else { return };
        state.due.remove(&due);
        let next = lease.half_time();
        state.queue(lease, keep_until, next);
        self.wake_for(&mut state, next.min(keep_until));
    }

    /// Makes the task look at a lease that is due at `due`. Starts the task if it does not run.
    fn wake_for(self: &Arc<Self>, state: &mut LeasesState, due: Instant) {
        match state.task {
            TaskState::Ended => {
                state.task = TaskState::Working;
                let (stop, work) = (self.session.stop().clone(), self.clone().run());
                self.runtime.spawn(async move { stop.run_until_cancelled(work).await });
            }
            TaskState::Sleeping(until) if until.is_none_or(|until| due < until) => self.wake.notify_one(),
            TaskState::Sleeping(_) | TaskState::Working => {}
        }
    }

    /// Stops renewing a lease.
    pub(crate) fn release(&self, lease: &Lease) {
        let mut state = self.state.lock();
        if let Some(Renewal { due: Some(due), .. }) = lease.with_renewal(Option::take) {
            state.due.remove(&due);
        }
    }

    /// How many deliveries the servers have accepted back from [`give_back`](Self::give_back).
    pub(crate) fn given_back(&self) -> usize {
        self.given_back.load(Ordering::Relaxed)
    }

    /// Gives back deliveries that wait for the application, so that another consumer can get them. The changes return
    /// them to the server.
    pub(crate) async fn give_back(&self, changes: Vec<InvisibleDurationChange>) {
        let give_back = async |change: InvisibleDurationChange| {
            self.release(change.lease());
            // Waits for a renewal in flight, and uses its new handle.
            match change.run().await {
                Ok(()) => drop(self.given_back.fetch_add(1, Ordering::Relaxed)),
                Err(error) => log_not_given_back(&error),
            }
        };
        let work = futures::stream::iter(changes.into_iter().map(give_back));
        work.buffer_unordered(MAX_CONCURRENT_GIVE_BACKS).collect().await
    }

    /// Gives back deliveries in the background, with a single attempt each. Works after the session has ended.
    pub(crate) fn give_back_detached(&self, changes: Vec<InvisibleDurationChange>) {
        if changes.is_empty() {
            return;
        }
        let give_back = |change: InvisibleDurationChange| async move {
            change.run_once().await.unwrap_or_else(|error| log_not_given_back(&error));
        };
        let work = futures::stream::iter(changes.into_iter().map(give_back));
        self.runtime.spawn(work.buffer_unordered(MAX_CONCURRENT_GIVE_BACKS).collect::<()>());
    }

    /// Records the result of a request that settles the delivery. Stops renewing the lease if it has ended.
    pub(crate) fn record_result(&self, lease: &Lease, result: &Result<()>) {
        if lease.record_result(result) {
            self.release(lease);
        }
    }

    /// The task that renews leases, until there are none.
    async fn run(self: Arc<Self>) {
        let mut renewals = Renewals::default();
        loop {
            let next = {
                let mut state = self.state.lock();
                let next = self.start_due(&mut state, &mut renewals);
                if next.is_none() && renewals.under_way.is_empty() {
                    state.task = TaskState::Ended;
                    return;
                }
                state.task = TaskState::Sleeping(next);
                next
            };
            let sleep = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                () = self.wake.notified() => {}
                Some((lease, endpoints, result)) = renewals.under_way.next() => {
                    self.finish_renewal(&lease, &result);
                    if let Some(server) = renewals.servers.get_mut(&endpoints) {
                        server.under_way -= 1;
                    }
                    self.start_next(&endpoints, &mut renewals);
                }
            }
        }
    }

    /// Starts the renewals that are due. Returns when the next one is due.
    fn start_due(&self, state: &mut LeasesState, renewals: &mut Renewals) -> Option<Instant> {
        let now = Instant::now();
        while let Some(first) = state.due.first_entry() {
            if first.key().0 > now {
                return Some(first.key().0);
            }
            // The lease is gone if the last clone of the delivery was dropped.
            let Some(lease) = first.remove().upgrade() else { continue };
            let Some(Renewal { keep_until, .. }) = lease.renewal() else { continue };
            match next_step(&lease, keep_until, now) {
                RenewalStep::Stop => lease.with_renewal(|renewal| *renewal = None),
                RenewalStep::Wait(until) => state.queue(&lease, keep_until, until),
                RenewalStep::Renew => {
                    lease.with_renewal(|renewal| *renewal = Some(Renewal { keep_until, due: None }));
                    let endpoints = &lease.message().endpoints;
                    let server = renewals.servers.entry(endpoints.clone()).or_default();
                    server.waiting.push_back(Arc::downgrade(&lease));
                    self.start_next(endpoints, renewals);
                }
            }
        }
        None
    }

    /// Starts waiting renewals for a server, up to the limit.
    fn start_next(&self, endpoints: &Endpoints, renewals: &mut Renewals) {
        let Some(server) = renewals.servers.get_mut(endpoints) else { return };
        while server.under_way < MAX_RENEWALS_PER_SERVER
            && let Some(lease) = server.waiting.pop_front()
        {
            // The lease may have been dropped or released while it waited.
            let Some(lease) = lease.upgrade().filter(|lease| is_under_way(lease)) else { continue };
            server.under_way += 1;
            let (session, endpoints) = (self.session.clone(), endpoints.clone());
            let deadline = crate::options::deadline(Instant::now(), session.options().request_timeout);
            let work = async move {
                let weak = Arc::downgrade(&lease);
                let result = InvisibleDurationChange::renewal(session, lease).run_until(deadline).await;
                (weak, endpoints, result)
            };
            renewals.under_way.push(work.boxed());
        }
        if server.under_way == 0 {
            renewals.servers.remove(endpoints);
        }
    }

    /// Schedules the next renewal of a lease, unless the lease is lost.
    fn finish_renewal(&self, lease: &Weak<Lease>, result: &Result<()>) {
        let Some(lease) = lease.upgrade() else { return };
        let now = Instant::now();
        let mut state = self.state.lock();
        let Some(Renewal { keep_until, due: None }) = lease.renewal() else { return };
        let next = match result {
            Ok(()) => lease.half_time().max(now + MIN_RENEWAL_INTERVAL),
            Err(error) => {
                let left = lease.until().saturating_duration_since(now);
                if error.kind() == ErrorKind::InvalidReceipt || left.is_zero() {
                    lease.with_renewal(|renewal| *renewal = None);
                    drop(state);
                    return report_lost(&lease, &error.to_string());
                }
                tracing::debug!(%error, "failed to renew a lease; trying again");
                now + (left / 2).max(MIN_RETRY_PAUSE)
            }
        };
        state.queue(&lease, keep_until, next);
    }
}

impl LeasesState {
    fn queue(&mut self, lease: &Arc<Lease>, keep_until: Instant, due: Instant) {
        self.numbers += 1;
        let due = (due.min(keep_until), self.numbers);
        lease.with_renewal(|renewal| *renewal = Some(Renewal { keep_until, due: Some(due) }));
        self.due.insert(due, Arc::downgrade(lease));
    }
}

/// What to do with a lease that is due.
#[derive(Debug, PartialEq, Eq)]
enum RenewalStep {
    Renew,
    /// Check the lease again at this time.
    Wait(Instant),
    Stop,
}

fn next_step(lease: &Lease, keep_until: Instant, now: Instant) -> RenewalStep {
    if lease.is_lost(now) {
        report_lost(lease, "it was not renewed in time");
        return RenewalStep::Stop;
    }
    if !lease.is_open() {
        // A request that settles the delivery is in flight, or has succeeded.
        return if lease.is_settled() { RenewalStep::Stop } else { RenewalStep::Wait(now + MIN_RETRY_PAUSE) };
    }
    if keep_until <= now {
        tracing::debug!(
            message_id = lease.message().message_id,
            "the requested time has passed; the lease is no longer renewed"
        );
        return RenewalStep::Stop;
    }
    // The application may have changed the invisible time.
    let half_time = lease.half_time();
    if half_time > now { RenewalStep::Wait(half_time) } else { RenewalStep::Renew }
}

fn is_under_way(lease: &Lease) -> bool {
    matches!(lease.renewal(), Some(Renewal { due: None, .. }))
}

fn log_not_given_back(error: &Error) {
    tracing::debug!(%error, "failed to give back a delivery; it is delivered again after its lease");
}

fn report_lost(lease: &Lease, reason: &str) {
    lease.mark_lost();
    let message = lease.message();
    tracing::warn!(
        message_id = message.message_id,
        topic = &*message.topic,
        group = message.group.name,
        reason,
        "the lease of a delivery is lost; its message is delivered again"
    );
}
