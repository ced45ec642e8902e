use std::time::Duration;

use rocketmq_thin::{CLOSE_DEADLINE, Delivery, Error, ReceiveOptions, StreamOptions, Subscription};

use crate::bound::{Bound, Messages, SimpleConsumer};
use crate::deliveries::Deliveries;
use crate::operation::Operation;
use crate::outcome::Outcome;

impl SimpleConsumer {
    /// Receives: [`Outcome::Deliveries`], empty if nothing arrived in time.
    pub fn receive(&self, options: ReceiveOptions) -> Operation {
        let origin = self.clone().into();
        self.operation("receive", |consumer| async move {
            let deliveries = consumer.receive(options).await?;
            Ok(Outcome::Deliveries(Deliveries::new(origin, deliveries)))
        })
    }

    /// Acknowledges one delivery: [`Outcome::Done`].
    pub fn ack(&self, delivery: Delivery) -> Operation {
        self.operation("ack", |consumer| async move {
            consumer.ack(&delivery).await?;
            Ok(Outcome::Done)
        })
    }

    /// Acknowledges many: [`Outcome::Settled`], in the order given.
    pub fn ack_all(&self, deliveries: Vec<Delivery>) -> Operation {
        self.operation(
            "ack",
            |consumer| async move { Ok(Outcome::Settled(consumer.ack_all(&deliveries).await)) },
        )
    }

    /// Sets how long from now a delivery stays invisible: [`Outcome::Done`].
    pub fn change_invisible(&self, delivery: Delivery, invisible: Duration) -> Operation {
        self.operation("change_invisible", |consumer| async move {
            consumer.change_invisible(&delivery, invisible).await?;
            Ok(Outcome::Done)
        })
    }

    /// Returns a delivery that could not be processed, to be delivered again after this time: [`Outcome::Done`].
    pub fn nack(&self, delivery: Delivery, after: Duration) -> Operation {
        self.operation("nack", |consumer| async move {
            consumer.nack(&delivery, after).await?;
            Ok(Outcome::Done)
        })
    }

    /// Moves a delivery to the dead-letter topic: [`Outcome::Done`].
    pub fn dead_letter(&self, delivery: Delivery) -> Operation {
        self.operation("dead_letter", |consumer| async move {
            consumer.dead_letter(&delivery).await?;
            Ok(Outcome::Done)
        })
    }

    /// Keeps the lease of a delivery until it is settled or dropped, for at most this time.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` if the lease is over; `Closed`, also in a forked child.
    pub fn keep_lease(&self, delivery: &Delivery, max: Duration) -> Result<(), Error> {
        self.call("keep_lease", |consumer| consumer.keep_lease(delivery, max))?
    }

    /// Subscribes to a topic, or changes its filter: [`Outcome::Done`].
    pub fn subscribe(&self, subscription: Subscription) -> Operation {
        self.operation("subscribe", |consumer| async move {
            consumer.subscribe(subscription).await?;
            Ok(Outcome::Done)
        })
    }

    /// Ends the subscription of a topic: [`Outcome::Done`].
    pub fn unsubscribe(&self, topic: String) -> Operation {
        self.operation("unsubscribe", |consumer| async move {
            consumer.unsubscribe(&topic).await?;
            Ok(Outcome::Done)
        })
    }

    /// The current subscriptions.
    ///
    /// # Errors
    ///
    /// `Closed` in a forked child.
    pub fn subscriptions(&self) -> Result<Vec<Subscription>, Error> {
        self.call("subscriptions", rocketmq_thin::SimpleConsumer::subscriptions)
    }

    /// Starts to fetch messages ahead of the application.
    ///
    /// # Errors
    ///
    /// `Closed`, also in a forked child.
    pub fn messages(&self, options: StreamOptions) -> Result<Messages, Error> {
        let messages = self.call("messages", |consumer| consumer.messages(options))??;
        Ok(Bound::new(messages, self.process()))
    }

    /// Returns deliveries that nobody will process, because the call that received them was cancelled. The
    /// next receive gets them; a closed consumer gives them back to the server. Never blocks, and does
    /// nothing in a forked child.
    pub fn put_back(&self, deliveries: Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        match self.here() {
            Some(consumer) => consumer.put_back(deliveries),
            // Their leases belong to the parent process.
            None => std::mem::forget(deliveries),
        }
    }

    /// Closes the consumer in the background, because the application has dropped it. Messages that the application has
    /// not seen go back to the server at once. Never blocks, and does nothing in a forked child.
    pub fn abandon(&self) {
        let consumer = self.clone();
        if let Some(value) = consumer.here().cloned() {
            self.process().handle().spawn(async move {
                value.close(CLOSE_DEADLINE).await;
                drop(consumer);
            });
        }
    }

    /// Closes it within the deadline: [`Outcome::Closed`].
    pub fn close(&self, deadline: Duration) -> Operation {
        self.operation("close", |consumer| async move { Ok(Outcome::Closed(consumer.close(deadline).await)) })
    }
}

impl Messages {
    /// Waits for deliveries and takes at most `max`: [`Outcome::Deliveries`]; [`Outcome::End`] once the stream or its
    /// consumer is closed.
    pub fn next_batch(&self, max: usize) -> Operation {
        let origin = self.clone().into();
        self.operation("messages", move |messages| async move {
            match messages.next_batch(max).await.transpose()? {
                Some(deliveries) => Ok(Outcome::Deliveries(Deliveries::new(origin, deliveries))),
                None => Ok(Outcome::End),
            }
        })
    }

    /// Returns deliveries that nobody will process: they are received next. Never blocks, and does nothing in a forked
    /// child.
    pub fn put_back(&self, deliveries: Vec<Delivery>) {
        match self.here() {
            Some(messages) => messages.put_back(deliveries),
            None => std::mem::forget(deliveries),
        }
    }

    /// Ends the stream, and gives back what was not taken: [`Outcome::Done`].
    pub fn close(&self, deadline: Duration) -> Operation {
        self.operation("close", move |messages| async move {
            messages.close(deadline).await;
            Ok(Outcome::Done)
        })
    }
}
