//! The limits of requests.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of requests. If Apache's proxy has such a limit, its default is the default here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The maximum number of bytes of a message's body, as encoded by the sender.
    pub body_bytes: usize,
    /// The maximum number of user properties of a message.
    pub properties: usize,
    /// The maximum number of UTF-8 bytes of a message's user properties, tag and keys together.
    pub property_bytes: usize,
    /// A message group must have fewer UTF-8 bytes than this.
    pub message_group_bytes: usize,
    /// The maximum number of UTF-8 bytes of a lite topic's name.
    pub lite_topic_bytes: usize,
    /// The longest time between a send and the delivery time of the message.
    #[serde(with = "crate::duration")]
    pub delay: Duration,
    /// The longest time that a half message may set before the first check of its transaction.
    #[serde(with = "crate::duration")]
    pub transaction_recovery: Duration,
    /// The shortest lease that a receive may request.
    #[serde(with = "crate::duration")]
    pub min_invisible: Duration,
    /// The longest lease that a request may set.
    #[serde(with = "crate::duration")]
    pub max_invisible: Duration,
    /// The shortest wait of a receive.
    #[serde(with = "crate::duration")]
    pub min_polling: Duration,
    /// The longest wait of a receive.
    #[serde(with = "crate::duration")]
    pub max_polling: Duration,
    /// The maximum number of messages of one receive.
    pub receive_batch: usize,
    /// The first lease of a delivery whose receive asked the proxy to renew leases (`auto_renew`).
    #[serde(with = "crate::duration")]
    pub renewed_lease: Duration,
    /// A lease under renewal is renewed when less than this time is left.
    #[serde(with = "crate::duration")]
    pub renew_ahead: Duration,
    /// How often the proxy looks for leases to renew.
    #[serde(with = "crate::duration")]
    pub renew_every: Duration,
    /// How long a lease is renewed. After that, an unsettled message is delivered again according to its group's retry
    /// policy.
    #[serde(with = "crate::duration")]
    pub renew_for: Duration,
    /// The timeout of a call to the backend, unless the client's deadline is earlier.
    #[serde(with = "crate::duration")]
    pub call: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 4 << 20,
            properties: 128,
            property_bytes: 16 << 10,
            message_group_bytes: 64,
            lite_topic_bytes: 64,
            delay: Duration::from_secs(24 * 3600),
            transaction_recovery: Duration::from_secs(3600),
            min_invisible: Duration::from_secs(10),
            max_invisible: Duration::from_secs(12 * 3600),
            min_polling: Duration::from_secs(5),
            max_polling: Duration::from_secs(20),
            receive_batch: 32,
            renewed_lease: Duration::from_secs(60),
            renew_ahead: Duration::from_secs(10),
            renew_every: Duration::from_secs(5),
            renew_for: Duration::from_secs(3 * 3600),
            call: Duration::from_secs(3),
        }
    }
}
