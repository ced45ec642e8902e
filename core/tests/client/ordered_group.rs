//! The settings of a consumer group, and messages of a message group.

use rocketmq_thin_proto::v2::{self, settings::PubSub};

use crate::server::Answer;

pub(crate) fn of_group(mut message: v2::Message, group: &str) -> v2::Message {
    message.system_properties.as_mut().unwrap().message_group = Some(group.into());
    message
}

/// Settings of a group whose retry policy has these pauses, in milliseconds.
pub(crate) fn group_settings(
    fifo: bool,
    pauses: &[u32],
    max_attempts: i32,
) -> Answer<v2::Settings, v2::Settings> {
    let next = pauses.iter().map(|millis| prost_types::Duration {
        seconds: i64::from(millis / 1000),
        nanos: (millis % 1000 * 1_000_000) as i32,
    });
    let strategy = v2::CustomizedBackoff { next: next.collect() };
    Box::new(move |settings, _| {
        let mut settings = settings.clone();
        let Some(PubSub::Subscription(subscription)) = &mut settings.pub_sub else { panic!("no consumer") };
        subscription.fifo = Some(fifo);
        let strategy = Some(v2::retry_policy::Strategy::CustomizedBackoff(strategy.clone()));
        settings.backoff_policy = Some(v2::RetryPolicy { max_attempts, strategy });
        settings
    })
}
