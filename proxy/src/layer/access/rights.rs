//! The rights that each kind of request needs.

use super::policy::{Action, Actions, Resource, ResourceKind};
use crate::context::WireProtocol;
use crate::error::Error;
use crate::layer::{Names, OperationKind, RequestFacts};
use crate::service::names::{DEAD_LETTER_PREFIX, RETRY_PREFIX, is_blank};

/// The right that an administrative request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// All of these actions, on `Cluster:*`.
    Cluster(&'static [Action]),
    /// To be a super user. Changes of users need it, because they could create super users.
    SuperUser,
}

/// The rights that a request needs: for each resource, at least one of the actions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RequiredRights<T>(pub(super) Vec<(Resource<T>, Actions)>);

/// The right that one of these actions on a topic needs. Retry and dead-letter topics belong to their groups: users who may
/// consume in a group may use them.
pub(super) fn right_on_topic(name: &str, actions: Actions) -> (Resource<&str>, Actions) {
    let group = [RETRY_PREFIX, DEAD_LETTER_PREFIX].iter().find_map(|prefix| name.strip_prefix(prefix));
    match group {
        Some(group) => (Resource { kind: ResourceKind::Group, name: group }, Actions::of(&[Action::Sub])),
        None => (Resource { kind: ResourceKind::Topic, name }, actions),
    }
}

impl<'a> RequiredRights<&'a str> {
    /// The rights that a client's request needs.
    ///
    /// # Errors
    /// `Unauthorized` if a gRPC request names no topic or group where it needs one. The texts are those of Apache's proxy, which
    /// refuses such requests here, even those of super users.
    pub(super) fn of(facts: &RequestFacts<'a>) -> Result<Self, Error> {
        let publish = Actions::of(&[Action::Pub]);
        let subscribe = Actions::of(&[Action::Sub]);
        let mut needs = Self::default();
        let RequestFacts { kind, context, .. } = *facts;
        match kind {
            OperationKind::QueryRoute => {
                needs.topics(facts.topics, Actions::of(&[Action::Pub, Action::Sub]));
            }
            OperationKind::Send | OperationKind::Recall | OperationKind::EndTransaction => {
                needs.topics(facts.topics, publish);
            }
            OperationKind::QueryAssignment
            | OperationKind::Receive
            | OperationKind::Acknowledge
            | OperationKind::ChangeInvisible
            | OperationKind::ForwardToDeadLetter
            | OperationKind::SendBack
            | OperationKind::SyncLite
            | OperationKind::LockQueues
            | OperationKind::UnlockQueues => {
                needs.groups(facts.groups, subscribe);
                needs.topics(facts.topics, subscribe);
            }
            // A refusal names the first right that is missing. The order is that of Apache's proxy.
            OperationKind::Pull | OperationKind::UpdateOffset | OperationKind::GetOffset => {
                needs.topics(facts.topics, subscribe);
                needs.groups(facts.groups, subscribe);
            }
            OperationKind::QueryOffset => needs.topics(facts.topics, subscribe),
            // Decided by the names in the request, not by the kind of client that it claims to be.
            OperationKind::Heartbeat | OperationKind::Register | OperationKind::Terminate => {
                let mut named = Self::default();
                named.groups(facts.groups, subscribe);
                // Only heartbeats and terminations of producers name no group.
                named.0.retain(|(group, _)| kind == OperationKind::Register || !group.name.is_empty());
                let action = if named.0.is_empty() { publish } else { subscribe };
                needs.0.append(&mut named.0);
                needs.topics(facts.topics, action);
            }
        }
        if context.protocol == WireProtocol::Grpc {
            let missing = |what| Err(Error::unauthorized(format!("{what} is null.")));
            if kind == OperationKind::Send && needs.0.is_empty() {
                return missing("message");
            }
            match needs.0.iter().find(|(resource, _)| is_blank(resource.name)).map(|(blank, _)| blank.kind) {
                Some(ResourceKind::Group) => return missing("group"),
                Some(ResourceKind::Topic) if kind != OperationKind::ChangeInvisible => {
                    return missing("topic");
                }
                _ => {}
            }
        }
        Ok(needs)
    }

    /// The rights that an administrative request needs: each of these actions on the cluster.
    pub(super) fn of_administration(actions: &[Action]) -> Self {
        let cluster = Resource { kind: ResourceKind::Cluster, name: "" };
        Self(actions.iter().map(|action| (cluster, Actions::of(&[*action]))).collect())
    }

    fn groups(&mut self, names: &'a dyn Names, actions: Actions) {
        names.each(&mut |name| self.add(ResourceKind::Group, name, actions));
    }

    fn topics(&mut self, names: &'a dyn Names, actions: Actions) {
        names.each(&mut |name| {
            let (resource, actions) = right_on_topic(name, actions);
            self.add(resource.kind, resource.name, actions);
        });
    }

    fn add(&mut self, kind: ResourceKind, name: &'a str, actions: Actions) {
        let need = (Resource { kind, name }, actions);
        // Skips repetitions: the messages of a send usually have the same topic.
        if self.0.last() != Some(&need) {
            self.0.push(need);
        }
    }

    pub(super) fn to_owned(&self) -> RequiredRights<String> {
        let own = |(Resource { kind, name }, actions): &(Resource<&str>, Actions)| {
            (Resource { kind: *kind, name: (*name).to_owned() }, *actions)
        };
        RequiredRights(self.0.iter().map(own).collect())
    }
}

impl RequiredRights<String> {
    pub(super) fn as_refs(&self) -> RequiredRights<&str> {
        let needs = self.0.iter().map(|(Resource { kind, name }, actions)| {
            (Resource { kind: *kind, name: name.as_str() }, *actions)
        });
        RequiredRights(needs.collect())
    }
}
