//! Returns routes and brokers, and assigns queues to consumers.

use super::command::Command;
use super::environment::Environment;
use super::validate;
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::layer::{Names, OperationKind};
use crate::service::{BrokerInfo, GroupConfig, Permission, QueueRange, Route, ServiceErrorKind, TopicKind};

/// Returns the route of a topic.
///
/// # Errors
/// `IllegalTopic`, `TopicNotFound`, or the backend's failure.
#[derive(Clone, Debug)]
pub struct RouteCommand {
    /// The topic.
    pub topic: String,
}

/// Returns the route of a topic, broker by broker.
///
/// # Errors
/// As [`RouteCommand`].
#[derive(Clone, Debug)]
pub struct BrokersCommand {
    /// The topic.
    pub topic: String,
}

/// Returns the queues from which a consumer should receive. Every client of a group gets all readable queues, because the
/// broker distributes a queue's messages among its receives.
///
/// # Errors
/// `IllegalTopic`, `IllegalGroup`, `TopicNotFound`, `Forbidden` (no readable queue), or the backend's failure.
#[derive(Clone, Debug)]
pub struct AssignmentCommand {
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
}

/// The queues of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicQueues {
    /// The type of messages that the topic accepts.
    pub kind: TopicKind,
    /// The topic's queues, with one entry per replica.
    pub queues: Vec<QueueRoute>,
}

/// One queue on one replica of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRoute {
    /// The broker's name.
    pub broker: String,
    /// The replica's id. 0 is the master.
    pub replica: i32,
    /// The queue's id.
    pub id: i32,
    /// The operations that are allowed on the queue.
    pub permission: Permission,
}

/// One queue to receive from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueAssignment {
    /// The broker's name.
    pub broker: String,
    /// The queue's id. -1 stands for all queues of the broker.
    pub id: i32,
    /// The operations that are allowed on the queue.
    pub permission: Permission,
}

impl Command for RouteCommand {
    type Answer = TopicQueues;
    const KIND: OperationKind = OperationKind::QueryRoute;

    fn topics(&self) -> &dyn Names {
        &self.topic
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<TopicQueues, Error> {
        let route = BrokersCommand { topic: self.topic }.handle(environment, context).await?;
        Ok(TopicQueues { kind: route.kind, queues: route.queues.iter().flat_map(expand).collect() })
    }
}

impl Command for BrokersCommand {
    type Answer = Route;
    const KIND: OperationKind = OperationKind::QueryRoute;

    fn topics(&self) -> &dyn Names {
        &self.topic
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<Route, Error> {
        let topic = &self.topic;
        validate::topic_of(context, topic)?;
        let route = environment.services(context, topic).routes.route(topic).await;
        route.map_err(|error| Error::on_topic(error, topic))
    }
}

/// Lists the brokers of all clusters, for tools.
///
/// # Errors
/// `NotImplemented`, or the backend's failure.
#[derive(Clone, Copy, Debug)]
pub struct ListBrokersCommand;

impl Command for ListBrokersCommand {
    type Answer = Vec<BrokerInfo>;
    const KIND: OperationKind = OperationKind::QueryRoute;

    fn topics(&self) -> &dyn Names {
        &()
    }

    async fn handle(self, environment: &Environment, _: &Context) -> Result<Vec<BrokerInfo>, Error> {
        let mut brokers = Vec::new();
        for cluster in environment.clusters.all() {
            brokers.extend(cluster.services.routes.brokers().await?);
        }
        Ok(brokers)
    }
}

impl Command for AssignmentCommand {
    type Answer = Vec<QueueAssignment>;
    const KIND: OperationKind = OperationKind::QueryAssignment;

    fn topics(&self) -> &dyn Names {
        &self.topic
    }

    fn groups(&self) -> &dyn Names {
        &self.group
    }

