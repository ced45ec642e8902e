use rocketmq_thin::{CLOSE_DEADLINE, Delivery, Error};

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

    /// The object, if `process` made it.
    pub(crate) fn on(&self, process: &'static Process, operation: &'static str) -> Result<&T, Error> {
        match &self.value {
            Some(value) if std::ptr::eq(self.process, process) => Ok(value),
            _ => Err(forked(operation)),
        }
    }
}

impl SimpleConsumer {
    /// Returns deliveries that nobody will process, because the call that received them was cancelled. The
    /// next receive gets them; a closed consumer gives them back to the server. Never blocks, and does
    /// nothing in a forked child.
    pub fn put_back(&self, deliveries: Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        match &self.value {
            Some(consumer) if self.process.is_current() => consumer.put_back(deliveries),
            // Their leases belong to the parent process.
            _ => std::mem::forget(deliveries),
        }
    }

    /// Closes the consumer in the background, for an application that is gone: messages that it has not seen go
    /// back to the server at once. Never blocks, and does nothing in a forked child.
    pub fn abandon(&self) {
        let consumer = self.clone();
        if let Some(value) = consumer.value.clone().filter(|_| self.process.is_current()) {
            self.process.handle().spawn(async move {
                value.close(CLOSE_DEADLINE).await;
                drop(consumer);
            });
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
