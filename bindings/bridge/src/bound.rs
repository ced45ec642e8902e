use crate::process::{Process, forked};
use rocketmq_thin::Error;

/// A connected client. See [`rocketmq_thin::Client`].
pub type Client = Bound<rocketmq_thin::Client>;
/// A producer. See [`rocketmq_thin::Producer`].
pub type Producer = Bound<rocketmq_thin::Producer>;
/// A simple consumer. See [`rocketmq_thin::SimpleConsumer`].
pub type SimpleConsumer = Bound<rocketmq_thin::SimpleConsumer>;

/// An object of the core that lives on the runtime of the process that made it, and on no other. Cheap to
/// clone, as the core's are.
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

    /// The object, if `process` made it.
    pub(crate) fn on(&self, process: &'static Process, operation: &'static str) -> Result<&T, Error> {
        match &self.value {
            Some(value) if std::ptr::eq(self.process, process) => Ok(value),
            _ => Err(forked(operation)),
        }
    }
}

impl<T> Drop for Bound<T> {
    fn drop(&mut self) {
        let value = self.value.take();
        if self.process.is_current() {
            // The last clone may say goodbye to the server, for which it needs the runtime.
            let _runtime = self.process.handle().enter();
            drop(value);
        } else {
            // Dropping it would wake tasks of a runtime that has no thread in this process.
            std::mem::forget(value);
        }
    }
}
