//! Settles a handled message, and retries until the server answers, the lease has ended, or five minutes have passed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{dispatch::Key, inner::Inner, outcome::Step, settlement::PendingSettlement};
use crate::{
    consumer::{
        ForwardToDeadLetter, InvisibleDurationChange, ack_with_callback, batcher_for, queue_ack, submit_ack,
    },
    error::{Error, Result},
};

/// The pause between two calls that settle the same message. Each call has its own retries.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Inner {
    /// Settles a message. Returns at once.
    pub(super) fn settle(self: &Arc<Self>, settlement: PendingSettlement) {
        if settlement.step != Step::Ack {
            return self.settle_in_background(settlement, None);
        }
        let (key, lease) = (settlement.key, settlement.lease.clone());
        let Ok(guard) = self.base.begin("ack") else { return self.finish_settling(key, &lease, false) };
        let inner = self.clone();
        let ack = ack_with_callback(&lease, guard, self.session().options(), move |result| match result {
            Ok(()) => {
                settlement.waiter.notify(Ok(()));
                inner.finish_settling(key, &settlement.lease, true);
            }
            Err(error) => inner.settle_in_background(settlement, Some(error)),
        });
        queue_ack(&batcher_for(&self.base, &self.leases, &lease), ack);
    }

    fn settle_in_background(self: &Arc<Self>, settlement: PendingSettlement, error: Option<Error>) {
        let inner = self.clone();
        self.session().spawn(async move { inner.settle_until_done(settlement, error).await });
    }

    async fn settle_until_done(self: Arc<Self>, settlement: PendingSettlement, mut error: Option<Error>) {
        let PendingSettlement { lease, retry_until, .. } = &settlement;
        let result = loop {
            if let Some(error) = error.take() {
                let now = Instant::now();
                if !error.retryable() || lease.is_lost(now) || *retry_until <= now {
                    let message = lease.message();
                    tracing::warn!(
                        %error,
                        message_id = message.message_id,
                        topic = &*message.topic,
                        "failed to settle a message; it is delivered again"
                    );
                    break Err(error);
                }
                tracing::debug!(%error, "failed to settle a message; trying again");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            match self.try_to_settle(&settlement).await {
                Ok(()) => break Ok(()),
                Err(failed) => error = Some(failed),
            }
        };
        let settled = result.is_ok();
        // Before a close can end, which waits for the settlement.
        settlement.waiter.notify(result);
        self.finish_settling(settlement.key, &settlement.lease, settled);
    }

    async fn try_to_settle(&self, settlement: &PendingSettlement) -> Result<()> {
        let PendingSettlement { lease, attempt, step, .. } = settlement;
        let (session, options) = (self.session().clone(), self.session().options());
        let guard = self.base.begin("ack")?;
        match step {
            Step::Ack => {
                let batcher = batcher_for(&self.base, &self.leases, lease);
                return submit_ack(&batcher, lease, guard, options).wait().await;
            }
            Step::Return(after) => {
                InvisibleDurationChange::nack(session, lease.clone(), *after).run().await?
            }
            Step::DeadLetter => ForwardToDeadLetter::new(session, lease.clone(), *attempt).run().await?,
            Step::HandOutAt(_) => {}
        }
        guard.succeeded();
        Ok(())
    }

    /// Gives back a message that was handed out and put back, in the background. A close waits for this.
    pub(super) fn give_back_handed_out(self: &Arc<Self>, key: Key, change: InvisibleDurationChange) {
        let lease = change.lease().clone();
        if self.session().stop().is_cancelled() {
            self.leases.give_back_detached(vec![change]);
            return self.finish_settling(key, &lease, false);
        }
        let inner = self.clone();
        self.session().spawn(async move {
            inner.leases.give_back(vec![change]).await;
            inner.finish_settling(key, &lease, false);
        });
    }

    /// Gives back messages in the background, so that other consumers can get them.
    pub(super) fn give_back(self: &Arc<Self>, changes: Vec<InvisibleDurationChange>) {
        if !changes.is_empty() {
            let _runtime = self.runtime.enter();
            let inner = self.clone();
            let give_back = async move { inner.leases.give_back(changes).await };
            self.session().spawn(self.receiving.track_future(give_back));
        }
    }
}
