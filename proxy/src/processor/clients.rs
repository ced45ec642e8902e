//! Which clients sent their settings here, and when their last sign of life was.
//!
//! **A client is its id and the host that it speaks from.** Ids are no secret, so the id alone proves nothing: settings,
//! heartbeats and terminations count for the sessions of their own host only. Two hosts that use one id have a session
//! each. Neither takes over the other's stream, keeps its leases renewed, or ends it. A client that comes back from
//! another host begins a new session there, and the old one ends by its silence. Ports don't matter: a client may use
//! several connections, and end its session on another connection than it began. Behind a load balancer that does not
//! tell the clients' addresses (PROXY protocol), all clients are of one host, and only their ids tell them apart.
//!
//! All of this is soft state: a proxy that never saw a client's settings serves it all the same, and asks for them by
//! answering its heartbeat `UnknownClient`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rand::seq::SliceRandom;
use tokio::sync::watch;

use super::administration::{ClientFilter, ConnectedClient};
use super::byte_budget::{ByteBudget, TakenBytes};
use super::classic_clients::ClassicGroups;
use super::client_kind::ClientKind;
use super::cluster_router::Origin;
use super::stream::PushStream;
use crate::context::{Context, Host};
use crate::error::{Error, ErrorKind};

/// A client that is silent for this long is gone.
const EXPIRY: Duration = Duration::from_secs(120);
/// The same for one whose stream has ended. Clients report every ten seconds, and open another stream once they can.
const WITHOUT_STREAM: Duration = Duration::from_secs(40);

/// Bytes that the sessions of all clients may take.
const MAX_BYTES: usize = 128 << 20;
/// What a session takes besides its names, about.
const SESSION_BYTES: usize = 512;
/// What a topic of a producer takes besides its name, about.
const TOPIC_BYTES: usize = 64;
/// Topics that one producer may name.
const MAX_TOPICS: usize = 2000;
/// Subscriptions that are kept of one consumer.
const MAX_SUBSCRIBED: usize = 64;
/// The most characters of the language, and of the version, that a client reports.
const MAX_LABEL: usize = 32;
/// Bytes of a client's id and of its namespace, each.
const MAX_NAME: usize = 1024;

/// Identifies a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientKey {
    pub(super) id: Arc<str>,
    host: Host,
}

/// A client's settings, as far as they are needed later.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) kind: ClientKind,
    pub(super) request_timeout: Option<Duration>,
    /// What a producer sends to.
    pub(super) topics: BTreeSet<String>,
    pub(super) subscription: Option<GroupSubscription>,
    pub(super) namespace: String,
    /// `None` once the stream has ended. The client may open another, here or at another proxy.
    pub(super) stream: Option<PushStream>,
    /// A consumer's group, or empty.
    pub(super) group: String,
    /// The groups of a client of the remoting protocol.
    pub(super) classic: ClassicGroups,
    /// What a consumer subscribes to, as far as it is kept for administrators.
    subscribed: Vec<String>,
    language: String,
    version: String,
    address: Arc<str>,
    pub(super) since: SystemTime,
    seen: Instant,
    /// What it takes, from the budget once it is in the table.
    pub(super) bytes: usize,
    taken: Option<TakenBytes>,
}

/// What is known of a client.
pub(super) struct KnownClient {
    pub(super) kind: ClientKind,
    /// The first topic that a consumer subscribes to, or empty.
    pub(super) topic: String,
}

/// A consumer's group, and the first topic that it subscribes to.
#[derive(Clone, Debug)]
pub(super) struct GroupSubscription {
    pub(super) group: String,
    pub(super) topic: String,
}

/// The clients that gave a sign of life lately.
pub(super) struct Clients {
    pub(super) sessions: Mutex<Sessions>,
    budget: Arc<ByteBudget>,
    pub(super) producers_changed: watch::Sender<()>,
}

