//! A scripted server that records its requests.

mod seen;

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rocketmq_thin_proto::{
    KEEPS_BATCHES,
    v2::{
        self, Code,
        messaging_service_server::{MessagingService, MessagingServiceServer},
        receive_message_response::Content,
        telemetry_command::Command,
    },
};
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::{mpsc, watch},
};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{
    Request, Response, Status, Streaming,
    metadata::MetadataValue,
    transport::{Server, ServerTlsConfig},
};

use self::seen::Seen;
use crate::gateway::{Gateway, Refusal};

pub(crate) type Answer<Q, A> = Box<dyn Fn(&Q, usize) -> A + Send + Sync>;
type Flow<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Returns the response to a request. The number is the count of earlier requests of the same kind.
pub(crate) struct Script {
    pub(crate) route: Answer<v2::QueryRouteRequest, Code>,
    pub(crate) send: Answer<v2::SendMessageRequest, v2::SendMessageResponse>,
    pub(crate) receive: Answer<v2::ReceiveMessageRequest, (Code, &'static str, Vec<v2::Message>)>,
    pub(crate) ack: Answer<v2::AckMessageRequest, v2::AckMessageResponse>,
    pub(crate) end: Answer<v2::EndTransactionRequest, Code>,
    pub(crate) recall: Answer<v2::RecallMessageRequest, Code>,
    pub(crate) sync_lite: Answer<v2::SyncLiteSubscriptionRequest, Code>,
    /// The message types that topics accept.
    pub(crate) types: Vec<v2::MessageType>,
    /// How many queues a topic has.
    pub(crate) queues: i32,
    /// The code of responses to changes of an invisible time, once it is ready.
    pub(crate) change: Answer<v2::ChangeInvisibleDurationRequest, Pin<Box<dyn Future<Output = Code> + Send>>>,
    /// Whether a long poll finds no message and never ends.
    pub(crate) hang: Box<dyn Fn(&v2::ReceiveMessageRequest) -> bool + Send + Sync>,
    /// Whether the answer to a long poll does not end after its messages.
    pub(crate) unfinished: fn(&v2::ReceiveMessageRequest) -> bool,
    /// How many streams a connection may have.
    pub(crate) max_streams: Option<u32>,
    /// The gateway in front of the server; `None` for no gateway.
    pub(crate) gateway: Option<Refusal>,
    /// The address of the broker in routes; `None` means the address of this server.
    pub(crate) broker: Option<SocketAddr>,
    /// Whether the server responds to settings with settings.
    pub(crate) settings: bool,
    /// Whether the server refuses the client's settings, which ends the stream.
    pub(crate) refuse: Box<dyn Fn(&v2::Settings) -> bool + Send + Sync>,
    /// Returns the server's settings from those of the client. By default, they are the same.
    pub(crate) group_settings: Answer<v2::Settings, v2::Settings>,
    /// The code of responses to forwards to the dead-letter topic.
    pub(crate) forward: Answer<v2::ForwardMessageToDeadLetterQueueRequest, Code>,
    /// The server responds to route queries only once this is `true`.
    pub(crate) gate: watch::Sender<bool>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            route: Box::new(|_, _| Code::Ok),
            send: Box::new(|request, _| stored(request)),
            receive: Box::new(|_, _| (Code::MessageNotFound, "no new message", Vec::new())),
            ack: Box::new(|request, _| acked(request, |_| Code::Ok)),
            end: Box::new(|_, _| Code::Ok),
            recall: Box::new(|_, _| Code::Ok),
            sync_lite: Box::new(|_, _| Code::Ok),
            types: Vec::new(),
            queues: 1,
            change: Box::new(|_, _| Box::pin(async { Code::Ok })),
            hang: Box::new(|_| false),
            unfinished: |_| false,
            max_streams: None,
            gateway: None,
            broker: None,
            settings: true,
            refuse: Box::new(|_| false),
            group_settings: Box::new(|settings, _| settings.clone()),
            forward: Box::new(|_, _| Code::Ok),
            gate: watch::Sender::new(true),
        }
    }
}

/// The topic of a receive.
pub(crate) fn topic(request: &v2::ReceiveMessageRequest) -> &str {
    &request.message_queue.as_ref().unwrap().topic.as_ref().unwrap().name
}

pub(crate) fn status(code: Code, message: &str) -> Option<v2::Status> {
    Some(v2::Status { code: code.into(), message: message.into() })
}

