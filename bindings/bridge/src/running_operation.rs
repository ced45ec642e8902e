//! Running operations that the calling thread waits for.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use rocketmq_thin::Error;
use tokio::task::AbortHandle;

use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::process::{Process, stopped_error};

/// A running operation that a thread waits for. Dropping it cancels the operation, or drops its outcome if it
/// has one that was not fetched.
pub struct RunningOperation {
    outcome: Receiver<Outcome>,
    task: AbortHandle,
    name: &'static str,
}

/// Starts an operation for a thread that will wait for it.
///
/// # Errors
/// `Closed` if this process was forked since the operation was created.
pub fn start(operation: Operation) -> Result<RunningOperation, Error> {
    let process = Process::current()?;
    let name = operation.name();
    let work = operation.into_work(process)?;
    let (sender, outcome) = sync_channel(1);
    let task = process.handle().spawn(async move {
        // If the caller gave up, the channel is closed and the outcome is dropped.
        let _ = sender.send(work.await);
    });
    Ok(RunningOperation { outcome, task: task.abort_handle(), name })
}

impl RunningOperation {
    /// Waits up to `timeout` for the outcome, and returns `None` if it has not arrived by then. There is only
    /// one outcome: waiting again after it was returned fails with `Closed`.
    pub fn wait(&mut self, timeout: Duration) -> Option<Outcome> {
        match self.outcome.recv_timeout(timeout) {
            Ok(outcome) => Some(outcome),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Outcome::Failed(stopped_error(self.name))),
        }
    }
}

impl Drop for RunningOperation {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs an operation, and blocks the calling thread without a time limit until it completes.
pub fn run(operation: Operation) -> Outcome {
    match start(operation) {
        Ok(mut running) => loop {
            if let Some(outcome) = running.wait(Duration::MAX) {
                return outcome;
            }
        },
        Err(error) => Outcome::Failed(error),
    }
}
