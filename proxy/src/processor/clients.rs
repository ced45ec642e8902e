//! The table of clients that have sent their settings to this proxy.
//!
//! **A client is identified by its id and its host.** Ids are no secret, so an id alone proves nothing: settings,
//! heartbeats and terminations affect only the sessions of their own host. If two hosts use one id, each has a session of
//! its own. Neither can take over the other's stream, keep its leases renewed, or end its session. A client that comes
//! back from another host begins a new session, and the old one expires. Ports don't matter: a client may use several
//! connections, and end its session on another connection than the one on which it began. Behind a load balancer that
//! does not pass on the clients' addresses (PROXY protocol), all clients have the same host, and only their ids
//! distinguish them.
//!
//! All of this is soft state. A proxy that never got a client's settings still serves the client, and requests the
//! settings by answering a heartbeat with `UnknownClient`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rand::seq::SliceRandom;
use tokio::sync::watch;

use super::classic_groups::ClassicGroups;
use super::client_kind::ClientKind;
use super::cluster_router::ClientOrigin;
use super::connected_client::{ClientFilter, ConnectedClient};
use super::host_budget::{HostBudget, Reservation};
use super::stream::PushStream;
use super::validate;
use crate::context::{Context, Host};
use crate::error::{Error, ErrorKind};

/// A session expires after this time without a heartbeat.
const SESSION_TIMEOUT: Duration = Duration::from_secs(120);
/// The same for a session whose stream has ended. Clients send heartbeats every ten seconds, and reopen their stream soon.
const STREAMLESS_TIMEOUT: Duration = Duration::from_secs(40);

/// The maximum number of bytes of the sessions of all clients.
const MAX_BYTES: usize = 128 << 20;
/// The approximate size of a session without its names.
const SESSION_BYTES: usize = 512;
/// The approximate size of a topic of a session without its name.
const TOPIC_BYTES: usize = 64;
/// The maximum number of topics that one producer may name.
const MAX_TOPICS: usize = 2000;
/// The maximum number of subscriptions that are kept of one consumer.
const MAX_SUBSCRIBED: usize = 64;
/// The maximum number of characters that are kept of the language, and of the version, that a client reports.
const MAX_LABEL_CHARS: usize = 32;

/// Identifies a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientKey {
    pub(super) id: Arc<str>,
    pub(super) host: Host,
}

/// A client's session: the part of its settings that is needed later.
#[derive(Debug)]
pub(super) struct ClientSession {
    pub(super) kind: ClientKind,
    pub(super) request_timeout: Option<Duration>,
    /// The topics that a producer sends to.
    pub(super) topics: BTreeSet<String>,
    pub(super) subscription: Option<GroupSubscription>,
    pub(super) namespace: String,
    /// `None` once the stream has ended. The client may open another stream, to this or another proxy.
    pub(super) stream: Option<PushStream>,
    /// A consumer's group; otherwise empty.
    pub(super) group: String,
    /// The groups of a client of the remoting protocol.
    pub(super) classic: ClassicGroups,
    /// The first topics to which a consumer subscribes, for administrators.
    subscribed: Vec<String>,
    language: String,
    version: String,
    address: Arc<str>,
    pub(super) since: SystemTime,
    last_heartbeat: Instant,
    /// The approximate size of the session.
    pub(super) bytes: usize,
    /// The session's part of the budget; `None` until the session is in the table.
    taken: Option<Reservation>,
}

/// The client of a heartbeat.
pub(super) struct KnownClient {
    pub(super) kind: ClientKind,
    /// The first topic to which a consumer subscribes; otherwise empty.
    pub(super) topic: String,
}

/// A consumer's group, and the first topic to which it subscribes.
#[derive(Clone, Debug)]
pub(super) struct GroupSubscription {
    pub(super) group: String,
    pub(super) topic: String,
}

/// The table of sessions.
pub(super) struct Clients {
    pub(super) sessions: Mutex<Sessions>,
    budget: Arc<HostBudget>,
    pub(super) producers_changed: watch::Sender<()>,
}

/// The sessions by client id and host.
#[derive(Default)]
pub(super) struct Sessions {
    by_id: HashMap<Arc<str>, HashMap<Host, ClientSession>>,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            sessions: Mutex::default(),
            budget: HostBudget::new(MAX_BYTES),
            producers_changed: watch::Sender::default(),
        }
    }
}

