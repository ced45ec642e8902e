//! The lite topics of a push consumer.

use std::sync::Arc;

use super::PushConsumer;
use crate::{
    error::Result,
    lite::{self, LiteRevocations, LiteTopics},
};

/// Lite consumers, made by [`PushConsumerOptions::lite`](crate::PushConsumerOptions::lite).
impl PushConsumer {
    /// Subscribes to a lite topic below the topic that the group is bound to, if it is not subscribed to yet. Returns
    /// once the servers have it.
    ///
    /// The client repeats the complete set of lite topics every 30 s and after each reconnect. Cancelling the future
    /// does not cancel the change.
    ///
    /// # Errors
    ///
    /// `Throttled` with code 42902 if the consumer has as many lite topics as its group allows, and with code 42901
    /// if the server has too many; `InvalidArgument` for a name that servers don't take, and if this is not a lite
    /// consumer; otherwise what a server says against it. The consumer is not subscribed then.
    pub async fn subscribe_lite(&self, lite_topic: &str) -> Result<()> {
        let (topics, name) = (self.lite("subscribe_lite")?, lite_topic.to_owned());
        self.0.0.member.run("subscribe_lite", async move { topics.subscribe(&name).await }).await
    }

    /// Ends the subscription of a lite topic, if there is one. Returns once the servers know it. Messages of it that
    /// wait here are still handled. Cancelling the future does not cancel the change.
    ///
    /// # Errors
    ///
    /// What a server says against it; `InvalidArgument` if this is not a lite consumer.
    pub async fn unsubscribe_lite(&self, lite_topic: &str) -> Result<()> {
        let (topics, name) = (self.lite("unsubscribe_lite")?, lite_topic.to_owned());
        self.0.0.member.run("unsubscribe_lite", async move { topics.unsubscribe(&name).await }).await
    }

    /// The lite topics that the consumer is subscribed to, sorted. Empty if this is not a lite consumer.
    #[must_use]
    pub fn lite_topics(&self) -> Vec<String> {
        self.0.0.lite.as_ref().map(|topics| topics.names()).unwrap_or_default()
    }

    /// The lite topics that servers revoke, to be waited for.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if this is not a lite consumer.
    pub fn lite_revocations(&self) -> Result<LiteRevocations> {
        self.lite("lite_revocations").map(LiteRevocations)
    }

    fn lite(&self, operation: &'static str) -> Result<Arc<LiteTopics>> {
        lite::required(self.0.0.lite.as_ref(), operation)
    }
}
