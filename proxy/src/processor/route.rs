//! Where a topic's queues are, in the form that clients expect.

use super::command::Command;
use super::environment::Environment;
use super::validate;
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::layer::{Names, OperationKind};
use crate::service::{BrokerOf, GroupConfig, Permission, QueueRange, Route, ServiceErrorKind, TopicKind};

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

/// Returns the queues that a consumer should receive from. Nothing is balanced: every client of a group
/// gets all of them, as the broker shares a queue's messages among its receives.
///
/// # Errors
/// `IllegalTopic`, `IllegalGroup`, `TopicNotFound`, `Forbidden` (nothing readable), or the backend's failure.
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
    /// What the topic takes.
    pub kind: TopicKind,
    /// Its queues, replica by replica.
    pub queues: Vec<QueueRoute>,
}

/// One queue on one replica of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRoute {
    /// The broker's name.
    pub broker: String,
    /// The replica; 0 is the master.
    pub replica: i32,
    /// The queue.
    pub id: i32,
    /// What may be done with it.
    pub permission: Permission,
}

/// One queue to receive from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueAssignment {
    /// The broker's name.
    pub broker: String,
    /// The queue; -1 stands for all queues of the broker.
    pub id: i32,
    /// What may be done with it.
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
    type Answer = Vec<BrokerOf>;
    const KIND: OperationKind = OperationKind::QueryRoute;

    fn topics(&self) -> &dyn Names {
        &()
    }

    async fn handle(self, environment: &Environment, _: &Context) -> Result<Vec<BrokerOf>, Error> {
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
        let in_order = match services.metadata.group(group).await {
            Ok(config) => in_order(&config),
            Err(error) if error.kind == ServiceErrorKind::GroupNotFound => false,
            Err(error) => return Err(error.into()),
        };
        let readable = route
            .queues
            .iter()
            .filter(|range| range.permission.read && range.read_queues > 0 && range.replicas.contains(&0));
        let assignments: Vec<_> = readable.flat_map(|range| assign(range, in_order)).collect();
        if assignments.is_empty() {
            return Err(Error::new(ErrorKind::Forbidden, "no readable queue"));
        }
        Ok(assignments)
    }
}

fn in_order(config: &GroupConfig) -> bool {
    config.fifo && config.lite_bind_topic.is_none()
}

// Ids are consecutive: first the queues that can only be read or only be written, then those that can be both.
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

fn assign(range: &QueueRange, in_order: bool) -> Vec<QueueAssignment> {
    let ids = if in_order { 0..range.read_queues } else { -1..0 };
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
    fn ids_run_through_the_permissions() {
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
