//! The administrator's requests: topics and groups.

use futures::future::{join_all, try_join_all};

use super::cluster_router::Origin;
use super::{Processor, validate};
use crate::error::{Error, ErrorKind};
use crate::service::{GroupConfig, Metadata, ServiceError, ServiceErrorKind, Services, TopicConfig};

impl Processor {
    /// Creates topics, then groups. With `replace` those that exist take the new configuration.
    ///
    /// # Errors
    /// A name that can't be, a negative number of queues, `AlreadyExists`, or the backend's failure. The others
    /// are created even so.
    pub async fn apply(
        &self,
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
        }
        groups.iter().try_for_each(|group| validate::group(&group.name))?;
        let created = topics.into_iter().map(|topic| {
            let services = self.administered(&topic.name);
            services.metadata.create_topic(topic, replace)
        });
        let mut created = join_all(created).await;
        // Groups may consume from any cluster.
        let clusters = self.clusters.all();
        let groups = clusters.map(|cluster| create_groups(&*cluster.services.metadata, &groups, replace));
        created.extend(join_all(groups).await.concat());
        all(created)
    }

    /// All topics that clients may name, by name.
    ///
    /// # Errors
    /// The backend's failure.
    pub async fn topics(&self) -> Result<Vec<TopicConfig>, Error> {
        let listed = try_join_all(self.clusters.all().map(|cluster| cluster.services.metadata.topics()));
        let mut topics = listed.await?.concat();
        topics.retain(|topic| validate::topic(&topic.name).is_ok());
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// All groups, by name.
    ///
    /// # Errors
    /// The backend's failure.
    pub async fn groups(&self) -> Result<Vec<GroupConfig>, Error> {
        let listed = try_join_all(self.clusters.all().map(|cluster| cluster.services.metadata.groups()));
        let mut groups = listed.await?.concat();
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        groups.dedup_by(|a, b| a.name == b.name);
        Ok(groups)
    }

    /// Deletes a topic and its messages.
    ///
    /// # Errors
    /// `TopicNotFound`, or the backend's failure.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        Ok(self.administered(name).metadata.delete_topic(name).await?)
    }

    /// Deletes a group and its progress, wherever it is.
    ///
    /// # Errors
    /// `GroupNotFound` if it is nowhere, or the backend's failure.
    pub async fn delete_group(&self, name: &str) -> Result<(), Error> {
        let deleted =
            join_all(self.clusters.all().map(|cluster| cluster.services.metadata.delete_group(name))).await;
        let absent = |error: &ServiceError| error.kind == ServiceErrorKind::GroupNotFound;
        if deleted.iter().any(Result::is_ok) {
            let failed = deleted.into_iter().filter_map(Result::err).find(|error| !absent(error));
            return failed.map_or(Ok(()), |error| Err(error.into()));
        }
        Ok(deleted.into_iter().collect::<Result<(), _>>()?)
    }

    // Where an administrator's topic is: rules that ask for a client don't count.
    fn administered(&self, topic: &str) -> &Services {
        &self.clusters.route(Origin::default(), topic).services
    }
}

/// Creates a cluster's groups. Those that exist are told from one list: declarations come again and again while another
/// cluster is down.
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
            let message = format!("group {} exists already", group.name);
            return Err(ServiceError::new(ServiceErrorKind::AlreadyExists, message));
        }
        metadata.create_group(group.clone(), replace).await
    }))
    .await
}

fn all(results: Vec<Result<(), ServiceError>>) -> Result<(), Error> {
    // What exists already is told apart from what failed, so that a caller may look the other way.
    let mut exists = None;
    for error in results.into_iter().filter_map(Result::err) {
        if error.kind != ServiceErrorKind::AlreadyExists {
            return Err(error.into());
        }
        exists.get_or_insert(error);
    }
    exists.map_or(Ok(()), |error| Err(error.into()))
}
