//! Streams on which the proxy sends commands to a client: the telemetry stream of gRPC, or a connection of the remoting
//! protocol.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::service::{Delivery, Reply};

/// The maximum number of commands in the queue of a client that does not read.
const MAX_COMMANDS: usize = 64;
/// The maximum number of bytes of the queued commands. A single larger command still fits an empty queue.
const MAX_BYTES: usize = 8 << 20;
/// The approximate size of a command without the body of its message.
const COMMAND_BYTES: usize = 1 << 10;

/// A command that the proxy sends to a client without a request of the client.
#[derive(Clone, Debug)]
pub enum Push {
    /// Asks a producer whether to commit a half message.
    RecoverTransaction {
        /// The half message.
        delivery: Box<Delivery>,
        /// The id of the message's transaction.
        transaction_id: String,
    },
    /// Passes the reply to a request of the client. Only clients of the remoting protocol send such requests.
    Reply(Box<Reply>),
    /// Tells the client that another client took over this lite topic.
    LiteUnsubscribed(String),
}

/// The sending end of a client's stream. Streams can be compared, so that the end of an old stream does not affect the
/// client's new one.
#[derive(Clone, Debug)]
pub struct PushStream {
    sender: mpsc::Sender<Queued>,
    free_bytes: Arc<Semaphore>,
}

/// The receiving end of a client's stream. The front end sends the commands to the client.
#[derive(Debug)]
pub struct PushReceiver {
    receiver: mpsc::Receiver<Queued>,
}

#[derive(Debug)]
struct Queued {
    push: Push,
    _bytes: OwnedSemaphorePermit,
}

impl PushStream {
    /// Creates both ends of a stream.
    #[must_use]
    pub fn open() -> (Self, PushReceiver) {
        let (sender, receiver) = mpsc::channel(MAX_COMMANDS);
        (Self { sender, free_bytes: Arc::new(Semaphore::new(MAX_BYTES)) }, PushReceiver { receiver })
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.sender.same_channel(&other.sender)
    }

    /// Queues a command. Returns the command if the stream has ended or the queue is full.
    pub(super) fn try_send(&self, push: Push) -> Result<(), Push> {
        let bytes = u32::try_from(push.bytes().min(MAX_BYTES)).expect("MAX_BYTES fits");
        let Ok(permit) = self.free_bytes.clone().try_acquire_many_owned(bytes) else { return Err(push) };
        let queued = Queued { push, _bytes: permit };
        self.sender.try_send(queued).map_err(|refused| refused.into_inner().push)
    }
}

impl PushReceiver {
    /// The next command; `None` once all senders were dropped.
    pub async fn recv(&mut self) -> Option<Push> {
        self.receiver.recv().await.map(|queued| queued.push)
    }

    #[cfg(test)]
    pub(super) fn try_recv(&mut self) -> Option<Push> {
        self.receiver.try_recv().ok().map(|queued| queued.push)
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
    fn queued_commands_are_bounded_by_bytes() {
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
    fn a_command_that_exceeds_the_bytes_is_queued_alone() {
        let (stream, mut pushed) = PushStream::open();
        assert!(stream.try_send(check(MAX_BYTES * 2)).is_ok());
        assert!(stream.try_send(check(1)).is_err());
        assert!(pushed.try_recv().is_some());
        assert!(stream.try_send(check(1)).is_ok());
    }
}
