//! The options of push consumers.

use std::time::Duration;

use super::{DecodeOptions, Filter, Subscription};

/// The shortest lease. Leases are renewed when half of them has passed, so shorter ones would cause many renewals. They
/// are most likely a mistake in the unit.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// The options of a [`PushConsumer`](crate::PushConsumer).
///
/// ```
/// # use rocketmq_thin::{Filter, PushConsumerOptions};
/// let options = PushConsumerOptions::new("billing", ["orders"]).concurrency(64);
/// let more = options.subscribe("refunds", Filter::sql("amount > 100"));
/// assert_eq!(more.subscriptions.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PushConsumerOptions {
    /// The consumer group. Its consumers share the messages.
    pub group: String,
    /// The topics, each with a filter. All consumers of a group must have the same subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// For a lite consumer, the LITE topic that its group is bound to. The consumer receives from the lite topics of
    /// this topic that it subscribes to; `subscriptions` must be empty. Default: `None`.
    pub bind_topic: Option<String>,
    /// How many messages are handled at the same time. Default: 20.
    pub concurrency: usize,
    /// The maximum number of cached messages of all topics: waiting, being handled, and being settled. Default: 4096.
    /// There is always room for one message of each broker of each topic.
    pub max_cached_messages: usize,
    /// The maximum total size of the bodies of cached messages, in bytes. Default: 64 MiB. No messages are received
    /// while it is reached. One receive can exceed it, if its messages are larger than earlier ones.
    pub max_cached_bytes: usize,
    /// The length of a lease, at least 1 s. Default: 60 s. Servers allow 10 s to 12 h. While a message waits or is
    /// handled, its lease is renewed when half of it has passed. If the process dies, its messages are delivered again
    /// after this time.
    pub invisible_duration: Duration,
    /// How many messages are handled per second at most. Default: `None`, which means no limit.
    pub max_rate: Option<f64>,
    /// How received bodies are decompressed.
    pub decode: DecodeOptions,
}

impl PushConsumerOptions {
    /// Options for a consumer of `group` with `subscriptions`.
    #[must_use]
    pub fn new<S: Into<Subscription>>(
        group: impl Into<String>,
        subscriptions: impl IntoIterator<Item = S>,
    ) -> Self {
        Self {
            group: group.into(),
            subscriptions: subscriptions.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Options for a lite consumer of `group`, which is bound to `topic`. It starts without lite topics; see
    /// [`PushConsumer::subscribe_lite`](crate::PushConsumer::subscribe_lite).
    #[must_use]
    pub fn lite(group: impl Into<String>, topic: impl Into<String>) -> Self {
        Self { group: group.into(), bind_topic: Some(topic.into()), ..Self::default() }
    }

    /// The subscriptions to poll. For a lite consumer, all messages of the topic that its group is bound to.
    pub(crate) fn sources(&self) -> Vec<Subscription> {
        match &self.bind_topic {
            Some(topic) => vec![topic.as_str().into()],
            None => self.subscriptions.clone(),
        }
    }

    /// Adds a subscription.
    #[must_use]
    pub fn subscribe(mut self, topic: impl Into<String>, filter: Filter) -> Self {
        self.subscriptions.push(Subscription::new(topic, filter));
        self
    }

    /// Sets [`concurrency`](Self::concurrency).
    #[must_use]
    pub fn concurrency(mut self, messages: usize) -> Self {
        self.concurrency = messages;
        self
    }

    /// Sets [`max_cached_messages`](Self::max_cached_messages).
    #[must_use]
    pub fn max_cached_messages(mut self, messages: usize) -> Self {
        self.max_cached_messages = messages;
        self
    }

    /// Sets [`max_cached_bytes`](Self::max_cached_bytes).
    #[must_use]
    pub fn max_cached_bytes(mut self, bytes: usize) -> Self {
        self.max_cached_bytes = bytes;
        self
    }

    /// Sets [`invisible_duration`](Self::invisible_duration).
    #[must_use]
    pub fn invisible_duration(mut self, duration: Duration) -> Self {
        self.invisible_duration = duration;
        self
    }

    /// Sets [`max_rate`](Self::max_rate).
    #[must_use]
    pub fn max_rate(mut self, messages_per_second: f64) -> Self {
        self.max_rate = Some(messages_per_second);
        self
    }

    /// Sets [`decode`](Self::decode).
    #[must_use]
    pub fn decode(mut self, decode: DecodeOptions) -> Self {
        self.decode = decode;
        self
    }

    /// Why the options can't be used; `None` if they can.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        if self.bind_topic.is_some() && !self.subscriptions.is_empty() {
            Some("a lite consumer subscribes to lite topics only")
        } else if self.concurrency == 0 {
            Some("the concurrency is 0")
        } else if self.max_cached_messages == 0 {
            Some("the limit of cached messages is 0")
        } else if self.max_cached_bytes == 0 {
            Some("the limit of cached bytes is 0")
        } else if self.max_rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
            Some("the maximum rate is not a positive number")
        } else if self.invisible_duration < SHORTEST_LEASE {
            Some("the invisible duration is less than a second; servers take 10 seconds to 12 hours")
        } else {
            None
        }
    }
}

impl Default for PushConsumerOptions {
    fn default() -> Self {
        Self {
            group: String::new(),
            subscriptions: Vec::new(),
            bind_topic: None,
            concurrency: 20,
            max_cached_messages: 4096,
            max_cached_bytes: 64 * 1024 * 1024,
            invisible_duration: Duration::from_secs(60),
            max_rate: None,
            decode: DecodeOptions::default(),
        }
    }
}
