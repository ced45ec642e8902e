//! The options of consumers and receives.

use std::time::Duration;

/// What a [`SimpleConsumer`](crate::SimpleConsumer) receives.
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
    /// The consumer group; its members share the messages.
    pub group: String,
    /// The topics, and which of their messages. All consumers of a group must have the same subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// The LITE topic that the group is bound to, for a lite consumer: it receives from the lite topics below it that
    /// it subscribes to. `subscriptions` is empty then. Default: none.
    pub bind_topic: Option<String>,
    /// How bodies are decompressed.
    pub decode: DecodeOptions,
}

impl SimpleConsumerOptions {
    /// A lite consumer in `group`, which is bound to `topic`. It starts without lite topics; see
    /// [`SimpleConsumer::subscribe_lite`](crate::SimpleConsumer::subscribe_lite).
    ///
    /// Apache's proxies up to 5.5 refuse simple consumers of lite topics when they are made.
    #[must_use]
    pub fn lite(group: impl Into<String>, topic: impl Into<String>) -> Self {
        Self { group: group.into(), bind_topic: Some(topic.into()), ..Self::default() }
    }

    /// What it receives from: its subscriptions, or the whole of the topic that a lite consumer is bound to.
    pub(crate) fn sources(&self) -> Vec<Subscription> {
        match &self.bind_topic {
            Some(topic) => vec![topic.as_str().into()],
            None => self.subscriptions.clone(),
        }
    }

    /// A consumer in `group` of `subscriptions`.
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

    /// Why they can't be used together, if they can't.
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

/// A topic, and which of its messages to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// The topic.
    pub topic: String,
    /// Which of its messages.
    pub filter: Filter,
}

impl Subscription {
    /// The messages of `topic` that pass `filter`.
    #[must_use]
    pub fn new(topic: impl Into<String>, filter: Filter) -> Self {
        Self { topic: topic.into(), filter }
    }

    /// Why it can't be used, if it can't.
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
    /// All messages of the topic.
    fn from(topic: &str) -> Self {
        Self::new(topic, Filter::All)
    }
}

impl From<String> for Subscription {
    /// All messages of the topic.
    fn from(topic: String) -> Self {
        Self::new(topic, Filter::All)
    }
}

/// Which messages of a topic to receive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Filter {
    /// All.
    #[default]
    All,
    /// Those with one of these tags.
    Tags(Vec<String>),
    /// Those whose properties satisfy this SQL-92 expression, such as `amount > 100 AND region = 'eu'`.
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
    /// The maximum number of deliveries of one call. Default: 32, which is also the most that servers return.
    pub max_messages: u32,
    /// How long the deliveries are hidden from others before they come again. Default: 30 s. Servers allow 10 s to
    /// 12 h. At least half of it is left when the receive returns.
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
/// Both limits hold for all topics of the stream together. A stream with few messages leaves more to the other
/// consumers of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamOptions {
    /// The maximum number of messages that wait for the application or are asked for. Default: 128. At least 1.
    pub max_messages: usize,
    /// The size of all bodies that wait, in bytes, above which nothing more is asked for. Requests under way may
    /// exceed it by what they bring. Default: 64 MiB.
    pub max_bytes: usize,
    /// How long the deliveries are hidden from others before they come again. Default: 30 s. Servers allow 10 s to
    /// 12 h. At least half of it is left when a delivery is handed out.
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
