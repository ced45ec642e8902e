//! Sending.

use std::time::Duration;

use crate::{
    error::{Error, Result},
    message::{CloseReport, Message, Receipt},
};

/// Sends messages. Cheap to clone; clones are the same producer.
#[derive(Clone, Debug)]
pub struct Producer;

impl Producer {
    /// Sends one message and waits until the server has stored it.
    ///
    /// Sends that run at the same time travel together where that costs no time. Cancelling the future gives
    /// up waiting, not the message.
    ///
    /// # Errors
    ///
    /// The server's refusal, or what kept an answer from coming within the operation timeout; see
    /// [`Error::maybe_delivered`].
    pub async fn send(&self, _message: Message) -> Result<Receipt> {
        Err(Error::closed("send"))
    }

    /// Sends many messages; the results stand in the order of the messages.
    pub async fn send_all(&self, messages: Vec<Message>) -> Vec<Result<Receipt>> {
        messages.into_iter().map(|_| Err(Error::closed("send"))).collect()
    }

    /// Takes no more sends, and waits at most `deadline` for those under way.
    pub async fn close(&self, _deadline: Duration) -> CloseReport {
        CloseReport::default()
    }
}
