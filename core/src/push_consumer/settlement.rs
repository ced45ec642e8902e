//! Settlements in progress.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{dispatch::Key, outcome::Step};
use crate::{error::Result, message::Lease};

/// How long settling is retried. The lease of an ordered message is renewed meanwhile, so that later
/// messages of its message group wait.
const MAX_SETTLE_TIME: Duration = Duration::from_secs(300);

/// A message that is being settled.
pub(super) struct PendingSettlement {
    pub(super) key: Key,
    pub(super) lease: Arc<Lease>,
    pub(super) attempt: u32,
    pub(super) step: Step,
    pub(super) retry_until: Instant,
    pub(super) waiter: SettlementWaiter,
}

impl PendingSettlement {
    pub(super) fn new(key: Key, lease: Arc<Lease>, attempt: u32, step: Step) -> Self {
        let retry_until = crate::options::deadline(Instant::now(), MAX_SETTLE_TIME);
        Self { key, lease, attempt, step, retry_until, waiter: SettlementWaiter::default() }
    }
}

/// Gets the result of a settlement, if the application waits for it. Dropping it without a result means that the
/// consumer has ended.
#[derive(Default)]
pub(super) struct SettlementWaiter(Option<oneshot::Sender<Result<()>>>);

impl SettlementWaiter {
    pub(super) fn new() -> (Self, oneshot::Receiver<Result<()>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(sender)), receiver)
    }

    pub(super) fn notify(self, result: Result<()>) {
        if let Some(sender) = self.0 {
            let _ = sender.send(result);
        }
    }
}
