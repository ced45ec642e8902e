//! Operations: calls of the client that have not been started yet.

use std::any::Any;
use std::mem::{self, ManuallyDrop};
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use futures::future::BoxFuture;
use rocketmq_thin::{Error, ErrorKind};

use crate::outcome::Outcome;
use crate::process::{Process, forked_error};

type Work = BoxFuture<'static, Result<Outcome, Error>>;

/// A call of the client with its arguments. The methods of [`Client`](crate::Client) and of the other objects
/// create operations.
///
/// It starts with [`Queue::submit`](crate::Queue::submit), [`start`](crate::start) or [`run`](crate::run).
/// Dropping it instead does nothing.
#[must_use = "an operation does nothing until it is started"]
pub struct Operation {
    name: &'static str,
    process: &'static Process,
    /// Dropped only in the process that created it. In a forked child the drop would wake tasks of a runtime
    /// without a thread.
    work: ManuallyDrop<Option<Work>>,
}

impl Operation {
    /// Creates an operation on an object of `process`. `name` names it in errors.
    pub(crate) fn new(
        name: &'static str,
        process: &'static Process,
        work: impl Future<Output = Result<Outcome, Error>> + Send + 'static,
    ) -> Self {
        Self { name, process, work: ManuallyDrop::new(Some(work.boxed())) }
    }

    /// Returns the operation's name in errors.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the future that the runtime of `process` has to run.
    ///
    /// # Errors
    ///
    /// `Closed` if the operation was created in another process.
    pub(crate) fn into_work(
        mut self,
        process: &'static Process,
    ) -> Result<impl Future<Output = Outcome> + Send + 'static, Error> {
        let name = self.name;
        if !std::ptr::eq(self.process, process) {
            return Err(forked_error(name));
        }
        let work = mem::take(&mut *self.work).ok_or_else(|| forked_error(name))?;
        Ok(async move { catch_panic(name, work).await.unwrap_or_else(Outcome::Failed) })
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if self.process.is_current() {
            let _runtime = self.process.handle().enter();
            drop(mem::take(&mut *self.work));
        }
    }
}

/// Turns a panic of `work` into an error of kind `Internal`.
async fn catch_panic<T>(
    operation: &'static str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    // Nothing that `work` owns is used after a panic.
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
        let message = format!("the client panicked, please report this: {}", panic_message(&*panic));
        Err(Error::new(ErrorKind::Internal, operation, message))
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&'static str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown reason")
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_panic_becomes_an_internal_error_with_its_message() {
        let literal = catch_panic::<()>("send", async { panic!("index out of bounds") });
        let error = block_on(literal).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Internal, "send"));
        assert!(error.message().ends_with(": index out of bounds"), "{error}");

        let formatted = catch_panic::<()>("ack", async { panic!("{} of {}", 3, 2) });
        assert!(block_on(formatted).unwrap_err().message().ends_with(": 3 of 2"));
    }
}
