//! Lite topics. Both simple and push consumers can subscribe to them.

use rocketmq_thin::Error;

use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::process_bound::{LiteRevocations, ProcessBound, PushConsumer, SimpleConsumer};

macro_rules! lite_consumer {
    ($consumer:ident) => {
        impl $consumer {
            /// Subscribes to a lite topic: [`Outcome::Done`].
            pub fn subscribe_lite(&self, lite_topic: String) -> Operation {
                self.operation("subscribe_lite", |consumer| async move {
                    consumer.subscribe_lite(&lite_topic).await.map(|()| Outcome::Done)
                })
            }

            /// Ends the subscription of a lite topic: [`Outcome::Done`].
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
