//! Opens connections: TCP, then TLS if it is on, then HTTP/2.

use std::time::{Duration, Instant};

use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use tonic::codegen::http::Uri;

use super::{
    connection::Connection,
    diagnosis::{self, ConnectStep},
    tcp,
    tls::{ALPN_HTTP2, TlsSetup},
};
use crate::{
    error::Error,
    options::{Address, Tls},
};

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
        let origin = uri(if self.tls.is_some() { "https" } else { "http" }, address)?;
        let timed_out = |step| diagnosis::timed_out(address, step);
        let tcp = timeout_at(deadline.into(), tcp::connect(address, self.connect_timeout))
            .await
            .map_err(|_| timed_out(ConnectStep::Tcp))?
            .map_err(|error| diagnosis::tcp_failure(address, error))?;
        let io = match &self.tls {
            None => Either::Left(tcp),
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
                Either::Right(tls)
            }
        };
        let opening = Connection::open(io, address, origin);
        timeout_at(deadline.into(), opening).await.map_err(|_| timed_out(ConnectStep::Http2))?
    }
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
