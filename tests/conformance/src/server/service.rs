//! The gRPC service: notes each call, looks up its rule, and answers.

use std::{collections::BTreeMap, sync::Arc};

use futures::{Stream, StreamExt, future, stream::BoxStream};
use rocketmq_thin_proto::KEEPS_BATCHES;
use rocketmq_thin_proto::v2::{
    messaging_service_server::MessagingService, receive_message_response::Content, *,
};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code as GrpcCode, Request, Response, Status as GrpcStatus, Streaming,
    metadata::{KeyAndValueRef, MetadataValue},
};

use super::{
    answer::{Answerable, code, status},
    connection::Cut,
    seen::Call,
    state::State,
    telemetry::Replies,
};
use crate::script::Rule;

pub(super) struct Service {
    pub(super) state: Arc<State>,
}

type Answer<T> = Result<Response<T>, GrpcStatus>;

impl Service {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    fn note<T>(&self, rpc: &'static str, request: &Request<T>, shown: Value) -> (Rule, Watch) {
        let metadata = metadata(request);
        let rule = self.state.note(Call { rpc, metadata: metadata.clone(), request: shown });
        (rule, Watch { state: Arc::clone(&self.state), rpc, metadata, ended: CancellationToken::new() })
    }

    /// What a rule says about a call before it is answered at all.
    pub(super) async fn interfere(&self, rule: &Rule, cut: Option<Cut>) -> Result<(), GrpcStatus> {
        if rule.hang {
            self.state.until_released().await;
        }
        if rule.drop {
            if let Some(cut) = cut {
                cut.cut();
            }
            future::pending::<()>().await;
        }
        match &rule.grpc {
            Some(name) => Err(GrpcStatus::new(grpc_code(name), rule.text.clone())),
            None => Ok(()),
        }
    }

    async fn unary<T: Answerable>(&self, request: Request<T>) -> Answer<T::Answer> {
        let shown = self.state.show(&format!("{}Request", T::RPC), request.get_ref());
        let (rule, watch) = self.note(T::RPC, &request, shown);
        let passed = self.interfere(&rule, request.extensions().get().cloned()).await;
        watch.done();
        passed?;
        let mut response = Response::new(match &rule.code {
            Some(name) => T::refused(status(code(name), &rule.text)),
            None => request.into_inner().answer(&self.state, &rule),
        });
        if !self.state.silent_about_batches() {
            response.metadata_mut().insert(KEEPS_BATCHES, MetadataValue::from_static("true"));
        }
        Ok(response)
    }

    /// Status, messages, delivery time: the order of a healthy proxy's stream.
    async fn batch(&self, request: &ReceiveMessageRequest, rule: &Rule) -> Vec<Content> {
        let queue = request.message_queue.as_ref();
        let topic = queue.and_then(|queue| queue.topic.as_ref()).map_or("", |topic| topic.name.as_str());
        let limit = usize::try_from(request.batch_size).unwrap_or_default();
        let messages = match &rule.code {
            Some(_) => Vec::new(),
            None => {
                let wait = request.long_polling_timeout.and_then(|wait| wait.try_into().ok());
                self.state.poll(topic, limit, wait.unwrap_or_default()).await
            }
        };
        let status = match &rule.code {
            Some(name) => status(code(name), &rule.text),
            None if messages.is_empty() => status(Code::MessageNotFound, "no new message"),
            None => status(Code::Ok, "OK"),
        };
        let mut contents = vec![Content::Status(status)];
        contents.extend(messages.into_iter().map(Content::Message));
        if !rule.no_delivery_timestamp {
            contents.push(Content::DeliveryTimestamp(std::time::SystemTime::now().into()));
        }
        contents
    }
}

/// Notes that the client has given up a call, when it is dropped before it is answered.
struct Watch {
    state: Arc<State>,
    rpc: &'static str,
    metadata: BTreeMap<String, String>,
    /// The server has ended the call, or finished it.
    ended: CancellationToken,
}

impl Watch {
    fn done(self) {
        self.ended.cancel();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.ended.is_cancelled() {
            self.state.note_cancelled(self.rpc, std::mem::take(&mut self.metadata));
        }
    }
}

fn metadata<T>(request: &Request<T>) -> BTreeMap<String, String> {
    let text = |entry| match entry {
        KeyAndValueRef::Ascii(key, value) => Some((key.to_string(), value.to_str().ok()?.to_owned())),
        KeyAndValueRef::Binary(..) => None,
    };
    request.metadata().iter().filter_map(text).collect()
}

fn grpc_code(name: &str) -> GrpcCode {
    let codes = (0..=16).map(GrpcCode::from_i32);
    let spelled = |code: &GrpcCode| format!("{code:?}").to_ascii_uppercase() == name.replace('_', "");
    codes.into_iter().find(spelled).unwrap_or(GrpcCode::Unknown)
}

fn unimplemented<T>() -> Answer<T> {
    Err(GrpcStatus::unimplemented("not scripted"))
}

type ReceiveStream = BoxStream<'static, Result<ReceiveMessageResponse, GrpcStatus>>;