impl ClientKey {
    /// The client of a request.
    pub(super) fn of(context: &Context) -> Self {
        Self { id: context.client_id.as_str().into(), host: context.host() }
    }
}

impl ClientSession {
    /// Creates the session of a client that sends settings.
    ///
    /// # Errors
    /// `BadRequest` if the client's id or namespace is too long.
    pub(super) fn new(context: &Context, kind: ClientKind, stream: &PushStream) -> Result<Self, Error> {
        validate::client(context)?;
        Ok(Self {
            kind,
            request_timeout: None,
            topics: BTreeSet::new(),
            subscription: None,
            namespace: context.namespace.clone(),
            stream: Some(stream.clone()),
            group: String::new(),
            classic: ClassicGroups::default(),
            subscribed: Vec::new(),
            language: shorten(&context.client_language),
            version: shorten(&context.client_version),
            address: context.peer.clone(),
            since: SystemTime::now(),
            last_heartbeat: Instant::now(),
            bytes: SESSION_BYTES + context.client_id.len() + context.namespace.len(),
            taken: None,
        })
    }

    /// Adds a topic that the client sends to.
    ///
    /// # Errors
    /// `BadRequest` if the client has too many topics, `Busy` if the budget is exhausted.
    pub(super) fn publish_to(&mut self, topic: &str) -> Result<(), Error> {
        if self.topics.contains(topic) {
            return Ok(());
        }
        if self.topics.len() >= MAX_TOPICS {
            let message = format!("a client can't name more than {MAX_TOPICS} topics");
            return Err(Error::new(ErrorKind::BadRequest, message));
        }
        let bytes = topic.len() + TOPIC_BYTES;
        if self.taken.as_mut().is_some_and(|taken| !taken.grow(bytes)) {
            return Err(too_many_clients());
        }
        self.bytes += bytes;
        self.topics.insert(topic.to_owned());
        Ok(())
    }

    /// Records the topics to which the client subscribes, up to a limit.
    pub(super) fn subscribe_to<'a>(&mut self, topics: impl Iterator<Item = &'a str>) {
        for topic in topics.take(MAX_SUBSCRIBED) {
            self.bytes += topic.len() + TOPIC_BYTES;
            self.subscribed.push(topic.to_owned());
        }
    }

    fn is_alive(&self) -> bool {
        let timeout = if self.stream.is_some() { SESSION_TIMEOUT } else { STREAMLESS_TIMEOUT };
        self.last_heartbeat.elapsed() < timeout
    }

    fn describe(&self, id: &str) -> ConnectedClient {
        ConnectedClient {
            id: id.to_owned(),
            address: self.address.to_string(),
            language: self.language.clone(),
            version: self.version.clone(),
            namespace: self.namespace.clone(),
            kind: self.kind.name(),
            group: if self.kind == ClientKind::Classic {
                self.classic.consumers()
            } else {
                self.group.clone()
            },
            topics: self.topics.iter().chain(&self.subscribed).cloned().collect(),
            since: self.since,
            connected: self.stream.is_some(),
        }
    }

    fn origin<'a>(&'a self, client_id: &'a str) -> ClientOrigin<'a> {
        ClientOrigin { client_id, namespace: &self.namespace }
    }
}

impl Sessions {
    /// A client's session, unless it has expired.
    pub(super) fn get_mut(&mut self, id: &str, host: &Host) -> Option<&mut ClientSession> {
        self.by_id.get_mut(id)?.get_mut(host).filter(|session| session.is_alive())
    }

    /// All sessions that have not expired, with the clients' ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &ClientSession)> {
        let is_alive = |session: &&ClientSession| session.is_alive();
        self.by_id.iter().flat_map(move |(id, hosts)| {
            hosts.values().filter(is_alive).map(move |session| (id.as_ref(), session))
        })
    }

    /// Removes a client's session, even if it has expired.
    pub(super) fn remove(&mut self, id: &str, host: &Host) -> Option<ClientSession> {
        let hosts = self.by_id.get_mut(id)?;
        let removed = hosts.remove(host);
        if hosts.is_empty() {
            self.by_id.remove(id);
        }
        removed
    }
}

