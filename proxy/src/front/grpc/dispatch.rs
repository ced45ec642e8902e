//! Dispatches calls to their handlers by the path, and passes other HTTP requests on.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use prost::Message;
use tonic::Code;

use super::field_count::WireRequest;
use super::metadata::{self, CallMetadata};
use super::reader::{Reader, RequestLimits};
use super::shared::Shared;
use super::wire::{self, Body, Refusal};
use super::{client, lite, pull, receive, route, send, settle, status, telemetry, transaction};
use crate::context::{Context, Origin};
use crate::error::Error;
use crate::front::port::{Charge, ConnectionBudget, Web, WebPeer};
use crate::service::Capabilities;
use rocketmq_thin_proto::v2 as pb;

const MESSAGING: &str = "/apache.rocketmq.v2.MessagingService/";
/// The largest request in bytes, except for SendMessage.
const MAX_OTHER_REQUEST_BYTES: usize = 4 << 20;

type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, h2::Error>> + Send>>;

/// Serves the calls of one connection.
pub(super) struct ConnectionService {
    pub(super) shared: Arc<Shared>,
    pub(super) origin: Origin,
    /// Answers requests that are not gRPC calls, if HTTP is enabled, and the peer that sends them.
    pub(super) web: Option<(Arc<dyn Web>, WebPeer)>,
    pub(super) budget: Arc<ConnectionBudget>,
}

impl hyper::service::Service<Request<Incoming>> for ConnectionService {
    type Response = Response<Body>;
    type Error = h2::Error;
    type Future = ResponseFuture;

    fn call(&self, request: Request<Incoming>) -> ResponseFuture {
        if let Some((web, peer)) = &self.web
            && !metadata::is_grpc(request.headers())
        {
            let answer = web.answer(request, peer.clone(), &self.budget);
            return Box::pin(async move {
                Ok(answer.await.map(|body| Body::generated(tonic::body::Body::new(body))))
            });
        }
        self.dispatch(request).unwrap_or_else(|refusal| Box::pin(ready(wire::refuse(refusal))))
    }
}

impl ConnectionService {
    // Each handler's future is boxed by itself: a common type would be as large as the largest of them.
    fn dispatch(&self, request: Request<Incoming>) -> Result<ResponseFuture, Refusal> {
        let call = metadata::call(request.method(), request.headers())?;
        let charge = Charge::new(&self.budget)?;
        let messaging = request.uri().path().strip_prefix(MESSAGING).filter(|_| self.shared.served.messaging);
        let Some(method) = messaging else {
            return Ok(Box::pin(other_service(self.shared.clone(), request, self.origin.clone(), charge)));
        };
        let method = Method::named(method, self.shared.processor.capabilities())?;
        let (parts, body) = request.into_parts();
        let limits = RequestLimits {
            bytes: match method {
                Method::SendMessage => self.shared.limits.bytes,
                _ => self.shared.limits.bytes.min(MAX_OTHER_REQUEST_BYTES),
            },
            ..self.shared.limits
        };
        let reader = Reader::new(body, call.compression, limits, charge);
        let (shared, origin) = (self.shared.clone(), self.origin.clone());
        let incoming = IncomingCall { shared, headers: parts.headers, origin, call, reader };
        Ok(match method {
            Method::QueryRoute => Box::pin(incoming.run(route::query_route)),
            Method::QueryAssignment => Box::pin(incoming.run(route::query_assignment)),
            Method::SendMessage => Box::pin(incoming.run(send::send)),
            Method::AckMessage => Box::pin(incoming.run(settle::acknowledge)),
            Method::ChangeInvisibleDuration => Box::pin(incoming.run(settle::change_invisible)),
            Method::ForwardMessageToDeadLetterQueue => Box::pin(incoming.run(settle::forward_to_dead_letter)),
            Method::EndTransaction => Box::pin(incoming.run(transaction::end)),
            Method::RecallMessage => Box::pin(incoming.run(send::recall)),
            Method::SyncLiteSubscription => Box::pin(incoming.run(lite::sync)),
            Method::PullMessage => Box::pin(incoming.pull()),
            Method::UpdateOffset => Box::pin(incoming.run(pull::update_offset)),
            Method::GetOffset => Box::pin(incoming.run(pull::get_offset)),
            Method::QueryOffset => Box::pin(incoming.run(pull::query_offset)),
            Method::Heartbeat => Box::pin(incoming.run(client::heartbeat)),
            Method::NotifyClientTermination => Box::pin(incoming.run(client::terminate)),
            Method::ReceiveMessage => Box::pin(incoming.receive()),
            Method::Telemetry => Box::pin(ready(Ok(incoming.telemetry()))),
        })
    }
}

async fn other_service(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    origin: Origin,
    charge: Charge,
) -> Result<Response<Body>, h2::Error> {
    match shared.other_services.answer(request, &origin, charge).await {
        Ok(response) => Ok(response.map(Body::generated)),
        Err(path) => {
            let message = format!("Method not found: {path}");
            wire::refuse(Refusal::status(Code::Unimplemented, message))
        }
    }
}

/// The calls that this proxy serves.
enum Method {
    QueryRoute,
    QueryAssignment,
    SendMessage,
    ReceiveMessage,
    AckMessage,
    ChangeInvisibleDuration,
    ForwardMessageToDeadLetterQueue,
    EndTransaction,
    RecallMessage,
    SyncLiteSubscription,
    PullMessage,
    UpdateOffset,
    GetOffset,
    QueryOffset,
    Heartbeat,
    NotifyClientTermination,
    Telemetry,
}

