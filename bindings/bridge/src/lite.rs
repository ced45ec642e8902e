//! Lite topics. Both simple and push consumers can subscribe to them.

use rocketmq_thin::{Error, OffsetOption};

use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::process_bound::{LiteRevocations, ProcessBound, PushConsumer, SimpleConsumer};

macro_rules! lite_consumer {
    ($consumer:ident) => {
        impl $consumer {
            /// Subscribes to a lite topic, in which the group starts at `start`, or at its last position.
            /// The outcome is [`Outcome::Done`].
            pub fn subscribe_lite(&self, lite_topic: String, start: Option<OffsetOption>) -> Operation {
                self.operation("subscribe_lite", move |consumer| async move {
                    match start {
                        Some(start) => consumer.subscribe_lite_from(&lite_topic, start).await?,
                        None => consumer.subscribe_lite(&lite_topic).await?,
                    }
                    Ok(Outcome::Done)
                })
            }

            /// Ends the subscription of a lite topic. The outcome is [`Outcome::Done`].
            pub fn unsubscribe_lite(&self, lite_topic: String) -> Operation {
                self.operation("unsubscribe_lite", |consumer| async move {
                    consumer.unsubscribe_lite(&lite_topic).await.map(|()| Outcome::Done)
                })
            }

            /// Returns the lite topics that the consumer is subscribed to.
            ///
            /// # Errors
            ///
            /// `Closed` in a forked child.
            pub fn lite_topics(&self) -> Result<Vec<String>, Error> {
                self.call("lite_topics", rocketmq_thin::$consumer::lite_topics)
            }

            /// Returns a stream of the lite topics whose subscriptions the server ends from now on.
            ///
            /// # Errors
            ///
            /// `InvalidArgument` if it is not a lite consumer; `Closed` in a forked child.
            pub fn lite_revocations(&self) -> Result<LiteRevocations, Error> {
                let revocations =
                    self.call("lite_revocations", rocketmq_thin::$consumer::lite_revocations)??;
                Ok(ProcessBound::new(revocations.into(), self.process()))
            }
        }
    };
}

lite_consumer!(SimpleConsumer);
lite_consumer!(PushConsumer);

impl LiteRevocations {
    /// Waits for the next lite topic whose subscription the server ends: [`Outcome::Text`]; [`Outcome::End`]
    /// once the consumer is closed.
    pub fn next(&self) -> Operation {
        self.operation("lite_revocations", |revocations| async move {
            Ok(revocations.next().await.map_or(Outcome::End, Outcome::Text))
        })
    }
}
