//! A quota as an operator configures it: to which requests it applies, and its limits.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits on requests. The quota applies to requests that match all given patterns; in a pattern, `*` matches any
/// characters. A quota has at least one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// The name in refusals and commands.
    pub name: String,
    /// The scope: the limits apply to each client, each user, each topic and so on separately.
    pub per: Per,
    /// Only requests of clients whose id matches. Clients choose their ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Only requests of users whose name matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Only requests with a group whose name matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Only requests with a topic whose name matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Only requests at entries whose name matches; `main` is the proxy's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Requests of any kind per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "http", schema(value_type = Option<u64>, minimum = 1))]
    pub requests_per_second: Option<NonZeroU64>,
    /// Sent messages per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "http", schema(value_type = Option<u64>, minimum = 1))]
    pub send_messages_per_second: Option<NonZeroU64>,
    /// Bytes of their bodies, per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "http", schema(value_type = Option<u64>, minimum = 1))]
    pub send_bytes_per_second: Option<NonZeroU64>,
    /// Delivered messages per second. The messages of a receive are charged afterwards, and delay the next receive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "http", schema(value_type = Option<u64>, minimum = 1))]
    pub receive_messages_per_second: Option<NonZeroU64>,
    /// Bytes of their bodies, per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "http", schema(value_type = Option<u64>, minimum = 1))]
    pub receive_bytes_per_second: Option<NonZeroU64>,
    /// Concurrent receives and pulls, most of which wait for messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "http", schema(value_type = Option<u32>, minimum = 1))]
    pub long_polls: Option<NonZeroU32>,
    /// Other concurrent requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "http", schema(value_type = Option<u32>, minimum = 1))]
    pub requests_in_flight: Option<NonZeroU32>,
    /// The maximum number of bytes of the body of a sent message. Larger ones are refused, regardless of `on_excess`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "http", schema(value_type = Option<u64>, minimum = 1))]
    pub message_bytes: Option<NonZeroU64>,
    /// How much may arrive at once, as the time in which the limits per second allow the same amount.
    #[serde(default = "default_burst", with = "crate::duration")]
    #[cfg_attr(feature = "http", schema(value_type = crate::json_schema::Duration))]
    pub burst: Duration,
    /// What happens to a request that exceeds the quota.
    #[serde(default)]
    pub on_excess: OnExcess,
    /// The longest delay of a request. A request is refused if it would have to wait longer, or for more than half of the time
    /// until its client's timeout.
    #[serde(default = "one_second", with = "crate::duration")]
    #[cfg_attr(feature = "http", schema(value_type = crate::json_schema::Duration))]
    pub max_delay: Duration,
}

/// The scope of a quota: what its limits apply to separately. Except in the scope `client`, clients share the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// Each client: its id together with its address.
    Client,
    /// Each IPv4 address, and each /64 network of IPv6 addresses, of clients.
    Address,
    /// Each user of access control.
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

/// What happens to a request that exceeds a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[cfg_attr(feature = "http", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnExcess {
    /// It is refused, and the answer says how long to wait.
    #[default]
    Refuse,
    /// It is delayed until the quota allows it.
    Delay,
}

/// A quantity that is limited per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rate {
    Requests,
    SendMessages,
    SendBytes,
    ReceiveMessages,
    ReceiveBytes,
}

/// A number of concurrent requests that is limited.
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
            burst: default_burst(),
            on_excess: OnExcess::default(),
            max_delay: one_second(),
        }
    }

    /// Whether the quota needs the user of a request.
    pub(super) fn needs_users(&self) -> bool {
        self.per == Per::User || self.user.is_some()
    }

    /// Checks the constraints that the types do not express.
    ///
    /// # Errors
    /// The problem, as a sentence without the quota's name.
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
            return Err("it limits nothing; set a limit such as send_messages_per_second".to_owned());
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

    /// The unit, for the text of refusals.
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

    /// The unit, for the text of refusals.
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::LongPolls => "waiting receives",
            Self::InFlight => "requests at a time",
        }
    }
}

impl Per {
    /// Says for what an amount is, in the text of a refusal.
    pub(super) fn description(self) -> &'static str {
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

/// So short that a limit holds within 5 % over any 10 s.
fn default_burst() -> Duration {
    Duration::from_millis(400)
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}
