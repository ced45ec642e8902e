//! Whether a client's pulls become pops, which depends on how its group consumes.

use super::super::client_connection::ClientConnection;
use super::super::heartbeat::{ConsumeType, MessageModel};
use super::super::members::notify_members_changed;
use super::super::request::Request;
use super::super::shared::Shared;
use super::consumer_state::ConsumeMode;

/// Whether a client's pulls in a group become pops.
///
/// As soon as its consume mode is known, such a client gets a list of members with its own id alone, and pulls all
/// queues of a topic. Each pull returns messages of the whole topic. So a topic with one queue serves any number of
/// clients, and no queue is reassigned when a client comes or goes.
pub(in super::super) fn pull_is_pop(shared: &Shared, connection: &ClientConnection, group: &str) -> bool {
    let Some(consumer) = connection.consumer(group) else { return false };
    consumer.consume_type == ConsumeType::Passively
        && consumer.model == MessageModel::Clustering
        && connection.consumer_state.mode(group) != Some(ConsumeMode::InOrder)
        && !reads_by_offset(shared, group)
}

/// Whether the group is in `remoting.pull_by_offset`, so that its push consumers read by offset.
pub(in super::super) fn reads_by_offset(shared: &Shared, group: &str) -> bool {
    is_listed(&shared.config.pull_by_offset, group)
}

/// Whether a client gets a list of members with its own id alone, because pulls are pops in its group. All members of a
/// group consume in the same mode, so the known mode of one of them counts for all. If no mode is known, a client that
/// divides the queues again gets the list, because the first time it did not get any queue. Each time, it queries the
/// members once for every topic that it has subscribed to, one of which is the group's retry topic.
pub(in super::super) fn is_listed_alone(shared: &Shared, connection: &ClientConnection, group: &str) -> bool {
    if !pull_is_pop(shared, connection, group) {
        return false;
    }
    let queries = connection.consumer_state.count_query(group);
    let topics = connection.consumer(group).map_or(0, |consumer| consumer.subscriptions.len());
    let mut modes = shared
        .members
        .of(group)
        .into_iter()
        .filter_map(|member| member.connection.consumer_state.mode(group));
    match modes.find(|mode| !matches!(mode, ConsumeMode::Unknown { .. })) {
        Some(mode) => mode == ConsumeMode::Concurrently,
        None => queries > topics.max(1),
    }
}

/// Records how a client consumes in a group. When the first member consumes concurrently, all members are notified, so
/// that they query the list of members again.
pub(super) fn note_consume_mode(request: &Request, group: &str, mode: ConsumeMode) {
    let members = || request.shared.members.of(group).into_iter();
    let known = || members().any(|member| member.connection.consumer_state.mode(group) == Some(mode));
    let is_first = request.connection.consumer_state.mode(group) != Some(mode)
        && mode == ConsumeMode::Concurrently
        && !known();
    request.connection.consumer_state.set_mode(group, mode);
    if is_first {
        members().for_each(|member| notify_members_changed(&member.connection, group));
    }
}

/// Whether a list contains a group, by its name or by a prefix followed by `*`.
fn is_listed(list: &[String], group: &str) -> bool {
    list.iter().any(|entry| match entry.strip_suffix('*') {
        Some(prefix) => group.starts_with(prefix),
        None => entry == group,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_listed_by_name_or_prefix() {
        let list = ["g".to_owned(), "orders-*".to_owned()];
        for (group, listed) in [("g", true), ("gg", false), ("orders-1", true), ("orders", false)] {
            assert_eq!(is_listed(&list, group), listed, "{group}");
        }
        assert!(is_listed(&["*".to_owned()], "any"));
    }
}
