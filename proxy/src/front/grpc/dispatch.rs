//! A call's path -> the code that answers it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use prost::Message;
use tonic::Code;

use super::metadata::{self, Call};
use super::wire::{self, Body, Reader, Refusal};
use super::{Shared, client, receive, route, send, settle, status, telemetry};
use crate::context::Context;
use crate::error::Error;
use rocketmq_thin_proto::v2 as pb;

const MESSAGING: &str = "/apache.rocketmq.v2.MessagingService/";
type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, h2::Error>> + Send>>;

/// One connection's view of the server.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Arc<str>,
}

impl hyper::service::Service<Request<Incoming>> for Connection {
    type Response = Response<Body>;
    type Error = h2::Error;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let (shared, peer) = (self.shared.clone(), self.peer.clone());
        Box::pin(async move {
            match answer(shared, peer, request).await {
                Ok(response) => Ok(response),
                Err(refusal) => wire::refuse(refusal),
            }
        })
    }
}

async fn answer(
    shared: Arc<Shared>,
    peer: Arc<str>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let call = metadata::call(request.method(), request.headers())?;
    let Some(method) = request.uri().path().strip_prefix(MESSAGING) else {
        return match shared.side.answer(request).await {
            Ok(response) => Ok(response.map(Body::Generated)),
            Err(path) => Err(Refusal::status(Code::Unimplemented, format!("Method not found: {path}"))),
        };
    };
    let method = Method::of(method)?;
    let (parts, body) = request.into_parts();
    let unary = Unary { headers: parts.headers, peer, call };
    let reader = Reader::new(body, unary.call.compression);
    match method {
        Method::QueryRoute => unary.run(reader, async |c, r| route::query_route(&shared, &c?, r).await).await,
        Method::QueryAssignment => {
            unary.run(reader, async |c, r| route::query_assignment(&shared, &c?, r).await).await
        }
        Method::SendMessage => unary.run(reader, async |c, r| send::send(&shared, &c?, r).await).await,
        Method::AckMessage => {
            unary.run(reader, async |c, r| settle::acknowledge(&shared, &c?, r).await).await
        }
        Method::ChangeInvisibleDuration => {
            unary.run(reader, async |c, r| settle::change_invisible(&shared, &c?, r).await).await
        }
        Method::ForwardMessageToDeadLetterQueue => {
            unary.run(reader, async |c, r| settle::forward_to_dead_letter(&shared, &c?, r).await).await
        }
        Method::Heartbeat => unary.run(reader, async |c, r| client::heartbeat(&shared, &c?, r).await).await,
        Method::NotifyClientTermination => {
            unary.run(reader, async |c, r| client::terminate(&shared, &c?, r).await).await
        }
        Method::ReceiveMessage => {
            let request = reader.only().await?;
            Ok(receive::receive(&shared, unary.context(), request).await)
        }
        Method::Telemetry => Ok(telemetry::serve(shared, unary.context(), reader)),
    }
}

/// The calls this proxy answers.
enum Method {
    QueryRoute,
    QueryAssignment,
    SendMessage,
    ReceiveMessage,
    AckMessage,
    ChangeInvisibleDuration,
    ForwardMessageToDeadLetterQueue,
    Heartbeat,
    NotifyClientTermination,
    Telemetry,
}

impl Method {
    fn of(name: &str) -> Result<Self, Refusal> {
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

/// A unary answer that can tell of a refusal.
pub(super) trait Refusable: Message + Default {
    /// Sets the status of the whole answer.
    fn set_status(&mut self, status: pb::Status);

    /// The answer that only holds this status.
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
    pb::HeartbeatResponse,
    pb::NotifyClientTerminationResponse,
);

struct Unary {
    headers: HeaderMap,
    peer: Arc<str>,
    call: Call,
}

impl Unary {
    fn context(&self) -> Result<Context, Error> {
        metadata::context(&self.headers, &self.call, &self.peer)
    }

    // The request is read first: one that can't be decoded is refused even without a client id.
    async fn run<Q, A>(
        self,
        reader: Reader,
        handler: impl AsyncFnOnce(Result<Context, Error>, Q) -> Result<A, Error>,
    ) -> Result<Response<Body>, Refusal>
    where
        Q: Message + Default,
        A: Refusable,
    {
        let request = reader.only().await?;
        let answer = handler(self.context(), request).await;
        Ok(wire::unary(&answer.unwrap_or_else(|error| A::refused(status::of(&error)))))
    }
}
