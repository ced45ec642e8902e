//! The subscriptions of clients to lite topics, and the lite topics that may have messages for each client.
//!
//! All of this is in memory only, because clients repeat their subscriptions every half a minute. A lite topic is
//! *ready* for a client from the moment when there may be a message until the client has scanned it. So a receive never
//! scans lite topics without news, however many there are.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc};

use super::lite_member::LiteMember;
use crate::service::{BrokerRequest, LiteAction, LiteChange, ServiceError, ServiceErrorKind};

/// The subscriptions of a client end if it does not repeat them within this time.
pub(super) const CLIENT_TIMEOUT: Duration = Duration::from_secs(180);
/// The longest client id and the longest name of a lite topic, in bytes. Both are stored here, and the processor
/// validates only names that are added one by one.
const MAX_NAME_BYTES: usize = 1024;
/// The maximum number of pending notifications of lost lite topics. Beyond that, a client learns of a loss when it next
/// synchronises.
const MAX_REVOCATIONS: usize = 4096;

/// The subscriptions of all clients.
pub(super) struct Subscriptions {
    state: Mutex<SubscriptionTable>,
    /// The maximum number of subscriptions of all clients together.
    max: usize,
    revoked: mpsc::Sender<BrokerRequest>,
    revocations: tokio::sync::Mutex<mpsc::Receiver<BrokerRequest>>,
}

#[derive(Default)]
struct SubscriptionTable {
    /// Groups, by the id of the LITE topic and then by the id of the group.
    topics: HashMap<u32, HashMap<u32, SubscribedGroup>>,
    count: usize,
}

#[derive(Default)]
struct SubscribedGroup {
    members: HashMap<Arc<str>, LiteMember>,
    /// The clients of each lite topic.
    subscribers: HashMap<Arc<str>, Vec<Arc<str>>>,
}

/// The numbers of subscriptions after a change.
struct CountsAfterChange {
    of_client: usize,
    of_all: usize,
}

/// A client in a group that is bound to a LITE topic.
#[derive(Clone, Debug)]
pub(super) struct MemberKey {
    /// The id of the LITE topic.
    pub(super) topic: u32,
    /// The id of the group.
    pub(super) group: u32,
    /// The client's id.
    pub(super) client: Arc<str>,
}

/// A receive of a client. As long as this exists, the client stays registered, even without subscriptions.
pub(super) struct ReceivingMember {
    subscriptions: Arc<Subscriptions>,
    key: MemberKey,
    available: Arc<Notify>,
}

impl Subscriptions {
    /// `max` is the maximum number of subscriptions of all clients together.
    pub(super) fn new(max: usize) -> Arc<Self> {
        let (revoked, revocations) = mpsc::channel(MAX_REVOCATIONS);
        let revocations = tokio::sync::Mutex::new(revocations);
        Arc::new(Self { state: Mutex::default(), max, revoked, revocations })
    }

    /// Returns those of the names to which the client is not subscribed.
    pub(super) fn missing(&self, key: &MemberKey, names: &[String]) -> Vec<String> {
        let mut state = self.state.lock();
        let member = state.group(key).and_then(|group| group.members.get(&key.client));
        let is_missing =
            |name: &&String| !member.is_some_and(|member| member.lite_topics.contains(name.as_str()));
        names.iter().filter(is_missing).cloned().collect()
    }

    /// Checks whether [`change`](Self::change) would accept a change now.
    ///
    /// # Errors
    /// As for [`change`](Self::change).
    pub(super) fn check(&self, key: &MemberKey, change: &LiteChange) -> Result<(), ServiceError> {
        self.check_names(&mut self.state.lock(), key, (change, &names_of(change)))
    }

    fn check_names(
        &self,
        state: &mut SubscriptionTable,
        key: &MemberKey,
        (change, names): (&LiteChange, &HashSet<&str>),
    ) -> Result<(), ServiceError> {
        let reject = |what: &str| {
            let text = format!("{what} is longer than {MAX_NAME_BYTES} bytes");
            Err(ServiceError::new(ServiceErrorKind::Rejected, text))
        };
        if key.client.len() > MAX_NAME_BYTES {
            return reject("the client id");
        }
        let keeps_names = matches!(change.action, LiteAction::Add | LiteAction::Replace);
        if keeps_names && change.lite_topics.iter().any(|name| name.len() > MAX_NAME_BYTES) {
            return reject("the name of a lite topic");
        }
        if let Some(growth) = state.growth(key, change.action, names) {
            let refuse = |text: String| Err(ServiceError::new(ServiceErrorKind::LiteSubscriptionQuota, text));
            if growth.of_client > change.quota {
                return refuse(format!("lite subscription quota exceeded: {}", change.quota));
            }
            if growth.of_all > self.max {
                let max = self.max;
                return refuse(format!(
                    "all clients together have reached the limit of {max} lite subscriptions (max_lite_subscriptions)"
                ));
            }
        }
        Ok(())
    }