impl Clients {
    /// The request timeout that a client has reported.
    pub(super) fn request_timeout(&self, context: &Context) -> Option<Duration> {
        self.sessions.lock().get_mut(&context.client_id, &context.host())?.request_timeout
    }

    /// The client of a request, if it has a session. A request from a host without a session is attributed to another
    /// session of the same id. This only lets the proxy renew leases as long as that session lives.
    pub(super) fn find(&self, context: &Context) -> Option<ClientKey> {
        let sessions = self.sessions.lock();
        let (id, hosts) = sessions.by_id.get_key_value(context.client_id.as_str())?;
        let is_alive = |host: &Host| hosts.get(host).is_some_and(ClientSession::is_alive);
        let own = context.host();
        let host = if is_alive(&own) { own } else { hosts.keys().find(|host| is_alive(host))?.clone() };
        Some(ClientKey { id: id.clone(), host })
    }

    /// Whether a client has a session that has not expired.
    pub(super) fn is_present(&self, client: &ClientKey) -> bool {
        self.sessions.lock().get_mut(&client.id, &client.host).is_some()
    }

    /// Removes expired sessions.
    pub(super) fn remove_expired(&self) {
        let mut sessions = self.sessions.lock();
        let mut expired = Vec::new();
        for (id, hosts) in &sessions.by_id {
            let silent = hosts.iter().filter(|(_, session)| !session.is_alive());
            expired.extend(silent.map(|(host, _)| (id.clone(), host.clone())));
        }
        let mut had_producer = false;
        for (id, host) in expired {
            had_producer |= sessions.remove(&id, &host).is_some_and(|session| !session.topics.is_empty());
        }
        if had_producer {
            self.producers_changed.send_replace(());
        }
    }

    /// Records a heartbeat. Returns the client; `None` if the client has no session for its host.
    pub(super) fn record_heartbeat(&self, context: &Context) -> Option<KnownClient> {
        let mut sessions = self.sessions.lock();
        let session = sessions.get_mut(&context.client_id, &context.host())?;
        session.last_heartbeat = Instant::now();
        let topic = session.subscription.as_ref().map(|subscription| subscription.topic.clone());
        Some(KnownClient { kind: session.kind, topic: topic.unwrap_or_default() })
    }

    /// Adds a session, or replaces the session of the same client.
    ///
    /// # Errors
    /// `Busy` if there are too many clients.
    pub(super) fn insert(&self, context: &Context, mut session: ClientSession) -> Result<(), Error> {
        let host = context.host();
        let mut sessions = self.sessions.lock();
        let published = |session: &ClientSession| match session.stream {
            Some(_) => (session.topics.clone(), session.classic.producers.clone()),
            None => (BTreeSet::new(), BTreeSet::new()),
        };
        // The old session returns its bytes to the budget before the new one takes its own.
        let before = sessions.remove(&context.client_id, &host).map(|before| published(&before));
        let taken = self.budget.take(host.clone(), session.bytes);
        session.taken = Some(taken.ok_or_else(too_many_clients)?);
        let changed = before.unwrap_or_default() != published(&session);
        sessions.by_id.entry(context.client_id.as_str().into()).or_default().insert(host, session);
        drop(sessions);
        if changed {
            self.producers_changed.send_replace(());
        }
        Ok(())
    }

    /// Ends the session of a client that closes. `None` if the client has no session for its host.
    pub(super) fn remove(&self, context: &Context) -> Option<(ClientKey, ClientSession)> {
        let client = ClientKey::of(context);
        let removed = self.sessions.lock().remove(&client.id, &client.host)?;
        if !removed.topics.is_empty() {
            self.producers_changed.send_replace(());
        }
        removed.is_alive().then_some((client, removed))
    }

    /// Records that a client sends to a topic that it may not have named in its settings.
    pub(super) fn record_publishing(&self, context: &Context, topic: &str) {
        let host = context.host();
        let mut sessions = self.sessions.lock();
        // Consumers are left out, because they can't answer transaction checks.
        let session = sessions.get_mut(&context.client_id, &host).filter(|session| !session.kind.consumes());
        let Some(session) = session.filter(|session| !session.topics.contains(topic)) else { return };
        if session.publish_to(topic).is_ok() {
            self.producers_changed.send_replace(());
        }
    }

