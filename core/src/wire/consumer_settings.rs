//! Reads the server's settings for a consumer: how it receives, and when a failed message is delivered again.

use std::time::Duration;

use rocketmq_thin_proto::v2::{self, retry_policy::Strategy};

/// The server's settings for a consumer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConsumerSettings {
    /// Whether the group is ordered.
    pub(crate) fifo: bool,
    /// How many messages one poll of a push consumer may request.
    pub(crate) receive_batch_size: u32,
    /// How long one poll of a push consumer waits.
    pub(crate) long_polling_timeout: Duration,
    /// When a failed message is delivered again.
    pub(crate) redelivery: Redelivery,
    /// How many lite topics a consumer may subscribe to; `None` if the server sets no limit.
    pub(crate) lite_quota: Option<usize>,
    /// The maximum length of the name of a lite topic, in bytes; `None` if the server sets no limit.
    pub(crate) max_lite_topic_size: Option<usize>,
}

impl Default for ConsumerSettings {
    /// The settings that servers send for a group without a configuration of its own.
    fn default() -> Self {
        Self {
            fifo: false,
            receive_batch_size: 32,
            long_polling_timeout: Duration::from_secs(20),
            redelivery: Redelivery::default(),
            lite_quota: None,
            max_lite_topic_size: None,
        }
    }
}

/// How often a message is delivered, and how long it waits after each failure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Redelivery {
    /// The maximum number of deliveries, including the first.
    pub(crate) max_attempts: u32,
    backoff: Backoff,
}

#[derive(Clone, Debug, PartialEq)]
enum Backoff {
    Exponential {
        initial: Duration,
        max: Duration,
        multiplier: f64,
    },
    /// One pause for each failure. The last one applies to all further failures.
    Customized(Vec<Duration>),
}

impl Redelivery {
    /// How long to wait after the delivery number `attempt` of a message has failed. The first delivery is number 1.
    pub(crate) fn delay(&self, attempt: u32) -> Duration {
        let failures_before = attempt.saturating_sub(1);
        match &self.backoff {
            Backoff::Exponential { initial, max, multiplier } => {
                let factor = multiplier.powi(i32::try_from(failures_before).unwrap_or(i32::MAX));
                let delay = Duration::try_from_secs_f64(initial.as_secs_f64() * factor);
                delay.unwrap_or(*max).min(*max)
            }
            Backoff::Customized(pauses) => {
                let at = usize::try_from(failures_before).unwrap_or(usize::MAX);
                pauses.get(at).or(pauses.last()).copied().unwrap_or_default()
            }
        }
    }
}

impl Default for Redelivery {
    /// The retry policy of a group without a configuration of its own.
    fn default() -> Self {
        const PAUSES: [u64; 18] =
            [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
        let pauses = PAUSES.into_iter().map(Duration::from_secs).collect();
        Self { max_attempts: 17, backoff: Backoff::Customized(pauses) }
    }
}

/// Returns the part of the server's settings that consumers use. Missing and invalid values get their defaults.
pub(super) fn process(policy: Option<&v2::RetryPolicy>, subscription: &v2::Subscription) -> ConsumerSettings {
    let default = ConsumerSettings::default();
    let positive = |number: i32| u32::try_from(number).ok().filter(|number| *number > 0);
    let limit = |number: i32| usize::try_from(number).ok().filter(|number| *number > 0);
    ConsumerSettings {
        fifo: subscription.fifo.unwrap_or(default.fifo),
        receive_batch_size: subscription
            .receive_batch_size
            .and_then(positive)
            .unwrap_or(default.receive_batch_size),
        long_polling_timeout: subscription
            .long_polling_timeout
            .as_ref()
            .and_then(duration)
            .filter(|timeout| !timeout.is_zero())
            .unwrap_or(default.long_polling_timeout),
        redelivery: Redelivery {
            max_attempts: policy
                .and_then(|policy| positive(policy.max_attempts))
                .unwrap_or(default.redelivery.max_attempts),
            backoff: policy.and_then(backoff).unwrap_or(default.redelivery.backoff),
        },
        lite_quota: subscription.lite_subscription_quota.and_then(limit),
        max_lite_topic_size: subscription.max_lite_topic_size.and_then(limit),
    }
}

fn backoff(policy: &v2::RetryPolicy) -> Option<Backoff> {
    match policy.strategy.as_ref()? {
        Strategy::ExponentialBackoff(backoff) => {
            let (initial, max) = (duration(backoff.initial.as_ref()?)?, duration(backoff.max.as_ref()?)?);
            let multiplier = f64::from(backoff.multiplier);
            (multiplier >= 1.0).then_some(Backoff::Exponential { initial, max, multiplier })
        }
        Strategy::CustomizedBackoff(backoff) => {
            let pauses: Option<Vec<_>> = backoff.next.iter().map(duration).collect();
            pauses.filter(|pauses| !pauses.is_empty()).map(Backoff::Customized)
        }
    }
}

/// Converts a duration; `None` if it is negative.
fn duration(duration: &prost_types::Duration) -> Option<Duration> {
    Duration::try_from(*duration).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64) -> prost_types::Duration {
        prost_types::Duration { seconds, nanos: 0 }
    }

