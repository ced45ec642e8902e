//! The rights that each kind of request needs.

use super::policy::{Action, Actions, Resource, ResourceKind};
use crate::layer::{Names, Operation, OperationKind};
use crate::service::names::{DEAD_LETTER_PREFIX, RETRY_PREFIX};

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

impl<'a> RequiredRights<&'a str> {
    /// The rights that a client's request needs.
    pub(super) fn of(operation: &Operation<'a>) -> Self {
        let publish = Actions::of(&[Action::Pub]);
        let subscribe = Actions::of(&[Action::Sub]);
        let mut needs = Self::default();
        match operation.kind {
            OperationKind::QueryRoute => {
                needs.topics(operation.topics, Actions::of(&[Action::Pub, Action::Sub]));
            }
            OperationKind::Send | OperationKind::Recall | OperationKind::EndTransaction => {
                needs.topics(operation.topics, publish);
            }
            OperationKind::QueryAssignment
            | OperationKind::Receive
            | OperationKind::Acknowledge
            | OperationKind::ChangeInvisible
            | OperationKind::ForwardToDeadLetter
            | OperationKind::SendBack
            | OperationKind::SyncLite
            | OperationKind::Pull
            | OperationKind::UpdateOffset
            | OperationKind::GetOffset
            | OperationKind::LockQueues
            | OperationKind::UnlockQueues => {
                needs.groups(operation.groups, subscribe);
                needs.topics(operation.topics, subscribe);
            }
            OperationKind::QueryOffset => needs.topics(operation.topics, subscribe),
            // Decided by the names in the request, not by the kind of client that it claims to be.
            OperationKind::Heartbeat | OperationKind::Register | OperationKind::Terminate => {
                let mut named = Self::default();
                named.groups(operation.groups, subscribe);
                named.0.retain(|(group, _)| !group.name.is_empty());
                let action = if named.0.is_empty() { publish } else { subscribe };
                needs.0.append(&mut named.0);
                needs.topics(operation.topics, action);
            }
        }
        needs
    }

    /// The rights that an administrative request needs: each of these actions on the cluster.
    pub(super) fn of_administration(actions: &[Action]) -> Self {
        let cluster = Resource { kind: ResourceKind::Cluster, name: "" };
        Self(actions.iter().map(|action| (cluster, Actions::of(&[*action]))).collect())
    }

    fn groups(&mut self, names: &'a dyn Names, actions: Actions) {
        names.each(&mut |name| self.add(ResourceKind::Group, name, actions));
    }

    /// Adds topics. Retry and dead-letter topics belong to their groups: users who may consume in a group may use them.
    fn topics(&mut self, names: &'a dyn Names, actions: Actions) {
        names.each(&mut |name| {
            let group =
                [RETRY_PREFIX, DEAD_LETTER_PREFIX].iter().find_map(|prefix| name.strip_prefix(prefix));
            match group {
                Some(group) => self.add(ResourceKind::Group, group, Actions::of(&[Action::Sub])),
                None => self.add(ResourceKind::Topic, name, actions),
            }
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
