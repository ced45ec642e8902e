//! Requests of administrators that create, change, list and delete topics and groups.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, try_join_all};

use super::cluster_router::ClusterRouter;
use super::validate;
use crate::duration;
use crate::error::Error;
use crate::service::{
    Change, GroupConfig, GroupUpdate, Metadata, RetryPolicy, ServiceError, ServiceErrorKind, TopicConfig,
    TopicKind, TopicUpdate,
};

/// Creates topics and groups. See [`super::Processor::apply`].
pub(super) async fn apply(
    clusters: &ClusterRouter,
    topics: Vec<TopicConfig>,
    groups: Vec<GroupConfig>,
    replace: bool,
) -> Result<(), Error> {
    for topic in &topics {
        validate::topic(&topic.name)?;
        check_topic(topic)?;
    }
    groups.iter().try_for_each(|group| validate::group(&group.name))?;
    groups.iter().try_for_each(check_retry)?;
    let created = topics.into_iter().map(|topic| {
        let services = clusters.services_of(&topic.name);
        services.metadata.create_topic(topic, replace)
    });
    let mut created = join_all(created).await;
    // Groups may consume from any cluster.
    let groups = clusters.all().map(|cluster| create_groups(&*cluster.services.metadata, &groups, replace));
    created.extend(join_all(groups).await.concat());
    first_failure(created)
}

/// Changes the named settings of a topic.
pub(super) async fn update_topic(clusters: &ClusterRouter, update: TopicUpdate) -> Result<(), Error> {
    let name = update.values.name.clone();
    let change = move |present: &TopicConfig| {
        let changed = update.apply_to(present);
        check_topic(&changed).map(|()| changed)
    };
    Ok(clusters.services_of(&name).metadata.change_topic(&name, Arc::new(change)).await?)
}

/// Changes the named settings of a group, in every cluster that has the group.
pub(super) async fn update_group(clusters: &ClusterRouter, update: GroupUpdate) -> Result<(), Error> {
    let name = update.values.name.clone();
    let change: Change<GroupConfig> = Arc::new(move |present| {
        let changed = update.apply_to(present);
        check_retry(&changed).map(|()| changed)
    });
    let changed = clusters.all().map(|cluster| cluster.services.metadata.change_group(&name, change.clone()));
    ignore_absent(join_all(changed).await)
}

fn check_topic(topic: &TopicConfig) -> Result<(), ServiceError> {
    if topic.read_queues < 0 || topic.write_queues < 0 {
        return Err(rejected(format!("topic {} can't have a negative number of queues", topic.name)));
    }
    if topic.read_queues == 0 && topic.write_queues == 0 {
        return Err(rejected(format!("topic {} needs at least one queue", topic.name)));
    }
    if let Some(retention) = topic.retention {
        check_duration(retention, format_args!("the retention of topic {}", topic.name))?;
    }
    check_lite_expiration(topic)
}

fn rejected(message: String) -> ServiceError {
    ServiceError::new(ServiceErrorKind::Rejected, message)
}

fn check_retry(group: &GroupConfig) -> Result<(), ServiceError> {
    const MAX_PAUSES: usize = 100;
    let refuse = |reason: String| Err(rejected(format!("the retry policy of group {} {reason}", group.name)));
    match &group.retry {
        RetryPolicy::Customized(pauses) if pauses.len() > MAX_PAUSES => {
            refuse(format!("has more than {MAX_PAUSES} pauses"))
        }
        RetryPolicy::Customized(pauses) => {
            let problem = pauses.iter().find_map(|pause| duration::check(*pause));
            problem.map_or(Ok(()), |problem| refuse(format!("has a pause that {problem}")))
        }
        RetryPolicy::Exponential { multiplier, .. } if !multiplier.is_finite() || *multiplier < 1.0 => {
            refuse(format!("needs a multiplier of 1 or more, not {multiplier}"))
        }
        RetryPolicy::Exponential { initial, max, .. } if initial > max => {
            refuse("has an initial pause that is longer than the maximum".to_owned())
        }
        RetryPolicy::Exponential { max, .. } => {
            let problem = duration::check(*max);
            problem.map_or(Ok(()), |problem| refuse(format!("has a maximum that {problem}")))
        }
    }
}

fn check_lite_expiration(topic: &TopicConfig) -> Result<(), ServiceError> {
    let refuse = |message: String| Err(rejected(message));
    let Some(expiration) = topic.lite_expiration else { return Ok(()) };
    if topic.kind != TopicKind::Lite {
        return refuse(format!(
            "topic {} can't have an expiration of lite topics: its type is not lite",
            topic.name
        ));
    }
    check_duration(expiration, format_args!("the expiration of lite topics of topic {}", topic.name))
}