#[derive(Default)]
pub(super) struct Sessions {
    by_id: HashMap<Arc<str>, HashMap<Host, Session>>,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            sessions: Mutex::default(),
            budget: ByteBudget::new(MAX_BYTES),
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

impl Session {
    /// The session that a client's settings begin.
    ///
    /// # Errors
    /// `BadRequest` for an id, a namespace or a list of topics that is too long to be kept.
    pub(super) fn new(context: &Context, kind: ClientKind, stream: &PushStream) -> Result<Self, Error> {
        for (what, name) in [("client id", &context.client_id), ("namespace", &context.namespace)] {
            if name.len() > MAX_NAME {
                let message = format!("the {what} is longer than {MAX_NAME} bytes");
                return Err(Error::new(ErrorKind::BadRequest, message));
            }
        }
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
            language: shortened(&context.client_language),
            version: shortened(&context.client_version),
            address: context.peer.clone(),
            since: SystemTime::now(),
            seen: Instant::now(),
            bytes: SESSION_BYTES + context.client_id.len() + context.namespace.len(),
            taken: None,
        })
    }

    /// Adds a topic that the client sends to.
    ///
    /// # Errors
    /// `BadRequest` if there are too many, `Busy` if there is no room.
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

    /// Notes what the client subscribes to, as far as there is room.
    pub(super) fn subscribe_to<'a>(&mut self, topics: impl Iterator<Item = &'a str>) {
        for topic in topics.take(MAX_SUBSCRIBED) {
            self.bytes += topic.len() + TOPIC_BYTES;
            self.subscribed.push(topic.to_owned());
        }
    }

    fn alive(&self) -> bool {
        self.seen.elapsed() < if self.stream.is_some() { EXPIRY } else { WITHOUT_STREAM }
    }

    fn described(&self, id: &str) -> ConnectedClient {
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

    fn origin<'a>(&'a self, client_id: &'a str) -> Origin<'a> {
        Origin { client_id, namespace: &self.namespace }
    }
}

impl Sessions {
    pub(super) fn get_mut(&mut self, id: &str, host: &Host) -> Option<&mut Session> {
        self.by_id.get_mut(id)?.get_mut(host).filter(|session| session.alive())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Session)> {
        let alive = |session: &&Session| session.alive();
        self.by_id.iter().flat_map(move |(id, hosts)| {
            hosts.values().filter(alive).map(move |session| (id.as_ref(), session))
        })
    }

    pub(super) fn remove(&mut self, id: &str, host: &Host) -> Option<Session> {
        let hosts = self.by_id.get_mut(id)?;
        let removed = hosts.remove(host);
        if hosts.is_empty() {
            self.by_id.remove(id);
        }
        removed
    }
}

impl Clients {
    pub(super) fn request_timeout(&self, context: &Context) -> Option<Duration> {
        self.sessions.lock().get_mut(&context.client_id, &context.host())?.request_timeout
    }

    /// The client of a request, if it is known here. A request from a host without a session belongs to a session of
    /// the same id: it can't do more than use it.
    pub(super) fn find(&self, context: &Context) -> Option<ClientKey> {
        let sessions = self.sessions.lock();
        let (id, hosts) = sessions.by_id.get_key_value(context.client_id.as_str())?;
        let alive = |host: &Host| hosts.get(host).is_some_and(Session::alive);
        let own = context.host();
        let host = if alive(&own) { own } else { hosts.keys().find(|host| alive(host))?.clone() };
        Some(ClientKey { id: id.clone(), host })
    }

    /// Whether a client gave a sign of life lately.
    pub(super) fn is_present(&self, client: &ClientKey) -> bool {
        self.sessions.lock().get_mut(&client.id, &client.host).is_some()
    }

    /// Forgets the clients that are gone.
    pub(super) fn sweep(&self) {
        let mut sessions = self.sessions.lock();
        let mut gone = Vec::new();
        for (id, hosts) in &sessions.by_id {
            let silent = hosts.iter().filter(|(_, session)| !session.alive());
            gone.extend(silent.map(|(host, _)| (id.clone(), host.clone())));
        }
        let mut produced = false;
        for (id, host) in gone {
            produced |= sessions.remove(&id, &host).is_some_and(|session| !session.topics.is_empty());
        }
        if produced {
            self.producers_changed.send_replace(());
        }
    }

