//! The unary RPCs as types, so that one function can call all of them.

use rocketmq_thin_proto::v2;
use tonic::{Request, Response, Status};

use super::connection::Stub;

/// A unary RPC.
pub(crate) trait Operation {
    /// The operation as users know it.
    const NAME: &'static str;
    /// Its request.
    type Request: Send;
    /// Its response.
    type Response: Send;

    /// Sends one request.
    fn invoke(
        stub: Stub,
        request: Request<Self::Request>,
    ) -> impl Future<Output = Result<Response<Self::Response>, Status>> + Send;

    /// The status of a response.
    fn status(response: &Self::Response) -> Option<&v2::Status>;
}

macro_rules! operations {
    ($($name:ident as $text:literal: $method:ident($request:ident) -> $response:ident;)*) => {$(
        #[doc = concat!("The RPC `", stringify!($name), "`.")]
        #[derive(Debug)]
        pub(crate) enum $name {}

        impl Operation for $name {
            const NAME: &'static str = $text;
            type Request = v2::$request;
            type Response = v2::$response;

            async fn invoke(
                mut stub: Stub,
                request: Request<Self::Request>,
            ) -> Result<Response<Self::Response>, Status> {
                stub.$method(request).await
            }

            fn status(response: &Self::Response) -> Option<&v2::Status> {
                response.status.as_ref()
            }
        }
    )*};
}

operations! {
    QueryRoute as "query_route": query_route(QueryRouteRequest) -> QueryRouteResponse;
    Heartbeat as "heartbeat": heartbeat(HeartbeatRequest) -> HeartbeatResponse;
    SendMessage as "send": send_message(SendMessageRequest) -> SendMessageResponse;
    EndTransaction as "end_transaction":
        end_transaction(EndTransactionRequest) -> EndTransactionResponse;
    RecallMessage as "recall": recall_message(RecallMessageRequest) -> RecallMessageResponse;
    AckMessage as "ack": ack_message(AckMessageRequest) -> AckMessageResponse;
    ChangeInvisibleDuration as "change_invisible":
        change_invisible_duration(ChangeInvisibleDurationRequest) -> ChangeInvisibleDurationResponse;
    ForwardMessageToDeadLetterQueue as "dead_letter":
        forward_message_to_dead_letter_queue(ForwardMessageToDeadLetterQueueRequest)
            -> ForwardMessageToDeadLetterQueueResponse;
    SyncLiteSubscription as "sync_lite":
        sync_lite_subscription(SyncLiteSubscriptionRequest) -> SyncLiteSubscriptionResponse;
    NotifyClientTermination as "close":
        notify_client_termination(NotifyClientTerminationRequest) -> NotifyClientTerminationResponse;
}
