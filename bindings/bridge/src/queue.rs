//! Running operations, and the queue of outcomes that the language fetches.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::mem;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rocketmq_thin::Error;
use tokio::task::AbortHandle;

use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::process::{Process, forked_error, stopped_error};

/// Running operations, and outcomes that were not fetched yet. A language has one queue per event loop,
/// isolate or process.
///
/// Dropping the queue cancels its operations and drops the outcomes that were not fetched.
pub struct Queue {
    process: &'static Process,
    wake: Box<dyn Fn() + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_id: u64,
    operations: HashMap<u64, Progress>,
    /// The ids of completed operations, oldest first. An operation that was cancelled afterwards is missing
    /// in `operations`.
    completed: VecDeque<u64>,
}

enum Progress {
    /// The operation's task is being spawned.
    Starting,
    Running(AbortHandle),
    Completed(Outcome),
}

impl Queue {
    /// Creates an empty queue. `wake` is called from another thread when an outcome arrives in an empty
    /// queue, not for every outcome. It must neither block nor call the queue, and must not keep the queue
    /// alive.
    ///
    /// # Errors
    /// `Unavailable` if the process cannot start a thread.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Result<Arc<Self>, Error> {
        let process = Process::current()?;
        Ok(Arc::new(Self { process, wake: Box::new(wake), state: Mutex::default() }))
    }

    /// Starts an operation and returns the id under which [`drain`](Self::drain) returns its outcome.
    /// Never blocks.
    ///
    /// # Errors
    /// `Closed` if this process was forked since the queue was created.
    pub fn submit(self: &Arc<Self>, operation: Operation) -> Result<u64, Error> {
        let name = operation.name();
        // Checked before any lock is taken: a thread of the parent may have held the lock during the fork.
        if !self.process.is_current() {
            return Err(forked_error(name));
        }
        let work = operation.into_work(self.process)?;
        Ok(self.spawn(name, work))
    }

    fn spawn(
        self: &Arc<Self>,
        name: &'static str,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) -> u64 {
        let id = {
            let mut state = self.state.lock();
            state.last_id += 1;
            let id = state.last_id;
            state.operations.insert(id, Progress::Starting);
            id
        };
        let completion = Completion { queue: Arc::downgrade(self), id, name, outcome: None };
        // Not under the lock: a stopped runtime drops the task at once, which completes the operation.
        let task = self.process.handle().spawn(async move { completion.set(work.await) });
        let cancelled = match self.state.lock().operations.get_mut(&id) {
            Some(progress @ Progress::Starting) => {
                *progress = Progress::Running(task.abort_handle());
                false
            }
            Some(_) => false,
            None => true,
        };
        if cancelled {
            task.abort();
        }
        id
    }

    /// Cancels an operation whose outcome was not fetched: drops the operation, or its outcome if it has
    /// already completed. Its effects on the server remain.
    ///
    /// Returns true if [`drain`](Self::drain) will not return an outcome for `id`. Returns false if it has
    /// already returned the outcome: then the caller has to return its deliveries, see
    /// [`SimpleConsumer::put_back`].
    ///
    /// [`SimpleConsumer::put_back`]: crate::SimpleConsumer::put_back
    pub fn cancel(&self, id: u64) -> bool {
        if !self.process.is_current() {
            return false;
        }
        let progress = self.state.lock().operations.remove(&id);
        progress.map(Progress::cancel).is_some()
    }

    /// Takes up to `max` outcomes with the ids of their operations, oldest first. If outcomes are left,
    /// `wake` is called again.
    pub fn drain(&self, max: usize) -> Vec<(u64, Outcome)> {
        if !self.process.is_current() {
            return Vec::new();
        }
        let mut state = self.state.lock();
        let State { operations, completed, .. } = &mut *state;
        let mut outcomes = Vec::with_capacity(completed.len().min(max));
        while outcomes.len() < max
            && let Some(id) = completed.pop_front()
        {
            if let Some(Progress::Completed(outcome)) = operations.remove(&id) {
                outcomes.push((id, outcome));
            }
        }
        let more = !completed.is_empty();
        drop(state);
        if more {
            (self.wake)();
        }
        outcomes
    }

    /// Returns the number of operations that are running, or whose outcome was not fetched.
    pub fn pending(&self) -> usize {
        if !self.process.is_current() {
            return 0;
        }
        self.state.lock().operations.len()
    }

    /// Returns whether this process was forked since the queue was created. Then it accepts no operations.
    pub fn is_forked(&self) -> bool {
        !self.process.is_current()
    }

    fn complete(self: &Arc<Self>, id: u64, outcome: Outcome) {
        let mut state = self.state.lock();
        let Some(progress) = state.operations.get_mut(&id) else {
            // The operation was cancelled. The outcome is dropped after the lock.
            drop(state);
            drop(outcome);
            return;
        };
        *progress = Progress::Completed(outcome);
        let first = state.completed.is_empty();
        state.completed.push_back(id);
        drop(state);
        if first {
            let wake = WakeOnDrop(Arc::downgrade(self));
            // Wake after the tasks that are ready now, so that the results of one response share a wake-up.
            self.process.handle().spawn(async move {
                tokio::task::yield_now().await;
                drop(wake);
            });
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let state = mem::take(self.state.get_mut());
        if !self.process.is_current() {
            // The tasks belong to a runtime that has no thread in this process.
            mem::forget(state);
            return;
        }
        state.operations.into_values().for_each(Progress::cancel);
    }
}

