//! The options of consumers and receives.

use std::time::Duration;

/// The options of a [`SimpleConsumer`](crate::SimpleConsumer).
///
/// ```
/// # use rocketmq_thin::{Filter, SimpleConsumerOptions, Subscription};
/// let all = SimpleConsumerOptions::new("billing", ["orders"]);
/// let some = SimpleConsumerOptions::new("billing", [Subscription::new("orders", Filter::tags(["new"]))]);
/// let more = all.subscribe("refunds", Filter::sql("amount > 100"));
/// assert_eq!(more.subscriptions.len(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimpleConsumerOptions {
    /// The consumer group. Its consumers share the messages.
    pub group: String,
    /// The topics, each with a filter. All consumers of a group must have the same subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// For a lite consumer, the LITE topic that its group is bound to. The consumer receives from the lite topics of
    /// this topic that it subscribes to; `subscriptions` must be empty. Default: `None`.
    pub bind_topic: Option<String>,
    /// How received bodies are decompressed.
    pub decode: DecodeOptions,
}

impl SimpleConsumerOptions {
    /// Options for a lite consumer of `group`, which is bound to `topic`. It starts without lite topics; see
    /// [`SimpleConsumer::subscribe_lite`](crate::SimpleConsumer::subscribe_lite).
    ///
    /// Apache's proxies up to 5.5 refuse the creation of simple consumers of lite topics.
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

    /// Adds a subscription.
    #[must_use]
    pub fn subscribe(mut self, topic: impl Into<String>, filter: Filter) -> Self {
        self.subscriptions.push(Subscription::new(topic, filter));
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
        let both = self.bind_topic.is_some() && !self.subscriptions.is_empty();
        both.then_some("a lite consumer subscribes to lite topics only")
    }
}

/// How received bodies are decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeOptions {
    /// The largest body after decompression, in bytes. A larger one is delivered as corrupted. Default: 64 MiB.
    ///
    /// Also how large the bodies of one response are in total that are decompressed when they arrive. The other ones are
    /// decompressed when they are handed out, and a receive or a batch of a stream returns each of them alone.
    pub max_body_size: usize,
}

impl DecodeOptions {
    /// Sets [`max_body_size`](Self::max_body_size).
    #[must_use]
    pub fn max_body_size(mut self, bytes: usize) -> Self {
        self.max_body_size = bytes;
        self
    }
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { max_body_size: 64 * 1024 * 1024 }
    }
}

/// A topic to receive from, with a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// The topic.
    pub topic: String,
    /// Which of its messages to receive.
    pub filter: Filter,
}

impl Subscription {
    /// A subscription to the messages of `topic` that match `filter`.
    #[must_use]
    pub fn new(topic: impl Into<String>, filter: Filter) -> Self {
        Self { topic: topic.into(), filter }
    }

    /// Why the subscription can't be used; `None` if it can.
    pub(crate) fn flaw(&self) -> Option<String> {
        let empty_filter = match &self.filter {
            Filter::All => false,
            Filter::Tags(tags) => tags.is_empty() || tags.iter().any(String::is_empty),
            Filter::Sql(expression) => expression.trim().is_empty(),
        };
        let topic = &self.topic;
        (topic.is_empty() || empty_filter)
            .then(|| format!("the topic or the filter of subscription `{topic}` is empty"))
    }
}

impl From<&str> for Subscription {
    /// A subscription to all messages of the topic.
    fn from(topic: &str) -> Self {
        Self::new(topic, Filter::All)
    }
}

impl From<String> for Subscription {
    /// A subscription to all messages of the topic.
    fn from(topic: String) -> Self {
        Self::new(topic, Filter::All)
    }
}

/// Which messages of a topic to receive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Filter {
    /// All messages.
    #[default]
    All,
    /// Messages with one of these tags.
    Tags(Vec<String>),
    /// Messages whose properties satisfy this SQL-92 expression, such as `amount > 100 AND region = 'eu'`.
    Sql(String),
}

impl Filter {
    /// Messages with one of `tags`.
    #[must_use]
    pub fn tags<T: Into<String>>(tags: impl IntoIterator<Item = T>) -> Self {
        Self::Tags(tags.into_iter().map(Into::into).collect())
    }

    /// Messages whose properties satisfy `expression`.
    #[must_use]
    pub fn sql(expression: impl Into<String>) -> Self {
        Self::Sql(expression.into())
    }
}

/// How many messages one receive asks for, and how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiveOptions {
    /// The maximum number of deliveries of one call. Default: 32, which is also the maximum of servers.
    pub max_messages: u32,
    /// How long the deliveries are hidden from other consumers. Default: 30 s. Servers allow 10 s to 12 h. When the
    /// receive returns, at least half of it is left.
    pub invisible_duration: Duration,
    /// How long to wait for the first message. Default: 20 s.
    pub await_duration: Duration,
}

impl ReceiveOptions {
    /// Sets [`max_messages`](Self::max_messages).
    #[must_use]
    pub fn max_messages(mut self, messages: u32) -> Self {
        self.max_messages = messages;
        self
    }

    /// Sets [`invisible_duration`](Self::invisible_duration).
    #[must_use]
    pub fn invisible_duration(mut self, duration: Duration) -> Self {
        self.invisible_duration = duration;
        self
    }

    /// Sets [`await_duration`](Self::await_duration).
    #[must_use]
    pub fn await_duration(mut self, duration: Duration) -> Self {
        self.await_duration = duration;
        self
    }

    /// Why the options can't be used, if they can't.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        (self.max_messages == 0).then_some("the maximum of messages is 0")
    }
}

impl Default for ReceiveOptions {
    fn default() -> Self {
        Self {
            max_messages: 32,
            invisible_duration: Duration::from_secs(30),
            await_duration: Duration::from_secs(20),
        }
    }
}

/// How a stream of messages fetches ahead of the application.
///
/// Both limits apply to all topics of the stream together. A lower limit leaves more messages to the other consumers of
/// the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamOptions {
    /// The maximum number of messages that wait for the application or are requested. Default: 128. At least 1.
    pub max_messages: usize,
    /// The total size of waiting bodies, in bytes, from which on no more messages are requested. Requests in flight may
    /// exceed it. Default: 64 MiB. At least 1.
    pub max_bytes: usize,
    /// How long the deliveries are hidden from other consumers. Default: 30 s. Servers allow 10 s to 12 h. When a
    /// delivery is handed out, at least half of it is left.
    pub invisible_duration: Duration,
}

impl StreamOptions {
    /// Sets [`max_messages`](Self::max_messages).
    #[must_use]
    pub fn max_messages(mut self, messages: usize) -> Self {
        self.max_messages = messages;
        self
    }

    /// Sets [`max_bytes`](Self::max_bytes).
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets [`invisible_duration`](Self::invisible_duration).
    #[must_use]
    pub fn invisible_duration(mut self, duration: Duration) -> Self {
        self.invisible_duration = duration;
        self
    }

    /// Why the limits can't be used, if they can't.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        if self.max_messages == 0 {
            Some("the limit of messages is 0")
        } else if self.max_bytes == 0 {
            Some("the limit of bytes is 0")
        } else {
            None
        }
    }
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            max_messages: 128,
            max_bytes: 64 * 1024 * 1024,
            invisible_duration: ReceiveOptions::default().invisible_duration,
        }
    }
}
