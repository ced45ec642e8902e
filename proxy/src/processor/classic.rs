//! Commands that only clients of the remoting protocol use: heartbeats, checks of filters, and queries of groups.

use std::collections::BTreeSet;

use super::classic_clients::ClassicClient;
use super::classic_groups::ClassicGroups;
use super::command::Command;
use super::environment::Environment;
use super::stream::PushStream;
use super::{ClientKind, Expression, filter, group, validate};
use crate::context::Context;
use crate::error::Error;
use crate::layer::{Names, OperationKind};
use crate::service::GroupConfig;

/// Records a heartbeat of a client with its groups and subscriptions. Replaces those of the previous heartbeat.
///
/// # Errors
/// `IllegalGroup` (also if the group does not exist, or is for clients of another type), `BadRequest` (names are too long
/// or too many), `Busy`.
#[derive(Debug)]
pub struct ClassicClientCommand {
    /// The client's producer groups.
    pub producers: BTreeSet<String>,
    /// The client's consumer groups.
    pub consumers: Vec<ClassicGroup>,
    /// The approximate number of bytes that are kept for the client elsewhere.
    pub bytes: usize,
    /// The stream on which the client gets commands.
    pub stream: PushStream,
}

/// A consumer group of a client.
#[derive(Clone, Debug)]
pub struct ClassicGroup {
    /// The group's name.
    pub name: String,
    /// The topics to which the client subscribes.
    pub topics: BTreeSet<String>,
}

/// The topics to which the groups subscribe.
impl Names for Vec<ClassicGroup> {
    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a str)) {
        self.iter().flat_map(|group| &group.topics).for_each(|topic| visit(topic));
    }
}

/// The client's consumer groups.
impl Names for ClassicClientCommand {
    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a str)) {
        self.consumers.iter().for_each(|group| visit(&group.name));
    }
}

impl Command for ClassicClientCommand {
    type Answer = ();
    const KIND: OperationKind = OperationKind::Heartbeat;

    fn topics(&self) -> &dyn Names {
        &self.consumers
    }

    fn groups(&self) -> &dyn Names {
        self
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<(), Error> {
        self.producers.iter().try_for_each(|name| validate::group(name))?;
        for ClassicGroup { name, topics } in &self.consumers {
            validate::group(name)?;
            // The topics of a group decide in which cluster it is.
            let topic = topics.first().map(String::as_str).unwrap_or_default();
            group::load_for_client(environment.services(context, topic), ClientKind::Classic, name).await?;
        }
        let topics = self.consumers.iter().flat_map(|group| &group.topics);
        let topics: BTreeSet<_> = topics.map(String::as_str).collect();
        let groups = ClassicGroups {
            producers: self.producers,
            consumers: self.consumers.iter().map(|group| group.name.clone()).collect(),
            awaits_replies: false,
        };
        let client = ClassicClient { stream: &self.stream, groups, topics, bytes: self.bytes };
        environment.clients.record_classic_heartbeat(context, client)
    }
}

/// Checks the filter of a subscription.
///
/// # Errors
/// `IllegalFilter`, or the backend's failure.
#[derive(Clone, Debug)]
pub struct CheckFilterCommand {
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The filter.
    pub expression: Expression,
}

impl Command for CheckFilterCommand {
    type Answer = ();
    const KIND: OperationKind = OperationKind::Register;

    fn topics(&self) -> &dyn Names {
        &self.topic
    }

    fn groups(&self) -> &dyn Names {
        &self.group
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<(), Error> {
        let filter = filter::parse(self.expression)?;
        let deadline = context.deadline_within(environment.limits.call);
        let services = environment.services(context, &self.topic);
        Ok(services.messages.check_filter(filter, deadline).await?)
    }
}

/// Returns the configuration of a group.
///
/// # Errors
/// `IllegalGroup`, `GroupNotFound`, or the backend's failure.
#[derive(Clone, Debug)]
pub struct GetGroupConfigCommand {
    /// The group.
    pub group: String,
}

impl Command for GetGroupConfigCommand {
    type Answer = GroupConfig;
    const KIND: OperationKind = OperationKind::Register;

    fn topics(&self) -> &dyn Names {
        &()
    }

    fn groups(&self) -> &dyn Names {
        &self.group
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<GroupConfig, Error> {
        validate::group(&self.group)?;
        Ok(environment.services(context, "").metadata.group(&self.group).await?)
    }
}
