use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use rocketmq_thin::Error;
use tokio::task::AbortHandle;

use crate::operation::{Operation, Outcome};
use crate::process::{Process, forked, stopped};

/// Operations under way and completions that wait to be fetched: one per event loop, isolate or process of
/// the language.
pub struct Queue {
    process: &'static Process,
    wake: Box<dyn Fn() + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_id: u64,
    running: HashMap<u64, Running>,
    done: VecDeque<(u64, Outcome)>,
}

enum Running {
    /// Its task is just being made.
    Starting,
    Started(AbortHandle),
}

impl Queue {
    /// An empty queue. `wake` is called from another thread when the queue turns non-empty, not for every
    /// completion; it must not block and must not call the queue.
    ///
    /// # Errors
    /// `Unavailable` if the process can start no thread.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Result<Arc<Self>, Error> {
        let process = Process::current()?;
        Ok(Arc::new(Self { process, wake: Box::new(wake), state: Mutex::default() }))
    }

    /// Starts an operation and returns the id under which [`drain`](Self::drain) will give its outcome.
    /// Never blocks.
    ///
    /// # Errors
    /// `Closed` if this process was forked since the queue was made.
    pub fn submit(self: &Arc<Self>, operation: Operation) -> Result<u64, Error> {
        let name = operation.name();
        // Before any lock is touched: in a forked child it may be held for ever.
        if !self.process.is_current() {
            return Err(forked(name));
        }
        Ok(self.spawn(name, operation.perform(self.process)))
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
            state.running.insert(id, Running::Starting);
            id
        };
        let ticket = Ticket { queue: Arc::clone(self), id, name, outcome: None };
        // Not under the lock: a stopped runtime drops the task, and with it the ticket, at once.
        let task = self.process.handle().spawn(async move { ticket.redeem(work.await) });
        match self.state.lock().running.get_mut(&id) {
            Some(running) => *running = Running::Started(task.abort_handle()),
            // Cancelled, or done already.
            None => task.abort(),
        }
        id
    }

    /// Drops an operation that is under way: what it did on the server stays done, and there will be no
    /// outcome. An outcome that is in the queue already is still given by [`drain`](Self::drain).
    ///
    /// True if the operation was under way, false if its outcome is, or was, in the queue.
    pub fn cancel(&self, id: u64) -> bool {
        if !self.process.is_current() {
            return false;
        }
        let running = self.state.lock().running.remove(&id);
        match running {
            Some(Running::Started(task)) => {
                task.abort();
                true
            }
            Some(Running::Starting) => true,
            None => false,
        }
    }

    /// Up to `max` outcomes with the ids of their operations, oldest first. If more are left, `wake` is
    /// called again.
    pub fn drain(&self, max: usize) -> Vec<(u64, Outcome)> {
        if !self.process.is_current() {
            return Vec::new();
        }
        let mut state = self.state.lock();
        let count = state.done.len().min(max);
        let outcomes = state.done.drain(..count).collect();
        let more = !state.done.is_empty();
        drop(state);
        if more {
            (self.wake)();
        }
        outcomes
    }

    /// How many operations have no outcome yet, or one that was not fetched.
    pub fn pending(&self) -> usize {
        if !self.process.is_current() {
            return 0;
        }
        let state = self.state.lock();
        state.running.len() + state.done.len()
    }

    /// Whether this process was forked since the queue was made, so that it takes no operations.
    pub fn is_forked(&self) -> bool {
        !self.process.is_current()
    }

    fn complete(self: &Arc<Self>, id: u64, outcome: Outcome) {
        let mut state = self.state.lock();
        // Not there: it was cancelled.
        if state.running.remove(&id).is_some() {
            let first = state.done.is_empty();
            state.done.push_back((id, outcome));
            drop(state);
            if first {
                let bell = Bell(Arc::clone(self));
                // Rings when what is ready to run has run: the results of one answer make one wake-up.
                self.process.handle().spawn(async move {
                    tokio::task::yield_now().await;
                    drop(bell);
                });
            }
        }
    }
}

/// The wake-up, made when it is dropped, so that it is also made on a runtime that stops.
struct Bell(Arc<Queue>);

impl Drop for Bell {
    fn drop(&mut self) {
        (self.0.wake)();
    }
}

/// The promise that an operation ends with an outcome, even if its task panics or its runtime stops.
struct Ticket {
    queue: Arc<Queue>,
    id: u64,
    name: &'static str,
    outcome: Option<Outcome>,
}

impl Ticket {
    fn redeem(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| Outcome::Failed(stopped(self.name)));
        self.queue.complete(self.id, outcome);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::mpsc::{Receiver, TryRecvError, channel};

    use rocketmq_thin::ErrorKind;

    use super::*;

    /// A queue and the wake-ups it made.
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
    fn what_a_drain_leaves_wakes_again() {
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
        assert!(!queue.cancel(id), "it is not under way any more");
        assert!(dropped.recv().is_err(), "its future is dropped");
        assert_eq!(queue.pending(), 0);
        assert!(queue.drain(10).is_empty());
        assert_eq!(wakes.try_recv(), Err(TryRecvError::Empty));
    }

    #[test]
    fn a_panic_is_an_outcome() {
        let (queue, wakes) = queue();
        let id = queue.spawn("send", async { panic!("a defect of the core") });
        wakes.recv().unwrap();
        match queue.drain(10).as_slice() {
            [(failed, Outcome::Failed(error))] if *failed == id => {
                assert_eq!(error.kind(), ErrorKind::Closed);
            }
            other => panic!("{:?}", ids(other)),
        }
    }
}
