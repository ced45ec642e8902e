//! How connections are made.

use std::time::Duration;

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::{
    error::{Error, ErrorKind},
    options::{Address, Tls},
};

/// Servers answer pings more often than every five minutes with a GOAWAY.
const PING_INTERVAL: Duration = Duration::from_secs(300);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// Room for a receive of 32 large bodies without waiting for window updates.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// What all connections of a client have in common.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    tls: Option<ClientTlsConfig>,
    connect_timeout: Duration,
}

impl Transport {
    pub(super) fn new(tls: &Tls, connect_timeout: Duration) -> Result<Self, Error> {
        let tls = match tls {
            Tls::Off => None,
            Tls::SystemRoots => Some(ClientTlsConfig::new().with_native_roots()),
            Tls::Ca { pem } => {
                // Said now, because the connection would only say that it trusts nobody.
                check_certificates(pem)?;
                Some(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
            }
        };
        Ok(Self { tls, connect_timeout })
    }

    pub(super) fn endpoint(&self, address: &Address) -> Result<Endpoint, Error> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(|error| unusable(address, error))?
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(TCP_KEEPALIVE))
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        match &self.tls {
            None => Ok(endpoint),
            Some(tls) => endpoint
                .tls_config(tls.clone().domain_name(&address.host))
                .map_err(|error| unusable(address, error)),
        }
    }
}

fn check_certificates(pem: &[u8]) -> Result<(), Error> {
    let invalid = |message: &str| Err(Error::new(ErrorKind::InvalidOptions, "connect", message));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let Ok(certificate) = certificate else {
            return invalid("a certificate of the authority isn't in PEM form");
        };
        if let Err(error) = roots.add(certificate) {
            return invalid(&format!("a certificate of the authority can't be used: {error}"));
        }
    }
    if roots.is_empty() { invalid("there is no certificate of an authority") } else { Ok(()) }
}

fn unusable(address: &Address, error: tonic::transport::Error) -> Error {
    let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
    Error::new(ErrorKind::InvalidOptions, "connect", format!("no connection can be set up: {reason}"))
        .with_endpoint(address.to_string())
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_none_is_refused_at_once() {
        for pem in [
            "",
            "text",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n",
        ] {
            let tls = Tls::Ca { pem: pem.into() };
            let error = Transport::new(&tls, Duration::from_secs(1)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{pem}");
        }
    }

    #[test]
    fn a_certificate_of_an_authority_is_taken() {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Transport::new(&Tls::Ca { pem: key.cert.pem().into() }, Duration::from_secs(1)).unwrap();
    }

    #[test]
    fn all_kinds_of_hosts_make_an_endpoint() {
        let transport = Transport::new(&Tls::SystemRoots, Duration::from_secs(1)).unwrap();
        for host in ["h", "127.0.0.1", "::1", "a_b.local"] {
            transport.endpoint(&Address::new(host, 8081)).unwrap();
        }
    }
}
