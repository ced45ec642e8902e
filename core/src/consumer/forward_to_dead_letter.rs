//! Forwards a delivery to the dead-letter topic of its group.

use std::{sync::Arc, time::Duration, time::Instant};

use super::invisible_duration_change::deadline;
use crate::{
    error::Result,
    interceptor::Settlement,
    message::Lease,
    rpc::{ForwardMessageToDeadLetterQueue, Retry, time_for_request},
    session::Session,
    wire::{Forward, build_forward},
};

/// A request to forward one delivery to the dead-letter topic.
pub(crate) struct ForwardToDeadLetter {
    session: Arc<Session>,
    lease: Arc<Lease>,
    attempt: u32,
}

impl ForwardToDeadLetter {
    pub(crate) fn new(session: Arc<Session>, lease: Arc<Lease>, attempt: u32) -> Self {
        Self { session, lease, attempt }
    }

    /// Forwards the delivery, with retries.
    pub(crate) async fn run(self) -> Result<()> {
        self.session.settle(self.lease.message(), Settlement::DeadLetter, self.send()).await
    }

    async fn send(&self) -> Result<()> {
        let _settling = self.lease.begin_settling();
        let options = self.session.options();
        let deadline = deadline(&self.lease, options);
        let retry = Retry::new("dead_letter", &options.retry, options.request_timeout, deadline);
        let result = retry.run(&*self.session, |limit| self.forward(limit, deadline)).await;
        self.lease.record_result(&result);
        result.map_err(|error| error.during("dead_letter"))
    }

    async fn forward(&self, limit: Duration, deadline: Instant) -> Result<()> {
        let message = self.lease.message();
        // Some servers refuse requests of clients without a telemetry stream to them.
        let channel = self.session.ready(&message.endpoints, deadline).await?;
        let _guard = self.lease.lock_handle().await;
        let rpc = self.session.rpc();
        let (group, topic) = (rpc.resource(&*message.group.name), rpc.resource(&*message.topic));
        let forward = Forward {
            message,
            handle: self.lease.handle(),
            attempt: self.attempt,
            max_attempts: self.session.consumer_settings().redelivery.max_attempts,
        };
        let request = build_forward(group, topic, forward);
        let limit = time_for_request("dead_letter", deadline, limit)?;
        let (call, response) = rpc.unary::<ForwardMessageToDeadLetterQueue>(&channel, request, limit).await?;
        call.check(response.status.as_ref()).map(drop)
    }
}
