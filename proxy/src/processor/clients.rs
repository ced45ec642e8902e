//! BrokerRequests: which clients said who they are, and when they were last heard of. Soft state: a proxy that never
//! saw a client's settings serves it all the same, and asks for them by answering its heartbeat `UnknownClient`.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::seq::SliceRandom;
use tokio::sync::watch;

use super::cluster_router::Origin;
use super::stream::PushStream;
use super::{Expression, Processor, filter, max_attempts, validate};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::service::{GroupConfig, LiteAction, LiteChange, RetryPolicy, ServiceErrorKind, Services};

/// A client that is silent for this long is gone.
const EXPIRY: Duration = Duration::from_secs(120);

/// What a client says it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientKind {
    /// It doesn't say.
    #[default]
    Unspecified,
    /// Sends.
    Producer,
    /// Consumes, with its own loop.
    PushConsumer,
    /// Consumes, message by message.
    SimpleConsumer,
    /// Reserved.
    PullConsumer,
    /// Consumes lite topics.
    LitePushConsumer,
    /// Reserved.
    LiteSimpleConsumer,
    /// A number this proxy doesn't know.
    Unknown(i32),
}

/// What a client tells about itself.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// What it is.
    pub kind: ClientKind,
    /// How long it waits for an ordinary answer.
    pub request_timeout: Option<Duration>,
    /// What it does.
    pub role: Role,
}

/// What a client does.
#[derive(Clone, Debug)]
pub enum Role {
    /// Sends to these topics.
    Publishing(Vec<String>),
    /// Consumes in this group, with these filters by topic.
    Subscription(String, Vec<(String, Expression)>),
    /// It doesn't say.
    None,
}

/// What a consumer must keep to.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerPolicy {
    /// Deliveries of one message at most, the first included.
    pub max_attempts: i32,
    /// The pauses between them.
    pub retry: RetryPolicy,
    /// Whether the group consumes in order.
    pub fifo: bool,
    /// Messages of one receive at most.
    pub receive_batch: usize,
    /// How long a receive waits at most.
    pub polling: Duration,
    /// Lite topics of one client at most.
    pub lite_quota: i32,
    /// Bytes of a lite topic's name at most.
    pub lite_topic_bytes: usize,
}

impl ClientKind {
    /// The kind's name in the contract.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Unspecified => "CLIENT_TYPE_UNSPECIFIED".to_owned(),
            Self::Producer => "PRODUCER".to_owned(),
            Self::PushConsumer => "PUSH_CONSUMER".to_owned(),
            Self::SimpleConsumer => "SIMPLE_CONSUMER".to_owned(),
            Self::PullConsumer => "PULL_CONSUMER".to_owned(),
            Self::LitePushConsumer => "LITE_PUSH_CONSUMER".to_owned(),
            Self::LiteSimpleConsumer => "LITE_SIMPLE_CONSUMER".to_owned(),
            Self::Unknown(number) => format!("UNKNOWN_{number}"),
        }
    }

    fn consumes(self) -> bool {
        matches!(self, Self::PushConsumer | Self::SimpleConsumer | Self::LitePushConsumer)
    }
}

/// The clients that were heard of lately.
#[derive(Default)]
pub(super) struct Clients {
    by_client: Mutex<HashMap<String, Session>>,
    producers_changed: watch::Sender<()>,
}

#[derive(Clone)]
struct Session {
    kind: ClientKind,
    request_timeout: Option<Duration>,
    seen: Instant,
    /// What a producer sends to.
    topics: BTreeSet<String>,
    /// A consumer's group, and the first topic that it subscribes to.
    subscription: Option<(String, String)>,
    namespace: String,
    /// None: the stream has ended, and the client may open another, here or at another proxy.
    stream: Option<PushStream>,
}

impl Session {
    fn alive(&self) -> bool {
        self.seen.elapsed() < EXPIRY
    }

    fn origin<'a>(&'a self, client_id: &'a str) -> Origin<'a> {
        Origin { client_id, namespace: &self.namespace }
    }
}

impl Clients {
    pub(super) fn request_timeout(&self, client_id: &str) -> Option<Duration> {
        self.by_client.lock().get(client_id).and_then(|session| session.request_timeout)
    }

    pub(super) fn is_present(&self, client_id: &str) -> bool {
        self.by_client.lock().get(client_id).is_some_and(Session::alive)
    }

    /// Forgets the clients that are gone.
    pub(super) fn sweep(&self) {
        let mut sessions = self.by_client.lock();
        let gone = sessions.extract_if(|_, session| !session.alive());
        if gone.filter(|(_, session)| !session.topics.is_empty()).count() > 0 {
            self.producers_changed.send_replace(());
        }
    }

    fn heard(&self, client_id: &str) -> Option<Session> {
        let mut sessions = self.by_client.lock();
        let session = sessions.get_mut(client_id).filter(|session| session.alive())?;
        session.seen = Instant::now();
        Some(session.clone())
    }

