//! A client's session: it begins with settings, goes on with heartbeats, and ends with a termination.

use std::time::Duration;

use super::client_kind::ClientKind;
use super::clients::{GroupSubscription, Session};
use super::command::Command;
use super::environment::Environment;
use super::stream::PushStream;
use super::{Expression, filter, group, lease, validate};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::layer::{Names, OperationKind};
use crate::service::{LiteAction, LiteChange, RetryPolicy};

/// The retry policy of producers.
const PRODUCER_POLICY: ProducerPolicy = ProducerPolicy {
    max_attempts: 3,
    retry: RetryPolicy::Exponential {
        initial: Duration::from_millis(10),
        max: Duration::from_secs(1),
        multiplier: 2.0,
    },
};

/// Takes a client's settings, and returns what the client must keep to. Commands to the client go by this stream from
/// now on.
///
/// # Errors
/// `BadRequest` (no role, or too much to keep), `IllegalTopic`, `IllegalGroup` (also: it does not exist, or is for other
/// clients), `IllegalFilter`, `NotAConsumer`, `Busy`.
#[derive(Debug)]
pub struct RegisterCommand {
    /// What the client says about itself.
    pub settings: ClientSettings,
    /// The stream that the settings came by.
    pub stream: PushStream,
}

/// Reports that a client is alive.
///
/// # Errors
/// `UnknownClient` if no settings came from the client's host lately; `IllegalGroup` for a consumer's group.
#[derive(Clone, Debug)]
pub struct HeartbeatCommand {
    /// A consumer's group.
    pub group: String,
}

/// Ends a client's session, and releases its messages for others.
///
/// # Errors
/// `UnknownClient` if the client's host has no session; it has no effect then. `IllegalGroup` for a consumer's group; the
/// session ends even so.
#[derive(Clone, Debug)]
pub struct TerminateCommand {
    /// A consumer's group.
    pub group: String,
}

/// What a client says about itself.
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
    /// Consumes in a group.
    Subscribing {
        /// The group.
        group: String,
        /// What it subscribes to.
        subscriptions: Vec<Subscription>,
    },
    /// Unknown, because the client doesn't say.
    None,
}

/// A topic that a consumer subscribes to.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The topic.
    pub topic: String,
    /// Which of its messages.
    pub expression: Expression,
}

/// What a client must keep to.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientPolicy {
    /// A producer.
    Producer(ProducerPolicy),
    /// A consumer.
    Consumer(ConsumerPolicy),
}

/// What a producer must keep to.
#[derive(Clone, Debug, PartialEq)]
pub struct ProducerPolicy {
    /// Attempts to send one message, the first included.
    pub max_attempts: i32,
    /// The pauses between them.
    pub retry: RetryPolicy,
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

impl Names for Role {
    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a str)) {
        match self {
            Self::Publishing(topics) => topics.iter().for_each(|topic| visit(topic)),
            Self::Subscribing { subscriptions, .. } => {
                subscriptions.iter().for_each(|subscription| visit(&subscription.topic));
            }
            Self::None => {}
        }
    }
}

impl Command for RegisterCommand {
    type Answer = ClientPolicy;
    const KIND: OperationKind = OperationKind::Register;

    fn topics(&self) -> &dyn Names {
        &self.settings.role
    }

