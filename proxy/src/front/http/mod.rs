//! The HTTP front end: sending, receiving, settling and administration as REST with JSON, and CloudEvents.
//!
//! It decodes requests to the processor's commands and encodes their results. It serves HTTP/1.1 on its own connections, and
//! HTTP/2 on connections of gRPC, for requests that are not gRPC calls.
//!
//! ```text
//! connection -> router (axum) -> call (caller, parameters, body) -> one file per family of requests -> answer or problem
//! ```

mod admin;
mod admin_dead_letters;
mod admin_groups;
mod admin_messages;
mod admin_quotas;
mod admin_topics;
mod admin_trace;
mod admin_users;
mod byte_count;
mod call;
mod cloud_events;
mod config;
#[cfg(feature = "console")]
mod console;
mod credentials;
mod events;
mod headers;
mod message;
mod openapi;
mod origin;
mod problem;
mod receive;
mod send;
mod settle;
mod shared;
mod stream_deliveries;
mod times;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::response::IntoResponse;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tower_service::Service;

use crate::error::{Error, ErrorKind};
use crate::front::port::{
    Charge, Connection, ConnectionBudget, ConnectionStart, MemoryBudget, PortLimits, Protocol, Recognition,
    Refused, Stream, TransportConfig, Web, WebBody, WebPeer, wait_until_drained,
};
use crate::front::route_addresses::ServedEntry;
use crate::processor::Processor;
use call::RequestInfo;
pub use config::HttpConfig;
use problem::Problem;
use shared::Shared;
use stream_deliveries::EventStreams;

const ALPN: &[u8] = b"http/1.1";
/// The longest name of a method.
const MAX_METHOD: usize = 16;
/// The method in the connection preface of HTTP/2.
const HTTP2_PREFACE: &[u8] = b"PRI";
/// The smallest buffer that hyper accepts for a connection. The buffer bounds the headers of a request.
const MIN_BUFFER: usize = 8192;

/// The HTTP front end. [`Server::at`] creates the front end of a port.
pub struct Server {
    processor: Arc<Processor>,
    config: HttpConfig,
    streams: EventStreams,
}

/// The front end of one port. Cheap to clone.
#[derive(Clone)]
pub struct Entry {
    router: Router,
    budget: Arc<MemoryBudget>,
    transport: TransportConfig,
}

impl Server {
    /// Creates a front end that passes requests to `processor`.
    #[must_use]
    pub fn new(processor: Arc<Processor>, config: &HttpConfig) -> Self {
        Self { processor, config: config.clone(), streams: EventStreams::default() }
    }

    /// Creates the front end of a port.
    #[must_use]
    pub fn at(&self, served: &ServedEntry, PortLimits { transport, budget }: PortLimits) -> Entry {
        let shared = Shared {
            processor: self.processor.clone(),
            config: self.config.clone(),
            transport: transport.clone(),
            entry: served.entry.clone(),
            streams: self.streams.clone(),
        };
        let router = openapi::router(served, &self.config).with_state(Arc::new(shared));
        Entry { router, budget, transport }
    }
}

impl Entry {
    async fn respond(
        mut router: Router,
        request: Request<Incoming>,
        peer: WebPeer,
        charge: Charge,
    ) -> Response<WebBody> {
        let charge = Arc::new(Mutex::new(charge));
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(RequestInfo {
            peer,
            received: Instant::now(),
            charge: charge.clone(),
        });
        let response = match router.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        // The memory is released when the answer was sent or abandoned.
        response.map(|body| boxed(body, charge))
    }
}

/// Boxes a body, which holds `held` until it is dropped.
fn boxed(body: Body, held: impl Send + 'static) -> WebBody {
    let body = body.map_err(Into::into);
    BodyExt::boxed_unsync(body.map_frame(move |frame| {
        let _ = &held;
        frame
    }))
}

impl Web for Entry {
    fn answer(
        &self,
        request: Request<Incoming>,
        peer: WebPeer,
        budget: &Arc<ConnectionBudget>,
    ) -> BoxFuture<'static, Response<WebBody>> {
        match Charge::new(budget) {
            Ok(charge) => Self::respond(self.router.clone(), request, peer, charge).boxed(),
            Err(exhausted) => {
                let response = Problem::from(exhausted).into_response();
                std::future::ready(response.map(|body| boxed(body, ()))).boxed()
            }
        }
    }
}

#[async_trait]
impl Protocol for Entry {
    fn alpn(&self) -> Option<&'static [u8]> {
        Some(ALPN)
    }

    fn recognize(&self, start: ConnectionStart<'_>) -> Recognition {
        recognize(start)
    }

    fn refusal(&self, refused: Refused) -> Vec<u8> {
        let problem = match refused {
            Refused::Busy(limit) => Problem::from(Error::new(ErrorKind::Busy, limit)),
            Refused::Unrecognized => Problem::bad_request("this port speaks HTTP/1.1"),
        };
        problem.to_bytes()
    }

    async fn serve(&self, stream: Stream, connection: Connection) -> io::Result<()> {
        let (calls, closing) = (connection.calls().clone(), connection.closing().clone());
        let budget = self.budget.connection(connection.peer());
        let peer = WebPeer::from(&connection);
        let service = service_fn(|request| {
            connection.touch();
            // The connection is not idle until the answer is sent.
            let call_token = calls.token();
            let answer = self.answer(request, peer.clone(), &budget);
            async move {
                let answer = answer.await;
                Ok::<_, Infallible>(answer.map(|body| {
                    body.map_frame(move |frame| {
                        let _ = &call_token;
                        frame
                    })
                }))
            }
        });
        let buffer = MIN_BUFFER.max(self.transport.header_bytes as usize);
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(self.transport.request_timeout)
            .max_buf_size(buffer);
        let mut http1 = std::pin::pin!(http1.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = http1.as_mut() => ended,
            () = closing.cancelled() => {
                http1.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = http1.as_mut() => ended,
                    () = wait_until_drained(&calls, &budget) => return Ok(()),
                }
            }
        };
        ended.map_err(io::Error::other)
    }
}

// A request begins with a method and a space.
fn recognize(ConnectionStart { first, alpn, .. }: ConnectionStart<'_>) -> Recognition {
    if alpn.is_some_and(|protocol| protocol != ALPN) {
        return Recognition::No;
    }
    let length = first.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    match first.get(length) {
        None if length <= MAX_METHOD => Recognition::Undecided,
        Some(b' ') if (1..=MAX_METHOD).contains(&length) && first[..length] != *HTTP2_PREFACE => {
            Recognition::Yes
        }
        _ => Recognition::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_recognized_by_their_method() {
        for (first, expected) in [
            (&b"GET / HTTP/1.1"[..], Recognition::Yes),
            (b"PATCH ", Recognition::Yes),
            (b"QUERY /", Recognition::Yes),
            (b" /", Recognition::No),
            (b"P", Recognition::Undecided),
            (b"", Recognition::Undecided),
            (b"PRI * HTTP/2.0", Recognition::No),
            (b"get /", Recognition::No),
            (b"\0\0\0\x10", Recognition::No),
        ] {
            for (alpn, expected) in
                [(None, expected), (Some(ALPN), expected), (Some(&b"h2"[..]), Recognition::No)]
            {
                let start = ConnectionStart { first, encrypted: alpn.is_some(), alpn };
                assert_eq!(recognize(start), expected, "{}", first.escape_ascii());
            }
        }
    }
}
