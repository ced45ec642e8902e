use std::sync::Arc;

use rocketmq_thin::Error;
use tokio::sync::Mutex;

use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::process::{Process, forked};

/// A connected client. See [`rocketmq_thin::Client`].
pub type Client = Bound<rocketmq_thin::Client>;
/// The changes of a client's status. See [`rocketmq_thin::StatusChanges`].
pub type StatusChanges = Bound<Arc<Mutex<rocketmq_thin::StatusChanges>>>;
/// A producer. See [`rocketmq_thin::Producer`].
pub type Producer = Bound<rocketmq_thin::Producer>;
/// A transaction of a producer. See [`rocketmq_thin::Transaction`].
pub type Transaction = Bound<rocketmq_thin::Transaction>;
/// The orphan checks of a producer. See [`rocketmq_thin::OrphanChecks`].
pub type OrphanChecks = Bound<rocketmq_thin::OrphanChecks>;
/// One orphan check. See [`rocketmq_thin::OrphanCheck`].
pub type OrphanCheck = Bound<rocketmq_thin::OrphanCheck>;
/// A simple consumer. See [`rocketmq_thin::SimpleConsumer`].
pub type SimpleConsumer = Bound<rocketmq_thin::SimpleConsumer>;
/// A stream of deliveries. See [`rocketmq_thin::Messages`].
pub type Messages = Bound<rocketmq_thin::Messages>;
/// A push consumer. See [`rocketmq_thin::PushConsumer`].
pub type PushConsumer = Bound<rocketmq_thin::PushConsumer>;
/// A message of a push consumer to handle. See [`rocketmq_thin::Task`]. Dropping it counts as a failure.
pub type Task = Bound<rocketmq_thin::Task>;
/// The lite topics whose subscriptions a server has ended. See [`rocketmq_thin::LiteRevocations`].
pub type LiteRevocations = Bound<Arc<rocketmq_thin::LiteRevocations>>;

/// An object of the core, bound to the runtime of the process that made it. Cheap to clone if the object is.
#[derive(Clone)]
pub struct Bound<T> {
    /// `None` once it is used up or being dropped.
    value: Option<T>,
    process: &'static Process,
}

impl<T> Bound<T> {
    pub(crate) fn new(value: T, process: &'static Process) -> Self {
        Self { value: Some(value), process }
    }

    pub(crate) fn process(&self) -> &'static Process {
        self.process
    }

    /// The object; `None` in a forked child of the process that made it.
    #[must_use]
    pub fn here(&self) -> Option<&T> {
        self.value.as_ref().filter(|_| self.process.is_current())
    }

    /// As [`here`](Self::here), to change it.
    #[must_use]
    pub fn here_mut(&mut self) -> Option<&mut T> {
        self.value.as_mut().filter(|_| self.process.is_current())
    }

    /// Calls a function of the object that does not wait, on the runtime of the process.
    ///
    /// # Errors
    ///
    /// `Closed` in a forked child of the process that made the object.
    pub(crate) fn call<R>(&self, name: &'static str, call: impl FnOnce(&T) -> R) -> Result<R, Error> {
        let value = self.here().ok_or_else(|| forked(name))?;
        let _runtime = self.process.handle().enter();
        Ok(call(value))
    }

    /// Takes the object out and passes it to `call`. Does nothing in a forked child.
    pub(crate) fn consume(mut self, call: impl FnOnce(T)) {
        if self.process.is_current() {
            let _runtime = self.process.handle().enter();
            if let Some(value) = self.value.take() {
                call(value);
            }
        }
    }

    /// An operation on the object.
    pub(crate) fn operation<F>(&self, name: &'static str, call: impl FnOnce(T) -> F) -> Operation
    where
        T: Clone,
        F: Future<Output = Result<Outcome, Error>> + Send + 'static,
    {
        match self.value.clone() {
            Some(value) => Operation::new(name, self.process, call(value)),
            None => Operation::new(name, self.process, async move { Err(forked(name)) }),
        }
    }
}

impl<T> Drop for Bound<T> {
    fn drop(&mut self) {
        let value = self.value.take();
        if self.process.is_current() {
            // Dropping the last clone may start tasks on the runtime.
            let _runtime = self.process.handle().enter();
            drop(value);
        } else {
            // Dropping it would wake tasks of a runtime that has no thread in this process.
            std::mem::forget(value);
        }
    }
}
