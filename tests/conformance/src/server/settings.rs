//! What a healthy proxy answers to a client's settings.

use prost_types::Duration;
use rocketmq_thin_proto::v2::{
    CustomizedBackoff, ExponentialBackoff, Metric, RetryPolicy, Settings, retry_policy::Strategy,
    settings::PubSub,
};

/// The client's own settings with the server's part filled in.
pub(super) fn filled_in(mut settings: Settings) -> Settings {
    settings.metric = Some(Metric { on: false, endpoints: None });
    settings.backoff_policy = Some(match &mut settings.pub_sub {
        Some(PubSub::Subscription(subscription)) => {
            subscription.fifo = Some(false);
            subscription.receive_batch_size = Some(32);
            subscription.long_polling_timeout = Some(seconds(20));
            subscription.lite_subscription_quota = Some(1000);
            subscription.max_lite_topic_size = Some(64);
            let next = [1, 5, 10, 30].map(seconds).to_vec();
            RetryPolicy {
                max_attempts: 17,
                strategy: Some(Strategy::CustomizedBackoff(CustomizedBackoff { next })),
            }
        }
        publishing => {
            if let Some(PubSub::Publishing(publishing)) = publishing {
                publishing.max_body_size = 4 * 1024 * 1024;
                publishing.validate_message_type = true;
            }
            let backoff = ExponentialBackoff {
                initial: Some(Duration { seconds: 0, nanos: 10_000_000 }),
                max: Some(seconds(1)),
                multiplier: 2.0,
            };
            RetryPolicy { max_attempts: 3, strategy: Some(Strategy::ExponentialBackoff(backoff)) }
        }
    });
    settings
}

const fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}
