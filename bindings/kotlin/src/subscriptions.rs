//! Subscriptions to topics. Both simple and push consumers can change them while they run.

use crate::completions::submit;
use crate::options::TopicFilter;
use crate::registry::{CONSUMERS, PUSH_CONSUMERS};

/// The kind of a consumer, and its key in the registry of this kind.
#[derive(uniffi::Enum)]
pub(crate) enum ConsumerKey {
    Simple { key: i64 },
    Push { key: i64 },
}

/// Calls a method of a consumer of either kind. Returns `None` if the consumer does not exist.
macro_rules! call {
    ($consumer:expr, $method:ident($($argument:expr),*)) => {
        match $consumer {
            ConsumerKey::Simple { key } => CONSUMERS.get(key).map(|consumer| consumer.$method($($argument),*)),
            ConsumerKey::Push { key } => PUSH_CONSUMERS.get(key).map(|consumer| consumer.$method($($argument),*)),
        }
    };
}
pub(crate) use call;

/// Subscribes to a topic, or changes its filter.
#[uniffi::export]
pub(crate) fn subscribe_topic(consumer: ConsumerKey, subscription: TopicFilter) -> i64 {
    submit(|| call!(consumer, subscribe(subscription.into())))
}

/// Ends the subscription of a topic.
#[uniffi::export]
pub(crate) fn unsubscribe_topic(consumer: ConsumerKey, topic: String) -> i64 {
    submit(|| call!(consumer, unsubscribe(topic)))
}

/// Returns the current subscriptions of a consumer.
#[uniffi::export]
pub(crate) fn consumer_subscriptions(consumer: ConsumerKey) -> Vec<TopicFilter> {
    let subscriptions = call!(consumer, subscriptions()).and_then(Result::ok);
    subscriptions.unwrap_or_default().into_iter().filter_map(TopicFilter::new).collect()
}
