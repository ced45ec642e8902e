//! The rights that each request needs.

use std::fmt;

use super::policy::{Action, Actions, ResourceKind};
use crate::layer::{Names, Operation, OperationKind};
use crate::service::names::{DEAD_LETTER_PREFIX, RETRY_PREFIX};

/// What an administrator needs for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// All of these actions on `Cluster:*`.
    Cluster(&'static [Action]),
    /// To be a super user: whoever changes users could make one.
    SuperUser,
}

/// Something that a user needs a right on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resource<T> {
    pub(super) kind: ResourceKind,
    pub(super) name: T,
}

/// What a request needs: for each resource one of these actions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs<T>(pub(super) Vec<(Resource<T>, Actions)>);

impl<'a> Needs<&'a str> {
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
            // What counts is what a client names. It is not believed which kind of client it is.
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

    /// All of these actions, on the cluster.
    pub(super) fn of_administration(actions: &[Action]) -> Self {
        let cluster = Resource { kind: ResourceKind::Cluster, name: "" };
        Self(actions.iter().map(|action| (cluster, Actions::of(&[*action]))).collect())
    }

    fn groups(&mut self, names: &'a dyn Names, actions: Actions) {
        names.each(&mut |name| self.add(ResourceKind::Group, name, actions));
    }

    /// Retry and dead-letter topics belong to their groups: whoever may consume in a group may use them.
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
        // The messages of a send mostly have one topic.
        if self.0.last() != Some(&need) {
            self.0.push(need);
        }
    }

    pub(super) fn to_owned(&self) -> Needs<String> {
        let own = |(Resource { kind, name }, actions): &(Resource<&str>, Actions)| {
            (Resource { kind: *kind, name: (*name).to_owned() }, *actions)
        };
        Needs(self.0.iter().map(own).collect())
    }
}

impl Needs<String> {
    pub(super) fn as_refs(&self) -> Needs<&str> {
        let needs = self.0.iter().map(|(Resource { kind, name }, actions)| {
            (Resource { kind: *kind, name: name.as_str() }, *actions)
        });
        Needs(needs.collect())
    }
}

impl fmt::Display for Resource<&str> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.kind == ResourceKind::Cluster { "*" } else { self.name };
        write!(f, "{}:{name}", self.kind)
    }
}
