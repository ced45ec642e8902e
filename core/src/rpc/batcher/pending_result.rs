//! Waits for the results of submitted items.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    error::{Error, ErrorKind},
    rpc::retry::queued_too_long,
};

/// How long after its deadline a caller stops waiting. A request that reaches the deadline fails before that, with an
/// error that is more specific.
const ANSWER_SLACK: Duration = Duration::from_millis(100);

/// The pending result of a submitted item.
#[derive(Debug)]
pub(crate) struct PendingResult<T> {
    pub(super) operation: &'static str,
    pub(super) deadline: Instant,
    /// Whether a request with the item was started.
    pub(super) sent: Arc<AtomicBool>,
    pub(super) result: oneshot::Receiver<Result<T, Error>>,
}

impl<T> PendingResult<T> {
    /// Waits for the result, at most until the deadline of the item.
    ///
    /// # Errors
    ///
    /// `Closed` if the batcher was stopped first; `Timeout` at the deadline.
    pub(crate) async fn wait(self) -> Result<T, Error> {
        let deadline = self.deadline + ANSWER_SLACK;
        match tokio::time::timeout_at(deadline.into(), self.result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                let error = Error::closed(self.operation);
                let sent = self.sent.load(Ordering::Relaxed);
                Err(if sent { error.with_maybe_delivered() } else { error })
            }
            Err(_) if self.sent.load(Ordering::Relaxed) => {
                Err(Error::new(ErrorKind::Timeout, self.operation, "the server did not answer in time")
                    .with_retryable(true)
                    .with_maybe_delivered())
            }
            Err(_) => Err(queued_too_long(self.operation)),
        }
    }
}

/// Waits for the results of many items. Returns them in the same order.
pub(crate) async fn wait_all<T>(answers: Vec<Result<PendingResult<T>, Error>>) -> Vec<Result<T, Error>> {
    let mut results = Vec::with_capacity(answers.len());
    // Waits for the last item first. When it has its result, most others have theirs, so this task wakes up rarely.
    for answer in answers.into_iter().rev() {
        results.push(match answer {
            Ok(answer) => answer.wait().await,
            Err(error) => Err(error),
        });
    }
    results.reverse();
    results
}
