//! Operations: client requests that have not been started yet.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use futures::future::BoxFuture;
use rocketmq_thin::Error;

use crate::outcome::Outcome;
use crate::process::{Process, forked_error};
use crate::process_bound::ProcessBound;

type Work = BoxFuture<'static, Result<Outcome, Error>>;

/// A client request with its arguments, not yet started. The methods of [`Client`](crate::Client) and of the
/// other objects create operations.
///
/// It starts with [`Queue::submit`](crate::Queue::submit), [`start`](crate::start) or [`run`](crate::run).
/// Dropping it unstarted has no effect.
#[must_use = "an operation does nothing until it is started"]
pub struct Operation {
    name: &'static str,
    work: ProcessBound<Work>,
}

impl Operation {
    /// Creates an operation on an object of `process`. Errors contain `name`.
    pub(crate) fn new(
        name: &'static str,
        process: &'static Process,
        work: impl Future<Output = Result<Outcome, Error>> + Send + 'static,
    ) -> Self {
        Self { name, work: ProcessBound::new(work.boxed(), process) }
    }

    /// Returns the name that errors contain.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the future. It must run on the runtime of `process`.
    ///
    /// # Errors
    ///
    /// `Closed` if the operation was created in another process.
    pub(crate) fn into_work(
        self,
        process: &'static Process,
    ) -> Result<impl Future<Output = Outcome> + Send + 'static, Error> {
        let name = self.name;
        if !std::ptr::eq(self.work.process(), process) {
            return Err(forked_error(name));
        }
        let work = self.work.into_inner().ok_or_else(|| forked_error(name))?;
        Ok(async move { catch_panic(name, work).await.unwrap_or_else(Outcome::Failed) })
    }
}

/// Turns a panic of `work` into an error.
async fn catch_panic<T>(
    operation: &'static str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    // Nothing that `work` owns is used after a panic.
    let result = AssertUnwindSafe(work).catch_unwind().await;
    result.unwrap_or_else(|panic| Err(Error::panicked(operation, &*panic)))
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use rocketmq_thin::ErrorKind;

    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_says_that_the_message_may_have_been_delivered() {
        let panicking = catch_panic::<()>("send", async { panic!("index out of bounds") });
        let error = block_on(panicking).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Internal, "send"));
        assert!(error.maybe_delivered() && error.message().ends_with(": index out of bounds"), "{error}");
    }
}
