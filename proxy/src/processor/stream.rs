//! A client's telemetry stream, by which the server sends commands to the client.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::service::{Delivery, Reply};

/// Commands that may wait for a client that does not read.
const MAX_COMMANDS: usize = 64;
/// Bytes of the messages in these commands. Any one message fits.
const MAX_BYTES: usize = 8 << 20;
/// The bytes that a command takes in addition to the body of its message.
const COMMAND_BYTES: usize = 1 << 10;

/// A command that the server sends to a client on its own account.
#[derive(Clone, Debug)]
pub enum Push {
    /// Asks whether to commit a half message.
    RecoverTransaction {
        /// The half message.
        delivery: Box<Delivery>,
        /// What ends its transaction.
        transaction_id: String,
    },
    /// Passes on a reply to a request of the client. Only clients of the remoting protocol send such requests.
    Reply(Box<Reply>),
    /// Announces that another client took over this lite topic.
    LiteUnsubscribed(String),
}

/// The server's end of a stream. It can be compared, so that the end of an old stream does not affect the client's new
/// one.
#[derive(Clone, Debug)]
pub struct PushStream {
    pushes: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
}

/// The client's end of a stream: what the front end sends on.
#[derive(Debug)]
pub struct PushReceiver {
    pushed: mpsc::Receiver<Queued>,
}

#[derive(Debug)]
struct Queued {
    push: Push,
    _bytes: OwnedSemaphorePermit,
}

impl PushStream {
    /// Both ends of a stream that has just been opened.
    #[must_use]
    pub fn open() -> (Self, PushReceiver) {
        let (pushes, pushed) = mpsc::channel(MAX_COMMANDS);
        (Self { pushes, room: Arc::new(Semaphore::new(MAX_BYTES)) }, PushReceiver { pushed })
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        self.pushes.same_channel(&other.pushes)
    }

    /// Sends a command, unless the client is gone or reads too slowly: then the command is returned.
    pub(super) fn try_send(&self, push: Push) -> Result<(), Push> {
        let bytes = u32::try_from(push.bytes().min(MAX_BYTES)).expect("MAX_BYTES fits");
        let Ok(permit) = self.room.clone().try_acquire_many_owned(bytes) else { return Err(push) };
        let queued = Queued { push, _bytes: permit };
        self.pushes.try_send(queued).map_err(|refused| refused.into_inner().push)
    }
}

impl PushReceiver {
    /// The next command; `None` once all senders are gone.
    pub async fn recv(&mut self) -> Option<Push> {
        self.pushed.recv().await.map(|queued| queued.push)
    }

    #[cfg(test)]
    pub(super) fn try_recv(&mut self) -> Option<Push> {
        self.pushed.try_recv().ok().map(|queued| queued.push)
    }
}

impl Push {
    fn bytes(&self) -> usize {
        let message = match self {
            Self::RecoverTransaction { delivery, .. } => delivery.message.body.len(),
            Self::Reply(reply) => reply.body.len() + reply.properties.len(),
            Self::LiteUnsubscribed(_) => 0,
        };
        message + COMMAND_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted;
    use super::*;

    fn check(bytes: usize) -> Push {
        let mut delivery = scripted::delivery("t");
        delivery.message.body = vec![0; bytes].into();
        Push::RecoverTransaction { delivery: Box::new(delivery), transaction_id: String::new() }
    }

    #[test]
    fn large_commands_wait_in_small_numbers() {
        let (stream, mut pushed) = PushStream::open();
        let body = 3 << 20;
        assert!(stream.try_send(check(body)).is_ok());
        assert!(stream.try_send(check(body)).is_ok());
        assert!(stream.try_send(check(body)).is_err());
        assert!(stream.try_send(check(10)).is_ok());
        assert!(pushed.try_recv().is_some());
        assert!(stream.try_send(check(body)).is_ok());
    }

    #[test]
    fn a_command_larger_than_all_room_is_sent_alone() {
        let (stream, mut pushed) = PushStream::open();
        assert!(stream.try_send(check(MAX_BYTES * 2)).is_ok());
        assert!(stream.try_send(check(1)).is_err());
        assert!(pushed.try_recv().is_some());
        assert!(stream.try_send(check(1)).is_ok());
    }
}
