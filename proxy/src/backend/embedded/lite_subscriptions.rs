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

use super::lite_member::Member;
use crate::service::{BrokerRequest, LiteAction, LiteChange, ServiceError, ServiceErrorKind};

/// The subscriptions of a client end if it does not repeat them within this time.
pub(super) const CLIENT_TIMEOUT: Duration = Duration::from_secs(180);
/// The longest client id and the longest name of a lite topic, in bytes. Both are stored here, and the processor
/// validates only names that are added one by one.
const MAX_NAME_BYTES: usize = 1024;
/// The most pending notifications of lost lite topics. Beyond that, a client learns of a loss when it next synchronises.
const MAX_REVOCATIONS: usize = 4096;

/// The subscriptions of all clients.
pub(super) struct Subscriptions {
    state: Mutex<SubscriptionTable>,
    /// The most subscriptions of all clients together.
    max: usize,
    revoked: mpsc::Sender<BrokerRequest>,
    revocations: tokio::sync::Mutex<mpsc::Receiver<BrokerRequest>>,
}

#[derive(Default)]
struct SubscriptionTable {
    /// Groups, by the id of the LITE topic and then by the id of the group.
    topics: HashMap<u32, HashMap<u32, Group>>,
    count: usize,
}

#[derive(Default)]
struct Group {
    members: HashMap<Arc<str>, Member>,
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
    /// `max` is the most subscriptions of all clients together.
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
        let names: HashSet<&str> = change.lite_topics.iter().map(String::as_str).collect();
        let mut state = self.state.lock();
        if let Some(growth) = state.growth(key, change.action, &names) {
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
            for (group, Group { members, .. }) in groups {
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
    fn group(&mut self, key: &MemberKey) -> Option<&mut Group> {
        self.topics.get_mut(&key.topic)?.get_mut(&key.group)
    }

    fn member(&mut self, key: &MemberKey) -> Option<&mut Member> {
        self.group(key)?.members.get_mut(&key.client)
    }

    fn member_or_new(&mut self, key: &MemberKey) -> &mut Member {
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
        if group.members.get(&key.client).is_some_and(Member::is_idle) {
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

impl Group {
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

    /// If any lite topic is ready, wakes another receive of the client, or the next one that begins to wait.
    pub(super) fn wake_another(&self) {
        if self.with(|member| member.has_ready()) {
            self.available.notify_one();
        }
    }

    /// Calls `act` with the state of the client.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Member) -> T) -> T {
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

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: usize = 3;

    fn key(client: &str) -> MemberKey {
        MemberKey { topic: 1, group: 2, client: client.into() }
    }

    fn change(client: &str, action: LiteAction, names: &[&str]) -> LiteChange {
        LiteChange {
            client_id: client.to_owned(),
            topic: "t".to_owned(),
            group: "g".to_owned(),
            action,
            lite_topics: names.iter().map(|name| (*name).to_owned()).collect(),
            quota: QUOTA,
            start: None,
            deadline: Instant::now(),
        }
    }

    fn apply(
        subscriptions: &Subscriptions,
        client: &str,
        action: LiteAction,
        names: &[&str],
    ) -> Result<(), ServiceErrorKind> {
        let change = change(client, action, names);
        subscriptions.change(&key(client), &change, false).map_err(|error| error.kind)
    }

    fn ready(receiving: &ReceivingMember) -> Vec<String> {
        let mut names: Vec<_> =
            std::iter::from_fn(|| receiving.with(Member::next_ready)).map(|n| n.to_string()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_lite_topic_is_ready_once_from_an_event_until_it_is_scanned() {
        let subscriptions = Subscriptions::new(100);
        apply(&subscriptions, "c", LiteAction::Add, &["a", "b"]).expect("added");
        let receiving = subscriptions.begin_receive(key("c"));
        assert_eq!(ready(&receiving), ["a", "b"], "there may be earlier messages");
        for _ in 0..3 {
            subscriptions.deliverable(1, None, "b");
            subscriptions.deliverable(1, Some(2), "b");
        }
        subscriptions.deliverable(1, Some(9), "a");
        subscriptions.deliverable(9, None, "a");
        subscriptions.deliverable(1, None, "other");
        assert_eq!(ready(&receiving), ["b"]);
        apply(&subscriptions, "c", LiteAction::Replace, &["a", "b"]).expect("repeated");
        assert_eq!(ready(&receiving), [""; 0], "repeated subscriptions are not ready again");
        subscriptions.deliverable(1, None, "b");
        apply(&subscriptions, "c", LiteAction::Remove, &["b"]).expect("removed");
        assert_eq!(ready(&receiving), [""; 0]);
    }

    #[test]
    fn subscriptions_are_bounded_per_client_and_in_total() {
        let subscriptions = Subscriptions::new(5);
        let refused = Err(ServiceErrorKind::LiteSubscriptionQuota);
        apply(&subscriptions, "c", LiteAction::Add, &["a", "b"]).expect("room");
        assert_eq!(apply(&subscriptions, "c", LiteAction::Add, &["b", "c", "d"]), refused);
        apply(&subscriptions, "c", LiteAction::Add, &["b", "c"]).expect("room");
        assert_eq!(apply(&subscriptions, "d", LiteAction::Add, &["a", "b", "c"]), refused);
        apply(&subscriptions, "d", LiteAction::Replace, &["a", "b"]).expect("room");
        apply(&subscriptions, "d", LiteAction::Replace, &["x", "y"]).expect("as many as before");
        assert_eq!(apply(&subscriptions, "d", LiteAction::Replace, &["x", "y", "z"]), refused);
        let small = LiteChange { quota: 1, ..change("c", LiteAction::Replace, &["a", "b"]) };
        subscriptions.change(&key("c"), &small, false).expect("no more than before");
        apply(&subscriptions, "d", LiteAction::Add, &["z"]).expect("room");
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        assert_eq!(apply(&subscriptions, &long, LiteAction::Add, &["a"]), Err(ServiceErrorKind::Rejected));
        for action in [LiteAction::Add, LiteAction::Replace] {
            assert_eq!(apply(&subscriptions, "e", action, &[&long]), Err(ServiceErrorKind::Rejected));
        }
        apply(&subscriptions, "e", LiteAction::Remove, &[&long]).expect("nothing is stored");
    }

    #[test]
    fn absent_clients_are_removed() {
        let subscriptions = Subscriptions::new(100);
        apply(&subscriptions, "c", LiteAction::Add, &["a", "b"]).expect("added");
        apply(&subscriptions, "c", LiteAction::Clear, &[]).expect("cleared");
        apply(&subscriptions, "c", LiteAction::Replace, &["a"]).expect("added");
        let receiving = subscriptions.begin_receive(key("c"));
        subscriptions.remove_silent(Instant::now());
        assert!(subscriptions.has_subscribers(1, "a"));
        subscriptions.remove_silent(Instant::now() + CLIENT_TIMEOUT);
        assert!(!subscriptions.has_subscribers(1, "a"));
        subscriptions.deliverable(1, None, "a");
        assert_eq!(ready(&receiving), [""; 0]);
        assert_eq!(subscriptions.state.lock().topics.len(), 1, "the client still receives");
        drop(receiving);
        drop(subscriptions.begin_receive(key("d")));
        let state = subscriptions.state.lock();
        assert_eq!((state.topics.len(), state.count), (0, 0));
    }

    #[tokio::test]
    async fn only_a_new_subscription_takes_over_an_exclusive_lite_topic() {
        let subscriptions = Subscriptions::new(100);
        let exclusively = |client: &str, action, names: &[&str]| {
            subscriptions.change(&key(client), &change(client, action, names), true).expect("changed");
        };
        exclusively("first", LiteAction::Add, &["a", "b"]);
        exclusively("second", LiteAction::Add, &["b", "c"]);
        for client in ["first", "second"] {
            exclusively(
                client,
                LiteAction::Replace,
                if client == "first" { &["a", "b"] } else { &["b", "c"] },
            );
        }
        for _ in 0..2 {
            let BrokerRequest::LiteUnsubscribed { client_id, lite_topic } =
                subscriptions.next_revocation().await
            else {
                panic!("a revocation")
            };
            assert_eq!((client_id.as_str(), lite_topic.as_str()), ("first", "b"));
        }
        assert!(subscriptions.revocations.lock().await.try_recv().is_err());
        let [first, second] = ["first", "second"].map(|client| subscriptions.begin_receive(key(client)));
        assert_eq!(
            (ready(&first), ready(&second)),
            (vec!["a".to_owned()], vec!["b".to_owned(), "c".to_owned()])
        );
        exclusively("first", LiteAction::Add, &["b"]);
        assert_eq!(ready(&first), ["b"]);
    }
}
