//! The gRPC front end: `apache.rocketmq.v2.MessagingService` as clients of RocketMQ 5 speak it.
//!
//! Decodes requests to the processor's commands and encodes its answers; wire types go no further than here.
//! The hot service is served over hyper directly rather than through generated stubs: it saves a third of the
//! CPU of a call, and clients see the same texts and HTTP/2 frames as from Apache's proxy when they break the
//! rules of gRPC itself. Health, reflection and administration use the generated services.
//!
//! ```text
//! connection -> dispatch (method, headers) -> wire (frames <-> messages) -> one file per family of calls
//! ```

mod admin;
mod admin_client;
mod client;
mod convert;
mod dispatch;
mod lite;
mod message;
mod metadata;
mod pull;
mod receive;
mod route;
mod send;
mod settle;
mod side;
mod status;
mod telemetry;
mod transaction;
mod wire;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::processor::Processor;
use side::SideServices;

pub use admin_client::{RemoteAdmin, RemoteError};

/// Flow-control window of a stream and of a connection, in bytes: one message of the largest size crosses a
/// long way in four round trips.
const WINDOW: u32 = 1 << 20;
/// The most that all headers of a request may take, as HTTP/2 counts it.
const MAX_HEADERS: u32 = 8192;
const MAX_STREAMS: u32 = i32::MAX.cast_unsigned();
/// A peer that is gone without a word is noticed after these two together.
const PING_AFTER: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Which port a route names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoutePort {
    /// The one this proxy listens on.
    #[default]
    Listen,
    /// The one the client dialled: behind a load balancer or a port map.
    Request,
}

/// Serves connections. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
    http2: http2::Builder<TokioExecutor>,
}

struct Shared {
    processor: Arc<Processor>,
    side: SideServices,
    /// None: a route names the port of the request.
    route_port: Option<u16>,
}

/// How the front end presents itself.
#[derive(Clone, Copy, Debug)]
pub struct Face {
    /// Which port a route names.
    pub route_port: RoutePort,
    /// The port this proxy listens on.
    pub listen_port: u16,
}

impl Server {
    /// A front end over these rules.
    #[must_use]
    pub fn new(processor: Arc<Processor>, face: Face) -> Self {
        let route_port = (face.route_port == RoutePort::Listen).then_some(face.listen_port);
        let side = SideServices::new(&processor);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADERS)
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_TIMEOUT);
        Self { shared: Arc::new(Shared { processor, side, route_port }), http2 }
    }

    /// Serves one connection until it ends. Once `closing` is cancelled it says GOAWAY, and ends when the calls
    /// under way are answered.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn serve<S>(&self, stream: S, peer: Arc<str>, closing: &CancellationToken) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = dispatch::Connection { shared: self.shared.clone(), peer };
        let mut connection = std::pin::pin!(self.http2.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        ended.map_err(io::Error::other)
    }
}