    async fn handle(
        self,
        environment: &Environment,
        context: &Context,
    ) -> Result<Vec<QueueAssignment>, Error> {
        let Self { topic, group } = &self;
        validate::topic(topic)?;
        validate::group(group)?;
        let services = environment.services(context, topic);
        let route = services.routes.route(topic).await.map_err(|error| Error::on_topic(error, topic))?;
        let queue_by_queue = match services.metadata.group(group).await {
            Ok(config) => needs_single_queues(&config),
            Err(error) if error.kind == ServiceErrorKind::GroupNotFound => false,
            Err(error) => return Err(error.into()),
        };
        let readable = route
            .queues
            .iter()
            .filter(|range| range.permission.read && range.read_queues > 0 && range.replicas.contains(&0));
        let assignments: Vec<_> = readable.flat_map(|range| assign(range, queue_by_queue)).collect();
        if assignments.is_empty() {
            return Err(Error::new(ErrorKind::Forbidden, "no readable queue"));
        }
        Ok(assignments)
    }
}

/// Whether a group is assigned each queue, instead of one entry for all queues of a broker.
fn needs_single_queues(config: &GroupConfig) -> bool {
    config.fifo && config.lite_bind_topic.is_none()
}

/// The queues of a range. Ids are consecutive: first come the queues that can only be read, or only be written, and then
/// those that can be read and written.
fn expand(range: &QueueRange) -> Vec<QueueRoute> {
    let Permission { read, write } = range.permission;
    let both = if read && write { range.read_queues.min(range.write_queues) } else { 0 };
    let counts = match (read, write) {
        (false, false) => {
            vec![(range.read_queues.max(range.write_queues).max(1), Permission { read: false, write: false })]
        }
        _ => vec![
            (if read { range.read_queues - both } else { 0 }, Permission { read: true, write: false }),
            (if write { range.write_queues - both } else { 0 }, Permission { read: false, write: true }),
            (both, Permission { read: true, write: true }),
        ],
    };
    let permissions: Vec<_> =
        counts.into_iter().flat_map(|(count, permission)| (0..count).map(move |_| permission)).collect();
    let queue = |replica: i32, (id, permission): (i32, &Permission)| QueueRoute {
        broker: range.broker.clone(),
        replica,
        id,
        permission: *permission,
    };
    let queues = |replica: &i32| {
        let replica = *replica;
        (0..).zip(&permissions).map(move |next| queue(replica, next)).collect::<Vec<_>>()
    };
    range.replicas.iter().flat_map(queues).collect()
}

fn assign(range: &QueueRange, queue_by_queue: bool) -> Vec<QueueAssignment> {
    let ids = if queue_by_queue { 0..range.read_queues } else { -1..0 };
    ids.map(|id| QueueAssignment { broker: range.broker.clone(), id, permission: range.permission }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(read_queues: i32, write_queues: i32, permission: Permission) -> QueueRange {
        let (broker, cluster) = ("b".to_owned(), "c".to_owned());
        QueueRange { broker, cluster, replicas: vec![0], read_queues, write_queues, permission }
    }

    #[test]
    fn ids_are_consecutive_over_all_permissions() {
        let rw = Permission { read: true, write: true };
        let r = Permission { read: true, write: false };
        let w = Permission { read: false, write: true };
        let none = Permission { read: false, write: false };
        for (read, write, permission, expected) in [
            (2, 2, rw, vec![rw, rw]),
            (4, 2, rw, vec![r, r, rw, rw]),
            (2, 4, rw, vec![w, w, rw, rw]),
            (2, 3, r, vec![r, r]),
            (2, 3, w, vec![w, w, w]),
            (2, 3, none, vec![none, none, none]),
            (0, 0, none, vec![none]),
            (0, 2, rw, vec![w, w]),
        ] {
            let queues = expand(&range(read, write, permission));
            let seen: Vec<_> = queues.iter().map(|queue| queue.permission).collect();
            assert_eq!(seen, expected, "{read} {write} {permission:?}");
            assert!(queues.iter().zip(0..).all(|(queue, id)| queue.id == id));
        }
    }
}
