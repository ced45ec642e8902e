//! Verifies messages for an administrator: the handler gets them like other messages, and the server gets the result.

use std::{sync::Arc, time::Instant};

use tokio::sync::{Semaphore, mpsc};

use super::{
    held_message::{HeldMessage, VerificationRequest},
    inner::Inner,
};
use crate::session::Verification;

/// How many messages are verified at the same time. They do not count against the limits of the options.
const MAX_VERIFICATIONS: usize = 16;

impl Inner {
    /// Hands out messages to verify until the consumer is closed.
    pub(super) async fn verify(self: Arc<Self>, mut verifications: mpsc::Receiver<Verification>) {
        let room = Arc::new(Semaphore::new(MAX_VERIFICATIONS));
        while let Ok(_room) = room.clone().acquire_owned().await
            && let Some(Verification { delivery, reply }) = verifications.recv().await
        {
            let series = self.session().metrics().consumes(&self.group.name, &delivery.topic);
            let size = delivery.body.len();
            let held = HeldMessage::for_verification(delivery, VerificationRequest { reply, _room }, series);
            let mut state = self.state.lock();
            if state.dispatch.is_closed() {
                return;
            }
            state.dispatch.insert(held, size, None);
            self.signal(state, Instant::now());
        }
    }
}
