//! Opens connections: TCP, then TLS if it is on, then HTTP/2.

use std::time::{Duration, Instant};

use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{net::TcpStream, time::timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use tonic::codegen::{Service, http::Uri};

use super::{
    connection::Connection,
    diagnosis::{self, ConnectStep},
    tls::{ALPN_HTTP2, TlsSetup},
};
use crate::{
    error::Error,
    options::{Address, Tls},
};

const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// How long sent bytes may stay unacknowledged before the OS closes the socket. By default, a socket to a machine that
/// has disappeared stays open for about fifteen minutes.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens the connections of a client.
#[derive(Clone)]
pub(super) struct Transport {
    tls: Option<TlsSetup>,
    connect_timeout: Duration,
}

impl Transport {
    pub(super) fn new(tls: &Tls, connect_timeout: Duration) -> Result<Self, Error> {
        Ok(Self { tls: TlsSetup::new(tls)?, connect_timeout })
    }

    /// How long an attempt to connect may take.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Opens a connection, and waits for the server's HTTP/2 settings.
    ///
    /// # Errors
    ///
    /// The message names the most likely cause. Not retryable if another attempt would fail in the same way.
    pub(super) async fn connect(&self, address: &Address) -> Result<Connection, Error> {
        let deadline = crate::options::deadline(Instant::now(), self.connect_timeout);
        let timed_out = |step| diagnosis::timed_out(address, step);
        let tcp =
            timeout_at(deadline.into(), tcp(address)).await.map_err(|_| timed_out(ConnectStep::Tcp))??;
        let (io, scheme) = match &self.tls {
            None => (Either::Left(tcp), "http"),
            Some(setup) => {
                if !setup.verified {
                    tracing::warn!(endpoint = %address, "the server's certificate is not verified");
                }
                let name = setup.server_name(address)?;
                let handshake = TlsConnector::from(setup.config.clone()).connect(name, tcp);
                let tls = timeout_at(deadline.into(), handshake)
                    .await
                    .map_err(|_| timed_out(ConnectStep::Tls))?
                    .map_err(|error| diagnosis::tls_failure(address, error))?;
                if tls.get_ref().1.alpn_protocol() != Some(ALPN_HTTP2) {
                    return Err(diagnosis::no_http2_over_tls(address));
                }
                (Either::Right(tls), "https")
            }
        };
        let origin = uri(scheme, address)?;
        let opening = Connection::open(io, address, origin);
        timeout_at(deadline.into(), opening).await.map_err(|_| timed_out(ConnectStep::Http2))?
    }
}

async fn tcp(address: &Address) -> Result<TcpStream, Error> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_keepalive(Some(TCP_KEEPALIVE));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    let connected = connector.call(uri("http", address)?).await;
    connected.map(TokioIo::into_inner).map_err(|error| diagnosis::tcp_failure(address, error))
}

fn uri(scheme: &str, address: &Address) -> Result<Uri, Error> {
    Uri::try_from(format!("{scheme}://{address}"))
        .map_err(|error| diagnosis::unusable_address(address, &error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_host_makes_an_address() {
        for host in ["h", "127.0.0.1", "::1", "a_b.local"] {
            uri("https", &Address::new(host, 8081)).unwrap();
        }
    }
}
