//! The operations of a simple consumer, and of its streams of messages.

use std::time::Duration;

use rocketmq_thin::{CLOSE_DEADLINE, Delivery, Error, ReceiveOptions, StreamOptions};

use crate::deliveries::Deliveries;
use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::process_bound::{Messages, ProcessBound, SimpleConsumer};

impl SimpleConsumer {
    /// Receives messages. The outcome is [`Outcome::Deliveries`], empty if nothing arrived in time.
    pub fn receive(&self, options: ReceiveOptions) -> Operation {
        let origin = self.clone().into();
        self.operation("receive", |consumer| async move {
            let deliveries = consumer.receive(options).await?;
            Ok(Outcome::Deliveries(Deliveries::new(origin, deliveries)))
        })
    }

    /// Acknowledges one delivery. The outcome is [`Outcome::Done`].
    pub fn ack(&self, delivery: Delivery) -> Operation {
        self.operation("ack", |consumer| async move {
            consumer.ack(&delivery).await?;
            Ok(Outcome::Done)
        })
    }

    /// Acknowledges several deliveries. The outcome is [`Outcome::Settled`], in the order of the deliveries.
    pub fn ack_all(&self, deliveries: Vec<Delivery>) -> Operation {
        self.operation(
            "ack",
            |consumer| async move { Ok(Outcome::Settled(consumer.ack_all(&deliveries).await)) },
        )
    }

    /// Changes how long a delivery stays invisible, counted from now. The outcome is [`Outcome::Done`].
    pub fn change_invisible(&self, delivery: Delivery, invisible: Duration) -> Operation {
        self.operation("change_invisible", |consumer| async move {
            consumer.change_invisible(&delivery, invisible).await?;
            Ok(Outcome::Done)
        })
    }

    /// Gives back a delivery that could not be processed. It is delivered again after the time `after`:
    /// [`Outcome::Done`].
    pub fn nack(&self, delivery: Delivery, after: Duration) -> Operation {
        self.operation("nack", |consumer| async move {
            consumer.nack(&delivery, after).await?;
            Ok(Outcome::Done)
        })
    }

    /// Moves a delivery to the dead-letter topic. The outcome is [`Outcome::Done`].
    pub fn dead_letter(&self, delivery: Delivery) -> Operation {
        self.operation("dead_letter", |consumer| async move {
            consumer.dead_letter(&delivery).await?;
            Ok(Outcome::Done)
        })
    }

    /// Renews the lease of a delivery until it is settled or dropped, for at most the time `max`.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` if the lease has expired; `InvalidArgument` if a consumer of another group received the
    /// delivery; `Closed` if the consumer is closed, and in a forked child.
    pub fn keep_lease(&self, delivery: &Delivery, max: Duration) -> Result<(), Error> {
        self.call("keep_lease", |consumer| consumer.keep_lease(delivery, max))?
    }

    /// Starts a stream, which fetches messages before the application takes them.
    ///
    /// # Errors
    ///
    /// `Closed` if the consumer is closed, and in a forked child.
    pub fn messages(&self, options: StreamOptions) -> Result<Messages, Error> {
        let messages = self.call("messages", |consumer| consumer.messages(options))??;
        Ok(ProcessBound::new(messages, self.process()))
    }

    /// Gives back deliveries that the application will not process, because the call that received them was
    /// cancelled. The next receive gets them; a closed consumer gives them back to the server. Never blocks,
    /// and does nothing in a forked child.
    pub fn put_back(&self, deliveries: Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        match self.get() {
            Some(consumer) => consumer.put_back(deliveries),
            // In a forked child. Dropping them would use the runtime of the parent process.
            None => std::mem::forget(deliveries),
        }
    }

    /// Closes the consumer in the background, because the application has dropped it. Messages that the
    /// application has not seen go back to the server at once. Never blocks, and does nothing in a forked
    /// child.
    pub fn abandon(&self) {
        let consumer = self.clone();
        if let Some(value) = consumer.get().cloned() {
            self.process().close_in_background(async move {
                value.close(CLOSE_DEADLINE).await;
                drop(consumer);
            });
        }
    }

    /// Closes the consumer within the deadline. The outcome is [`Outcome::Closed`].
    pub fn close(&self, deadline: Duration) -> Operation {
        self.operation("close", |consumer| async move { Ok(Outcome::Closed(consumer.close(deadline).await)) })
    }
}

impl Messages {
    /// Waits for deliveries and takes at most `max`: [`Outcome::Deliveries`]; [`Outcome::End`] once the
    /// stream or its consumer is closed.
    pub fn next_batch(&self, max: usize) -> Operation {
        let origin = self.clone().into();
        self.operation("messages", move |messages| async move {
            match messages.next_batch(max).await.transpose()? {
                Some(deliveries) => Ok(Outcome::Deliveries(Deliveries::new(origin, deliveries))),
                None => Ok(Outcome::End),
            }
        })
    }

    /// Gives back deliveries that the application will not process. The stream hands them out next. Never
    /// blocks, and does nothing in a forked child.
    pub fn put_back(&self, deliveries: Vec<Delivery>) {
        match self.get() {
            Some(messages) => messages.put_back(deliveries),
            None => std::mem::forget(deliveries),
        }
    }

    /// Ends the stream, and gives deliveries that were not taken back to the server.
    /// The outcome is [`Outcome::Done`].
    pub fn close(&self, deadline: Duration) -> Operation {
        self.operation("close", move |messages| async move {
            messages.close(deadline).await;
            Ok(Outcome::Done)
        })
    }
}
