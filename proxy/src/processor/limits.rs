use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a request may ask for. Where Apache's proxy has a default, it is the default here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one message's body, as sent.
    pub body_bytes: usize,
    /// User properties of one message.
    pub properties: usize,
    /// UTF-8 bytes of one message's user properties, tag and keys together.
    pub property_bytes: usize,
    /// UTF-8 bytes of a message group, exclusive: the longest has one byte less.
    pub message_group_bytes: usize,
    /// UTF-8 bytes of a lite topic's name.
    pub lite_topic_bytes: usize,
    /// How far ahead a message may be scheduled.
    #[serde(with = "humantime_serde")]
    pub delay: Duration,
    /// How long a transaction's producer may take before it is asked.
    #[serde(with = "humantime_serde")]
    pub transaction_recovery: Duration,
    /// The shortest lease a receive may ask for.
    #[serde(with = "humantime_serde")]
    pub min_invisible: Duration,
    /// The longest lease.
    #[serde(with = "humantime_serde")]
    pub max_invisible: Duration,
    /// The shortest wait of a receive.
    #[serde(with = "humantime_serde")]
    pub min_polling: Duration,
    /// The longest wait of a receive.
    #[serde(with = "humantime_serde")]
    pub max_polling: Duration,
    /// Messages of one receive.
    pub receive_batch: usize,
    /// The lease of a delivery that the proxy renews on request.
    #[serde(with = "humantime_serde")]
    pub renewed_lease: Duration,
    /// A renewed lease with less time left than this is renewed again.
    #[serde(with = "humantime_serde")]
    pub renew_ahead: Duration,
    /// How often renewed leases are checked.
    #[serde(with = "humantime_serde")]
    pub renew_every: Duration,
    /// How long a lease is renewed. After that, a message that is not settled is delivered again by its group's retry
    /// policy.
    #[serde(with = "humantime_serde")]
    pub renew_for: Duration,
    /// How long a call may take in the backend when the client sets no deadline.
    #[serde(with = "humantime_serde")]
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
