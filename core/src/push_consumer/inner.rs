//! The shared state of a push consumer: its cached messages, and the tasks that wait for them.

use std::{sync::Arc, time::Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    runtime::Handle,
    sync::{Notify, futures::Notified, mpsc},
};
use tokio_util::task::TaskTracker;

use super::{
    dispatch::{Dispatch, Key, Limits},
    held_message::{HeldMessage, sequence},
    outcome::{ConsumeResult, HandlingOutcome, Step},
    settlement::{PendingSettlement, SettlementWaiter},
    task::{Completion, SETTLE, Task},
};
use crate::{
    client_base::ClientBase,
    consumer::{AckBatcher, Destination, InvisibleDurationChange, Leases, Subscribed, Subscriptions},
    error::{Error, ErrorKind},
    lite::LiteTopics,
    message::{Delivery, Group, Lease},
    options::{LONGEST_WAIT, PushConsumerOptions},
    route::Routes,
    session::{Session, Verification},
    wire::decompress_body,
};

/// A push consumer, as its own tasks see it.
pub(super) struct Inner {
    pub(super) base: ClientBase<Destination, AckBatcher>,
    pub(super) leases: Arc<Leases>,
    pub(super) subscriptions: Arc<Subscriptions>,
    pub(super) group: Arc<Group>,
    pub(super) options: PushConsumerOptions,
    /// The lite topics of a lite consumer.
    pub(super) lite: Option<Arc<LiteTopics>>,
    /// The tasks that poll, and those that give messages back. A close waits until they have ended.
    pub(super) receiving: TaskTracker,
    pub(super) state: Mutex<State>,
    /// Wakes polls that wait for room.
    room_freed: Notify,
    /// Wakes one call that waits for tasks.
    tasks: Notify,
    /// Wakes [`run_alarm`](Self::run_alarm), because a message becomes available earlier than the alarm is set to.
    alarm: Notify,
    /// Wakes a close, which waits until no message is handled or settled.
    finished: Notify,
    /// The runtime of tasks. Results may come from any thread.
    pub(super) runtime: Handle,
}

pub(super) struct State {
    pub(super) dispatch: Dispatch<HeldMessage>,
    mode: Mode,
    /// How many polls wait for room.
    polls_waiting: usize,
    /// When [`Inner::run_alarm`] wakes next.
    alarm_at: Option<Instant>,
    /// How many messages were settled since the close began.
    pub(super) settled_since_close: usize,
    /// The messages to verify. Taken when the consumer begins to receive.
    pub(super) verifications: Option<mpsc::Receiver<Verification>>,
}

/// A function that starts a worker, which calls the handler.
pub(super) type SpawnWorker = Arc<dyn Fn(&Arc<Inner>) + Send + Sync>;

/// How messages get to their handlers.
enum Mode {
    /// Not started. No messages are received.
    Idle,
    /// The application calls [`next_tasks`](super::PushConsumer::next_tasks).
    Pull,
    /// Workers call the handler. `spawn` starts another worker.
    Handler {
        spawn: SpawnWorker,
        /// Whether a worker is about to start. It takes the messages that are available by then.
        worker_due: bool,
    },
}

/// Room in the cache that a poll has reserved. Dropping it releases the room.
pub(super) struct Reservation<'a> {
    inner: &'a Arc<Inner>,
    /// How many messages the poll may request.
    pub(super) messages: usize,
}

impl Inner {
    pub(super) fn new(session: Session, routes: Arc<Routes>, options: PushConsumerOptions) -> Arc<Self> {
        let namespace = session.options().namespace.clone();
        let group = Arc::new(Group { namespace, name: options.group.clone() });
        let base = ClientBase::new(session);
        let limits = Limits {
            concurrency: options.concurrency,
            max_messages: options.max_cached_messages,
            max_bytes: options.max_cached_bytes,
            max_rate: options.max_rate,
        };
        let state = State {
            dispatch: Dispatch::new(limits, Instant::now()),
            mode: Mode::Idle,
            polls_waiting: 0,
            alarm_at: None,
            settled_since_close: 0,
            verifications: Some(base.session().verifications()),
        };
        let session = base.session();
        let lite = options
            .bind_topic
            .as_ref()
            .map(|topic| LiteTopics::start(session.clone(), routes.clone(), &options.group, topic));
        let sources = (options.sources(), options.decode);
        let subscriptions = Subscriptions::new(session.clone(), routes, group.clone(), sources);
        Arc::new(Self {
            lite,
            leases: Leases::new(session.clone()),
            receiving: TaskTracker::new(),
            base,
            subscriptions,
            group,
            options,
            state: Mutex::new(state),
            room_freed: Notify::new(),
            tasks: Notify::new(),
            alarm: Notify::new(),
            finished: Notify::new(),
            runtime: Handle::current(),
        })
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        self.base.session()
    }

