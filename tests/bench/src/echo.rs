//! The lower bound: a gRPC server that answers every send at once and stores nothing.

use std::pin::Pin;

use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proto::v2::messaging_service_server::{MessagingService, MessagingServiceServer};
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

struct Echo;

type Answer<T> = Result<Response<T>, Status>;
type Nothing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn not_here<T>() -> Answer<T> {
    Err(Status::unimplemented("the echo answers sends only"))
}

#[tonic::async_trait]
impl MessagingService for Echo {
    type ReceiveMessageStream = Nothing<pb::ReceiveMessageResponse>;
    type PullMessageStream = Nothing<pb::PullMessageResponse>;
    type TelemetryStream = Nothing<pb::TelemetryCommand>;

    async fn send_message(
        &self,
        request: Request<pb::SendMessageRequest>,
    ) -> Answer<pb::SendMessageResponse> {
        let status = Some(pb::Status { code: pb::Code::Ok as i32, message: "OK".to_owned() });
        let entries = request
            .into_inner()
            .messages
            .into_iter()
            .map(|message| pb::SendResultEntry {
                status: status.clone(),
                message_id: message.system_properties.map(|system| system.message_id).unwrap_or_default(),
                ..Default::default()
            })
            .collect();
        Ok(Response::new(pb::SendMessageResponse { status, entries }))
    }

    async fn query_route(&self, _: Request<pb::QueryRouteRequest>) -> Answer<pb::QueryRouteResponse> {
        not_here()
    }
    async fn heartbeat(&self, _: Request<pb::HeartbeatRequest>) -> Answer<pb::HeartbeatResponse> {
        not_here()
    }
    async fn query_assignment(
        &self,
        _: Request<pb::QueryAssignmentRequest>,
    ) -> Answer<pb::QueryAssignmentResponse> {
        not_here()
    }
    async fn receive_message(
        &self,
        _: Request<pb::ReceiveMessageRequest>,
    ) -> Answer<Self::ReceiveMessageStream> {
        not_here()
    }
    async fn ack_message(&self, _: Request<pb::AckMessageRequest>) -> Answer<pb::AckMessageResponse> {
        not_here()
    }
    async fn forward_message_to_dead_letter_queue(
        &self,
        _: Request<pb::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Answer<pb::ForwardMessageToDeadLetterQueueResponse> {
        not_here()
    }
    async fn pull_message(&self, _: Request<pb::PullMessageRequest>) -> Answer<Self::PullMessageStream> {
        not_here()
    }
    async fn update_offset(&self, _: Request<pb::UpdateOffsetRequest>) -> Answer<pb::UpdateOffsetResponse> {
        not_here()
    }
    async fn get_offset(&self, _: Request<pb::GetOffsetRequest>) -> Answer<pb::GetOffsetResponse> {
        not_here()
    }
    async fn query_offset(&self, _: Request<pb::QueryOffsetRequest>) -> Answer<pb::QueryOffsetResponse> {
        not_here()
    }
    async fn end_transaction(
        &self,
        _: Request<pb::EndTransactionRequest>,
    ) -> Answer<pb::EndTransactionResponse> {
        not_here()
    }
    async fn telemetry(
        &self,
        _: Request<tonic::Streaming<pb::TelemetryCommand>>,
    ) -> Answer<Self::TelemetryStream> {
        not_here()
    }
    async fn notify_client_termination(
        &self,
        _: Request<pb::NotifyClientTerminationRequest>,
    ) -> Answer<pb::NotifyClientTerminationResponse> {
        not_here()
    }
    async fn change_invisible_duration(
        &self,
        _: Request<pb::ChangeInvisibleDurationRequest>,
    ) -> Answer<pb::ChangeInvisibleDurationResponse> {
        not_here()
    }
    async fn recall_message(
        &self,
        _: Request<pb::RecallMessageRequest>,
    ) -> Answer<pb::RecallMessageResponse> {
        not_here()
    }
    async fn sync_lite_subscription(
        &self,
        _: Request<pb::SyncLiteSubscriptionRequest>,
    ) -> Answer<pb::SyncLiteSubscriptionResponse> {
        not_here()
    }
}

/// Serves until the process is killed. The first line on standard output names the address.
#[allow(clippy::print_stdout)]
pub(crate) async fn serve() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    tonic::transport::Server::builder()
        .add_service(MessagingServiceServer::new(Echo).max_decoding_message_size(64 << 20))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(())
}
