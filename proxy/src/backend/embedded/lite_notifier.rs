//! Notifies the subscribers of one lite topic.

use std::sync::Arc;

use super::lite_subscriptions::Subscriptions;

/// A lite topic, and the table of all subscriptions, in which its subscribers are found.
pub(super) struct LiteNotifier {
    /// The id of its parent topic, which has the type LITE.
    pub(super) parent: u32,
    /// The name of the lite topic.
    pub(super) name: Arc<str>,
    /// The subscriptions to all lite topics.
    pub(super) subscriptions: Arc<Subscriptions>,
}

impl LiteNotifier {
    /// Notifies the subscribers of a group, or of all groups, that there may be messages.
    pub(super) fn notify(&self, group: Option<u32>) {
        self.subscriptions.deliverable(self.parent, group, &self.name);
    }
}