    fn groups(&self) -> &dyn Names {
        match &self.settings.role {
            Role::Subscribing { group, .. } => group,
            Role::Publishing(_) | Role::None => &(),
        }
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<ClientPolicy, Error> {
        let ClientSettings { kind, request_timeout, role } = self.settings;
        let mut session = Session::new(context, kind, &self.stream)?;
        session.request_timeout = request_timeout;
        let policy = match role {
            Role::None => {
                return Err(Error::new(
                    ErrorKind::BadRequest,
                    "there is no publishing or subscription data in settings",
                ));
            }
            Role::Publishing(topics) => {
                topics.iter().try_for_each(|topic| validate::topic(topic))?;
                check_kind(kind)?;
                topics.iter().try_for_each(|topic| session.publish_to(topic))?;
                ClientPolicy::Producer(PRODUCER_POLICY)
            }
            Role::Subscribing { group, subscriptions } => {
                let consumer = Consumer { kind, group: &group, subscriptions: &subscriptions };
                let policy = consumer.check(environment, context).await?;
                session.group.clone_from(&group);
                session.subscribe_to(subscriptions.iter().map(|subscription| subscription.topic.as_str()));
                let topic = subscriptions.into_iter().next().map(|subscription| subscription.topic);
                session.subscription = topic
                    .filter(|topic| validate::topic(topic).is_ok())
                    .map(|topic| GroupSubscription { group, topic });
                ClientPolicy::Consumer(policy)
            }
        };
        environment.clients.insert(context, session)?;
        Ok(policy)
    }
}

impl Command for HeartbeatCommand {
    type Answer = ();
    const KIND: OperationKind = OperationKind::Heartbeat;

    fn topics(&self) -> &dyn Names {
        &()
    }

    fn groups(&self) -> &dyn Names {
        &self.group
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<(), Error> {
        let client = environment.clients.heard(context).ok_or_else(unknown_client)?;
        match client.kind {
            ClientKind::Producer => Ok(()),
            kind if kind.consumes() => {
                validate::group(&self.group)?;
                let services = environment.services(context, &client.topic);
                group::for_client(services, kind, &self.group).await.map(drop)
            }
            kind => Err(Error::new(ErrorKind::UnknownClient, kind.name())),
        }
    }
}

impl Command for TerminateCommand {
    type Answer = ();
    const KIND: OperationKind = OperationKind::Terminate;

    fn topics(&self) -> &dyn Names {
        &()
    }

