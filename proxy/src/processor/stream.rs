//! A client's telemetry stream, as the way by which the server speaks to the client.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::service::Delivery;

/// Words that may wait for a client that does not read.
const ROOM: usize = 64;

/// What the server says to a client on its own account.
#[derive(Clone, Debug)]
pub enum Push {
    /// What became of this half message?
    RecoverTransaction {
        /// The half message.
        delivery: Box<Delivery>,
        /// What ends its transaction.
        transaction_id: String,
    },
    /// Another client took over this lite topic.
    LiteUnsubscribed(String),
}

/// The server's end of a stream. One is told from another, so that the end of an old stream says nothing about
/// the client's new one.
#[derive(Clone, Debug)]
pub struct PushStream {
    pushes: mpsc::Sender<Push>,
    identity: Arc<()>,
}

impl PushStream {
    /// Both ends of a stream that has just been opened.
    #[must_use]
    pub fn open() -> (Self, mpsc::Receiver<Push>) {
        let (pushes, pushed) = mpsc::channel(ROOM);
        (Self { pushes, identity: Arc::default() }, pushed)
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.identity, &other.identity)
    }

    /// Says it unless the client is gone, or reads nothing.
    pub(super) fn try_send(&self, push: Push) -> Result<(), Push> {
        self.pushes.try_send(push).map_err(mpsc::error::TrySendError::into_inner)
    }
}
