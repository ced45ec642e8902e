//! The rules of a consumer group: whether it may consume, which clients may use it, and the pauses between deliveries.

use std::time::Duration;

use super::ClientKind;
use crate::error::{Error, ErrorKind};
use crate::service::{GroupConfig, RetryPolicy, ServiceErrorKind, Services};

/// Loads the configuration of a group that is about to consume. This is the only check that it may: brokers may refuse the
/// group by themselves, but need not.
///
/// # Errors
/// `GroupNotFound`, `Forbidden` if the group must not consume, or the backend's failure.
pub(super) async fn load_for_consuming(services: &Services, name: &str) -> Result<GroupConfig, Error> {
    let group = services.metadata.group(name).await?;
    if group.consume {
        return Ok(group);
    }
    Err(Error::new(ErrorKind::Forbidden, format!("subscription group no permission, {name}")))
}

/// Loads the configuration of a group that a client names in its settings or heartbeat.
///
/// # Errors
/// `IllegalGroup` if the group does not exist or is for clients of another type, or the backend's failure.
pub(super) async fn load_for_client(
    services: &Services,
    kind: ClientKind,
    name: &str,
) -> Result<GroupConfig, Error> {
    let refuse = |message: String| Err(Error::new(ErrorKind::IllegalGroup, message));
    let config = load(services, name).await?;
    match (kind.consumes_lite(), config.lite_bind_topic.is_some()) {
        (true, false) => refuse(format!("regular group cannot use LITE mode: {name}")),
        (false, true) => refuse(format!("lite group must use LITE mode: {name}")),
        _ => Ok(config),
    }
}

/// Loads a group's configuration.
///
/// # Errors
/// `IllegalGroup` if the group does not exist, or the backend's failure.
pub(super) async fn load(services: &Services, name: &str) -> Result<GroupConfig, Error> {
    services.metadata.group(name).await.map_err(|error| match error.kind {
        ServiceErrorKind::GroupNotFound => {
            Error::new(ErrorKind::IllegalGroup, format!("group not found: {name}"))
        }
        _ => error.into(),
    })
}

/// The error for a topic to which a lite group is not bound.
pub(super) fn bound_to_other_topic(config: &GroupConfig, topic: &str) -> Error {
    let GroupConfig { name, lite_bind_topic, .. } = config;
    let bound = lite_bind_topic.as_deref().unwrap_or("null");
    let message = format!("lite group {name} is expected to bind topic {bound}, but actual is {topic}");
    Error::new(ErrorKind::IllegalTopic, message)
}

/// The pause of a retry policy between this attempt and the next one.
pub(super) fn pause_after(retry: &RetryPolicy, attempt: i32) -> Duration {
    let retries = u32::try_from(attempt.saturating_sub(1)).unwrap_or_default();
    match retry {
        RetryPolicy::Customized(pauses) => {
            let last = pauses.len().saturating_sub(1);
            let index = usize::try_from(retries).unwrap_or(usize::MAX).min(last);
            pauses.get(index).copied().unwrap_or_default()
        }
        RetryPolicy::Exponential { initial, max, multiplier } => {
            let factor = f64::from(*multiplier).powf(f64::from(retries));
            Duration::try_from_secs_f64(initial.as_secs_f64() * factor).map_or(*max, |pause| pause.min(*max))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_follow_the_groups_policy() {
        let secs = Duration::from_secs;
        let table = RetryPolicy::Customized(vec![secs(1), secs(5), secs(10)]);
        let growing = RetryPolicy::Exponential { initial: secs(5), max: secs(30), multiplier: 2.0 };
        for (attempt, from_table, grown) in [(1, 1, 5), (2, 5, 10), (3, 10, 20), (4, 10, 30), (1000, 10, 30)]
        {
            assert_eq!(pause_after(&table, attempt), secs(from_table), "{attempt}");
            assert_eq!(pause_after(&growing, attempt), secs(grown), "{attempt}");
        }
    }
}