    /// Changes the subscriptions of a client. In an exclusive group, a client takes over the lite topics that it adds,
    /// and their former subscribers are notified. If it repeats a subscription to a lite topic that another client has
    /// taken over, it loses the lite topic and is notified.
    ///
    /// # Errors
    /// `LiteSubscriptionQuota` if this client or all clients together would have too many subscriptions, `Rejected` if
    /// the client id or a name is too long. Nothing is changed then.
    pub(super) fn change(
        &self,
        key: &MemberKey,
        change: &LiteChange,
        exclusive: bool,
    ) -> Result<(), ServiceError> {
        let names = names_of(change);
        let mut state = self.state.lock();
        self.check_names(&mut state, key, (change, &names))?;
        let mut revoked = Vec::new();
        match change.action {
            LiteAction::Clear => state.unsubscribe_others(key, &HashSet::new()),
            LiteAction::Remove => names.iter().for_each(|name| state.unsubscribe(key, name)),
            LiteAction::Add | LiteAction::Replace => {
                if change.action == LiteAction::Replace {
                    state.unsubscribe_others(key, &names);
                }
                for name in names {
                    let others = if exclusive { state.other_subscribers(key, name) } else { Vec::new() };
                    if change.action == LiteAction::Replace && !others.is_empty() {
                        state.unsubscribe(key, name);
                        revoked.push((key.client.clone(), name));
                        continue;
                    }
                    for other in others {
                        state.unsubscribe(&MemberKey { client: other.clone(), ..key.clone() }, name);
                        revoked.push((other, name));
                    }
                    state.subscribe(key, name);
                }
            }
        }
        if let Some(member) = state.member(key) {
            member.repeated_at = Instant::now();
            if member.has_ready() {
                member.available.notify_one();
            }
        }
        state.remove_if_idle(key);
        drop(state);
        for (client, lite_topic) in revoked {
            // Fails if too many notifications wait.
            let _ = self.revoked.try_send(BrokerRequest::LiteUnsubscribed {
                client_id: client.to_string(),
                lite_topic: lite_topic.to_owned(),
            });
        }
        Ok(())
    }

    /// Waits for the next notification of a client that lost a lite topic to another client.
    pub(super) async fn next_revocation(&self) -> BrokerRequest {
        let next = self.revocations.lock().await.recv().await;
        next.expect("self holds the sender")
    }

    /// Makes a lite topic ready for its subscribers in one group, or in all groups.
    pub(super) fn deliverable(&self, topic: u32, group: Option<u32>, lite_topic: &str) {
        let mut state = self.state.lock();
        let Some(groups) = state.topics.get_mut(&topic) else { return };
        for (id, candidate) in groups {
            if group.is_none_or(|group| group == *id) {
                candidate.deliverable(lite_topic);
            }
        }
    }

    /// Whether any client is subscribed to a lite topic.
    pub(super) fn has_subscribers(&self, topic: u32, lite_topic: &str) -> bool {
        let state = self.state.lock();
        let groups = state.topics.get(&topic).into_iter().flat_map(HashMap::values);
        groups.into_iter().any(|group| group.subscribers.contains_key(lite_topic))
    }

    /// The lite topics to which clients of a group are subscribed.
    pub(super) fn of_group(&self, topic: u32, group: u32) -> HashSet<Arc<str>> {
        let state = self.state.lock();
        let group = state.topics.get(&topic).and_then(|groups| groups.get(&group));
        group.into_iter().flat_map(|group| group.subscribers.keys().cloned()).collect()
    }

    /// Registers a receive of a client until the returned value is dropped.
    pub(super) fn begin_receive(self: &Arc<Self>, key: MemberKey) -> ReceivingMember {
        let available = self.state.lock().member_or_new(&key).available.clone();
        ReceivingMember { subscriptions: self.clone(), key, available }
    }

    /// Removes the subscriptions of clients that have not repeated them for [`CLIENT_TIMEOUT`].
    pub(super) fn remove_silent(&self, now: Instant) {
        let mut state = self.state.lock();
        let mut silent = Vec::new();
        for (topic, groups) in &state.topics {
            for (group, SubscribedGroup { members, .. }) in groups {
                let gone = members
                    .iter()
                    .filter(|(_, member)| now.duration_since(member.repeated_at) >= CLIENT_TIMEOUT);
                silent.extend(gone.map(|(client, _)| MemberKey {
                    topic: *topic,
                    group: *group,
                    client: client.clone(),
                }));
            }
        }
        for key in silent {
            let Some(member) = state.member(&key) else { continue };
            member.forget_attempts();
            state.unsubscribe_others(&key, &HashSet::new());
            state.remove_if_idle(&key);
        }
    }
}

impl SubscriptionTable {
    fn group(&mut self, key: &MemberKey) -> Option<&mut SubscribedGroup> {
        self.topics.get_mut(&key.topic)?.get_mut(&key.group)
    }

    fn member(&mut self, key: &MemberKey) -> Option<&mut LiteMember> {
        self.group(key)?.members.get_mut(&key.client)
    }