    pub(super) fn remember(&self, context: &Context, settings: &ClientSettings, stream: &PushStream) {
        let (topics, subscription) = match &settings.role {
            Role::Publishing(topics) => (topics.iter().cloned().collect(), None),
            Role::Subscription(group, subscriptions) => {
                let topic = subscriptions.first().map(|(topic, _)| topic.clone());
                (BTreeSet::new(), topic.map(|topic| (group.clone(), topic)))
            }
            Role::None => Default::default(),
        };
        let produces = !topics.is_empty();
        let session = Session {
            kind: settings.kind,
            request_timeout: settings.request_timeout,
            seen: Instant::now(),
            topics,
            subscription,
            namespace: context.namespace.clone(),
            stream: Some(stream.clone()),
        };
        let before = self.by_client.lock().insert(context.client_id.clone(), session);
        if produces || before.is_some_and(|before| !before.topics.is_empty()) {
            self.producers_changed.send_replace(());
        }
    }

    fn remove(&self, client_id: &str) -> Option<Session> {
        let removed = self.by_client.lock().remove(client_id)?;
        if !removed.topics.is_empty() {
            self.producers_changed.send_replace(());
        }
        removed.alive().then_some(removed)
    }

    /// Notes that a producer sends to a topic that it may not have named.
    pub(super) fn publishes(&self, client_id: &str, topic: &str) {
        let mut sessions = self.by_client.lock();
        // A consumer's program would not know what it is asked.
        let producer = sessions.get_mut(client_id).filter(|session| !session.kind.consumes());
        let new = producer.is_some_and(|session| {
            !session.topics.contains(topic) && session.topics.insert(topic.to_owned())
        });
        if new {
            self.producers_changed.send_replace(());
        }
    }

    /// Tells when the answer of [`Clients::published`] may be another.
    pub(super) fn producers_changed(&self) -> watch::Receiver<()> {
        self.producers_changed.subscribe()
    }

