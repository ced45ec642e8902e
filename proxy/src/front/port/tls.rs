//! The `[tls]` section of the configuration, and the TLS handshake of the server.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// Whether connections are encrypted, and with which certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Whether plaintext and TLS connections are accepted.
    pub mode: TlsMode,
    /// The certificate chain (PEM). Without certificate and key, a self-signed certificate is generated at every start,
    /// for clients that don't verify it.
    pub certificate: Option<PathBuf>,
    /// The private key (PEM).
    pub key: Option<PathBuf>,
    /// Certificates of authorities (PEM). Every client must send a certificate that one of them has signed. Needs mode
    /// `required`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

/// Whether plaintext and TLS connections are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Both are accepted.
    #[default]
    Permissive,
    /// Only TLS is accepted.
    Required,
    /// Only plaintext is accepted.
    Off,
}

/// An error in the TLS setup.
#[derive(Debug, Error)]
pub enum TlsError {
    /// Only one of certificate and key is configured.
    #[error("tls: certificate and key belong together; one of them is missing")]
    IncompletePair,
    /// `client_ca` is configured without mode `required`: clients without TLS could not send a certificate.
    #[error("tls: client_ca needs mode = \"required\": clients without TLS have no certificate")]
    ClientCaBypassed,
    /// The certificates in `client_ca` can't be used.
    #[error("tls: client_ca: {0}")]
    ClientCa(#[from] VerifierBuilderError),
    /// A file can't be read.
    #[error("tls: cannot read {}: {source}", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// Why it can't be read.
        source: rustls::pki_types::pem::Error,
    },
    /// The certificate or the key can't be used.
    #[error("tls: {0}")]
    Unusable(#[from] rustls::Error),
    /// No self-signed certificate could be generated.
    #[error("tls: {0}")]
    SelfSigned(#[from] rcgen::Error),
}

/// The TLS configuration of the server: mode, certificate and key.
#[derive(Clone)]
pub struct Tls {
    mode: TlsMode,
    config: Arc<rustls::ServerConfig>,
}

impl Tls {
    /// Reads the configured certificate, or generates a self-signed one.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(config: &TlsConfig) -> Result<Self, TlsError> {
        let (chain, key) = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => read(certificate, key)?,
            (None, None) => self_signed()?,
            _ => return Err(TlsError::IncompletePair),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let builder = match &config.client_ca {
            None => builder.with_no_client_auth(),
            Some(_) if config.mode != TlsMode::Required => return Err(TlsError::ClientCaBypassed),
            Some(file) => {
                let roots = Arc::new(authorities(file)?);
                builder.with_client_cert_verifier(
                    WebPkiClientVerifier::builder_with_provider(roots, provider).build()?,
                )
            }
        };
        let mut config_without_alpn = builder.with_single_cert(chain, key)?;
        config_without_alpn.send_half_rtt_data = true;
        Ok(Self { mode: config.mode, config: Arc::new(config_without_alpn) })
    }

    pub(super) fn mode(&self) -> TlsMode {
        self.mode
    }

    /// Performs the handshake, and agrees on the first of these application protocols (ALPN) that the client offers. If
    /// the client offers none of them, the connection has no application protocol: many clients would report an alert
    /// as a problem with the certificate.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        mut protocols: impl Iterator<Item = &'static [u8]>,
    ) -> io::Result<TlsStream<S>> {
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        let offers = |wanted: &&[u8]| {
            hello.client_hello().alpn().is_some_and(|mut offered| offered.any(|name| name == *wanted))
        };
        let config = match protocols.find(offers) {
            None => self.config.clone(),
            Some(name) => {
                let mut config = rustls::ServerConfig::clone(&self.config);
                config.alpn_protocols = vec![name.to_vec()];
                Arc::new(config)
            }
        };
        hello.into_stream(config).await
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read(certificate: &Path, key: &Path) -> Result<Identity, TlsError> {
    Ok((certificates(certificate)?, PrivateKeyDer::from_pem_file(key).map_err(failed(key))?))
}

fn authorities(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed(file))
}

fn failed(path: &Path) -> impl FnOnce(rustls::pki_types::pem::Error) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError::File { path, source }
}

fn self_signed() -> Result<Identity, TlsError> {
    let generated = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(generated.signing_key.serialize_der());
    Ok((vec![generated.cert.der().clone()], key.into()))
}