    fn member_or_new(&mut self, key: &MemberKey) -> &mut LiteMember {
        let group = self.topics.entry(key.topic).or_default().entry(key.group).or_default();
        group.members.entry(key.client.clone()).or_default()
    }

    /// The numbers of subscriptions after a change. `None` if it adds none: a client with too many subscriptions may
    /// still repeat them.
    fn growth(
        &mut self,
        key: &MemberKey,
        action: LiteAction,
        names: &HashSet<&str>,
    ) -> Option<CountsAfterChange> {
        let all = self.count;
        let member = self.member(key);
        let before = member.as_ref().map_or(0, |member| member.lite_topics.len());
        let has = |name: &&&str| member.as_ref().is_some_and(|member| member.lite_topics.contains(**name));
        let new = names.len() - names.iter().filter(has).count();
        let of_client = match action {
            LiteAction::Add => before + new,
            LiteAction::Replace => names.len(),
            LiteAction::Remove | LiteAction::Clear => return None,
        };
        (new > 0).then_some(CountsAfterChange { of_client, of_all: all - before + of_client })
    }

    /// The other subscribers of a lite topic in the same group.
    fn other_subscribers(&mut self, key: &MemberKey, name: &str) -> Vec<Arc<str>> {
        let subscribers = self.group(key).and_then(|group| group.subscribers.get(name));
        subscribers.into_iter().flatten().filter(|client| **client != key.client).cloned().collect()
    }

    fn subscribe(&mut self, key: &MemberKey, name: &str) {
        let member = self.member_or_new(key);
        if member.lite_topics.contains(name) {
            return;
        }
        // Ready at once, as there may be messages already.
        let name: Arc<str> = name.into();
        member.lite_topics.insert(name.clone());
        member.set_ready(&name);
        let group = self.group(key).expect("the group has a member");
        group.subscribers.entry(name).or_default().push(key.client.clone());
        self.count += 1;
    }

    fn unsubscribe(&mut self, key: &MemberKey, name: &str) {
        let Some(member) = self.member(key) else { return };
        if !member.unsubscribe(name) {
            return;
        }
        let group = self.group(key).expect("the group has a member");
        if let Some(subscribers) = group.subscribers.get_mut(name) {
            subscribers.retain(|client| *client != key.client);
            if subscribers.is_empty() {
                group.subscribers.remove(name);
            }
        }
        self.count -= 1;
    }

    /// Ends all subscriptions of a client except those in `kept`.
    fn unsubscribe_others(&mut self, key: &MemberKey, kept: &HashSet<&str>) {
        let Some(member) = self.member(key) else { return };
        let gone = member.lite_topics.iter().filter(|name| !kept.contains(name.as_ref()));
        let gone: Vec<_> = gone.cloned().collect();
        gone.iter().for_each(|name| self.unsubscribe(key, name));
    }

    fn remove_if_idle(&mut self, key: &MemberKey) {
        let Some(groups) = self.topics.get_mut(&key.topic) else { return };
        let Some(group) = groups.get_mut(&key.group) else { return };
        if group.members.get(&key.client).is_some_and(LiteMember::is_idle) {
            group.members.remove(&key.client);
        }
        if group.members.is_empty() {
            groups.remove(&key.group);
        }
        if groups.is_empty() {
            self.topics.remove(&key.topic);
        }
    }
}

impl SubscribedGroup {
    /// Makes a lite topic ready for all its subscribers in the group, as any of them may be busy for long.
    fn deliverable(&mut self, lite_topic: &str) {
        let Some((name, subscribers)) = self.subscribers.get_key_value(lite_topic) else { return };
        for client in subscribers {
            let Some(member) = self.members.get_mut(client) else { continue };
            member.set_ready(name);
            member.available.notify_one();
        }
    }
}

impl ReceivingMember {
    /// Resolves when there may be more messages. Misses no message that arrives after it was enabled. If it is dropped
    /// after it was woken, another receive of the client is woken instead.
    pub(super) fn available(&self) -> Notified<'_> {
        self.available.notified()
    }

    /// Whether the client is subscribed to a lite topic.
    pub(super) fn is_subscribed(&self, name: &str) -> bool {
        self.with(|member| member.lite_topics.contains(name))
    }

    /// If any lite topic is ready, wakes another receive of the client, or the next one that begins to wait.
    pub(super) fn wake_another(&self) {
        if self.with(|member| member.has_ready()) {
            self.available.notify_one();
        }
    }

    /// Calls `act` with the state of the client.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut LiteMember) -> T) -> T {
        act(self.subscriptions.state.lock().member_or_new(&self.key))
    }
}

impl Drop for ReceivingMember {
    fn drop(&mut self) {
        let mut state = self.subscriptions.state.lock();
        // Drops the reference that marks this receive as running.
        self.available = Arc::default();
        state.remove_if_idle(&self.key);
    }
}

/// The names of a change, without repetitions.
fn names_of(change: &LiteChange) -> HashSet<&str> {
    change.lite_topics.iter().map(String::as_str).collect()
}

#[cfg(test)]
mod tests;
