//! How connections are made: TCP, TLS if wanted, HTTP/2.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, time::timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use tonic::codegen::{Service, http::Uri};

use super::{
    connection::Connection,
    diagnosis::{self, Step},
};
use crate::{
    error::{Error, ErrorKind},
    options::{Address, Tls},
};

const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// How long sent bytes may stay unacknowledged before the system closes the socket. Without it a socket to a
/// vanished machine stays open for about fifteen minutes.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// The protocol name of HTTP/2 in the TLS handshake.
const ALPN_HTTP2: &[u8] = b"h2";

/// What all connections of a client have in common.
#[derive(Clone)]
pub(super) struct Transport {
    tls: Option<Arc<ClientConfig>>,
    connect_timeout: Duration,
}

impl Transport {
    pub(super) fn new(tls: &Tls, connect_timeout: Duration) -> Result<Self, Error> {
        let roots = match tls {
            Tls::Off => None,
            Tls::SystemRoots => Some(system_roots()?),
            Tls::Ca { pem } => Some(given_roots(pem)?),
        };
        Ok(Self { tls: roots.map(config).transpose()?.map(Arc::new), connect_timeout })
    }

    /// How long an attempt to connect may take.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Opens a connection, and waits until the server has shown that it speaks HTTP/2.
    ///
    /// # Errors
    ///
    /// The most likely cause in words; not retryable if another attempt would fail in the same way.
    pub(super) async fn connect(&self, address: &Address) -> Result<Connection, Error> {
        let deadline = crate::options::deadline(Instant::now(), self.connect_timeout);
        let timed_out = |step| diagnosis::timed_out(address, step);
        let tcp = timeout_at(deadline.into(), tcp(address)).await.map_err(|_| timed_out(Step::Tcp))??;
        let (io, scheme) = match &self.tls {
            None => (Either::Left(tcp), "http"),
            Some(config) => {
                let name = server_name(address)?;
                let handshake = TlsConnector::from(config.clone()).connect(name, tcp);
                let tls = timeout_at(deadline.into(), handshake)
                    .await
                    .map_err(|_| timed_out(Step::Tls))?
                    .map_err(|error| diagnosis::of_tls(address, error))?;
                if tls.get_ref().1.alpn_protocol() != Some(ALPN_HTTP2) {
                    return Err(diagnosis::no_http2_over_tls(address));
                }
                (Either::Right(tls), "https")
            }
        };
        let origin = uri(scheme, address)?;
        let opening = Connection::open(io, address, origin);
        timeout_at(deadline.into(), opening).await.map_err(|_| timed_out(Step::Http2))?
    }
}

async fn tcp(address: &Address) -> Result<TcpStream, Error> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_keepalive(Some(TCP_KEEPALIVE));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    let connected = connector.call(uri("http", address)?).await;
    connected.map(TokioIo::into_inner).map_err(|error| diagnosis::of_tcp(address, error))
}

fn uri(scheme: &str, address: &Address) -> Result<Uri, Error> {
    Uri::try_from(format!("{scheme}://{address}")).map_err(|error| unusable(address, &error.to_string()))
}

fn server_name(address: &Address) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(address.host.clone()).map_err(|error| unusable(address, &error.to_string()))
}

fn unusable(address: &Address, reason: &str) -> Error {
    invalid(format!("the endpoint can't be used: {reason}")).with_endpoint(address.to_string())
}

fn config(roots: RootCertStore) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(format!("TLS can't be set up: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols.push(ALPN_HTTP2.to_vec());
    Ok(config)
}

fn system_roots() -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(invalid(
            "this machine trusts no certificate authority; give the server's CA certificate",
        ));
    }
    Ok(roots)
}

fn given_roots(pem: &[u8]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| invalid("a CA certificate is not in PEM format"))?;
        roots
            .add(certificate)
            .map_err(|error| invalid(format!("a CA certificate can't be used: {error}")))?;
    }
    if roots.is_empty() {
        return Err(invalid("the PEM text contains no CA certificate"));
    }
    Ok(roots)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOptions, "connect", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_ca_certificate_is_refused_at_once() {
        for pem in [
            "",
            "text",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n",
        ] {
            let tls = Tls::Ca { pem: pem.into() };
            let error = Transport::new(&tls, Duration::from_secs(1)).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{pem}");
        }
    }

    #[test]
    fn a_ca_certificate_is_accepted() {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Transport::new(&Tls::Ca { pem: key.cert.pem().into() }, Duration::from_secs(1)).unwrap();
    }

    #[test]
    fn every_kind_of_host_makes_an_address() {
        for host in ["h", "127.0.0.1", "::1", "a_b.local"] {
            let address = Address::new(host, 8081);
            uri("https", &address).unwrap();
            server_name(&address).unwrap();
        }
    }
}
