//! How those who submit items get their results.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind};

/// How long after its deadline a caller is answered without a result. A request that runs into the deadline
/// fails by itself before that, with an error that knows more.
const ANSWER_SLACK: Duration = Duration::from_millis(100);

/// The result of a submitted item, as its caller waits for it.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(super) operation: &'static str,
    pub(super) deadline: Instant,
    /// Whether a request with the item was started.
    pub(super) sent: Arc<AtomicBool>,
    pub(super) result: oneshot::Receiver<Result<T, Error>>,
}

impl<T> Answer<T> {
    /// Waits for the result, at most until the deadline of the item.
    ///
    /// # Errors
    ///
    /// `Closed` if the batcher was stopped first; `Timeout` at the deadline.
    pub(crate) async fn wait(self) -> Result<T, Error> {
        let deadline = self.deadline + ANSWER_SLACK;
        match tokio::time::timeout_at(deadline.into(), self.result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::closed(self.operation).maybe()),
            Err(_) if self.sent.load(Ordering::Relaxed) => {
                Err(Error::new(ErrorKind::Timeout, self.operation, "the server did not answer in time")
                    .with_retryable(true)
                    .maybe())
            }
            Err(_) => Err(queued_too_long(self.operation)),
        }
    }
}

/// The results of many items, in their order.
pub(crate) async fn wait_all<T>(answers: Vec<Result<Answer<T>, Error>>) -> Vec<Result<T, Error>> {
    let mut results = Vec::with_capacity(answers.len());
    // The last one first: when it has its result, most others have theirs, so that one wake-up does for all.
    for answer in answers.into_iter().rev() {
        results.push(match answer {
            Ok(answer) => answer.wait().await,
            Err(error) => Err(error),
        });
    }
    results.reverse();
    results
}

pub(super) fn queued_too_long(operation: &'static str) -> Error {
    Error::new(ErrorKind::Timeout, operation, "deadline expired while queued").with_retryable(true)
}
