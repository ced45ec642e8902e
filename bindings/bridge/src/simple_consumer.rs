use std::time::Duration;

use rocketmq_thin::{CLOSE_DEADLINE, Delivery, ReceiveOptions};

use crate::bound::SimpleConsumer;
use crate::deliveries::Deliveries;
use crate::operation::Operation;
use crate::outcome::Outcome;

impl SimpleConsumer {
    /// Receives: [`Outcome::Deliveries`], empty if nothing arrived in time.
    pub fn receive(&self, options: ReceiveOptions) -> Operation {
        let this = self.clone();
        self.operation("receive", |consumer| async move {
            let deliveries = consumer.receive(options).await?;
            Ok(Outcome::Deliveries(Deliveries::new(this, deliveries)))
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

    /// Closes the consumer in the background, for an application that is gone: messages that it has not seen go
    /// back to the server at once. Never blocks, and does nothing in a forked child.
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