impl Method {
    // Calls that the backend does not support get the answer that Apache's proxy gives to pulls.
    fn named(name: &str, offered: Capabilities) -> Result<Self, Refusal> {
        let service = MESSAGING.trim_matches('/');
        Ok(match name {
            "QueryRoute" => Self::QueryRoute,
            "QueryAssignment" => Self::QueryAssignment,
            "SendMessage" => Self::SendMessage,
            "ReceiveMessage" => Self::ReceiveMessage,
            "AckMessage" => Self::AckMessage,
            "ChangeInvisibleDuration" => Self::ChangeInvisibleDuration,
            "ForwardMessageToDeadLetterQueue" => Self::ForwardMessageToDeadLetterQueue,
            "Heartbeat" => Self::Heartbeat,
            "NotifyClientTermination" => Self::NotifyClientTermination,
            "Telemetry" => Self::Telemetry,
            "EndTransaction" if offered.transaction => Self::EndTransaction,
            "RecallMessage" if offered.recall => Self::RecallMessage,
            "SyncLiteSubscription" if offered.lite => Self::SyncLiteSubscription,
            "PullMessage" if offered.offsets => Self::PullMessage,
            "UpdateOffset" if offered.offsets => Self::UpdateOffset,
            "GetOffset" if offered.offsets => Self::GetOffset,
            "QueryOffset" if offered.offsets => Self::QueryOffset,
            "PullMessage"
            | "UpdateOffset"
            | "GetOffset"
            | "QueryOffset"
            | "EndTransaction"
            | "RecallMessage"
            | "SyncLiteSubscription" => {
                let message = format!("Method {service}/{name} is unimplemented");
                return Err(Refusal::status(Code::Unimplemented, message));
            }
            _ => {
                let message = format!("Method not found: {service}/{name}");
                return Err(Refusal::status(Code::Unimplemented, message));
            }
        })
    }
}

/// The answer of a unary call, which contains a status.
pub(super) trait Refusable: Message + Default {
    /// Sets the status of the answer.
    fn set_status(&mut self, status: pb::Status);

    /// An answer that contains only this status.
    fn refused(status: pb::Status) -> Self {
        let mut answer = Self::default();
        answer.set_status(status);
        answer
    }
}

macro_rules! refusable {
    ($($answer:ty),+ $(,)?) => {
        $(impl Refusable for $answer {
            fn set_status(&mut self, status: pb::Status) {
                self.status = Some(status);
            }
        })+
    };
}

refusable!(
    pb::QueryRouteResponse,
    pb::QueryAssignmentResponse,
    pb::SendMessageResponse,
    pb::AckMessageResponse,
    pb::ChangeInvisibleDurationResponse,
    pb::ForwardMessageToDeadLetterQueueResponse,
    pb::EndTransactionResponse,
    pb::RecallMessageResponse,
    pb::SyncLiteSubscriptionResponse,
    pb::UpdateOffsetResponse,
    pb::GetOffsetResponse,
    pb::QueryOffsetResponse,
    pb::HeartbeatResponse,
    pb::NotifyClientTerminationResponse,
);

/// A call whose request is not read yet.
struct IncomingCall {
    shared: Arc<Shared>,
    headers: HeaderMap,
    origin: Origin,
    call: CallMetadata,
    reader: Reader,
}

impl IncomingCall {
    fn context(&self) -> Context {
        metadata::context(&self.headers, &self.call, &self.origin)
    }

    async fn run<Q, A>(
        mut self,
        handler: impl AsyncFnOnce(&Shared, &Context, Q) -> Result<A, Error>,
    ) -> Result<Response<Body>, h2::Error>
    where
        Q: WireRequest,
        A: Refusable,
    {
        let request = match self.reader.only().await {
            Ok(request) => request,
            Err(refusal) => return wire::refuse(refusal),
        };
        let answer = handler(&self.shared, &self.context(), request).await;
        let answer = answer.unwrap_or_else(|error| A::refused(status::of(&error)));
        wire::unary(&answer, self.reader.into_charge()).or_else(wire::refuse)
    }

    async fn receive(mut self) -> Result<Response<Body>, h2::Error> {
        match self.reader.only().await {
            Ok(request) => {
                let context = self.context();
                let digest = metadata::body_digest(&self.headers);
                let charge = self.reader.into_charge();
                Ok(receive::receive(&self.shared, context, request, (digest, charge)).await)
            }
            Err(refusal) => wire::refuse(refusal),
        }
    }

    async fn pull(mut self) -> Result<Response<Body>, h2::Error> {
        match self.reader.only().await {
            Ok(request) => {
                let context = self.context();
                let charge = self.reader.into_charge();
                Ok(pull::pull(&self.shared, context, request, charge).await)
            }
            Err(refusal) => wire::refuse(refusal),
        }
    }

    fn telemetry(self) -> Response<Body> {
        let context = self.context();
        telemetry::serve(self.shared, context, self.reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_the_backend_does_not_offer_are_unimplemented() {
        for (name, text) in [
            ("GetOffset", "Method apache.rocketmq.v2.MessagingService/GetOffset is unimplemented"),
            ("OfALaterDay", "Method not found: apache.rocketmq.v2.MessagingService/OfALaterDay"),
        ] {
            let Err(Refusal::Status(code, message)) = Method::named(name, Capabilities::default()) else {
                panic!("{name} is served")
            };
            assert_eq!((code, message.as_str()), (Code::Unimplemented, text));
        }
    }
}
