use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Operation;
use crate::error::{Error, ErrorKind};

/// Bounds the requests under way. Receives are not counted: they wait by nature, and the backend bounds them.
pub struct InFlight {
    max: usize,
    now: AtomicUsize,
}

impl InFlight {
    pub(super) fn new(max: usize) -> Self {
        Self { max, now: AtomicUsize::new(0) }
    }

    pub(super) async fn run<T>(
        &self,
        operation: Operation,
        next: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if operation == Operation::Receive {
            return next.await;
        }
        let _place = self.enter()?;
        next.await
    }

    fn enter(&self) -> Result<Place<'_>, Error> {
        let place = Place(&self.now);
        if self.now.fetch_add(1, Ordering::Relaxed) >= self.max {
            return Err(Error::new(ErrorKind::Busy, "flow limit"));
        }
        Ok(place)
    }
}

// Given back also when the request is dropped half-way.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refuses_above_the_limit_and_recovers() {
        let limit = InFlight::new(1);
        let inner = limit.run(Operation::Send, async {
            let refused = limit.run(Operation::Send, async { Ok(()) }).await;
            assert_eq!(refused.map_err(|error| error.kind), Err(ErrorKind::Busy));
            limit.run(Operation::Receive, async { Ok(()) }).await
        });
        assert!(inner.await.is_ok());
        assert!(limit.run(Operation::Send, async { Ok(()) }).await.is_ok());
    }
}
