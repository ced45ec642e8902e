//! What an operator writes: whom a quota is for, and what it allows.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How much some requests may do. Every pattern that is given must match the request; in a pattern, `*` stands for any
/// characters. A quota has at least one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// The name by which refusals and commands call it.
    pub name: String,
    /// Who has it each.
    pub per: Per,
    /// Only requests of these clients, by the id that a client gives itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Only requests of these users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Only requests that name such a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Only requests that name such a topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Only requests that come in at such an entry; `main` is the proxy's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Requests of any kind per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "http", schema(value_type = Option<u64>, minimum = 1))]
    pub requests_per_second: Option<NonZeroU64>,
    /// Messages that are sent, per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "http", schema(value_type = Option<u64>, minimum = 1))]
    pub send_messages_per_second: Option<NonZeroU64>,
    /// Bytes of their bodies, per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "http", schema(value_type = Option<u64>, minimum = 1))]
    pub send_bytes_per_second: Option<NonZeroU64>,
    /// Messages that are delivered, per second. What a receive brings is counted afterwards: the next one waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "http", schema(value_type = Option<u64>, minimum = 1))]
    pub receive_messages_per_second: Option<NonZeroU64>,
    /// Bytes of their bodies, per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "http", schema(value_type = Option<u64>, minimum = 1))]
    pub receive_bytes_per_second: Option<NonZeroU64>,
    /// Receives and pulls at a time, most of which wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "http", schema(value_type = Option<u32>, minimum = 1))]
    pub long_polls: Option<NonZeroU32>,
    /// Other requests at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "http", schema(value_type = Option<u32>, minimum = 1))]
    pub requests_in_flight: Option<NonZeroU32>,
    /// Bytes of the body of each message that is sent. Larger ones are refused, whatever `on_excess` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "http", schema(value_type = Option<u64>, minimum = 1))]
    pub message_bytes: Option<NonZeroU64>,
    /// How much may come at once, as the time for which the limits per second allow as much.
    #[serde(default = "one_second", with = "humantime_serde")]
    #[cfg_attr(feature = "http", schema(value_type = String, example = "1s"))]
    pub burst: Duration,
    /// What becomes of a request beyond it.
    #[serde(default)]
    pub on_excess: OnExcess,
    /// How long a request is delayed at most. One that had to wait for longer is refused, and so is one that would use up
    /// half the time that its client waits.
    #[serde(default = "one_second", with = "humantime_serde")]
    #[cfg_attr(feature = "http", schema(value_type = String, example = "1s"))]
    pub max_delay: Duration,
}

/// Who has a quota each. All but `client` share theirs among several clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// Each client: the id that it gives itself, and the address it comes from.
    Client,
    /// Each IPv4 address that clients come from, and each IPv6 network of 64 bits.
    Address,
    /// Each user that access control knows.
    User,
    /// Each consumer group.
    Group,
    /// Each topic.
    Topic,
    /// Each address that the proxy listens on.
    Entry,
    /// All requests together.
    Proxy,
}

/// What becomes of a request that exceeds a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnExcess {
    /// It is refused, and told how long to wait.
    #[default]
    Refuse,
    /// It waits for its turn.
    Delay,
}

/// What is limited per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rate {
    Requests,
    SendMessages,
    SendBytes,
    ReceiveMessages,
    ReceiveBytes,
}

/// What is limited at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gauge {
    LongPolls,
    InFlight,
}

impl Quota {
    const MAX_NAME: usize = 64;
    const MAX_TIME: Duration = Duration::from_secs(60);

    /// A quota without limits.
    #[must_use]
    pub fn new(name: String, per: Per) -> Self {
        Self {
            name,
            per,
            client: None,
            user: None,
            group: None,
            topic: None,
            entry: None,
            requests_per_second: None,
            send_messages_per_second: None,
            send_bytes_per_second: None,
            receive_messages_per_second: None,
            receive_bytes_per_second: None,
            long_polls: None,
            requests_in_flight: None,
            message_bytes: None,
            burst: one_second(),
            on_excess: OnExcess::default(),
            max_delay: one_second(),
        }
    }

    /// Whether it depends on who the user is.
    pub(super) fn needs_users(&self) -> bool {
        self.per == Per::User || self.user.is_some()
    }

    /// Checks what the types do not say.
    ///
    /// # Errors
    /// What is wrong, in a sentence without the quota's name.
    pub(super) fn check(&self) -> Result<(), String> {
        let named = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
        if self.name.is_empty() || self.name.len() > Self::MAX_NAME || !self.name.chars().all(named) {
            return Err(format!(
                "its name must have 1 to {} letters, digits, dashes, dots and underscores",
                Self::MAX_NAME
            ));
        }
        let has_rate = Rate::ALL.iter().any(|rate| self.rate(*rate).is_some());
        let has_size = self.message_bytes.is_some();
        if !has_rate && !has_size && Gauge::ALL.iter().all(|gauge| self.gauge(*gauge).is_none()) {
            return Err("it limits nothing; give it a limit such as send_messages_per_second".to_owned());
        }
        for (name, time) in [("burst", self.burst), ("max_delay", self.max_delay)] {
            if time.is_zero() || time > Self::MAX_TIME {
                return Err(format!("{name} must be above 0 and at most {:?}", Self::MAX_TIME));
            }
        }
        Ok(())
    }

    pub(super) fn rate(&self, rate: Rate) -> Option<NonZeroU64> {
        match rate {
            Rate::Requests => self.requests_per_second,
            Rate::SendMessages => self.send_messages_per_second,
            Rate::SendBytes => self.send_bytes_per_second,
            Rate::ReceiveMessages => self.receive_messages_per_second,
            Rate::ReceiveBytes => self.receive_bytes_per_second,
        }
    }

    pub(super) fn gauge(&self, gauge: Gauge) -> Option<NonZeroU32> {
        match gauge {
            Gauge::LongPolls => self.long_polls,
            Gauge::InFlight => self.requests_in_flight,
        }
    }
}

impl Rate {
    pub(super) const ALL: [Self; 5] =
        [Self::Requests, Self::SendMessages, Self::SendBytes, Self::ReceiveMessages, Self::ReceiveBytes];

    /// What it counts, for people.
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::SendMessages => "sent messages",
            Self::SendBytes => "sent bytes",
            Self::ReceiveMessages => "received messages",
            Self::ReceiveBytes => "received bytes",
        }
    }
}

impl Gauge {
    pub(super) const ALL: [Self; 2] = [Self::LongPolls, Self::InFlight];

    /// What it counts, for people.
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::LongPolls => "waiting receives",
            Self::InFlight => "requests at a time",
        }
    }
}

impl Per {
    /// For people, behind an amount.
    pub(super) fn phrase(self) -> &'static str {
        match self {
            Self::Client => "for each client",
            Self::Address => "for each address",
            Self::User => "for each user",
            Self::Group => "for each group",
            Self::Topic => "for each topic",
            Self::Entry => "for each entry",
            Self::Proxy => "for all requests together",
        }
    }
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}