/// Refuses how long something is kept if it is zero, or so long that times would overflow.
fn check_duration(duration: Duration, name: fmt::Arguments<'_>) -> Result<(), ServiceError> {
    if duration.is_zero() {
        return Err(rejected(format!("{name} must be longer than zero")));
    }
    duration::check(duration).map_or(Ok(()), |problem| Err(rejected(format!("{name} {problem}"))))
}

/// All topics of all clusters that clients can use, sorted by name.
pub(super) async fn topics(clusters: &ClusterRouter) -> Result<Vec<TopicConfig>, Error> {
    let listed = try_join_all(clusters.all().map(|cluster| cluster.services.metadata.topics()));
    let mut topics = listed.await?.concat();
    topics.retain(|topic| validate::topic(&topic.name).is_ok());
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(topics)
}

/// All groups of all clusters, sorted by name. A group that exists in several clusters occurs once.
pub(super) async fn groups(clusters: &ClusterRouter) -> Result<Vec<GroupConfig>, Error> {
    let listed = try_join_all(clusters.all().map(|cluster| cluster.services.metadata.groups()));
    let mut groups = listed.await?.concat();
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    groups.dedup_by(|a, b| a.name == b.name);
    Ok(groups)
}

pub(super) async fn delete_topic(clusters: &ClusterRouter, name: &str) -> Result<(), Error> {
    Ok(clusters.services_of(name).metadata.delete_topic(name).await?)
}

pub(super) async fn delete_group(clusters: &ClusterRouter, name: &str) -> Result<(), Error> {
    let deleted = clusters.all().map(|cluster| cluster.services.metadata.delete_group(name));
    ignore_absent(join_all(deleted).await)
}

/// The result of an operation on a group in every cluster. Fails with `GroupNotFound` only if no cluster has the group.
fn ignore_absent(results: Vec<Result<(), ServiceError>>) -> Result<(), Error> {
    let is_absent = |error: &ServiceError| error.kind == ServiceErrorKind::GroupNotFound;
    if results.iter().any(Result::is_ok) {
        let failed = results.into_iter().filter_map(Result::err).find(|error| !is_absent(error));
        return failed.map_or(Ok(()), |error| Err(error.into()));
    }
    Ok(results.into_iter().collect::<Result<(), _>>()?)
}

/// Creates groups in a cluster. Lists the existing groups once, because declarations are applied again and again while
/// another cluster is down.
async fn create_groups(
    metadata: &dyn Metadata,
    groups: &[GroupConfig],
    replace: bool,
) -> Vec<Result<(), ServiceError>> {
    let listed = if replace || groups.is_empty() { Ok(Vec::new()) } else { metadata.groups().await };
    let existing = match &listed {
        Ok(existing) => existing,
        Err(error) => return vec![Err(error.clone())],
    };
    join_all(groups.iter().map(|group| async move {
        if existing.iter().any(|existing| existing.name == group.name) {
            let message = format!("group {} already exists", group.name);
            return Err(ServiceError::new(ServiceErrorKind::AlreadyExists, message));
        }
        metadata.create_group(group.clone(), replace).await
    }))
    .await
}

/// The first failure. Returns `AlreadyExists` only if there is no other failure, so that a caller may ignore it.
fn first_failure(results: Vec<Result<(), ServiceError>>) -> Result<(), Error> {
    let mut exists = None;
    for error in results.into_iter().filter_map(Result::err) {
        if error.kind != ServiceErrorKind::AlreadyExists {
            return Err(error.into());
        }
        exists.get_or_insert(error);
    }
    exists.map_or(Ok(()), |error| Err(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_that_could_overflow_times_are_refused() {
        let topic = |retention, lite_expiration| TopicConfig {
            retention,
            lite_expiration,
            ..TopicConfig::new("t", TopicKind::Lite, 1)
        };
        let retried = |retry| GroupConfig { retry, ..GroupConfig::named("g") };
        let growing = |max| RetryPolicy::Exponential { initial: Duration::ZERO, max, multiplier: 2.0 };
        let refused = |length: Duration| {
            [
                check_topic(&topic(Some(length), None)),
                check_topic(&topic(None, Some(length))),
                check_retry(&retried(RetryPolicy::Customized(vec![length]))),
                check_retry(&retried(growing(length))),
            ]
            .map(|checked| checked.is_err())
        };
        assert_eq!(refused(duration::LONGEST), [false; 4]);
        assert_eq!(refused(duration::LONGEST + Duration::from_millis(1)), [true; 4]);
        assert_eq!(refused(Duration::MAX), [true; 4]);
    }
}
