//! Messages that an administrator has a consumer handle, to see whether it can.

use rocketmq_thin_proto::v2;
use tokio::sync::mpsc;

use crate::{message::Delivery, wire::build_verified};

/// A message to handle. The client holds no lease on it, so it is not settled.
#[derive(Debug)]
pub(crate) struct Verification {
    pub(crate) delivery: Delivery,
    pub(crate) reply: VerificationReply,
}

/// Tells the server how the message was handled.
#[derive(Debug)]
pub(crate) struct VerificationReply {
    nonce: String,
    /// Of the stream that the request came from. It may end in the meantime.
    commands: mpsc::WeakSender<v2::TelemetryCommand>,
}

impl VerificationReply {
    pub(super) fn new(nonce: String, commands: &mpsc::Sender<v2::TelemetryCommand>) -> Self {
        Self { nonce, commands: commands.downgrade() }
    }

    /// Reports whether the message was consumed. Does not wait: without the stream, nobody waits for the reply.
    pub(crate) fn send(self, consumed: bool) {
        let command = build_verified(self.nonce, consumed);
        let sent = self.commands.upgrade().is_some_and(|commands| commands.try_send(command).is_ok());
        if !sent {
            tracing::debug!("the server could not be told how a message was handled that it wanted verified");
        }
    }
}