/// A response with a successful entry for each message.
pub(crate) fn stored(request: &v2::SendMessageRequest) -> v2::SendMessageResponse {
    let entry = |message: &v2::Message| v2::SendResultEntry {
        status: status(Code::Ok, "OK"),
        message_id: message.system_properties.as_ref().map(|it| it.message_id.clone()).unwrap_or_default(),
        ..Default::default()
    };
    v2::SendMessageResponse {
        status: status(Code::Ok, "OK"),
        entries: request.messages.iter().map(entry).collect(),
    }
}

/// A response with the code of each handle.
pub(crate) fn acked(request: &v2::AckMessageRequest, code: impl Fn(&str) -> Code) -> v2::AckMessageResponse {
    let entry = |entry: &v2::AckMessageEntry| v2::AckMessageResultEntry {
        message_id: entry.message_id.clone(),
        receipt_handle: entry.receipt_handle.clone(),
        status: status(code(&entry.receipt_handle), ""),
    };
    let entries: Vec<_> = request.entries.iter().map(entry).collect();
    v2::AckMessageResponse { status: status(Code::MultipleResults, ""), entries }
}

/// A message as delivered.
pub(crate) fn message(id: &str, body: &'static str) -> v2::Message {
    v2::Message {
        system_properties: Some(v2::SystemProperties {
            message_id: id.into(),
            receipt_handle: Some(format!("handle of {id}")),
            ..Default::default()
        }),
        body: body.into(),
        ..Default::default()
    }
}

/// A running server. It has its own runtime, so that dropping it breaks its connections.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    runtime: Option<Runtime>,
}

