/// What a client says it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientKind {
    /// It doesn't say.
    #[default]
    Unspecified,
    /// Sends.
    Producer,
    /// Consumes, with its own loop.
    PushConsumer,
    /// Consumes, message by message.
    SimpleConsumer,
    /// Reserved.
    PullConsumer,
    /// Consumes lite topics, with its own loop.
    LitePushConsumer,
    /// Consumes lite topics, message by message.
    LiteSimpleConsumer,
    /// Speaks the remoting protocol, and may produce and consume in several groups.
    Classic,
    /// A number this proxy doesn't know.
    Unknown(i32),
}

impl ClientKind {
    /// The kind's name in the contract.
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