    /// Begins to receive for callers of `next_tasks`. Returns `false` if the consumer was started with a handler.
    pub(super) fn begin_pulling(self: &Arc<Self>) -> bool {
        let mut state = self.state.lock();
        if matches!(state.mode, Mode::Idle) {
            state.mode = Mode::Pull;
            drop(state);
            self.start_receiving();
            return true;
        }
        matches!(state.mode, Mode::Pull)
    }

    /// Begins to receive for workers that `spawn` starts. Returns `false` if the consumer was started before.
    pub(super) fn begin_handling(self: &Arc<Self>, spawn: SpawnWorker) -> bool {
        let mut state = self.state.lock();
        if !matches!(state.mode, Mode::Idle) {
            return false;
        }
        state.mode = Mode::Handler { spawn, worker_due: false };
        drop(state);
        self.start_receiving();
        true
    }

    /// Waits until there is room for a poll of up to `batch` messages, and reserves it.
    pub(super) async fn reserve(self: &Arc<Self>, batch: usize) -> Reservation<'_> {
        loop {
            let freed = {
                let mut state = self.state.lock();
                if let Some(messages) = state.dispatch.reserve(batch) {
                    return Reservation { inner: self, messages };
                }
                state.polls_waiting += 1;
                self.room_freed.notified()
            };
            let _waiting = Waiting(self);
            freed.await;
        }
    }

    /// Adds the deliveries of a poll, which are in the order of the queue.
    pub(super) fn insert_received(
        self: &Arc<Self>,
        reservation: Reservation<'_>,
        (subscribed, broker): (&Arc<Subscribed>, &Arc<str>),
        deliveries: Vec<Delivery>,
    ) {
        if deliveries.is_empty() {
            return;
        }
        let fifo = self.session().consumer_settings().fifo;
        let keep_until = Instant::now() + LONGEST_WAIT;
        for delivery in &deliveries {
            self.leases.keep(&delivery.lease, keep_until);
        }
        let series = self.session().metrics().consumes(&self.group.name, &deliveries[0].topic);
        let mut state = self.state.lock();
        // Also after a close, which ends all subscriptions.
        let unwanted: Vec<_> = if subscribed.stop.is_cancelled() {
            let session = self.session();
            deliveries
                .into_iter()
                .map(|it| InvisibleDurationChange::give_back(session.clone(), it.lease))
                .collect()
        } else {
            for delivery in deliveries {
                let sequence = fifo.then(|| sequence(&delivery, broker));
                let size = delivery.body.len();
                let held = HeldMessage::received(delivery, subscribed.clone(), fifo, series.clone());
                state.dispatch.insert(held, size, sequence);
            }
            Vec::new()
        };
        drop(state);
        drop(reservation);
        self.give_back(unwanted);
    }

    /// Records that a worker has started and is about to take a task.
    pub(super) fn worker_started(&self) {
        if let Mode::Handler { worker_due, .. } = &mut self.state.lock().mode {
            *worker_due = false;
        }
    }

    /// Takes up to `max` tasks that may be handed out now; `None` once the consumer is closed.
    pub(super) fn take(self: &Arc<Self>, max: usize) -> Option<Vec<Task>> {
        let mut state = self.state.lock();
        if state.dispatch.is_closed() {
            return None;
        }
        let now = Instant::now();
        let (mut tasks, mut lost) = (Vec::new(), Vec::new());
        while tasks.len() < max
            && let Some((key, held)) = state.dispatch.next(now)
        {
            if held.lease.is_lost(now) {
                lost.extend(state.dispatch.discard_from(key));
                state.dispatch.remove(key);
            } else if let Some(delivery) = held.hand_out(now) {
                tasks.push(Task { delivery, completion: Completion::new(self.clone(), key) });
            }
        }
        self.signal(state, now);
        self.give_back(self.giving_back(&lost));
        tasks.iter_mut().for_each(|task| decompress_body(&mut task.delivery));
        Some(tasks)
    }

    /// A future that is ready once [`take`](Self::take) may return tasks that became available after this call.
    pub(super) fn wait_for_tasks(&self) -> Notified<'_> {
        self.tasks.notified()
    }

    /// Processes the result of a handler.
    pub(super) fn complete(self: &Arc<Self>, key: Key, result: ConsumeResult, waiter: SettlementWaiter) {
        let _runtime = self.runtime.enter();
        let policy = self.session().consumer_settings();
        let now = Instant::now();
        let mut state = self.state.lock();
        let Some(held) = state.dispatch.finish_handling(key) else { return };
        held.cached.handler_ended(now, result == ConsumeResult::Ack);
        if let Some(verification) = held.verification.take() {
            verification.answer(result);
            waiter.notify(Ok(()));
            return self.remove(state, key, false);
        }
        let (lease, attempt, ordered) = (held.lease.clone(), held.attempt, held.ordered);
        if lease.is_lost(now) {
            let message = lease.message();
            tracing::warn!(
                message_id = message.message_id,
                topic = &*message.topic,
                ?result,
                "the lease of a message was lost; the result of its handler is dropped"
            );
            let error = Error::new(ErrorKind::InvalidReceipt, SETTLE, "the lease of the message was lost");
            waiter.notify(Err(error));
            return self.remove(state, key, false);
        }
        let handled = HandlingOutcome { result, attempt, ordered, unsubscribed: held.is_unsubscribed() };
        let step = handled.next_step(&policy.redelivery, now);
        if let Step::HandOutAt(at) = step {
            held.retry_at(at);
            state.dispatch.retry_at(key, at);
            waiter.notify(Ok(()));
            return self.signal(state, now);
        }
        self.signal(state, now);
        if !ordered {
            // The lease of an ordered message is renewed until it is settled, so that no other consumer gets later
            // messages of its group.
            self.leases.release(&lease);
        }
        self.settle(PendingSettlement { waiter, ..PendingSettlement::new(key, lease, attempt, step) });
    }

    /// Takes back a message that its handler has not seen. After its subscription has ended, also by a close, it is
    /// given back to the server.
    pub(super) fn put_back(self: &Arc<Self>, key: Key, delivery: Delivery) {
        let _runtime = self.runtime.enter();
        let mut state = self.state.lock();
        let unsubscribed = state.dispatch.get(key).is_some_and(HeldMessage::is_unsubscribed);
        if !unsubscribed && !state.dispatch.is_closed() {
            if let Some(held) = state.dispatch.put_back(key) {
                held.put_back(delivery);
            }
            return self.signal(state, Instant::now());
        }
        let Some(held) = state.dispatch.finish_handling(key) else { return };
        if held.verification.is_some() {
            return self.remove(state, key, false);
        }
        let change = held.giving_back(self.session(), Instant::now());
        drop(state);
        self.give_back_handed_out(key, change);
    }

    /// Records that settling has ended. `settled` is whether it succeeded.
    pub(super) fn finish_settling(self: &Arc<Self>, key: Key, lease: &Lease, settled: bool) {
        self.leases.release(lease);
        self.remove(self.state.lock(), key, settled);
    }

    /// Removes a message. If it was not settled, also gives back the messages behind it in its sequence, so that they are
    /// delivered again after it.
    fn remove(self: &Arc<Self>, mut state: MutexGuard<'_, State>, key: Key, settled: bool) {
        let behind = if settled { Vec::new() } else { state.dispatch.discard_from(key) };
        state.dispatch.remove(key);
        if settled && state.dispatch.is_closed() {
            state.settled_since_close += 1;
        }
        self.signal(state, Instant::now());
        self.give_back(self.giving_back(&behind));
    }

    /// The changes that give back messages which wait for a handler. Messages to verify can't be given back.
    fn giving_back(&self, waiting: &[HeldMessage]) -> Vec<InvisibleDurationChange> {
        let now = Instant::now();
        let leased = waiting.iter().filter(|held| held.verification.is_none());
        leased.map(|held| held.giving_back(self.session(), now)).collect()
    }

    pub(super) fn pause(&self) {
        self.state.lock().dispatch.pause();
    }

    pub(super) fn resume(self: &Arc<Self>) {
        let _runtime = self.runtime.enter();
        let mut state = self.state.lock();
        state.dispatch.resume();
        self.signal(state, Instant::now());
    }

    pub(super) fn is_paused(&self) -> bool {
        self.state.lock().dispatch.is_paused()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().dispatch.is_closed()
    }

    /// Whether the consumer was started, and no close has begun.
    pub(super) fn is_receiving(&self) -> bool {
        let state = self.state.lock();
        !matches!(state.mode, Mode::Idle) && !state.dispatch.is_closed()
    }

    /// How many messages were settled since the close began, and how many are still unfinished.
    pub(super) fn close_results(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.settled_since_close, state.dispatch.unfinished())
    }

    /// Ends polling and handing out. Returns the changes that give back the messages that were waiting.
    pub(super) fn stop(self: &Arc<Self>) -> Vec<InvisibleDurationChange> {
        self.subscriptions.close();
        let mut state = self.state.lock();
        let waiting = state.dispatch.close();
        self.signal(state, Instant::now());
        self.tasks.notify_waiters();
        self.giving_back(&waiting)
    }

    /// Removes the messages of ended subscriptions that wait to be handed out. Returns the changes that give them back.
    pub(super) fn discard_unsubscribed(self: &Arc<Self>) -> Vec<InvisibleDurationChange> {
        let mut state = self.state.lock();
        let waiting = state.dispatch.discard_waiting(HeldMessage::is_unsubscribed);
        self.signal(state, Instant::now());
        self.giving_back(&waiting)
    }

    /// Waits until no message is handled or settled.
    pub(super) async fn wait_until_drained(&self) {
        loop {
            let finished = self.finished.notified();
            if self.state.lock().dispatch.unfinished() == 0 {
                return;
            }
            finished.await;
        }
    }

    /// Wakes the polls, workers and calls that can continue after a change of the state.
    pub(super) fn signal(self: &Arc<Self>, mut state: MutexGuard<'_, State>, now: Instant) {
        let State { dispatch, mode, polls_waiting, alarm_at, .. } = &mut *state;
        if *polls_waiting > 0 && dispatch.has_room(usize::MAX) {
            self.room_freed.notify_waiters();
        }
        if dispatch.is_closed() && dispatch.unfinished() == 0 {
            self.finished.notify_waiters();
        }
        if let Some(at) = dispatch.available_at(now)
            && alarm_at.is_none_or(|alarm_at| at < alarm_at)
        {
            self.alarm.notify_one();
        }
        if dispatch.is_available(now) {
            match mode {
                Mode::Idle => {}
                Mode::Pull => self.tasks.notify_one(),
                Mode::Handler { worker_due: true, .. } => {}
                Mode::Handler { spawn, worker_due } => {
                    *worker_due = true;
                    let spawn = spawn.clone();
                    drop(state);
                    let _runtime = self.runtime.enter();
                    spawn(self);
                }
            }
        }
    }

    /// Calls [`signal`](Self::signal) when a retry is due, or the rate limit allows the next message.
    pub(super) async fn run_alarm(self: Arc<Self>) {
        loop {
            let at = {
                let mut state = self.state.lock();
                state.alarm_at = state.dispatch.available_at(Instant::now());
                state.alarm_at
            };
            let time = async {
                match at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = time => {}
                () = self.alarm.notified() => continue,
            }
            self.signal(self.state.lock(), Instant::now());
        }
    }
}

/// Counts a poll that waits for room until it is dropped.
struct Waiting<'a>(&'a Inner);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state.lock().polls_waiting -= 1;
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut state = self.inner.state.lock();
        state.dispatch.release(self.messages);
        self.inner.signal(state, Instant::now());
    }
}
