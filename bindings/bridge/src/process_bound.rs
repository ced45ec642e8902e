//! Objects of the core, bound to the process whose runtime they use.

use std::sync::Arc;

use rocketmq_thin::Error;
use tokio::sync::Mutex;

use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::process::{Process, forked_error};

/// A connected client. See [`rocketmq_thin::Client`].
pub type Client = ProcessBound<rocketmq_thin::Client>;
/// A stream of the status changes of a client. See [`rocketmq_thin::StatusChanges`].
pub type StatusChanges = ProcessBound<Arc<Mutex<rocketmq_thin::StatusChanges>>>;
/// A producer. See [`rocketmq_thin::Producer`].
pub type Producer = ProcessBound<rocketmq_thin::Producer>;
/// A transaction of a producer. See [`rocketmq_thin::Transaction`].
pub type Transaction = ProcessBound<rocketmq_thin::Transaction>;
/// The orphan checks of a producer. See [`rocketmq_thin::OrphanChecks`].
pub type OrphanChecks = ProcessBound<rocketmq_thin::OrphanChecks>;
/// One orphan check. See [`rocketmq_thin::OrphanCheck`].
pub type OrphanCheck = ProcessBound<rocketmq_thin::OrphanCheck>;
/// A simple consumer. See [`rocketmq_thin::SimpleConsumer`].
pub type SimpleConsumer = ProcessBound<rocketmq_thin::SimpleConsumer>;
/// A stream of deliveries. See [`rocketmq_thin::Messages`].
pub type Messages = ProcessBound<rocketmq_thin::Messages>;
/// A push consumer. See [`rocketmq_thin::PushConsumer`].
pub type PushConsumer = ProcessBound<rocketmq_thin::PushConsumer>;
/// A message that a push consumer hands to its handler. See [`rocketmq_thin::Task`]. Dropping it counts as a
/// failure of the handler; [`put_back`](Task::put_back) does not.
pub type Task = ProcessBound<rocketmq_thin::Task>;
/// A stream of the lite topics whose subscriptions the server has revoked. See [`rocketmq_thin::LiteRevocations`].
pub type LiteRevocations = ProcessBound<Arc<rocketmq_thin::LiteRevocations>>;

/// An object of the core, bound to the runtime of the process that created it. Cheap to clone if `T` is.
#[derive(Clone)]
pub struct ProcessBound<T> {
    /// `None` after [`into_inner`](Self::into_inner) and during the drop.
    value: Option<T>,
    process: &'static Process,
}

impl<T> ProcessBound<T> {
    pub(crate) fn new(value: T, process: &'static Process) -> Self {
        Self { value: Some(value), process }
    }

    pub(crate) fn process(&self) -> &'static Process {
        self.process
    }

    /// Returns the object; `None` in a forked child of the process that created it.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.value.as_ref().filter(|_| self.process.is_current())
    }

    /// Returns the object for changing it; `None` in a forked child of the process that created it.
    #[must_use]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.as_mut().filter(|_| self.process.is_current())
    }

    /// Calls a non-blocking function of the object, in the context of the runtime of the process.
    ///
    /// # Errors
    ///
    /// `Closed` in a forked child of the process that created the object.
    pub(crate) fn call<R>(&self, name: &'static str, call: impl FnOnce(&T) -> R) -> Result<R, Error> {
        let value = self.get().ok_or_else(|| forked_error(name))?;
        let _runtime = self.process.handle().enter();
        Ok(call(value))
    }

    /// Takes the object out; `None` in a forked child of the process that created it.
    pub(crate) fn into_inner(mut self) -> Option<T> {
        if self.process.is_current() { self.value.take() } else { None }
    }

    /// Takes the object out and passes it to `call`. Does nothing in a forked child.
    pub(crate) fn consume(self, call: impl FnOnce(T)) {
        let process = self.process;
        if let Some(value) = self.into_inner() {
            let _runtime = process.handle().enter();
            call(value);
        }
    }

    /// Creates an operation that calls an async function of the object. Errors contain `name`.
    pub(crate) fn operation<F>(&self, name: &'static str, call: impl FnOnce(T) -> F) -> Operation
    where
        T: Clone,
        F: Future<Output = Result<Outcome, Error>> + Send + 'static,
    {
        match self.get().cloned() {
            Some(value) => Operation::new(name, self.process, call(value)),
            None => Operation::new(name, self.process, async move { Err(forked_error(name)) }),
        }
    }
}

impl<T> Drop for ProcessBound<T> {
    fn drop(&mut self) {
        let value = self.value.take();
        if self.process.is_current() {
            // Dropping the last clone may start tasks on the runtime.
            let _runtime = self.process.handle().enter();
            drop(value);
        } else {
            // Dropping the object would wake tasks of a runtime that has no thread in this process.
            std::mem::forget(value);
        }
    }
}
