//! The administrator's requests: topics and groups.

use futures::future::{join_all, try_join_all};

use super::administration::services_of;
use super::cluster_router::ClusterRouter;
use super::validate;
use crate::error::{Error, ErrorKind};
use crate::service::{
    GroupConfig, Metadata, RetryPolicy, ServiceError, ServiceErrorKind, TopicConfig, TopicKind,
};

pub(super) async fn apply(
    clusters: &ClusterRouter,
    topics: Vec<TopicConfig>,
    groups: Vec<GroupConfig>,
    replace: bool,
) -> Result<(), Error> {
    for topic in &topics {
        validate::topic(&topic.name)?;
        if topic.read_queues < 0 || topic.write_queues < 0 {
            let message = format!("topic {} can't have a negative number of queues", topic.name);
            return Err(Error::new(ErrorKind::BadRequest, message));
        }
        check_lite_expiration(topic)?;
    }
    groups.iter().try_for_each(|group| validate::group(&group.name))?;
    groups.iter().try_for_each(check_retry)?;
    let created = topics.into_iter().map(|topic| {
        let services = services_of(clusters, &topic.name);
        services.metadata.create_topic(topic, replace)
    });
    let mut created = join_all(created).await;
    // Groups may consume from any cluster.
    let groups = clusters.all().map(|cluster| create_groups(&*cluster.services.metadata, &groups, replace));
    created.extend(join_all(groups).await.concat());
    first_failure(created)
}

fn check_retry(group: &GroupConfig) -> Result<(), Error> {
    const MOST_PAUSES: usize = 100;
    let refuse = |reason: String| {
        let message = format!("the retry policy of group {} {reason}", group.name);
        Err(Error::new(ErrorKind::BadRequest, message))
    };
    match &group.retry {
        RetryPolicy::Customized(pauses) if pauses.len() > MOST_PAUSES => {
            refuse(format!("has more than {MOST_PAUSES} pauses"))
        }
        RetryPolicy::Exponential { multiplier, .. } if !multiplier.is_finite() || *multiplier < 1.0 => {
            refuse(format!("needs a multiplier of 1 or more, not {multiplier}"))
        }
        RetryPolicy::Exponential { initial, max, .. } if initial > max => {
            refuse("has a first pause that is longer than the longest".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_lite_expiration(topic: &TopicConfig) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::new(ErrorKind::BadRequest, message));
    let Some(expiration) = topic.lite_expiration else { return Ok(()) };
    if topic.kind != TopicKind::Lite {
        return refuse(format!(
            "topic {} has no lite topics that could expire: its type is not lite",
            topic.name
        ));
    }
    if expiration.is_zero() {
        return refuse(format!("the lite topics of topic {} can't expire at once", topic.name));
    }
    Ok(())
}

pub(super) async fn topics(clusters: &ClusterRouter) -> Result<Vec<TopicConfig>, Error> {
    let listed = try_join_all(clusters.all().map(|cluster| cluster.services.metadata.topics()));
    let mut topics = listed.await?.concat();
    topics.retain(|topic| validate::topic(&topic.name).is_ok());
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(topics)
}

pub(super) async fn groups(clusters: &ClusterRouter) -> Result<Vec<GroupConfig>, Error> {
    let listed = try_join_all(clusters.all().map(|cluster| cluster.services.metadata.groups()));
    let mut groups = listed.await?.concat();
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    groups.dedup_by(|a, b| a.name == b.name);
    Ok(groups)
}

pub(super) async fn delete_topic(clusters: &ClusterRouter, name: &str) -> Result<(), Error> {
    Ok(services_of(clusters, name).metadata.delete_topic(name).await?)
}

pub(super) async fn delete_group(clusters: &ClusterRouter, name: &str) -> Result<(), Error> {
    let deleted = join_all(clusters.all().map(|cluster| cluster.services.metadata.delete_group(name))).await;
    let absent = |error: &ServiceError| error.kind == ServiceErrorKind::GroupNotFound;
    if deleted.iter().any(Result::is_ok) {
        let failed = deleted.into_iter().filter_map(Result::err).find(|error| !absent(error));
        return failed.map_or(Ok(()), |error| Err(error.into()));
    }
    Ok(deleted.into_iter().collect::<Result<(), _>>()?)
}

/// Creates a cluster's groups. One list says which exist already: declarations are repeated while another cluster is
/// down.
async fn create_groups(
    metadata: &dyn Metadata,
    groups: &[GroupConfig],
    replace: bool,
) -> Vec<Result<(), ServiceError>> {
    let listed = if replace || groups.is_empty() { Ok(Vec::new()) } else { metadata.groups().await };
    let known = match &listed {
        Ok(known) => known,
        Err(error) => return vec![Err(error.clone())],
    };
    join_all(groups.iter().map(|group| async move {
        if known.iter().any(|known| known.name == group.name) {
            let message = format!("group {} already exists", group.name);
            return Err(ServiceError::new(ServiceErrorKind::AlreadyExists, message));
        }
        metadata.create_group(group.clone(), replace).await
    }))
    .await
}

/// The first failure. `AlreadyExists` only if nothing else failed, so that a caller may ignore it.
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
