//! Decompresses bodies without holding up other tasks, and charges for their memory first.

use bytes::Bytes;

use super::answer::Refusal;
use super::request_charge::RequestCharge;
use crate::decompression::{InflateError, Inflating};

/// Decompresses a body. Other tasks run after each step of about 64 KiB. On success the request remains charged for
/// the body.
///
/// # Errors
/// The refusal if there is no memory for the body; the inner error if it can't be decompressed.
pub(super) async fn inflate(
    mut inflating: Inflating<'_>,
    charge: &RequestCharge,
) -> Result<Result<Bytes, InflateError>, Refusal> {
    let mut charged = Charged { charge, bytes: 0 };
    loop {
        charged.grow_to(inflating.next_capacity())?;
        let step = inflating.step();
        tokio::task::yield_now().await;
        match step {
            Ok(None) => {}
            Ok(Some(body)) => {
                charged.keep(body.len());
                return Ok(Ok(body.into()));
            }
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// What a body is charged so far. Released when dropped.
struct Charged<'a> {
    charge: &'a RequestCharge,
    bytes: usize,
}

impl Charged<'_> {
    fn grow_to(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.charge.grow(bytes.saturating_sub(self.bytes))?;
        self.bytes = self.bytes.max(bytes);
        Ok(())
    }

    /// Leaves this many bytes charged.
    fn keep(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Drop for Charged<'_> {
    fn drop(&mut self) {
        self.charge.shrink(self.bytes);
    }
}
