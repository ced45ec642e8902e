//! The unary RPCs as types, so that one function can call all of them.

use prost::Message;
use rocketmq_thin_proto::v2;

/// A unary RPC.
pub(crate) trait RpcMethod {
    /// The name of the operation in errors and metrics.
    const NAME: &'static str;
    /// The path of its URL.
    const PATH: &'static str;
    /// Its request.
    type Request: Message + 'static;
    /// Its response.
    type Response: Message + Default + 'static;

    /// The status of a response.
    fn status(response: &Self::Response) -> Option<&v2::Status>;
}

macro_rules! methods {
    ($($name:ident as $text:literal: ($request:ident) -> $response:ident;)*) => {$(
        #[doc = concat!("The RPC `", stringify!($name), "`.")]
        #[derive(Debug)]
        pub(crate) enum $name {}

        impl RpcMethod for $name {
            const NAME: &'static str = $text;
            const PATH: &'static str =
                concat!("/apache.rocketmq.v2.MessagingService/", stringify!($name));
            type Request = v2::$request;
            type Response = v2::$response;

            fn status(response: &Self::Response) -> Option<&v2::Status> {
                response.status.as_ref()
            }
        }
    )*};
}

methods! {
    QueryRoute as "query_route": (QueryRouteRequest) -> QueryRouteResponse;
    Heartbeat as "heartbeat": (HeartbeatRequest) -> HeartbeatResponse;
    SendMessage as "send": (SendMessageRequest) -> SendMessageResponse;
    EndTransaction as "end_transaction": (EndTransactionRequest) -> EndTransactionResponse;
    RecallMessage as "recall": (RecallMessageRequest) -> RecallMessageResponse;
    AckMessage as "ack": (AckMessageRequest) -> AckMessageResponse;
    ChangeInvisibleDuration as "change_invisible":
        (ChangeInvisibleDurationRequest) -> ChangeInvisibleDurationResponse;
    ForwardMessageToDeadLetterQueue as "dead_letter":
        (ForwardMessageToDeadLetterQueueRequest) -> ForwardMessageToDeadLetterQueueResponse;
    SyncLiteSubscription as "sync_lite": (SyncLiteSubscriptionRequest) -> SyncLiteSubscriptionResponse;
    NotifyClientTermination as "close": (NotifyClientTerminationRequest) -> NotifyClientTerminationResponse;
}