    /// The topics whose producers can be spoken to here, as far as they are `wanted`.
    pub(super) fn published(&self, wanted: impl Fn(Origin<'_>, &str) -> bool) -> BTreeSet<String> {
        let (sessions, wanted) = (self.by_client.lock(), &wanted);
        let reachable = sessions.iter().filter(|(_, session)| session.stream.is_some() && session.alive());
        let topics = reachable.flat_map(|(client_id, session)| {
            let origin = session.origin(client_id);
            session.topics.iter().filter(move |topic| wanted(origin, topic))
        });
        topics.cloned().collect()
    }

    /// The streams of those of a topic's producers that are `wanted`, in any order.
    pub(super) fn producers_of(&self, topic: &str, wanted: impl Fn(Origin<'_>) -> bool) -> Vec<PushStream> {
        let sessions = self.by_client.lock();
        let producers = sessions.iter().filter(|(client_id, session)| {
            session.alive() && session.topics.contains(topic) && wanted(session.origin(client_id))
        });
        let mut streams: Vec<_> = producers.filter_map(|(_, session)| session.stream.clone()).collect();
        streams.shuffle(&mut rand::rng());
        streams
    }

    /// A client's stream.
    pub(super) fn stream(&self, client_id: &str) -> Option<PushStream> {
        self.by_client.lock().get(client_id)?.stream.clone()
    }

    fn stream_ended(&self, client_id: &str, stream: &PushStream) {
        let mut sessions = self.by_client.lock();
        let Some(session) = sessions.get_mut(client_id) else { return };
        if session.stream.as_ref().is_some_and(|current| current.same(stream)) {
            session.stream = None;
            if !session.topics.is_empty() {
                self.producers_changed.send_replace(());
            }
        }
    }
}

impl Processor {
    /// Takes a client's settings; a consumer is told what it must keep to. The client is spoken to by this stream.
    ///
    /// # Errors
    /// `BadRequest` (no role), `IllegalTopic`, `IllegalGroup` (also: it does not exist, or is for other
    /// clients), `IllegalFilter`, `NotAConsumer`.
    pub async fn register(
        &self,
        context: &Context,
        settings: ClientSettings,
        stream: &PushStream,
    ) -> Result<Option<ConsumerPolicy>, Error> {
        let policy = match &settings.role {
            Role::None => {
                return Err(Error::new(
                    ErrorKind::BadRequest,
                    "there is no publishing or subscription data in settings",
                ));
            }
            Role::Publishing(topics) => {
                topics.iter().try_for_each(|topic| validate::topic(topic))?;
                known_kind(settings.kind)?;
                None
            }
            Role::Subscription(group, subscriptions) => {
                Some(self.subscribe(context, settings.kind, (group, subscriptions)).await?)
            }
        };
        self.clients.remember(context, &settings, stream);
        Ok(policy)
    }

    /// Notes the end of a stream by which settings came. The client itself may live on, and open another, here or at
    /// another proxy: that it is gone is what it says ([`Processor::terminate`]), or its long silence.
    ///
    /// Unlike Apache's proxy this takes no consumer off its lite topics. Brokers know a subscription by its client
    /// alone, so that whoever goes on at another proxy would lose it until its next synchronisation, in half a minute.
    /// They give to others what is not fetched for ten seconds, and forget who is silent for three minutes.
    pub fn stream_ended(&self, context: &Context, stream: &PushStream) {
        self.clients.stream_ended(&context.client_id, stream);
    }

    async fn subscribe(
        &self,
        context: &Context,
        kind: ClientKind,
        (group, subscriptions): (&str, &[(String, Expression)]),
    ) -> Result<ConsumerPolicy, Error> {
        validate::group(group)?;
        if !kind.consumes() {
            let message = format!("Client type is not consumer, type: {}", kind.name());
            return Err(Error::new(ErrorKind::NotAConsumer, message));
        }
        for (_, expression) in subscriptions {
            filter::parse(expression.clone())
                .map_err(|error| Error::new(error.kind, "expression format is not correct"))?;
        }
        // A group is where its topics are.
        let topic = subscriptions.first().map_or("", |(topic, _)| topic.as_str());
        let config = group_for(self.services(context, topic), kind, group).await?;
        if let (Some(bound), Some((topic, _))) = (&config.lite_bind_topic, subscriptions.first())
            && bound != topic
        {
            let message =
                format!("lite group {group} is expected to bind topic {bound}, but actual is {topic}");
            return Err(Error::new(ErrorKind::IllegalTopic, message));
        }
        Ok(ConsumerPolicy {
            max_attempts: max_attempts(&config),
            retry: config.retry,
            fifo: config.fifo,
            receive_batch: self.limits.receive_batch,
            polling: self.limits.max_polling,
            lite_quota: config.lite_quota,
            lite_topic_bytes: self.limits.lite_topic_bytes,
        })
    }

    /// Notes that a client is there.
    ///
    /// # Errors
    /// `UnknownClient` if it never sent settings here, or lately; `IllegalGroup` for a consumer's group.
    pub async fn heartbeat(&self, context: &Context, group: &str) -> Result<(), Error> {
        let session = self.clients.heard(&context.client_id).ok_or_else(unknown_client)?;
        match session.kind {
            ClientKind::Producer => Ok(()),
            kind if kind.consumes() => {
                validate::group(group)?;
                let topic = session.subscription.as_ref().map_or("", |(_, topic)| topic.as_str());
                group_for(self.services(context, topic), kind, group).await.map(drop)
            }
            kind => Err(Error::new(ErrorKind::UnknownClient, kind.name())),
        }
    }

    /// Forgets a client that says good-bye, and gives its messages to others.
    ///
    /// # Errors
    /// `UnknownClient`, or `IllegalGroup` for a consumer's group; the client is forgotten even so.
    pub async fn terminate(&self, context: &Context, group: &str) -> Result<(), Error> {
        let session = self.clients.remove(&context.client_id).ok_or_else(unknown_client)?;
        self.release(&context.client_id).await;
        if session.kind == ClientKind::LitePushConsumer {
            self.unsubscribe_lite(context, session.subscription).await;
        }
        match session.kind {
            ClientKind::Producer => Ok(()),
            kind if kind.consumes() => validate::group(group),
            kind => Err(Error::new(ErrorKind::UnknownClient, kind.name())),
        }
    }
}

impl Processor {
    // Brokers would find out by themselves, after some minutes.
    async fn unsubscribe_lite(&self, context: &Context, subscription: Option<(String, String)>) {
        let Some((group, topic)) = subscription else { return };
        let services = self.services(context, &topic);
        let change = LiteChange {
            client_id: context.client_id.clone(),
            topic,
            group,
            action: LiteAction::Clear,
            lite_topics: Vec::new(),
            start: None,
            deadline: context.deadline_within(self.limits.call),
        };
        if let Err(error) = services.lite.sync(change).await {
            tracing::debug!(client_id = context.client_id, %error, "lite subscriptions wait for their expiry");
        }
    }
}

async fn group_for(services: &Services, kind: ClientKind, group: &str) -> Result<GroupConfig, Error> {
    let refuse = |message: String| Err(Error::new(ErrorKind::IllegalGroup, message));
    let config = match services.metadata.group(group).await {
        Ok(config) => config,
        Err(error) if error.kind == ServiceErrorKind::GroupNotFound => {
            return refuse(format!("group not found: {group}"));
        }
        Err(error) => return Err(error.into()),
    };
    match (kind, &config.lite_bind_topic) {
        (ClientKind::LitePushConsumer, None) => {
            refuse(format!("regular group cannot use LITE mode: {group}"))
        }
        (ClientKind::LitePushConsumer, Some(_)) | (_, None) => Ok(config),
        (_, Some(_)) => refuse(format!("lite group must use LITE mode: {group}")),
    }
}

fn known_kind(kind: ClientKind) -> Result<(), Error> {
    match kind {
        ClientKind::Unknown(number) => {
            Err(Error::new(ErrorKind::BadRequest, format!("the client type is unknown: {number}")))
        }
        _ => Ok(()),
    }
}

fn unknown_client() -> Error {
    Error::new(ErrorKind::UnknownClient, "cannot find client settings for this client")
}
