//! The administrator's requests: topics and groups.

use super::{Processor, validate};
use crate::error::{Error, ErrorKind};
use crate::service::{GroupConfig, ServiceError, ServiceErrorKind, TopicConfig};

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
        let metadata = &self.services.metadata;
        let created = topics.into_iter().map(|topic| metadata.create_topic(topic, replace));
        let mut created = futures::future::join_all(created).await;
        let groups = groups.into_iter().map(|group| metadata.create_group(group, replace));
        created.extend(futures::future::join_all(groups).await);
        all(created)
    }

    /// All topics, by name.
    ///
    /// # Errors
    /// The backend's failure.
    pub async fn topics(&self) -> Result<Vec<TopicConfig>, Error> {
        Ok(self.services.metadata.topics().await?)
    }

    /// All groups, by name.
    ///
    /// # Errors
    /// The backend's failure.
    pub async fn groups(&self) -> Result<Vec<GroupConfig>, Error> {
        Ok(self.services.metadata.groups().await?)
    }

    /// Deletes a topic and its messages.
    ///
    /// # Errors
    /// `TopicNotFound`, or the backend's failure.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        Ok(self.services.metadata.delete_topic(name).await?)
    }

    /// Deletes a group and its progress.
    ///
    /// # Errors
    /// `GroupNotFound`, or the backend's failure.
    pub async fn delete_group(&self, name: &str) -> Result<(), Error> {
        Ok(self.services.metadata.delete_group(name).await?)
    }
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
