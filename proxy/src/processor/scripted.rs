//! A backend for tests of the rules: it hands every question to the test, which answers, or does not.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    ClientKind, ClientSettings, ClusterRouter, HandleKey, Limits, Processor, PushStream, Role, Rules,
};
use crate::context::Context;
use crate::service::{
    AckOutcome, Acknowledge, BrokerRequests, Capabilities, ChangeInvisible, Delivered, Forward, GroupConfig,
    InvisibleOutcome, LiteSubscriptions, Message, Messages, Metadata, Offsets, Permission, Receive, Route,
    Routes, Sent, ServiceError, ServiceErrorKind, Services, TopicConfig, TopicKind, Transactions,
};

/// What the rules ask of the backend.
pub(super) enum Asked {
    Change(ChangeInvisible, Answer<InvisibleOutcome>),
    Announce(Vec<String>, Answer<()>),
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, ServiceError>>;

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

/// The rules over these.
pub(super) fn processor(clusters: ClusterRouter, limits: Limits) -> Arc<Processor> {
    let rules = Rules { limits, handle_key: HandleKey::new(b"secret") };
    Arc::new(Processor::new(clusters, rules, CancellationToken::new()))
}

/// The next question, which is for another length of a lease.
pub(super) async fn change(asked: &mut Questions) -> (ChangeInvisible, Answer<InvisibleOutcome>) {
    match asked.recv().await {
        Some(Asked::Change(change, answer)) => (change, answer),
        _ => panic!("another question"),
    }
}

/// The next question, which tells of producers.
pub(super) async fn announcement(asked: &mut Questions) -> (Vec<String>, Answer<()>) {
    match asked.recv().await {
        Some(Asked::Announce(topics, heard)) => (topics, heard),
        _ => panic!("another question"),
    }
}

/// A client that says what it is.
pub(super) fn connect(processor: &Processor, client_id: &str, role: Role) -> mpsc::Receiver<super::Push> {
    let (stream, pushed) = PushStream::open();
    let settings = ClientSettings { kind: ClientKind::Unspecified, request_timeout: None, role };
    processor.clients.remember(&context(client_id), &settings, &stream);
    pushed
}

/// A request of this client.
pub(super) fn context(client_id: &str) -> Context {
    Context {
        client_id: client_id.to_owned(),
        client_version: String::new(),
        namespace: String::new(),
        peer: "p".into(),
        received: Instant::now(),
        deadline: None,
    }
}

struct Scripted {
    questions: mpsc::UnboundedSender<Asked>,
}

impl Scripted {
    async fn ask<T>(&self, question: impl FnOnce(Answer<T>) -> Asked) -> Result<T, ServiceError> {
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

    async fn forward_to_dead_letter(&self, _: Forward) -> Result<(), ServiceError> {
        Err(unscripted())
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
        Ok(TopicConfig {
            name: name.to_owned(),
            kind: TopicKind::Transaction,
            read_queues: 1,
            write_queues: 1,
            permission: Permission { read: true, write: true },
        })
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