    fn groups(&self) -> &dyn Names {
        &self.group
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<(), Error> {
        let (client, session) = environment.clients.remove(context).ok_or_else(unknown_client)?;
        lease::release(environment, &client).await;
        // Brokers know a lite subscription by the client's id alone: another session of the same id keeps it.
        if session.kind.consumes_lite() && environment.clients.find(context).is_none() {
            unsubscribe_lite(environment, context, session.subscription).await;
        }
        match session.kind {
            ClientKind::Producer => Ok(()),
            kind if kind.consumes() => validate::group(&self.group),
            kind => Err(Error::new(ErrorKind::UnknownClient, kind.name())),
        }
    }
}

/// A consumer as its settings describe it.
struct Consumer<'a> {
    kind: ClientKind,
    group: &'a str,
    subscriptions: &'a [Subscription],
}

impl Consumer<'_> {
    async fn check(&self, environment: &Environment, context: &Context) -> Result<ConsumerPolicy, Error> {
        validate::group(self.group)?;
        if !self.kind.consumes() {
            let message = format!("Client type is not consumer, type: {}", self.kind.name());
            return Err(Error::new(ErrorKind::NotAConsumer, message));
        }
        for Subscription { expression, .. } in self.subscriptions {
            filter::parse(expression.clone())
                .map_err(|error| Error::new(error.kind, "expression format is not correct"))?;
        }
        // A group is in the cluster of its topics.
        let topic = self.subscriptions.first().map(|subscription| subscription.topic.as_str());
        let services = environment.services(context, topic.unwrap_or_default());
        let config = group::for_client(services, self.kind, self.group).await?;
        if let (Some(bound), Some(topic)) = (&config.lite_bind_topic, topic)
            && bound != topic
        {
            return Err(group::bound_elsewhere(&config, topic));
        }
        Ok(ConsumerPolicy {
            max_attempts: config.max_attempts(),
            retry: config.retry,
            fifo: config.fifo,
            receive_batch: environment.limits.receive_batch,
            polling: environment.limits.max_polling,
            lite_quota: config.lite_quota,
            lite_topic_bytes: environment.limits.lite_topic_bytes,
        })
    }
}

// Without this, brokers would notice only after some minutes.
//
// Unlike at Apache's proxy, the end of a stream alone does not unsubscribe: the client may go on at another proxy, and
// would lose its subscription until its next synchronisation, half a minute later. Brokers give to others what is not
// fetched for ten seconds, and forget who is silent for three minutes.
async fn unsubscribe_lite(
    environment: &Environment,
    context: &Context,
    subscription: Option<GroupSubscription>,
) {
    let Some(GroupSubscription { group, topic }) = subscription else { return };
    let services = environment.services(context, &topic);
    let change = LiteChange {
        client_id: context.client_id.clone(),
        topic,
        group,
        action: LiteAction::Clear,
        lite_topics: Vec::new(),
        quota: 0,
        start: None,
        deadline: context.deadline_within(environment.limits.call),
    };
    if let Err(error) = services.lite.sync(change).await {
        tracing::debug!(client_id = context.client_id, %error, "lite subscriptions stay until they expire");
    }
}

fn check_kind(kind: ClientKind) -> Result<(), Error> {
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

#[cfg(test)]
mod tests {
    use super::super::scripted::{self, Asked};
    use super::super::{ClusterRouter, Limits};
    use super::*;
    use crate::service::{InvisibleOutcome, Settle};

    fn from(peer: &str) -> Context {
        Context { peer: peer.into(), ..Context::of_client("c") }
    }

    fn registration() -> RegisterCommand {
        let role = Role::Publishing(vec!["t".to_owned()]);
        let settings = ClientSettings { kind: ClientKind::Producer, request_timeout: None, role };
        RegisterCommand { settings, stream: PushStream::open().0 }
    }

    #[tokio::test]
    async fn a_stranger_who_knows_a_client_id_ends_nothing() {
        let ([services], [mut asked]) = scripted::backends();
        let processor = scripted::processor(ClusterRouter::single(services), Limits::default());
        let (owner, stranger) = (Context::of_client("c"), from("10.0.0.2:1"));
        processor.run(&owner, registration()).await.expect("a policy");
        let entry = Settle {
            coordinates: "q".to_owned(),
            message_id: "m".to_owned(),
            lite_topic: None,
            received_at: std::time::SystemTime::now(),
            invisible: Duration::from_secs(60),
        };
        processor.environment.leases.keep("h".to_owned(), scripted::renewal("c", entry));

        // Without settings of its own, and with them.
        let terminate = || TerminateCommand { group: String::new() };
        let refused = processor.run(&stranger, terminate()).await.expect_err("a refusal");
        assert_eq!(refused.kind, ErrorKind::UnknownClient);
        processor.run(&stranger, registration()).await.expect("a policy");
        processor.run(&stranger, terminate()).await.expect("its own end");
        assert!(asked.try_recv().is_err(), "no lease was ended");
        processor.run(&owner, HeartbeatCommand { group: String::new() }).await.expect("a session");

        // The owner itself, on another connection.
        let ending = tokio::spawn({
            let processor = processor.clone();
            async move { processor.run(&from("127.0.0.1:2"), TerminateCommand { group: String::new() }).await }
        });
        let Some(Asked::Change(change, answer)) = asked.recv().await else { panic!("a lease ends") };
        assert_eq!(change.entry.coordinates, "q");
        answer.send(Ok(InvisibleOutcome::Expired)).expect("a waiting termination");
        ending.await.expect("no panic").expect("the end");
        let refused = processor.run(&owner, HeartbeatCommand { group: String::new() }).await;
        assert_eq!(refused.expect_err("no session").kind, ErrorKind::UnknownClient);
    }

    #[test]
    fn layers_see_every_topic_and_the_group_of_settings() {
        let subscription = |topic: &str| Subscription {
            topic: topic.to_owned(),
            expression: Expression::Tags(String::new()),
        };
        let role =
            Role::Subscribing { group: "g".to_owned(), subscriptions: ["a", "b"].map(subscription).to_vec() };
        let settings = ClientSettings { kind: ClientKind::PushConsumer, request_timeout: None, role };
        let command = RegisterCommand { settings, stream: PushStream::open().0 };
        let (mut topics, mut groups) = (Vec::new(), Vec::new());
        command.topics().each(&mut |topic| topics.push(topic));
        command.groups().each(&mut |group| groups.push(group));
        assert_eq!((topics, groups), (vec!["a", "b"], vec!["g"]));
    }
}
