//! Which clients of this proxy are in which consumer group. Clients divide a group's queues among each other by this list.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::heartbeat::Consumer;
use super::session::{Registered, Session};
use crate::remoting::{Command, request};

/// The members of all consumer groups.
#[derive(Default)]
pub(super) struct Members {
    groups: Mutex<HashMap<String, Vec<Member>>>,
    /// By the ids of their clients. A client that has several connections has the newest one here.
    clients: Mutex<HashMap<Arc<str>, Arc<Session>>>,
}

/// A client that consumes in a group.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) session: Arc<Session>,
    pub(super) consumer: Arc<Consumer>,
    client_id: Arc<str>,
}

impl Members {
    /// Takes what a heartbeat tells. Returns the groups that the client has left by it.
    pub(super) fn register(&self, session: &Arc<Session>, now: Registered) -> Vec<String> {
        let mut groups = self.groups.lock();
        if session.closed().is_cancelled() {
            return Vec::new();
        }
        let before = session.change(|registered| std::mem::replace(registered, now.clone()));
        let mut clients = self.clients.lock();
        forget(&mut clients, &before.client.id, session);
        clients.insert(now.client.id.clone(), session.clone());
        drop(clients);
        let left: Vec<_> =
            before.consumers.keys().filter(|group| !now.consumers.contains_key(*group)).cloned().collect();
        let mut changed = BTreeSet::new();
        for group in &left {
            changed.extend(remove(&mut groups, group, session));
        }
        for (group, consumer) in &now.consumers {
            let member = Member {
                session: session.clone(),
                consumer: consumer.clone(),
                client_id: now.client.id.clone(),
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
        let told = told(&groups, &changed);
        drop(groups);
        tell(&told);
        left
    }

    /// Forgets a client whose connection is gone. Returns the groups that it was in.
    pub(super) fn leave(&self, session: &Arc<Session>) -> Vec<String> {
        let mut groups = self.groups.lock();
        let Registered { client, consumers, .. } = session.change(std::mem::take);
        forget(&mut self.clients.lock(), &client.id, session);
        let left: Vec<String> = consumers.into_keys().collect();
        let changed: BTreeSet<_> =
            left.iter().filter_map(|group| remove(&mut groups, group, session)).collect();
        let told = told(&groups, &changed);
        drop(groups);
        tell(&told);
        left
    }

    /// A connection of a client.
    pub(super) fn client(&self, id: &str) -> Option<Arc<Session>> {
        self.clients.lock().get(id).cloned()
    }

    /// The connections of all clients that are in this producer group.
    pub(super) fn producers(&self, group: &str) -> Vec<Arc<Session>> {
        let clients = self.clients.lock();
        clients.values().filter(|session| session.produces(group)).cloned().collect()
    }

    /// The connections of all clients, each once.
    pub(super) fn clients(&self) -> Vec<Arc<Session>> {
        self.clients.lock().values().cloned().collect()
    }

    /// The groups with a member that subscribes to this topic.
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

    /// The ids of a group's members, each once, sorted.
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

/// Removes a connection of a client, unless the client has a newer one.
fn forget(clients: &mut HashMap<Arc<str>, Arc<Session>>, id: &str, session: &Arc<Session>) {
    if clients.get(id).is_some_and(|known| Arc::ptr_eq(known, session)) {
        clients.remove(id);
    }
}

/// Removes a client from a group. Returns the group if the client was in it.
fn remove(groups: &mut HashMap<String, Vec<Member>>, group: &str, session: &Arc<Session>) -> Option<String> {
    let members = groups.get_mut(group)?;
    let before = members.len();
    members.retain(|member| !Arc::ptr_eq(&member.session, session));
    let changed = members.len() < before;
    if members.is_empty() {
        groups.remove(group);
    }
    changed.then(|| group.to_owned())
}

fn same_topics(before: &Consumer, now: &Consumer) -> bool {
    before.subscriptions.keys().eq(now.subscriptions.keys())
}

/// Who is to be told that these groups have changed.
fn told(groups: &HashMap<String, Vec<Member>>, changed: &BTreeSet<String>) -> Vec<(String, Arc<Session>)> {
    let members = |group: &String| {
        let members = groups.get(group).into_iter().flatten();
        members.map(|member| (group.clone(), member.session.clone())).collect::<Vec<_>>()
    };
    changed.iter().flat_map(members).collect()
}

fn tell(told: &[(String, Arc<Session>)]) {
    for (group, session) in told {
        tell_changed(session, group);
    }
}

/// Tells a client that the members of a group have changed.
pub(super) fn tell_changed(session: &Session, group: &str) {
    session.notify(Command::request(request::NOTIFY_CONSUMER_IDS_CHANGED).field("consumerGroup", group));
}
