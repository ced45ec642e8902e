use rocketmq_thin::Error;

use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::process::{Process, forked};

/// A connected client. See [`rocketmq_thin::Client`].
pub type Client = Bound<rocketmq_thin::Client>;
/// A producer. See [`rocketmq_thin::Producer`].
pub type Producer = Bound<rocketmq_thin::Producer>;
/// A simple consumer. See [`rocketmq_thin::SimpleConsumer`].
pub type SimpleConsumer = Bound<rocketmq_thin::SimpleConsumer>;

/// An object of the core, bound to the runtime of the process that made it. Cheap to clone.
#[derive(Clone)]
pub struct Bound<T> {
    /// `None` only while it is being dropped.
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
    pub(crate) fn here(&self) -> Option<&T> {
        self.value.as_ref().filter(|_| self.process.is_current())
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
