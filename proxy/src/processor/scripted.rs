//! A backend for tests of the processor. It passes calls to the test, which may answer them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::clients::{ClientKey, ClientSession};
use super::renewed_leases::{LeaseHolder, Renewal};
use super::{
    ClientKind, ClusterRouter, HandleKey, Limits, Processor, ProcessorConfig, PushReceiver, PushStream,
};
use crate::context::Context;
use crate::layer::{Layers, Quotas};
use crate::service::{
    AckOutcome, Acknowledge, Administration, BrokerRequests, Capabilities, Change, ChangeInvisible,
    Delivered, Delivery, EndTransaction, Forward, GroupConfig, InvisibleOutcome, LiteSubscriptions, Message,
    Messages, Metadata, Offsets, Receive, Route, Routes, ServiceError, ServiceErrorKind, Services, Settle,
    StoreReceipt, TopicConfig, TopicKind, Transactions,
};

/// The topic in which a receive finds a message.
pub(super) const TOPIC_WITH_MESSAGE: &str = "with-message";

/// A call of the backend, with the sender for its answer.
pub(super) enum BackendCall {
    Change(ChangeInvisible, AnswerSender<InvisibleOutcome>),
    Forward(Forward, AnswerSender<()>),
    Announce(Vec<String>, AnswerSender<()>),
}

pub(super) type AnswerSender<T> = oneshot::Sender<Result<T, ServiceError>>;

/// The calls of one backend.
pub(super) type BackendCalls = mpsc::UnboundedReceiver<BackendCall>;

/// Creates scripted backends.
pub(super) fn backends<const N: usize>() -> ([Services; N], [BackendCalls; N]) {
    let channels = [(); N].map(|()| mpsc::unbounded_channel());
    let services =
        channels.each_ref().map(|(calls, _)| Services::of(Arc::new(Scripted { calls: calls.clone() })));
    (services, channels.map(|(_, calls)| calls))
}

/// Creates a processor for these clusters.
pub(super) fn processor(clusters: ClusterRouter, limits: Limits) -> Arc<Processor> {
    let rules = ProcessorConfig { limits, handle_key: HandleKey::new(b"secret") };
    Arc::new(Processor::new(
        clusters,
        rules,
        Layers::new(100, Quotas::default(), None),
        CancellationToken::new(),
    ))
}

/// The next call, which must change the invisible time.
pub(super) async fn change(calls: &mut BackendCalls) -> (ChangeInvisible, AnswerSender<InvisibleOutcome>) {
    match calls.recv().await {
        Some(BackendCall::Change(change, answer)) => (change, answer),
        _ => panic!("not a change of the invisible time"),
    }
}

/// The next call, which must announce producers.
pub(super) async fn announcement(calls: &mut BackendCalls) -> (Vec<String>, AnswerSender<()>) {
    match calls.recv().await {
        Some(BackendCall::Announce(topics, answer)) => (topics, answer),
        _ => panic!("not an announcement"),
    }
}

/// The lease of a delivery.
pub(super) fn settle_entry(coordinates: &str, invisible: Duration) -> Settle {
    Settle {
        coordinates: coordinates.to_owned(),
        message_id: "m".to_owned(),
        lite_topic: None,
        received_at: SystemTime::now(),
        invisible,
    }
}

/// Connects a client that sends to these topics.
pub(super) fn connect(processor: &Processor, client_id: &str, topics: &[&str]) -> PushReceiver {
    let (stream, pushed) = PushStream::open();
    let context = Context::of_client(client_id);
    let mut session = ClientSession::new(&context, ClientKind::Unspecified, &stream).expect("a short name");
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
        attempts_of_others: 0,
        received_at: SystemTime::UNIX_EPOCH,
        invisible: Duration::ZERO,
        coordinates: "broker-a 1 2".to_owned(),
    }
}

struct Scripted {
    calls: mpsc::UnboundedSender<BackendCall>,
}

impl Scripted {
    async fn pass<T>(&self, call: impl FnOnce(AnswerSender<T>) -> BackendCall) -> Result<T, ServiceError> {
        let (answer, answered) = oneshot::channel();
        self.calls.send(call(answer)).map_err(|_| unscripted())?;
        answered.await.unwrap_or_else(|_| Err(unscripted()))
    }
}

fn unscripted() -> ServiceError {
    ServiceError::new(ServiceErrorKind::Unsupported, "the test did not answer the call")
}

#[async_trait]
impl Messages for Scripted {
    async fn send(
        &self,
        _: &str,
        _: Vec<Message>,
        _: Instant,
    ) -> Result<Vec<Result<StoreReceipt, ServiceError>>, ServiceError> {
        Err(unscripted())
    }

    /// Finds a message in the topic [`TOPIC_WITH_MESSAGE`] and none in others, and does not wait for one.
    async fn receive(&self, request: Receive) -> Result<Delivered, ServiceError> {
        if request.topic == TOPIC_WITH_MESSAGE {
            return Ok(Delivered::Messages(vec![delivery(TOPIC_WITH_MESSAGE)]));
        }
        Ok(Delivered::Nothing)
    }

    async fn acknowledge(&self, _: Acknowledge) -> Result<Vec<AckOutcome>, ServiceError> {
        Err(unscripted())
    }

    async fn change_invisible(&self, request: ChangeInvisible) -> Result<InvisibleOutcome, ServiceError> {
        self.pass(|answer| BackendCall::Change(request, answer)).await
    }

    async fn forward_to_dead_letter(&self, request: Forward) -> Result<(), ServiceError> {
        self.pass(|answer| BackendCall::Forward(request, answer)).await
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
        // The result does not matter.
        let _ = self.pass(|answer| BackendCall::Announce(topics.to_vec(), answer)).await;
    }
}

#[async_trait]
impl Transactions for Scripted {
    async fn end(&self, _: EndTransaction) -> Result<(), ServiceError> {
        Err(ServiceError::new(ServiceErrorKind::Unsupported, "no test ends a transaction"))
    }
}

impl LiteSubscriptions for Scripted {}
impl Offsets for Scripted {}
impl Administration for Scripted {}