#[tonic::async_trait]
impl MessagingService for Service {
    type ReceiveMessageStream = ReceiveStream;
    type PullMessageStream = BoxStream<'static, Result<PullMessageResponse, GrpcStatus>>;
    type TelemetryStream = BoxStream<'static, Result<TelemetryCommand, GrpcStatus>>;

    async fn query_route(&self, request: Request<QueryRouteRequest>) -> Answer<QueryRouteResponse> {
        self.unary(request).await
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Answer<HeartbeatResponse> {
        self.unary(request).await
    }

    async fn send_message(&self, request: Request<SendMessageRequest>) -> Answer<SendMessageResponse> {
        self.unary(request).await
    }

    async fn query_assignment(
        &self,
        request: Request<QueryAssignmentRequest>,
    ) -> Answer<QueryAssignmentResponse> {
        self.unary(request).await
    }

    async fn receive_message(&self, request: Request<ReceiveMessageRequest>) -> Answer<ReceiveStream> {
        let shown = self.state.show("ReceiveMessageRequest", request.get_ref());
        let (rule, watch) = self.note("ReceiveMessage", &request, shown);
        let answered = match self.interfere(&rule, request.extensions().get().cloned()).await {
            Ok(()) => Ok(self.batch(request.get_ref(), &rule).await),
            Err(error) => Err(error),
        };
        watch.done();
        let contents = answered?;
        let responses =
            contents.into_iter().map(|content| Ok(ReceiveMessageResponse { content: Some(content) }));
        Ok(Response::new(futures::stream::iter(responses.collect::<Vec<_>>()).boxed()))
    }

    async fn ack_message(&self, request: Request<AckMessageRequest>) -> Answer<AckMessageResponse> {
        self.unary(request).await
    }

    async fn change_invisible_duration(
        &self,
        request: Request<ChangeInvisibleDurationRequest>,
    ) -> Answer<ChangeInvisibleDurationResponse> {
        self.unary(request).await
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<ForwardMessageToDeadLetterQueueRequest>,
    ) -> Answer<ForwardMessageToDeadLetterQueueResponse> {
        self.unary(request).await
    }

    async fn end_transaction(
        &self,
        request: Request<EndTransactionRequest>,
    ) -> Answer<EndTransactionResponse> {
        self.unary(request).await
    }

    async fn notify_client_termination(
        &self,
        request: Request<NotifyClientTerminationRequest>,
    ) -> Answer<NotifyClientTerminationResponse> {
        self.unary(request).await
    }

    async fn recall_message(&self, request: Request<RecallMessageRequest>) -> Answer<RecallMessageResponse> {
        self.unary(request).await
    }

    async fn sync_lite_subscription(
        &self,
        request: Request<SyncLiteSubscriptionRequest>,
    ) -> Answer<SyncLiteSubscriptionResponse> {
        self.unary(request).await
    }

    async fn telemetry(
        &self,
        request: Request<Streaming<TelemetryCommand>>,
    ) -> Answer<Self::TelemetryStream> {
        let ended = self.state.telemetry();
        let (rule, mut watch) = self.note("Telemetry", &request, Value::Null);
        let cut: Option<Cut> = request.extensions().get().cloned();
        if let Err(error) = self.interfere(&rule, cut.clone()).await {
            watch.done();
            return Err(error);
        }
        // Of this stream alone; ended with all of them.
        watch.ended = ended.child_token();
        let (sender, receiver) = mpsc::unbounded_channel();
        let replies = Replies { sender, metadata: metadata(&request), cut };
        let service = Self::new(Arc::clone(&self.state));
        // Owned by the stream: what the client no longer listens to is no longer served.
        let conversation = async move {
            if rule.silent {
                future::pending::<()>().await;
            }
            if service.converse(request.into_inner(), replies).await {
                watch.done();
            }
        };
        Ok(Response::new(
            alongside(UnboundedReceiverStream::new(receiver), conversation)
                .take_until(ended.cancelled_owned())
                .boxed(),
        ))
    }

    async fn pull_message(&self, _: Request<PullMessageRequest>) -> Answer<Self::PullMessageStream> {
        unimplemented()
    }

    async fn update_offset(&self, _: Request<UpdateOffsetRequest>) -> Answer<UpdateOffsetResponse> {
        unimplemented()
    }

    async fn get_offset(&self, _: Request<GetOffsetRequest>) -> Answer<GetOffsetResponse> {
        unimplemented()
    }

    async fn query_offset(&self, _: Request<QueryOffsetRequest>) -> Answer<QueryOffsetResponse> {
        unimplemented()
    }
}

/// The items of a stream, with `work` driven by whoever reads them.
fn alongside<S, W>(items: S, work: W) -> impl Stream<Item = S::Item> + Send
where
    S: Stream + Send,
    S::Item: Send,
    W: Future<Output = ()> + Send,
{
    let nothing = futures::stream::once(work).filter_map(|()| future::ready(None));
    futures::stream::select(items, nothing)
}
