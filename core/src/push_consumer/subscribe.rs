//! Changes of a push consumer's subscriptions at run time.

use std::sync::Arc;

use super::{PushConsumer, inner::Inner};
use crate::{
    error::{Error, Result},
    lite::refuse_lite,
    options::Subscription,
};

impl PushConsumer {
    /// Subscribes to a topic, or changes the filter of a subscription. The handler also gets the messages of this topic.
    ///
    /// The servers are notified at once. All consumers of a group must have the same subscriptions. Messages that matched
    /// the previous filter and wait for a handler are given back. A paused consumer stays paused. Cancelling the future
    /// does not cancel the change.
    ///
    /// # Errors
    ///
    /// `TopicNotFound` if the topic does not exist; `InvalidArgument` for an empty topic or filter, and for a lite
    /// consumer, which has [`subscribe_lite`](Self::subscribe_lite); otherwise the refusal of a server. On an error the
    /// subscriptions do not change.
    pub async fn subscribe(&self, subscription: impl Into<Subscription>) -> Result<()> {
        const OPERATION: &str = "subscribe";
        let subscription = subscription.into();
        let inner = self.changeable(OPERATION)?;
        self.run(OPERATION, async move {
            inner.subscriptions.subscribe(subscription).await?;
            inner.give_back_unsubscribed().await;
            Ok(())
        })
        .await
    }

    /// Ends the subscription of a topic, if there is one. Returns once no more of its messages are handed out, and
    /// those that wait for a handler are given back.
    ///
    /// The servers are notified at once, and polls of the topic end. Running handlers continue, and their messages are
    /// settled by their results. In an ordered group, a message whose handler fails then, or has failed before, is
    /// returned to the server with its retry delay. A consumer without subscriptions is idle. Cancelling the future does
    /// not cancel the change.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a lite consumer, which has [`unsubscribe_lite`](Self::unsubscribe_lite); otherwise the
    /// refusal of a server. On an error the subscriptions do not change.
    pub async fn unsubscribe(&self, topic: &str) -> Result<()> {
        const OPERATION: &str = "unsubscribe";
        let topic = topic.to_owned();
        let inner = self.changeable(OPERATION)?;
        self.run(OPERATION, async move {
            inner.subscriptions.unsubscribe(&topic).await?;
            inner.give_back_unsubscribed().await;
            Ok(())
        })
        .await
    }

    /// The current subscriptions. A lite consumer has one, for the topic that its group is bound to.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<Subscription> {
        self.0.0.subscriptions.list()
    }

    /// The consumer, if its subscriptions can be changed.
    fn changeable(&self, operation: &'static str) -> Result<Arc<Inner>> {
        let inner = &self.0.0;
        refuse_lite(inner.lite.as_ref(), operation)?;
        // Calls are refused only after the running handlers have ended.
        if inner.is_closed() {
            return Err(Error::closed(operation));
        }
        Ok(inner.clone())
    }
}

impl Inner {
    /// Gives back the messages of ended subscriptions that wait for a handler.
    async fn give_back_unsubscribed(self: &Arc<Self>) {
        let waiting = self.discard_unsubscribed();
        self.leases.give_back(waiting).await;
    }
}