    /// Notes a sign of life of a client. Returns what it is; `None` if it has no session for its host.
    pub(super) fn heard(&self, context: &Context) -> Option<KnownClient> {
        let mut sessions = self.sessions.lock();
        let session = sessions.get_mut(&context.client_id, &context.host())?;
        session.seen = Instant::now();
        let topic = session.subscription.as_ref().map(|subscription| subscription.topic.clone());
        Some(KnownClient { kind: session.kind, topic: topic.unwrap_or_default() })
    }

    /// Begins a session, or replaces the one of the same client.
    ///
    /// # Errors
    /// `Busy` if too many clients are there already.
    pub(super) fn insert(&self, context: &Context, mut session: Session) -> Result<(), Error> {
        let host = context.host();
        let mut sessions = self.sessions.lock();
        let published = |session: &Session| match session.stream {
            Some(_) => (session.topics.clone(), session.classic.producers.clone()),
            None => (BTreeSet::new(), BTreeSet::new()),
        };
        // Gives its bytes back before the new one takes them.
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

    /// Ends the session of a client that closes. `None` if it has none for its host.
    pub(super) fn remove(&self, context: &Context) -> Option<(ClientKey, Session)> {
        let client = ClientKey::of(context);
        let removed = self.sessions.lock().remove(&client.id, &client.host)?;
        if !removed.topics.is_empty() {
            self.producers_changed.send_replace(());
        }
        removed.alive().then_some((client, removed))
    }

    /// Notes that a producer sends to a topic that it may not have named in its settings.
    pub(super) fn publishes(&self, context: &Context, topic: &str) {
        let host = context.host();
        let mut sessions = self.sessions.lock();
        // A consumer could not answer questions about transactions.
        let session = sessions.get_mut(&context.client_id, &host).filter(|session| !session.kind.consumes());
        let Some(session) = session.filter(|session| !session.topics.contains(topic)) else { return };
        if session.publish_to(topic).is_ok() {
            self.producers_changed.send_replace(());
        }
    }

    /// Signals that [`Clients::published`] may return something else now.
    pub(super) fn producers_changed(&self) -> watch::Receiver<()> {
        self.producers_changed.subscribe()
    }

    /// The topics whose producers can be reached here, as far as they are `wanted`.
    pub(super) fn published(&self, wanted: impl Fn(Origin<'_>, &str) -> bool) -> BTreeSet<String> {
        let (sessions, wanted) = (self.sessions.lock(), &wanted);
        let reachable = sessions.iter().filter(|(_, session)| session.stream.is_some());
        let topics = reachable.flat_map(|(client_id, session)| {
            let origin = session.origin(client_id);
            session.topics.iter().filter(move |topic| wanted(origin, topic))
        });
        topics.cloned().collect()
    }

    /// The streams of those of a topic's producers that are `wanted`, in random order; of those in this group if the
    /// message has one.
    pub(super) fn producers_of(
        &self,
        topic: &str,
        group: Option<&str>,
        wanted: impl Fn(Origin<'_>) -> bool,
    ) -> Vec<PushStream> {
        let sessions = self.sessions.lock();
        let sends = |session: &Session| match group {
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
        let wanted = |session: &Session| {
            let is_named = |topic| session.topics.contains(topic) || session.subscribed.contains(topic);
            let is_in = |group: &String| session.group == *group || session.classic.consumers.contains(group);
            filter.group.as_ref().is_none_or(is_in) && filter.topic.as_ref().is_none_or(is_named)
        };
        let wanted = sessions.iter().filter(|(_, session)| wanted(session));
        wanted.map(|(id, session)| session.described(id)).collect()
    }

    pub(super) fn stream_ended(&self, context: &Context, stream: &PushStream) {
        let mut sessions = self.sessions.lock();
        let Some(session) = sessions.get_mut(&context.client_id, &context.host()) else { return };
        if session.stream.as_ref().is_some_and(|current| current.same(stream)) {
            session.stream = None;
            if !session.topics.is_empty() {
                self.producers_changed.send_replace(());
            }
        }
    }
}

/// The beginning of a label that a client reports.
fn shortened(label: &str) -> String {
    label.chars().take(MAX_LABEL).collect()
}

fn too_many_clients() -> Error {
    Error::new(ErrorKind::Busy, "too many clients")
}

#[cfg(test)]
mod tests;
