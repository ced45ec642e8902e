//! The connected clients, and the members of consumer groups. Clients divide a group's queues among each other by the
//! list of its members.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::client_connection::{ClientConnection, Registration};
use super::heartbeat::Consumer;
use crate::remoting::{RemotingCommand, request};

/// A group is notified this often at most, after [`NOTIFY_BURST`]. A small heartbeat can change many groups with many
/// members.
const NOTIFY_INTERVAL: Duration = Duration::from_secs(1);
/// The number of notifications that a group can get at once after it has not changed for a while. Until the members know
/// all others, they divide the queues wrongly, and several of them usually start or stop together.
const NOTIFY_BURST: u32 = 16;

/// The connected clients, and the members of all consumer groups.
#[derive(Default)]
pub(super) struct Members {
    groups: Mutex<HashMap<String, Group>>,
    /// The connections by client id. If a client has several connections, this has the newest one.
    clients: Mutex<HashMap<Arc<str>, Arc<ClientConnection>>>,
}

/// A consumer group with at least one member.
#[derive(Default)]
struct Group {
    members: Vec<Member>,
    pace: NotifyPace,
}

/// When the members of a group are notified of its changes.
#[derive(Default)]
struct NotifyPace {
    /// Each notification moves this time on by [`NOTIFY_INTERVAL`], beginning from now if it is past.
    used_until: Option<Instant>,
    /// Whether a notification is about to be sent. It covers all changes until then.
    is_pending: bool,
}

impl NotifyPace {
    /// Returns how long to wait before the group is notified of a change, or `None` if it is about to be.
    fn wait(&mut self, now: Instant) -> Option<Duration> {
        if std::mem::replace(&mut self.is_pending, true) {
            return None;
        }
        let used_until = self.used_until.map_or(now, |used_until| used_until.max(now)) + NOTIFY_INTERVAL;
        self.used_until = Some(used_until);
        Some((used_until - now).saturating_sub(NOTIFY_INTERVAL * NOTIFY_BURST))
    }
}

/// A client in a consumer group.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) connection: Arc<ClientConnection>,
    pub(super) consumer: Arc<Consumer>,
    client_id: Arc<str>,
}

impl Members {
    /// Replaces what the client of a connection has registered. Returns the consumer groups that it is no longer in.
    pub(super) fn register(
        self: &Arc<Self>,
        connection: &Arc<ClientConnection>,
        registration: Registration,
    ) -> Vec<String> {
        let mut groups = self.groups.lock();
        if connection.closed().is_cancelled() {
            return Vec::new();
        }
        let before = connection.change(|registered| std::mem::replace(registered, registration.clone()));
        let mut clients = self.clients.lock();
        remove_connection(&mut clients, &before.client.id, connection);
        clients.insert(registration.client.id.clone(), connection.clone());
        drop(clients);
        let left: Vec<_> = before
            .consumers
            .keys()
            .filter(|group| !registration.consumers.contains_key(*group))
            .cloned()
            .collect();
        let mut changed = BTreeSet::new();
        for group in &left {
            changed.extend(remove_member(&mut groups, group, connection));
        }
        for (group, consumer) in &registration.consumers {
            let member = Member {
                connection: connection.clone(),
                consumer: consumer.clone(),
                client_id: registration.client.id.clone(),
            };
            let members = &mut groups.entry(group.clone()).or_default().members;
            match members.iter_mut().find(|member| Arc::ptr_eq(&member.connection, connection)) {
                Some(known) => {
                    if known.client_id != member.client_id || !same_topics(&known.consumer, consumer) {
                        changed.insert(group.clone());
                    }
                    *known = member;
                }
                None => {
                    members.push(member);
                    changed.insert(group.clone());
                }
            }
        }
        self.notify(&mut groups, changed);
        left
    }

    /// Removes the client of a closed connection. Returns the consumer groups that it was in.
    pub(super) fn leave(self: &Arc<Self>, connection: &Arc<ClientConnection>) -> Vec<String> {
        let mut groups = self.groups.lock();
        let Registration { client, consumers, .. } = connection.change(std::mem::take);
        remove_connection(&mut self.clients.lock(), &client.id, connection);
        let left: Vec<String> = consumers.into_keys().collect();
        let changed = left.iter().filter_map(|group| remove_member(&mut groups, group, connection)).collect();
        self.notify(&mut groups, changed);
        left
    }

