//! The session of a client: it begins with the client's settings, continues with heartbeats, and ends with a termination.

use std::time::Duration;

use super::client_kind::ClientKind;
use super::clients::{ClientSession, GroupSubscription};
use super::command::Command;
use super::environment::Environment;
use super::stream::PushStream;
use super::{Expression, filter, group, lease_renewal, validate};
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

/// Begins or replaces the session of a client. Returns the policy that the client must follow. From now on, commands to the
/// client are sent on this stream.
///
/// # Errors
/// `BadRequest` (no role, or names are too long or too many), `IllegalTopic`, `IllegalGroup` (also if the group does not
/// exist, or is for clients of another type), `IllegalFilter`, `NotAConsumer`, `Busy`.
#[derive(Debug)]
pub struct RegisterCommand {
    /// The client's settings.
    pub settings: ClientSettings,
    /// The stream on which the settings were sent.
    pub stream: PushStream,
}

/// Reports that a client is alive.
///
/// # Errors
/// `UnknownClient` if the client's host has no session; `IllegalGroup` for a consumer's group.
#[derive(Clone, Debug)]
pub struct HeartbeatCommand {
    /// The group of a consumer.
    pub group: String,
}

/// Ends a client's session, and releases its messages for other clients.
///
/// # Errors
/// `UnknownClient` if the client's host has no session; then nothing changes. `IllegalGroup` for a consumer's group; the
/// session ends nevertheless.
#[derive(Clone, Debug)]
pub struct TerminateCommand {
    /// The group of a consumer.
    pub group: String,
}

/// The settings that a client sends.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// The client's type.
    pub kind: ClientKind,
    /// How long the client waits for the answer to an ordinary request; `None` if it does not say.
    pub request_timeout: Option<Duration>,
    /// The topics, or the group and subscriptions, of the client.
    pub role: Role,
}

/// Whether a client sends or consumes.
#[derive(Clone, Debug)]
pub enum Role {
    /// The client sends to these topics.
    Publishing(Vec<String>),
    /// The client consumes in a group.
    Subscribing {
        /// The group.
        group: String,
        /// The client's subscriptions.
        subscriptions: Vec<Subscription>,
    },
    /// The client did not say.
    None,
}

/// A topic that a consumer subscribes to.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The topic.
    pub topic: String,
    /// The filter for the topic's messages.
    pub expression: Expression,
}

/// The policy that a client must follow.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientPolicy {
    /// The policy of a producer.
    Producer(ProducerPolicy),
    /// The policy of a consumer.
    Consumer(ConsumerPolicy),
}

/// The policy that a producer must follow.
#[derive(Clone, Debug, PartialEq)]
pub struct ProducerPolicy {
    /// The maximum number of attempts to send a message, including the first one.
    pub max_attempts: i32,
    /// The pauses between the attempts.
    pub retry: RetryPolicy,
}

/// The policy that a consumer must follow.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerPolicy {
    /// The maximum number of deliveries of a message, including the first one.
    pub max_attempts: i32,
    /// The pauses between the deliveries.
    pub retry: RetryPolicy,
    /// Whether the group consumes in order.
    pub fifo: bool,
    /// The maximum number of messages of one receive.
    pub receive_batch: usize,
    /// The longest wait of a receive.
    pub polling: Duration,
    /// The maximum number of lite topics to which a client may subscribe.
    pub lite_quota: i32,
    /// The maximum number of bytes of a lite topic's name.
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
        let mut session = ClientSession::new(context, kind, &self.stream)?;
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
        let client = environment.clients.record_heartbeat(context).ok_or_else(unknown_client)?;
        match client.kind {
            ClientKind::Producer => Ok(()),
            kind if kind.consumes() => {
                validate::group(&self.group)?;
                let services = environment.services(context, &client.topic);
                group::load_for_client(services, kind, &self.group).await.map(drop)
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
        lease_renewal::release(environment, &client).await;
        // Brokers identify a lite subscription by the client's id alone, so it must stay if another session has the same id.
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

/// The part of a consumer's settings that is validated.
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
        // The topics of a group decide in which cluster it is.
        let topic = self.subscriptions.first().map(|subscription| subscription.topic.as_str());
        let services = environment.services(context, topic.unwrap_or_default());
        let config = group::load_for_client(services, self.kind, self.group).await?;
        if let (Some(bound), Some(topic)) = (&config.lite_bind_topic, topic)
            && bound != topic
        {
            return Err(group::bound_to_other_topic(&config, topic));
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

/// Removes the lite subscription of a client that closes. Without this, brokers would notice only after some minutes.
///
/// Unlike in Apache's proxy, the end of a stream alone does not remove the subscription: the client may continue at another
/// proxy, and would be unsubscribed until its next synchronisation half a minute later. Brokers reassign messages that are
/// not fetched for ten seconds, and remove clients that are silent for three minutes.
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
        tracing::debug!(client_id = context.client_id, %error, "could not remove a lite subscription; it stays until it expires");
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
    use super::super::scripted::{self, BackendCall};
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
    async fn another_host_with_the_same_id_can_not_end_a_session() {
        let ([services], [mut calls]) = scripted::backends();
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
        processor.environment.leases.add("h".to_owned(), scripted::renewal("c", entry));

        // The stranger tries it without a session of its own, and with one.
        let terminate = || TerminateCommand { group: String::new() };
        let refused = processor.run(&stranger, terminate()).await.expect_err("a refusal");
        assert_eq!(refused.kind, ErrorKind::UnknownClient);
        processor.run(&stranger, registration()).await.expect("a policy");
        processor.run(&stranger, terminate()).await.expect("its own end");
        assert!(calls.try_recv().is_err(), "no lease was ended");
        processor.run(&owner, HeartbeatCommand { group: String::new() }).await.expect("a session");

        // The owner ends its session on another connection.
        let ending = tokio::spawn({
            let processor = processor.clone();
            async move { processor.run(&from("127.0.0.1:2"), TerminateCommand { group: String::new() }).await }
        });
        let Some(BackendCall::Change(change, answer)) = calls.recv().await else {
            panic!("no lease was ended")
        };
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
