//! A backend for tests of the rules: it passes every call to the test, which answers it or doesn't.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::clients::{ClientKey, Session};
use super::lease::{LeaseHolder, Renewal};
use super::{ClientKind, ClusterRouter, HandleKey, Limits, Processor, PushReceiver, PushStream, Rules};
use crate::context::Context;
use crate::layer::{Layers, Quotas};
use crate::service::{
    AckOutcome, Acknowledge, Administration, BrokerRequests, Capabilities, Change, ChangeInvisible,
    Delivered, Delivery, Forward, GroupConfig, InvisibleOutcome, LiteSubscriptions, Message, Messages,
    Metadata, Offsets, Receive, Route, Routes, Sent, ServiceError, ServiceErrorKind, Services, Settle,
    TopicConfig, TopicKind, Transactions,
};

/// What the rules ask of the backend.
pub(super) enum Asked {
    Change(ChangeInvisible, Reply<InvisibleOutcome>),
    /// Never answered so far.
    Forward(Forward, #[expect(dead_code, reason = "held, so that the caller waits")] Reply<()>),
    Announce(Vec<String>, Reply<()>),
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, ServiceError>>;

/// What one backend is asked.
pub(super) type Questions = mpsc::UnboundedReceiver<Asked>;

/// Some such backends.
pub(super) fn backends<const N: usize>() -> ([Services; N], [Questions; N]) {
    let channels = [(); N].map(|()| mpsc::unbounded_channel());
    let services = channels
        .each_ref()
        .map(|(questions, _)| Services::of(Arc::new(Scripted { questions: questions.clone() })));
    (services, channels.map(|(_, asked)| asked))
}

/// The rules over these clusters.
pub(super) fn processor(clusters: ClusterRouter, limits: Limits) -> Arc<Processor> {
    let rules = Rules { limits, handle_key: HandleKey::new(b"secret") };
    Arc::new(Processor::new(
        clusters,
        rules,
        Layers::new(100, Quotas::default(), None),
        CancellationToken::new(),
    ))
}

/// The next question, which is for another length of a lease.
pub(super) async fn change(asked: &mut Questions) -> (ChangeInvisible, Reply<InvisibleOutcome>) {
    match asked.recv().await {
        Some(Asked::Change(change, answer)) => (change, answer),
        _ => panic!("another question"),
    }
}

/// The next question, which must be about producers.
pub(super) async fn announcement(asked: &mut Questions) -> (Vec<String>, Reply<()>) {
    match asked.recv().await {
        Some(Asked::Announce(topics, heard)) => (topics, heard),
        _ => panic!("another question"),
    }
}

/// Connects a client that sends to these topics.
pub(super) fn connect(processor: &Processor, client_id: &str, topics: &[&str]) -> PushReceiver {
    let (stream, pushed) = PushStream::open();
    let context = Context::of_client(client_id);
    let mut session = Session::new(&context, ClientKind::Unspecified, &stream).expect("a short name");
    topics.iter().for_each(|topic| session.publish_to(topic).expect("few topics"));
    processor.environment.clients.insert(&context, session).expect("room");
    pushed
}

/// A lease of this client in the default cluster, under renewal.
pub(super) fn renewal(client_id: &str, entry: Settle) -> Renewal {
    let holder = LeaseHolder {
        client: ClientKey::of(&Context::of_client(client_id)),
        cluster: "".into(),
        topic: "t".to_owned(),
        group: "g".to_owned(),
    };
    Renewal::new(Arc::new(holder), entry, 1)
}

/// A delivery of an empty message.
pub(super) fn delivery(topic: &str) -> Delivery {
    Delivery {
        message: Message::default(),
        topic: topic.to_owned(),
        queue_id: 0,
        queue_offset: 0,
        stored_at: SystemTime::UNIX_EPOCH,
        store_host: String::new(),
        attempt: 1,
        received_at: SystemTime::UNIX_EPOCH,
        invisible: Duration::ZERO,
        coordinates: "broker-a 1 2".to_owned(),
    }
}

struct Scripted {
    questions: mpsc::UnboundedSender<Asked>,
}

impl Scripted {
    async fn ask<T>(&self, question: impl FnOnce(Reply<T>) -> Asked) -> Result<T, ServiceError> {
        let (answer, answered) = oneshot::channel();
        self.questions.send(question(answer)).map_err(|_| unscripted())?;
        answered.await.unwrap_or_else(|_| Err(unscripted()))
    }
}

fn unscripted() -> ServiceError {
    ServiceError::new(ServiceErrorKind::Unsupported, "no test asks for this")
}

#[async_trait]
impl Messages for Scripted {
    async fn send(
        &self,
        _: &str,
        _: Vec<Message>,
        _: Instant,
    ) -> Result<Vec<Result<Sent, ServiceError>>, ServiceError> {
        Err(unscripted())
    }

    async fn receive(&self, _: Receive) -> Result<Delivered, ServiceError> {
        Err(unscripted())
    }

    async fn acknowledge(&self, _: Acknowledge) -> Result<Vec<AckOutcome>, ServiceError> {
        Err(unscripted())
    }

    async fn change_invisible(&self, request: ChangeInvisible) -> Result<InvisibleOutcome, ServiceError> {
        self.ask(|answer| Asked::Change(request, answer)).await
    }

    async fn forward_to_dead_letter(&self, request: Forward) -> Result<(), ServiceError> {
        self.ask(|answer| Asked::Forward(request, answer)).await
    }
}

#[async_trait]
impl Routes for Scripted {
    async fn route(&self, _: &str) -> Result<Route, ServiceError> {
        Err(unscripted())
    }
}

#[async_trait]
impl Metadata for Scripted {
    fn capabilities(&self) -> Capabilities {
        Capabilities { transaction: true, ..Capabilities::default() }
    }

    async fn topic(&self, name: &str) -> Result<TopicConfig, ServiceError> {
        Ok(TopicConfig::new(name, TopicKind::Transaction, 1))
    }

    async fn existing_topic(&self, name: &str) -> Result<TopicConfig, ServiceError> {
        self.topic(name).await
    }

    async fn group(&self, _: &str) -> Result<GroupConfig, ServiceError> {
        Err(unscripted())
    }

    async fn topics(&self) -> Result<Vec<TopicConfig>, ServiceError> {
        Err(unscripted())
    }

    async fn groups(&self) -> Result<Vec<GroupConfig>, ServiceError> {
        Err(unscripted())
    }

    async fn create_topic(&self, _: TopicConfig, _: bool) -> Result<(), ServiceError> {
        Err(unscripted())
    }

    async fn create_group(&self, _: GroupConfig, _: bool) -> Result<(), ServiceError> {
        Err(unscripted())
    }

    async fn change_topic(&self, _: &str, _: Change<TopicConfig>) -> Result<(), ServiceError> {
        Err(unscripted())
    }

    async fn change_group(&self, _: &str, _: Change<GroupConfig>) -> Result<(), ServiceError> {
        Err(unscripted())
    }

    async fn delete_topic(&self, _: &str) -> Result<(), ServiceError> {
        Err(unscripted())
    }

    async fn delete_group(&self, _: &str) -> Result<(), ServiceError> {
        Err(unscripted())
    }
}

#[async_trait]
impl BrokerRequests for Scripted {
    async fn announce_producers(&self, topics: &[String]) {
        // Nobody waits for how it ended.
        let _ = self.ask(|heard| Asked::Announce(topics.to_vec(), heard)).await;
    }
}

impl Transactions for Scripted {}
impl LiteSubscriptions for Scripted {}
impl Offsets for Scripted {}
impl Administration for Scripted {}