impl Progress {
    fn cancel(self) {
        match self {
            Self::Starting => {}
            Self::Running(task) => task.abort(),
            Self::Completed(outcome) => drop(outcome),
        }
    }
}

/// Wakes the language when it is dropped, which also happens if the runtime stops.
struct WakeOnDrop(Weak<Queue>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        if let Some(queue) = self.0.upgrade() {
            (queue.wake)();
        }
    }
}

/// Completes an operation when it is dropped, which also happens if its runtime stops.
///
/// It does not keep the queue alive, because an operation ends with its queue.
struct Completion {
    queue: Weak<Queue>,
    id: u64,
    name: &'static str,
    outcome: Option<Outcome>,
}

impl Completion {
    fn set(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.upgrade() {
            let outcome = self.outcome.take().unwrap_or_else(|| Outcome::Failed(stopped_error(self.name)));
            queue.complete(self.id, outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::mpsc::{Receiver, TryRecvError, channel};

    use super::*;

    /// Creates a queue, and a channel that receives its wake-ups.
    fn queue() -> (Arc<Queue>, Receiver<()>) {
        let (woken, wakes) = channel();
        (Queue::new(move || woken.send(()).unwrap()).unwrap(), wakes)
    }

    fn ids(outcomes: &[(u64, Outcome)]) -> Vec<u64> {
        outcomes.iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn one_wake_up_for_many_completions() {
        let (queue, wakes) = queue();
        let submitted: Vec<_> = (0..3).map(|_| queue.spawn("send", pending())).collect();
        for id in &submitted {
            queue.complete(*id, Outcome::Done);
        }
        wakes.recv().unwrap();
        assert_eq!(wakes.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(queue.pending(), 3);
        assert_eq!(ids(&queue.drain(10)), submitted);
        assert_eq!(queue.pending(), 0);

        let next = queue.spawn("send", ready(Outcome::Done));
        wakes.recv().unwrap();
        assert_eq!(ids(&queue.drain(10)), [next]);
    }

    #[test]
    fn outcomes_left_by_a_drain_wake_again() {
        let (queue, wakes) = queue();
        let submitted: Vec<_> = (0..3).map(|_| queue.spawn("send", pending())).collect();
        for id in &submitted {
            queue.complete(*id, Outcome::Done);
        }
        wakes.recv().unwrap();
        assert_eq!(ids(&queue.drain(2)), submitted[..2]);
        wakes.recv().unwrap();
        assert_eq!(ids(&queue.drain(2)), submitted[2..]);
        assert_eq!(wakes.try_recv(), Err(TryRecvError::Empty));
    }

    #[test]
    fn a_cancelled_operation_is_dropped_and_has_no_outcome() {
        let (queue, wakes) = queue();
        let (alive, dropped) = channel::<()>();
        let id = queue.spawn("receive", async move {
            let _alive = alive;
            pending().await
        });
        assert!(queue.cancel(id));
        assert!(!queue.cancel(id), "the operation was cancelled twice");
        assert!(dropped.recv().is_err(), "the operation's future was not dropped");
        assert_eq!(queue.pending(), 0);
        assert!(queue.drain(10).is_empty());
        assert_eq!(wakes.try_recv(), Err(TryRecvError::Empty));
    }

    #[test]
    fn an_outcome_of_a_cancelled_operation_is_not_returned() {
        let (queue, wakes) = queue();
        let submitted: Vec<_> = (0..3).map(|_| queue.spawn("receive", pending())).collect();
        for id in &submitted {
            queue.complete(*id, Outcome::Done);
        }
        wakes.recv().unwrap();
        assert!(queue.cancel(submitted[0]), "the operation was not cancelled before its outcome was fetched");
        assert_eq!(queue.pending(), 2);
        assert_eq!(ids(&queue.drain(1)), [submitted[1]]);
        assert!(!queue.cancel(submitted[1]), "the operation was cancelled after its outcome was fetched");
        wakes.recv().unwrap();
        assert_eq!(ids(&queue.drain(10)), [submitted[2]]);
        assert_eq!(queue.pending(), 0);
    }

    #[test]
    fn operations_end_with_their_queue() {
        let (queue, wakes) = queue();
        let (alive, dropped) = channel::<()>();
        queue.spawn("receive", async move {
            let _alive = alive;
            pending().await
        });
        drop(queue);
        assert!(dropped.recv().is_err(), "the operation's future was not dropped");
        assert!(wakes.recv().is_err(), "the wake-up function was not dropped");
    }
}