impl TestServer {
    pub(crate) fn start(script: Script) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), script, None)
    }

    pub(crate) fn at(address: SocketAddr, script: Script, tls: Option<ServerTlsConfig>) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let max_streams = script.max_streams;
        let refusal = script.gateway.clone().unwrap_or_else(|| Arc::new(|_| None));
        let scripted = Scripted { script: Arc::new(script), seen: seen.clone(), address };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let mut builder = Server::builder().max_concurrent_streams(max_streams);
            if let Some(tls) = tls {
                builder = builder.tls_config(tls).unwrap();
            }
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
            let service = MessagingServiceServer::new(scripted);
            builder.add_service(Gateway::new(service, refusal)).serve_with_incoming(incoming).await.unwrap();
        });
        Self { address, seen, runtime: Some(runtime) }
    }

    pub(crate) fn endpoints(&self) -> String {
        self.address.to_string()
    }

    /// Changes the address of the broker in routes.
    pub(crate) fn route_to(&self, address: SocketAddr) {
        *self.seen.moved.lock().unwrap() = Some(address);
    }

    /// Adds a broker to the routes, beside the one with the name `broker`. The first added one is `broker 1`.
    pub(crate) fn add_broker(&self) {
        self.seen.added_brokers.fetch_add(1, Ordering::SeqCst);
    }

    /// Never responds to the next `count` sends.
    pub(crate) fn hold_sends(&self, count: usize) {
        self.seen.held.store(count, Ordering::SeqCst);
    }

    /// Stops the server abruptly. Returns once the port is closed.
    pub(crate) fn kill(mut self) -> SocketAddr {
        let runtime = self.runtime.take().unwrap();
        std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(10))).join().unwrap();
        self.address
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Counts when it is dropped.
struct CountedEnd(Arc<Seen>, &'static str);

impl Drop for CountedEnd {
    fn drop(&mut self) {
        self.0.count(self.1);
    }
}

struct Scripted {
    script: Arc<Script>,
    seen: Arc<Seen>,
    address: SocketAddr,
}

impl Scripted {
    fn record<T>(&self, what: &'static str, request: &Request<T>) -> usize {
        self.seen.metadata.lock().unwrap().insert(what, request.metadata().clone());
        self.seen.count(what)
    }

    fn queue(&self, broker: usize, id: i32) -> v2::MessageQueue {
        let moved = *self.seen.moved.lock().unwrap();
        let address = moved.or(self.script.broker).unwrap_or(self.address);
        v2::MessageQueue {
            id,
            accept_message_types: self.script.types.iter().map(|it| *it as i32).collect(),
            permission: v2::Permission::ReadWrite.into(),
            broker: Some(v2::Broker {
                name: if broker == 0 { "broker".into() } else { format!("broker {broker}") },
                id: 0,
                endpoints: Some(v2::Endpoints {
                    scheme: v2::AddressScheme::IPv4.into(),
                    addresses: vec![v2::Address {
                        host: address.ip().to_string(),
                        port: address.port().into(),
                    }],
                }),
            }),
            ..Default::default()
        }
    }
}

macro_rules! unimplemented_rpcs {
    ($($name:ident($request:ident) -> $response:ident),*) => {$(
        // Written out, because `async_trait` does not expand functions that a macro defines.
        fn $name<'s, 'f>(
            &'s self,
            _: Request<v2::$request>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<v2::$response>, Status>> + Send + 'f>>
        where
            's: 'f,
            Self: 'f,
        {
            Box::pin(async { Err(Status::unimplemented(stringify!($name))) })
        }
    )*};
}

/// A response that announces that the messages of a request keep their own properties.
fn keeps_batches<T>(answer: T) -> Response<T> {
    let mut response = Response::new(answer);
    response.metadata_mut().insert(KEEPS_BATCHES, MetadataValue::from_static("true"));
    response
}

#[tonic::async_trait]
impl MessagingService for Scripted {
    type ReceiveMessageStream = Flow<v2::ReceiveMessageResponse>;
    type PullMessageStream = Flow<v2::PullMessageResponse>;
    type TelemetryStream = Flow<v2::TelemetryCommand>;

    async fn query_route(
        &self,
        request: Request<v2::QueryRouteRequest>,
    ) -> Result<Response<v2::QueryRouteResponse>, Status> {
        let before = self.record("query_route", &request);
        self.script.gate.subscribe().wait_for(|open| *open).await.unwrap();
        let code = (self.script.route)(request.get_ref(), before);
        let queues = if code == Code::Ok { self.script.queues } else { 0 };
        let brokers = 0..=self.seen.added_brokers.load(Ordering::SeqCst);
        let message_queues = brokers.flat_map(|broker| (0..queues).map(move |id| self.queue(broker, id)));
        let message_queues = message_queues.collect();
        Ok(keeps_batches(v2::QueryRouteResponse { status: status(code, "route"), message_queues }))
    }

    async fn heartbeat(
        &self,
        request: Request<v2::HeartbeatRequest>,
    ) -> Result<Response<v2::HeartbeatResponse>, Status> {
        self.record("heartbeat", &request);
        Ok(Response::new(v2::HeartbeatResponse { status: status(Code::Ok, "OK") }))
    }

    async fn send_message(
        &self,
        request: Request<v2::SendMessageRequest>,
    ) -> Result<Response<v2::SendMessageResponse>, Status> {
        let before = self.record("send", &request);
        if self.seen.held.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |held| held.checked_sub(1)).is_ok()
        {
            std::future::pending::<()>().await;
        }
        let request = request.into_inner();
        let response = (self.script.send)(&request, before);
        self.seen.sent.lock().unwrap().push(request);
        Ok(keeps_batches(response))
    }

    async fn receive_message(
        &self,
        request: Request<v2::ReceiveMessageRequest>,
    ) -> Result<Response<Self::ReceiveMessageStream>, Status> {
        let before = self.record("receive", &request);
        if (self.script.hang)(request.get_ref()) {
            let ended = CountedEnd(self.seen.clone(), "poll ended");
            let endless = tokio_stream::pending().map(move |it| {
                let _ended = &ended;
                it
            });
            return Ok(Response::new(Box::pin(endless)));
        }
        let request = request.into_inner();
        let (code, text, messages) = if self.seen.forgotten.load(Ordering::SeqCst) {
            (Code::InternalServerError, "because \"settings\" is null", Vec::new())
        } else {
            (self.script.receive)(&request, before)
        };
        let unfinished =
            (self.script.unfinished)(&request).then(|| CountedEnd(self.seen.clone(), "given out"));
        self.seen.received.lock().unwrap().push(request);
        let mut contents: Vec<_> = status(code, text).map(Content::Status).into_iter().collect();
        contents.extend(messages.into_iter().map(Content::Message));
        let responses = contents.into_iter().map(|it| Ok(v2::ReceiveMessageResponse { content: Some(it) }));
        let responses = tokio_stream::iter(responses);
        Ok(Response::new(match unfinished {
            Some(count) => {
                let rest = tokio_stream::once(count).filter_map(|_| None).chain(tokio_stream::pending());
                Box::pin(responses.chain(rest))
            }
            None => Box::pin(responses),
        }))
    }

    async fn ack_message(
        &self,
        request: Request<v2::AckMessageRequest>,
    ) -> Result<Response<v2::AckMessageResponse>, Status> {
        // Recorded before it is counted, because tests wait for the count.
        self.seen.acked.lock().unwrap().push(request.get_ref().clone());
        let before = self.record("ack", &request);
        Ok(Response::new((self.script.ack)(request.get_ref(), before)))
    }

    async fn change_invisible_duration(
        &self,
        request: Request<v2::ChangeInvisibleDurationRequest>,
    ) -> Result<Response<v2::ChangeInvisibleDurationResponse>, Status> {
        // Recorded before it is counted, because tests wait for the count.
        self.seen.changed.lock().unwrap().push(request.get_ref().clone());
        let before = self.record("change_invisible", &request);
        let receipt_handle = format!("new {}", request.get_ref().receipt_handle);
        Ok(Response::new(v2::ChangeInvisibleDurationResponse {
            status: status((self.script.change)(request.get_ref(), before).await, "changed"),
            receipt_handle,
        }))
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<v2::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Result<Response<v2::ForwardMessageToDeadLetterQueueResponse>, Status> {
        self.seen.forwarded.lock().unwrap().push(request.get_ref().clone());
        let before = self.record("forward", &request);
        let code = (self.script.forward)(request.get_ref(), before);
        Ok(Response::new(v2::ForwardMessageToDeadLetterQueueResponse { status: status(code, "forwarded") }))
    }

    async fn sync_lite_subscription(
        &self,
        request: Request<v2::SyncLiteSubscriptionRequest>,
    ) -> Result<Response<v2::SyncLiteSubscriptionResponse>, Status> {
        self.seen.synced.lock().unwrap().push(request.get_ref().clone());
        let before = self.record("sync_lite", &request);
        let code = (self.script.sync_lite)(request.get_ref(), before);
        Ok(Response::new(v2::SyncLiteSubscriptionResponse { status: status(code, "sync") }))
    }

    async fn end_transaction(
        &self,
        request: Request<v2::EndTransactionRequest>,
    ) -> Result<Response<v2::EndTransactionResponse>, Status> {
        // Recorded before it is counted, because tests wait for the count.
        self.seen.ended.lock().unwrap().push(request.get_ref().clone());
        let before = self.record("end", &request);
        let code = (self.script.end)(request.get_ref(), before);
        Ok(Response::new(v2::EndTransactionResponse { status: status(code, "end") }))
    }

    async fn recall_message(
        &self,
        request: Request<v2::RecallMessageRequest>,
    ) -> Result<Response<v2::RecallMessageResponse>, Status> {
        self.seen.recalled.lock().unwrap().push(request.get_ref().clone());
        let before = self.record("recall", &request);
        let code = (self.script.recall)(request.get_ref(), before);
        Ok(Response::new(v2::RecallMessageResponse {
            status: status(code, "recall"),
            message_id: "recalled".into(),
        }))
    }

    async fn notify_client_termination(
        &self,
        request: Request<v2::NotifyClientTerminationRequest>,
    ) -> Result<Response<v2::NotifyClientTerminationResponse>, Status> {
        self.record("termination", &request);
        Ok(Response::new(v2::NotifyClientTerminationResponse { status: status(Code::Ok, "OK") }))
    }

    async fn telemetry(
        &self,
        request: Request<Streaming<v2::TelemetryCommand>>,
    ) -> Result<Response<Self::TelemetryStream>, Status> {
        self.record("stream", &request);
        let mut incoming = request.into_inner();
        let (outgoing, responses) = mpsc::channel(8);
        let (seen, script) = (self.seen.clone(), self.script.clone());
        let mut dropped = seen.drop_streams.subscribe();
        let mut commands = seen.commands.0.subscribe();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    command = incoming.next() => {
                        let Some(Ok(command)) = command else { break };
                        let Some(Command::Settings(settings)) = command.command else { continue };
                        seen.settings.lock().unwrap().push(settings.clone());
                        seen.forgotten.store(false, Ordering::SeqCst);
                        let before = seen.count("settings");
                        if (script.refuse)(&settings) {
                            let _ = outgoing.send(Err(Status::invalid_argument("refused"))).await;
                            break;
                        }
                        let settings = (script.group_settings)(&settings, before);
                        let answer = v2::TelemetryCommand {
                            status: status(Code::Ok, "OK"),
                            command: Some(Command::Settings(settings)),
                        };
                        if script.settings && outgoing.send(Ok(answer)).await.is_err() {
                            break;
                        }
                    }
                    command = commands.recv() => {
                        if outgoing.send(Ok(command.unwrap())).await.is_err() {
                            break;
                        }
                    }
                    _ = dropped.changed() => break,
                }
            }
            seen.count("stream ended");
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }

    async fn pull_message(
        &self,
        _: Request<v2::PullMessageRequest>,
    ) -> Result<Response<Self::PullMessageStream>, Status> {
        Err(Status::unimplemented("pull_message"))
    }

    unimplemented_rpcs! {
        query_assignment(QueryAssignmentRequest) -> QueryAssignmentResponse,
        update_offset(UpdateOffsetRequest) -> UpdateOffsetResponse,
        get_offset(GetOffsetRequest) -> GetOffsetResponse,
        query_offset(QueryOffsetRequest) -> QueryOffsetResponse
    }
}
