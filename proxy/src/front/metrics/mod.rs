//! Metrics for Prometheus: `GET /metrics` over HTTP/1, on an address of its own.
//!
//! ```text
//! connection -> one request -> gatherer (topics, groups, disk; at most one at a time) -> exposition (text)
//! ```
//! A connection carries one request, and is closed after 30 s at the latest.

mod cap;
mod config;
mod exposition;
mod family;
mod gatherer;
mod process;
mod sources;
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
    Connection, ConnectionStart, Protocol, Recognition, Refused, Stream, TransportConfig,
};
pub use config::MetricsConfig;
pub use exposition::Exposition;
pub use family::{Labels, MetricFamily, Number, Series};
pub use sources::Sources;
use text::Format;

const ALPN: &[u8] = b"http/1.1";
const PATH: &str = "/metrics";
/// How long a connection may take, from its first byte to the last byte of the answer.
const MAX_EXCHANGE: Duration = Duration::from_secs(30);
/// Bytes of a request's head. hyper accepts no lower limit.
const MAX_HEAD: usize = 8192;
/// Concurrent connections. A new one replaces the oldest.
const MAX_CONNECTIONS: usize = 16;

/// Serves the metrics of a proxy.
pub struct MetricsServer {
    exposition: Arc<Exposition>,
}

impl MetricsServer {
    /// Creates a front end that serves these metrics.
    #[must_use]
    pub fn new(exposition: Arc<Exposition>) -> Self {
        Self { exposition }
    }

    /// The limits on connections for a port that serves metrics alone.
    #[must_use]
    pub fn transport(transport: &TransportConfig) -> TransportConfig {
        TransportConfig {
            connections: MAX_CONNECTIONS,
            connections_per_peer: MAX_CONNECTIONS,
            ..transport.clone()
        }
    }
}

#[async_trait]
impl Protocol for MetricsServer {
    fn alpn(&self) -> Option<&'static [u8]> {
        Some(ALPN)
    }

    fn recognize(&self, start: ConnectionStart<'_>) -> Recognition {
        let other = start.alpn.is_some_and(|protocol| protocol != ALPN);
        match start.first {
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

    // The calls of the connection are not tracked. It counts as idle, so a new connection can replace it, and peers
    // that do not read can't keep others out.
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
        let answer = match (request.uri().path(), request.method()) {
            (PATH, &Method::GET | &Method::HEAD) => {
                let format = Format::accepted(request.headers());
                let text = format.write(self.exposition.families().await);
                text.map(|text| (StatusCode::OK, format.content_type(), text))
            }
            (PATH, _) => Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "GET /metrics")),
            _ => Ok(plain(StatusCode::NOT_FOUND, "GET /metrics")),
        };
        let (status, content_type, text) = answer.unwrap_or_else(|error| {
            tracing::error!(%error, "failed to encode metrics");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be encoded")
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
