//! Messages that an administrator sends to a consumer, to verify that its handler can handle them.

use rocketmq_thin_proto::v2;
use tokio::sync::mpsc;

use crate::{message::Delivery, wire::build_verified};

/// A message to verify. The client has no lease on it, so it is not settled.
#[derive(Debug)]
pub(crate) struct Verification {
    pub(crate) delivery: Delivery,
    pub(crate) reply: VerificationReply,
}

/// Sends the result of a verification to the server.
#[derive(Debug)]
pub(crate) struct VerificationReply {
    nonce: String,
    /// Sends commands on the stream that the request came from, unless it has ended.
    commands: mpsc::WeakSender<v2::TelemetryCommand>,
}

impl VerificationReply {
    pub(super) fn new(nonce: String, commands: &mpsc::Sender<v2::TelemetryCommand>) -> Self {
        Self { nonce, commands: commands.downgrade() }
    }

    /// Reports whether the message was consumed. Does not wait. If the stream has ended, the reply is dropped.
    pub(crate) fn send(self, consumed: bool) {
        let command = build_verified(self.nonce, consumed);
        let sent = self.commands.upgrade().is_some_and(|commands| commands.try_send(command).is_ok());
        if !sent {
            tracing::debug!("failed to send the result of a verification");
        }
    }
}
