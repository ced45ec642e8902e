//! Metrics for Prometheus: `GET /metrics` over HTTP/1, on an address of its own.
//!
//! ```text
//! connection -> one request -> gatherer (topics, groups, disk; at most one at a time) -> exposition (text)
//! ```
//! A connection carries one request and ends after a while, whatever its peer does.

mod cap;
mod config;
mod exposition;
mod gatherer;
mod process;
mod text;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;

use crate::front::port::{
    Budget, Connection, Greeting, PortCounts, Protocol, Recognition, Refused, Stream, TransportConfig,
};
use crate::layer::{AccessLog, MessageTrace, RequestMetrics};
use crate::processor::Processor;
pub use config::MetricsConfig;
use exposition::Exposition;
use gatherer::Gatherer;
use text::Format;

const ALPN: &[u8] = b"http/1.1";
const PATH: &str = "/metrics";
/// How long a connection may take, from its first byte to the last byte of the answer.
const MAX_EXCHANGE: Duration = Duration::from_secs(30);
/// Bytes of a request's head. It is the least that hyper accepts.
const MAX_HEAD: usize = 8192;
/// Connections at a time. A new one replaces the oldest.
const CONNECTIONS: usize = 16;

/// Serves the metrics of a proxy.
pub struct MetricsServer {
    exposition: Arc<Exposition>,
}

/// What metrics are made of.
pub struct Sources {
    /// What was counted of requests.
    pub requests: Arc<RequestMetrics>,
    /// The ports by name.
    pub ports: Vec<(Arc<str>, Arc<PortCounts>)>,
    /// What requests hold in memory.
    pub budget: Arc<Budget>,
    /// The access log.
    pub access_log: Option<Arc<AccessLog>>,
    /// Message trace.
    pub message_trace: Option<Arc<MessageTrace>>,
    /// The rest.
    pub processor: Arc<Processor>,
}

impl MetricsServer {
    /// A front end that shows these.
    #[must_use]
    pub fn new(sources: Sources, config: &MetricsConfig) -> Self {
        let gatherer = Gatherer::new(sources.processor.clone(), config.max_series);
        Self { exposition: Arc::new(Exposition::new(sources, gatherer)) }
    }

    /// Bounds on connections, for a port that serves nothing else.
    #[must_use]
    pub fn transport(transport: &TransportConfig) -> TransportConfig {
        TransportConfig { connections: CONNECTIONS, connections_per_peer: CONNECTIONS, ..transport.clone() }
    }
}

#[async_trait]
impl Protocol for MetricsServer {
    fn alpn(&self) -> Option<&'static [u8]> {
        Some(ALPN)
    }

    fn recognize(&self, greeting: Greeting<'_>) -> Recognition {
        let other = greeting.alpn.is_some_and(|protocol| protocol != ALPN);
        match greeting.first {
            _ if other => Recognition::No,
            [] => Recognition::Undecided,
            [first, ..] if first.is_ascii_uppercase() => Recognition::Yes,
            _ => Recognition::No,
        }
    }

    fn refusal(&self, refused: Refused) -> Vec<u8> {
        let (status, text) = match refused {
            Refused::Busy(limit) => ("503 Service Unavailable", limit),
            Refused::Unrecognized => ("400 Bad Request", "this port speaks HTTP/1"),
        };
        let length = text.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}")
            .into_bytes()
    }

    // The calls of the connection are not tracked: it counts as idle, so that a newcomer replaces it if there are too
    // many. A peer that does not read can't keep others out.
    async fn serve(&self, stream: Stream, connection: Connection) -> io::Result<()> {
        let service = service_fn(|request| self.answer(request));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).keep_alive(false).max_buf_size(MAX_HEAD);
        let exchange = timeout(MAX_EXCHANGE, http.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            ended = exchange => ended?.map_err(io::Error::other),
            () = connection.closing().cancelled() => Ok(()),
        }
    }
}

impl MetricsServer {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let told = match (request.uri().path(), request.method()) {
            (PATH, &Method::GET | &Method::HEAD) => {
                let format = Format::accepted(request.headers());
                self.exposition.text(format).await.map(|text| (StatusCode::OK, format.content_type(), text))
            }
            (PATH, _) => Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "GET /metrics")),
            _ => Ok(plain(StatusCode::NOT_FOUND, "GET /metrics")),
        };
        let (status, content_type, text) = told.unwrap_or_else(|error| {
            tracing::error!(%error, "metrics can't be written");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics can't be written")
        });
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        }
        Ok(response)
    }
}

fn plain(status: StatusCode, text: &str) -> (StatusCode, &'static str, String) {
    (status, "text/plain; charset=utf-8", format!("{text}\n"))
}