    fn redelivery(max_attempts: i32, strategy: Strategy) -> Redelivery {
        let policy = v2::RetryPolicy { max_attempts, strategy: Some(strategy) };
        process(Some(&policy), &v2::Subscription::default()).redelivery
    }

    fn exponential(initial: i64, max: i64, multiplier: f32) -> Strategy {
        let (initial, max) = (Some(seconds(initial)), Some(seconds(max)));
        Strategy::ExponentialBackoff(v2::ExponentialBackoff { initial, max, multiplier })
    }

    #[test]
    fn pauses_grow_by_the_factor_up_to_the_maximum() {
        let policy = redelivery(5, exponential(5, 60, 2.0));
        let delays = [0, 1, 2, 3, 5, u32::MAX].map(|attempt| policy.delay(attempt).as_secs());
        assert_eq!((policy.max_attempts, delays), (5, [5, 5, 10, 20, 60, 60]));
    }

    #[test]
    fn customized_pauses_are_used_one_by_one_and_the_last_repeats() {
        let next = vec![seconds(1), seconds(5)];
        let policy = redelivery(3, Strategy::CustomizedBackoff(v2::CustomizedBackoff { next }));
        assert_eq!([1, 2, 3, 9].map(|attempt| policy.delay(attempt).as_secs()), [1, 5, 5, 5]);
    }

    #[test]
    fn missing_and_invalid_settings_have_defaults() {
        let default = ConsumerSettings::default();
        assert_eq!(process(None, &v2::Subscription::default()), default);
        let nonsense = v2::Subscription {
            receive_batch_size: Some(-1),
            long_polling_timeout: Some(seconds(-3)),
            ..Default::default()
        };
        assert_eq!(process(None, &nonsense), default);
        for strategy in [
            exponential(-1, 2, 2.0),
            exponential(1, 2, f32::NAN),
            Strategy::CustomizedBackoff(v2::CustomizedBackoff::default()),
            Strategy::CustomizedBackoff(v2::CustomizedBackoff { next: vec![seconds(-1)] }),
        ] {
            assert_eq!(redelivery(0, strategy), default.redelivery);
        }
    }

    #[test]
    fn settings_of_the_server_are_used() {
        let subscription = v2::Subscription {
            fifo: Some(true),
            receive_batch_size: Some(7),
            long_polling_timeout: Some(seconds(9)),
            ..Default::default()
        };
        let settings = process(None, &subscription);
        assert_eq!((settings.fifo, settings.receive_batch_size), (true, 7));
        assert_eq!(settings.long_polling_timeout.as_secs(), 9);
    }
}
