//! Subscriptions to topics. Both simple and push consumers can change them while they run.

use rocketmq_thin::{Error, Subscription};

use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::process_bound::{PushConsumer, SimpleConsumer};

macro_rules! subscribing_consumer {
    ($consumer:ident) => {
        impl $consumer {
            /// Subscribes to a topic, or changes its filter. The outcome is [`Outcome::Done`].
            pub fn subscribe(&self, subscription: Subscription) -> Operation {
                self.operation("subscribe", |consumer| async move {
                    consumer.subscribe(subscription).await.map(|()| Outcome::Done)
                })
            }

            /// Ends the subscription of a topic. The outcome is [`Outcome::Done`].
            pub fn unsubscribe(&self, topic: String) -> Operation {
                self.operation("unsubscribe", |consumer| async move {
                    consumer.unsubscribe(&topic).await.map(|()| Outcome::Done)
                })
            }

            /// Returns the current subscriptions.
            ///
            /// # Errors
            ///
            /// `Closed` in a forked child.
            pub fn subscriptions(&self) -> Result<Vec<Subscription>, Error> {
                self.call("subscriptions", rocketmq_thin::$consumer::subscriptions)
            }
        }
    };
}

subscribing_consumer!(SimpleConsumer);
subscribing_consumer!(PushConsumer);
