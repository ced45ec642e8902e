//! What a consumer group allows: whether it may consume, by which clients, and how often a message is delivered.

use std::time::Duration;

use super::ClientKind;
use crate::error::{Error, ErrorKind};
use crate::service::{GroupConfig, RetryPolicy, ServiceErrorKind, Services};

/// The configuration of a group that may consume. This is the one place that decides about it: brokers may refuse such a
/// group by themselves, and need not.
///
/// # Errors
/// `GroupNotFound`, `Forbidden` if consuming is switched off, or the backend's failure.
pub(super) async fn consuming(services: &Services, name: &str) -> Result<GroupConfig, Error> {
    let group = services.metadata.group(name).await?;
    if group.consume {
        return Ok(group);
    }
    Err(Error::new(ErrorKind::Forbidden, format!("subscription group no permission, {name}")))
}

/// The configuration of a group that a client names in its settings or its heartbeat.
///
/// # Errors
/// `IllegalGroup` if it does not exist or is for other kinds of clients, or the backend's failure.
pub(super) async fn for_client(
    services: &Services,
    kind: ClientKind,
    name: &str,
) -> Result<GroupConfig, Error> {
    let refuse = |message: String| Err(Error::new(ErrorKind::IllegalGroup, message));
    let config = existing(services, name).await?;
    match (kind.consumes_lite(), config.lite_bind_topic.is_some()) {
        (true, false) => refuse(format!("regular group cannot use LITE mode: {name}")),
        (false, true) => refuse(format!("lite group must use LITE mode: {name}")),
        _ => Ok(config),
    }
}

/// A group's configuration.
///
/// # Errors
/// `IllegalGroup` if it does not exist, or the backend's failure.
pub(super) async fn existing(services: &Services, name: &str) -> Result<GroupConfig, Error> {
    services.metadata.group(name).await.map_err(|error| match error.kind {
        ServiceErrorKind::GroupNotFound => {
            Error::new(ErrorKind::IllegalGroup, format!("group not found: {name}"))
        }
        _ => error.into(),
    })
}

/// The refusal of a topic that a lite group is not bound to.
pub(super) fn bound_elsewhere(config: &GroupConfig, topic: &str) -> Error {
    let GroupConfig { name, lite_bind_topic, .. } = config;
    let bound = lite_bind_topic.as_deref().unwrap_or("null");
    let message = format!("lite group {name} is expected to bind topic {bound}, but actual is {topic}");
    Error::new(ErrorKind::IllegalTopic, message)
}

/// The pause that a retry policy asks for between this attempt and the next.
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
