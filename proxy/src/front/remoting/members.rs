//! The connected clients, and the members of consumer groups. Clients divide a group's queues among each other by the
//! list of its members.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::heartbeat::Consumer;
use super::session::{Registration, Session};
use crate::remoting::{Command, request};

/// The shortest time between two notifications of a group. A small heartbeat can change many groups with many members.
const NOTIFY_INTERVAL: Duration = Duration::from_secs(1);

/// The connected clients, and the members of all consumer groups.
#[derive(Default)]
pub(super) struct Members {
    groups: Mutex<HashMap<String, Vec<Member>>>,
    /// The sessions by client id. If a client has several connections, this has the newest one.
    clients: Mutex<HashMap<Arc<str>, Arc<Session>>>,
    /// The groups that were notified within [`NOTIFY_INTERVAL`], and whether they have changed since.
    notified: Mutex<HashMap<String, bool>>,
}

/// A client in a consumer group.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) session: Arc<Session>,
    pub(super) consumer: Arc<Consumer>,
    client_id: Arc<str>,
}

impl Members {
    /// Replaces what the client of a session has registered. Returns the consumer groups that it is no longer in.
    pub(super) fn register(
        self: &Arc<Self>,
        session: &Arc<Session>,
        registration: Registration,
    ) -> Vec<String> {
        let mut groups = self.groups.lock();
        if session.closed().is_cancelled() {
            return Vec::new();
        }
        let before = session.change(|registered| std::mem::replace(registered, registration.clone()));
        let mut clients = self.clients.lock();
        remove_session(&mut clients, &before.client.id, session);
        clients.insert(registration.client.id.clone(), session.clone());
        drop(clients);
        let left: Vec<_> = before
            .consumers
            .keys()
            .filter(|group| !registration.consumers.contains_key(*group))
            .cloned()
            .collect();
        let mut changed = BTreeSet::new();
        for group in &left {
            changed.extend(remove_member(&mut groups, group, session));
        }
        for (group, consumer) in &registration.consumers {
            let member = Member {
                session: session.clone(),
                consumer: consumer.clone(),
                client_id: registration.client.id.clone(),
            };
            let members = groups.entry(group.clone()).or_default();
            match members.iter_mut().find(|member| Arc::ptr_eq(&member.session, session)) {
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
        drop(groups);
        self.notify_soon(changed);
        left
    }

    /// Removes the client of a closed connection. Returns the consumer groups that it was in.
    pub(super) fn leave(self: &Arc<Self>, session: &Arc<Session>) -> Vec<String> {
        let mut groups = self.groups.lock();
        let Registration { client, consumers, .. } = session.change(std::mem::take);
        remove_session(&mut self.clients.lock(), &client.id, session);
        let left: Vec<String> = consumers.into_keys().collect();
        let changed = left.iter().filter_map(|group| remove_member(&mut groups, group, session)).collect();
        drop(groups);
        self.notify_soon(changed);
        left
    }

    /// Notifies the members of these groups in the background.
    fn notify_soon(self: &Arc<Self>, groups: BTreeSet<String>) {
        let mut notified = self.notified.lock();
        for group in groups {
            match notified.get_mut(&group) {
                Some(has_changed) => *has_changed = true,
                None => {
                    notified.insert(group.clone(), false);
                    tokio::spawn(self.clone().notify(group));
                }
            }
        }
    }

    /// Notifies the members of a group, and again as long as it changes.
    async fn notify(self: Arc<Self>, group: String) {
        loop {
            self.of(&group).iter().for_each(|member| notify_members_changed(&member.session, &group));
            tokio::time::sleep(NOTIFY_INTERVAL).await;
            let mut notified = self.notified.lock();
            match notified.get_mut(&group) {
                Some(has_changed) if *has_changed => *has_changed = false,
                _ => {
                    notified.remove(&group);
                    return;
                }
            }
        }
    }

    /// The newest session of a client.
    pub(super) fn client(&self, id: &str) -> Option<Arc<Session>> {
        self.clients.lock().get(id).cloned()
    }

    /// The sessions of all clients in this producer group.
    pub(super) fn producers(&self, group: &str) -> Vec<Arc<Session>> {
        let clients = self.clients.lock();
        clients.values().filter(|session| session.produces(group)).cloned().collect()
    }

    /// One session of every client.
    pub(super) fn clients(&self) -> Vec<Arc<Session>> {
        self.clients.lock().values().cloned().collect()
    }

    /// The groups with a member that has subscribed to this topic.
    pub(super) fn subscribed_to(&self, topic: &str) -> BTreeSet<String> {
        let subscribes = |member: &Member| member.consumer.subscriptions.contains_key(topic);
        let groups = self.groups.lock();
        groups
            .iter()
            .filter(|(_, members)| members.iter().any(subscribes))
            .map(|(group, _)| group.clone())
            .collect()
    }

    /// The members of a group.
    pub(super) fn of(&self, group: &str) -> Vec<Member> {
        self.groups.lock().get(group).cloned().unwrap_or_default()
    }

    /// The client ids of a group's members.
    pub(super) fn client_ids(&self, group: &str) -> BTreeSet<Arc<str>> {
        let groups = self.groups.lock();
        groups.get(group).into_iter().flatten().map(|member| member.client_id.clone()).collect()
    }
}

impl Member {
    /// The client's id.
    pub(super) fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }
}

/// Removes a session from the clients, unless its client has a newer one.
fn remove_session(clients: &mut HashMap<Arc<str>, Arc<Session>>, id: &str, session: &Arc<Session>) {
    if clients.get(id).is_some_and(|known| Arc::ptr_eq(known, session)) {
        clients.remove(id);
    }
}

/// Removes a session from a group. Returns the group if the session was in it.
fn remove_member(
    groups: &mut HashMap<String, Vec<Member>>,
    group: &str,
    session: &Arc<Session>,
) -> Option<String> {
    let members = groups.get_mut(group)?;
    let before = members.len();
    members.retain(|member| !Arc::ptr_eq(&member.session, session));
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
pub(super) fn notify_members_changed(session: &Session, group: &str) {
    if session.writer().has_backlog() {
        return;
    }
    session.notify(Command::request(request::NOTIFY_CONSUMER_IDS_CHANGED).field("consumerGroup", group));
}