    /// Signals that the result of [`Clients::published_topics`] may have changed.
    pub(super) fn producers_changed(&self) -> watch::Receiver<()> {
        self.producers_changed.subscribe()
    }

    /// The topics whose producers have an open stream, filtered by `wanted`. There may be hundreds of thousands, so the table is
    /// locked for one session at a time.
    pub(super) async fn published_topics(
        &self,
        wanted: impl Fn(ClientOrigin<'_>, &str) -> bool,
    ) -> BTreeSet<String> {
        let mut published = BTreeSet::new();
        for ClientKey { id, host } in self.producers() {
            {
                let mut sessions = self.sessions.lock();
                let Some(session) = sessions.get_mut(&id, &host) else { continue };
                let is_wanted = |topic: &&String| wanted(session.origin(&id), topic);
                published.extend(session.topics.iter().filter(is_wanted).cloned());
            }
            tokio::task::yield_now().await;
        }
        published
    }

    /// The clients that have named topics they send to, and have an open stream.
    fn producers(&self) -> Vec<ClientKey> {
        let sessions = self.sessions.lock();
        let hosts = sessions.by_id.iter().flat_map(|(id, hosts)| hosts.iter().map(move |host| (id, host)));
        let producers = hosts
            .filter(|(_, (_, session))| session.stream.is_some() && !session.topics.is_empty())
            .map(|(id, (host, _))| ClientKey { id: id.clone(), host: host.clone() });
        producers.collect()
    }

    /// The streams of a topic's producers, filtered by `wanted`, in random order. If the message has a producer group, those
    /// of the classic producers in this group.
    pub(super) fn producers_of(
        &self,
        topic: &str,
        group: Option<&str>,
        wanted: impl Fn(ClientOrigin<'_>) -> bool,
    ) -> Vec<PushStream> {
        let sessions = self.sessions.lock();
        let sends = |session: &ClientSession| match group {
            Some(group) => session.classic.producers.contains(group),
            None => session.kind != ClientKind::Classic && session.topics.contains(topic),
        };
        let producers = sessions
            .iter()
            .filter(|(client_id, session)| sends(session) && wanted(session.origin(client_id)));
        let mut streams: Vec<_> = producers.filter_map(|(_, session)| session.stream.clone()).collect();
        streams.shuffle(&mut rand::rng());
        streams
    }

    /// The streams of all clients with this id.
    pub(super) fn streams_of(&self, client_id: &str) -> Vec<PushStream> {
        let sessions = self.sessions.lock();
        let hosts = sessions.by_id.get(client_id).into_iter().flat_map(HashMap::values);
        hosts.filter_map(|session| session.stream.clone()).collect()
    }

    /// The clients that the filter selects, in no particular order.
    pub(super) fn list(&self, filter: &ClientFilter) -> Vec<ConnectedClient> {
        let sessions = self.sessions.lock();
        let wanted = |session: &ClientSession| {
            let is_named = |topic| session.topics.contains(topic) || session.subscribed.contains(topic);
            let is_in = |group: &String| session.group == *group || session.classic.consumers.contains(group);
            filter.group.as_ref().is_none_or(is_in) && filter.topic.as_ref().is_none_or(is_named)
        };
        let wanted = sessions.iter().filter(|(_, session)| wanted(session));
        wanted.map(|(id, session)| session.describe(id)).collect()
    }

    /// Records the end of a client's stream, unless the client has opened another one.
    pub(super) fn stream_ended(&self, context: &Context, stream: &PushStream) {
        let mut sessions = self.sessions.lock();
        let Some(session) = sessions.get_mut(&context.client_id, &context.host()) else { return };
        if session.stream.as_ref().is_some_and(|current| current.is_same(stream)) {
            session.stream = None;
            if !session.topics.is_empty() {
                self.producers_changed.send_replace(());
            }
        }
    }
}

/// Cuts off a label that a client reports after the first characters.
fn shorten(label: &str) -> String {
    label.chars().take(MAX_LABEL_CHARS).collect()
}

fn too_many_clients() -> Error {
    Error::new(ErrorKind::Busy, "too many clients")
}

#[cfg(test)]
mod tests;