    /// Notifies the members of these groups in the background.
    fn notify(self: &Arc<Self>, groups: &mut HashMap<String, Group>, changed: BTreeSet<String>) {
        for name in changed {
            let Some(group) = groups.get_mut(&name) else { continue };
            let Some(wait) = group.pace.wait(Instant::now()) else { continue };
            let members = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                members.notify_now(&name);
            });
        }
    }

    fn notify_now(&self, name: &str) {
        let mut groups = self.groups.lock();
        let Some(group) = groups.get_mut(name) else { return };
        // Whatever changes from here on is notified by the next one.
        group.pace.is_pending = false;
        let members = group.members.clone();
        drop(groups);
        members.iter().for_each(|member| notify_members_changed(&member.connection, name));
    }

    /// The newest connection of a client.
    pub(super) fn client(&self, id: &str) -> Option<Arc<ClientConnection>> {
        self.clients.lock().get(id).cloned()
    }

    /// The connections of all clients in this producer group.
    pub(super) fn producers(&self, group: &str) -> Vec<Arc<ClientConnection>> {
        let clients = self.clients.lock();
        clients.values().filter(|connection| connection.produces(group)).cloned().collect()
    }

    /// One connection of every client.
    pub(super) fn clients(&self) -> Vec<Arc<ClientConnection>> {
        self.clients.lock().values().cloned().collect()
    }

    /// The groups with a member that has subscribed to this topic.
    pub(super) fn subscribed_to(&self, topic: &str) -> BTreeSet<String> {
        let subscribes = |member: &Member| member.consumer.subscriptions.contains_key(topic);
        let groups = self.groups.lock();
        groups
            .iter()
            .filter(|(_, group)| group.members.iter().any(subscribes))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The members of a group.
    pub(super) fn of(&self, group: &str) -> Vec<Member> {
        self.groups.lock().get(group).map(|group| group.members.clone()).unwrap_or_default()
    }

    /// The client ids of a group's members.
    pub(super) fn client_ids(&self, group: &str) -> BTreeSet<Arc<str>> {
        let groups = self.groups.lock();
        let members = groups.get(group).into_iter().flat_map(|group| &group.members);
        members.map(|member| member.client_id.clone()).collect()
    }
}

impl Member {
    /// The client's id.
    pub(super) fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }
}

/// Removes a connection from the clients, unless its client has a newer one.
fn remove_connection(
    clients: &mut HashMap<Arc<str>, Arc<ClientConnection>>,
    id: &str,
    connection: &Arc<ClientConnection>,
) {
    if clients.get(id).is_some_and(|known| Arc::ptr_eq(known, connection)) {
        clients.remove(id);
    }
}

/// Removes a connection from a group. Returns the group if the connection was in it.
fn remove_member(
    groups: &mut HashMap<String, Group>,
    group: &str,
    connection: &Arc<ClientConnection>,
) -> Option<String> {
    let members = &mut groups.get_mut(group)?.members;
    let before = members.len();
    members.retain(|member| !Arc::ptr_eq(&member.connection, connection));
    let changed = members.len() < before;
    if members.is_empty() {
        groups.remove(group);
    }
    changed.then(|| group.to_owned())
}

fn same_topics(a: &Consumer, b: &Consumer) -> bool {
    a.subscriptions.keys().eq(b.subscriptions.keys())
}

/// Notifies a client that the members of a group have changed, so that it queries them. A client that reads slowly is left
/// out: clients also query the members every 20 s.
pub(super) fn notify_members_changed(connection: &ClientConnection, group: &str) {
    if connection.writer().has_backlog() {
        return;
    }
    connection
        .notify(RemotingCommand::request(request::NOTIFY_CONSUMER_IDS_CHANGED).field("consumerGroup", group));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_notified_at_once_until_it_changes_often() {
        let mut pace = NotifyPace::default();
        let start = Instant::now();
        let mut notify = |now| {
            let wait = pace.wait(now);
            pace.is_pending = false;
            wait
        };
        for _ in 0..NOTIFY_BURST {
            assert_eq!(notify(start), Some(Duration::ZERO));
        }
        assert_eq!(notify(start), Some(NOTIFY_INTERVAL));
        let after = start + NOTIFY_INTERVAL;
        assert_eq!(notify(after), Some(NOTIFY_INTERVAL));
        assert_eq!(notify(after + NOTIFY_INTERVAL * 2), Some(Duration::ZERO));
    }

    #[test]
    fn a_pending_notification_covers_later_changes() {
        let mut pace = NotifyPace::default();
        let now = Instant::now();
        assert_eq!((pace.wait(now), pace.wait(now)), (Some(Duration::ZERO), None));
    }
}
