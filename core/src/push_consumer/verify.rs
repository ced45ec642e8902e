//! Messages that servers want this consumer to verify: they are handed out like others, and the server is told how it went.

use std::{sync::Arc, time::Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{
    ConsumeResult,
    inner::{Held, Inner},
};
use crate::session::{Verification, VerificationReply};

/// The most messages that are verified at the same time, besides those that the limits of the options allow.
const MAX_VERIFIED: usize = 16;

/// A server that waits to be told how a message was handled.
pub(super) struct Question {
    reply: VerificationReply,
    _room: OwnedSemaphorePermit,
}

impl Question {
    pub(super) fn answer(self, result: ConsumeResult) {
        self.reply.send(result == ConsumeResult::Ack);
    }
}

impl Inner {
    /// Hands out the messages that come until the consumer is closed.
    pub(super) async fn verify(self: Arc<Self>, mut verifications: mpsc::Receiver<Verification>) {
        let room = Arc::new(Semaphore::new(MAX_VERIFIED));
        while let Ok(_room) = room.clone().acquire_owned().await
            && let Some(Verification { delivery, reply }) = verifications.recv().await
        {
            let series = self.session().metrics().consumes(&self.group.name, &delivery.topic);
            let size = delivery.body.len();
            let held = Held::for_question(delivery, Question { reply, _room }, series);
            let mut state = self.state.lock();
            if state.dispatch.is_closed() {
                return;
            }
            state.dispatch.insert(held, size, None);
            self.signal(state, Instant::now());
        }
    }
}
