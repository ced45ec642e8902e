//! The interface through which the gRPC front end passes on HTTP/2 requests that are not gRPC calls. Browsers and
//! `curl` speak HTTP/2 to a port with TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;

use super::{Connection, ConnectionBudget};

/// The body of an HTTP answer.
pub type WebBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The client that sends an HTTP request.
#[derive(Clone, Debug)]
pub struct WebPeer {
    /// The client's address.
    pub address: SocketAddr,
    /// Whether its connection uses TLS.
    pub encrypted: bool,
    /// The names in its certificate. `None` if it has sent none.
    pub certificate: Option<Arc<[String]>>,
}

impl From<&Connection> for WebPeer {
    fn from(connection: &Connection) -> Self {
        Self {
            address: connection.peer(),
            encrypted: connection.is_encrypted(),
            certificate: connection.certificate().cloned(),
        }
    }
}

/// Answers HTTP requests that are not gRPC calls.
pub trait Web: Send + Sync {
    /// Answers one request.
    fn answer(
        &self,
        request: Request<Incoming>,
        peer: WebPeer,
        budget: &Arc<ConnectionBudget>,
    ) -> BoxFuture<'static, Response<WebBody>>;
}
