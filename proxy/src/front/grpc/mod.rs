//! The gRPC front end: `apache.rocketmq.v2.MessagingService` as clients of RocketMQ 5 speak it.
//!
//! Decodes requests to the processor's commands, and encodes its answers. Only this folder uses the wire types. The
//! messaging service runs directly on hyper, without generated stubs. This saves a third of the CPU time of a call, and
//! clients that violate the gRPC protocol get the same texts and HTTP/2 frames as from Apache's proxy. Health,
//! reflection and administration use generated services.
//!
//! ```text
//! connection -> dispatch (method, headers) -> reader (frames -> request) -> one file per family of calls -> wire (answer)
//! ```

mod admin;
mod admin_client;
mod admin_config;
mod admin_dead_letters;
mod admin_log;
mod admin_messages;
mod admin_quotas;
mod admin_rights;
mod admin_stats;
mod admin_summaries;
mod admin_trace;
mod admin_updates;
mod admin_users;
mod calls;
mod client;
mod convert;
mod dispatch;
mod field_count;
mod lite;
mod message;
mod metadata;
mod other_services;
mod pull;
mod reader;
mod receive;
mod route;
mod send;
mod settle;
mod shared;
mod shared_writes;
mod signer;
mod status;
mod telemetry;
mod transaction;
mod wire;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};

#[cfg(feature = "http")]
use crate::error::ErrorKind;
use crate::front::port::{
    Connection, ConnectionStart, MemoryBudget, PortLimits, Protocol, Recognition, Refused, Stream,
    TransportConfig, Web, WebPeer, wait_until_drained,
};
use crate::front::route_addresses::ServedEntry;
use crate::log_level::LogControl;
use crate::processor::Processor;
use calls::Calls;
use other_services::OtherServices;
use reader::RequestLimits;
use shared::Shared;
use shared_writes::SharedWrites;

pub use admin_client::{RemoteAdmin, RemoteError};
#[cfg(feature = "http")]
pub(super) use admin_rights::right_for;

/// The number of an error kind's code in the contract.
#[cfg(feature = "http")]
pub(super) fn wire_code(kind: ErrorKind) -> i32 {
    status::code(kind).into()
}

/// Flow-control window of a stream and of a connection, in bytes. A message of 4 MiB takes four round trips.
const WINDOW: u32 = 1 << 20;
/// The bytes of one answer that HTTP/2 may buffer.
const SEND_BUFFER: usize = 256 << 10;
/// How many cancelled calls of a client may wait to be accepted before the connection is closed. h2's default of 20 is
/// too low for a client that cancels many receives at once.
const PENDING_RESETS: usize = 512;
/// A peer that is gone is detected after the sum of both times at the latest.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The first bytes of an HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const ALPN: &[u8] = b"h2";
/// An empty SETTINGS frame, and the header of a GOAWAY frame without its length.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const GOAWAY: [u8; 6] = [7, 0, 0, 0, 0, 0];

/// The port of the addresses in a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoutePort {
    /// The port on which the proxy listens.
    #[default]
    Listen,
    /// The port to which the client has connected. For proxies behind a load balancer or a port mapping.
    Request,
}

/// The front end of one entry. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
    web: Option<Arc<dyn Web>>,
    budget: Arc<MemoryBudget>,
    transport: TransportConfig,
}

impl Server {
    /// Creates the front end of an entry.
    #[must_use]
    pub fn new(
        processor: Arc<Processor>,
        served: &ServedEntry,
        PortLimits { transport, budget }: PortLimits,
        log: &Arc<LogControl>,
    ) -> Self {
        let other_services = OtherServices::new(&processor, served, log, transport.request_timeout);
        let limits = RequestLimits {
            bytes: transport.request_bytes,
            fields: transport.request_fields,
            timeout: transport.request_timeout,
        };
        let shared = Shared { processor, other_services, served: served.clone(), limits };
        Self { shared: Arc::new(shared), web: None, budget, transport }
    }

    /// Lets `web` answer requests that are not gRPC calls. With `None`, they are refused.
    #[must_use]
    pub fn with_web(self, web: Option<Arc<dyn Web>>) -> Self {
        Self { web, ..self }
    }

    fn http2(&self, calls: Calls) -> http2::Builder<Calls> {
        let mut http2 = http2::Builder::new(calls);
        http2
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_concurrent_streams(self.transport.streams_per_connection)
            .max_header_list_size(self.transport.header_bytes)
            .max_send_buf_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        http2
    }
}

#[async_trait]
impl Protocol for Server {
    fn alpn(&self) -> Option<&'static [u8]> {
        Some(ALPN)
    }

    fn recognize(&self, start: ConnectionStart<'_>) -> Recognition {
        if start.encrypted && start.alpn != Some(ALPN) {
            return Recognition::No;
        }
        let compared = start.first.len().min(PREFACE.len());
        match start.first[..compared] == PREFACE[..compared] {
            false => Recognition::No,
            true if compared < PREFACE.len() => Recognition::Undecided,
            true => Recognition::Yes,
        }
    }

    fn refusal(&self, refused: Refused) -> Vec<u8> {
        match refused {
            Refused::Busy(limit) => goaway(h2::Reason::ENHANCE_YOUR_CALM, limit),
            Refused::Unrecognized => goaway(h2::Reason::PROTOCOL_ERROR, "this port speaks gRPC (HTTP/2)"),
        }
    }

    async fn serve(&self, stream: Stream, connection: Connection) -> io::Result<()> {
        let (calls, closing) = (connection.calls().clone(), connection.closing().clone());
        let budget = self.budget.connection(connection.peer());
        let service = dispatch::ConnectionService {
            shared: self.shared.clone(),
            origin: connection.origin(self.shared.served.entry.clone()),
            web: self.web.clone().map(|web| (web, WebPeer::from(&connection))),
            budget: budget.clone(),
        };
        let executor = Calls::new(Arc::new(connection), self.transport.answer_timeout);
        let http2 = self.http2(executor).serve_connection(TokioIo::new(stream), service);
        let mut http2 = std::pin::pin!(SharedWrites::new(http2, calls.clone()));
        let ended = tokio::select! {
            ended = http2.as_mut() => ended,
            () = closing.cancelled() => {
                http2.as_mut().connection().graceful_shutdown();
                tokio::select! {
                    ended = http2.as_mut() => ended,
                    () = wait_until_drained(&calls, &budget) => return Ok(()),
                }
            }
        };
        ended.map_err(io::Error::other)
    }
}

// The frames that are sent on a refused connection: SETTINGS and a GOAWAY with the reason.
fn goaway(reason: h2::Reason, text: &str) -> Vec<u8> {
    let length = u32::try_from(8 + text.len()).expect("texts are short").to_be_bytes();
    let last_stream = [0; 4];
    let code = u32::from(reason).to_be_bytes();
    [&SETTINGS[..], &length[1..], &GOAWAY, &last_stream, &code, text.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_goaway_frame_with_the_reason() {
        let text = "too many";
        let length = u8::try_from(8 + text.len()).expect("short");
        let expected =
            [&SETTINGS[..], &[0, 0, length, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11], b"too many"].concat();
        assert_eq!(goaway(h2::Reason::ENHANCE_YOUR_CALM, text), expected);
    }
}
