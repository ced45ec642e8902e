//! The types of clients.

/// The type of a client, as the client reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientKind {
    /// The client did not report its type.
    #[default]
    Unspecified,
    /// A producer.
    Producer,
    /// A consumer that calls a handler for each message.
    PushConsumer,
    /// A consumer whose application receives and acknowledges messages itself.
    SimpleConsumer,
    /// Reserved.
    PullConsumer,
    /// A push consumer of lite topics.
    LitePushConsumer,
    /// A simple consumer of lite topics.
    LiteSimpleConsumer,
    /// A client of the remoting protocol, which may produce and consume in several groups.
    Classic,
    /// A type that this proxy does not know, by its number.
    Unknown(i32),
}

impl ClientKind {
    /// The type's name in `apache.rocketmq.v2`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Unspecified => "CLIENT_TYPE_UNSPECIFIED".to_owned(),
            Self::Producer => "PRODUCER".to_owned(),
            Self::PushConsumer => "PUSH_CONSUMER".to_owned(),
            Self::SimpleConsumer => "SIMPLE_CONSUMER".to_owned(),
            Self::PullConsumer => "PULL_CONSUMER".to_owned(),
            Self::LitePushConsumer => "LITE_PUSH_CONSUMER".to_owned(),
            Self::LiteSimpleConsumer => "LITE_SIMPLE_CONSUMER".to_owned(),
            Self::Classic => "CLASSIC".to_owned(),
            Self::Unknown(number) => format!("UNKNOWN_{number}"),
        }
    }

    pub(super) fn consumes(self) -> bool {
        matches!(self, Self::PushConsumer | Self::SimpleConsumer) || self.consumes_lite()
    }

    pub(super) fn consumes_lite(self) -> bool {
        matches!(self, Self::LitePushConsumer | Self::LiteSimpleConsumer)
    }
}
