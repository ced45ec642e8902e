use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use rocketmq_thin::Error;
use tokio::task::AbortHandle;

use crate::operation::{Operation, Outcome};
use crate::process::{Process, stopped};

/// An operation that a thread waits for. Dropping it cancels the operation.
pub struct Call {
    outcome: Receiver<Outcome>,
    task: AbortHandle,
    name: &'static str,
}

/// Starts an operation for a thread that will wait for it.
///
/// # Errors
/// `Unavailable` if the process can start no thread.
pub fn start(operation: Operation) -> Result<Call, Error> {
    let process = Process::current()?;
    let name = operation.name();
    let (sender, outcome) = sync_channel(1);
    let task = process.handle().spawn(async move {
        // The receiver is gone if the caller gave up, and with it the interest in the outcome.
        let _ = sender.send(operation.perform(process).await);
    });
    Ok(Call { outcome, task: task.abort_handle(), name })
}

impl Call {
    /// Waits for the outcome, at most for `timeout`; `None` if it is not there by then. There is one outcome:
    /// a wait after it came says that the operation is `Closed`.
    pub fn wait(&mut self, timeout: Duration) -> Option<Outcome> {
        match self.outcome.recv_timeout(timeout) {
            Ok(outcome) => Some(outcome),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Outcome::Failed(stopped(self.name))),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries out an operation while the calling thread waits, however long it takes.
pub fn run(operation: Operation) -> Outcome {
    match start(operation) {
        Ok(mut call) => loop {
            if let Some(outcome) = call.wait(Duration::MAX) {
                return outcome;
            }
        },
        Err(error) => Outcome::Failed(error),
    }
}
