use std::time::Duration;

use rocketmq_thin::Message;

use crate::bound::Producer;
use crate::operation::Operation;
use crate::outcome::Outcome;

impl Producer {
    /// Sends one message: [`Outcome::Receipt`].
    pub fn send(&self, message: Message) -> Operation {
        self.operation("send", |producer| async move { producer.send(message).await.map(Outcome::Receipt) })
    }

    /// Sends many: [`Outcome::Receipts`], in the order given.
    pub fn send_all(&self, messages: Vec<Message>) -> Operation {
        self.operation(
            "send",
            |producer| async move { Ok(Outcome::Receipts(producer.send_all(messages).await)) },
        )
    }

    /// Closes it within the deadline: [`Outcome::Closed`].
    pub fn close(&self, deadline: Duration) -> Operation {
        self.operation("close", |producer| async move { Ok(Outcome::Closed(producer.close(deadline).await)) })
    }
}
