//! Builds the TLS configuration of a client. All certificates and keys are checked here, before the first connection.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
};
use rustls_native_certs::CertificateResult;

use super::diagnosis;
use crate::{
    error::{Error, ErrorKind},
    options::{Address, ClientCertificate, Roots, Tls},
};

/// The protocol name of HTTP/2 in the TLS handshake.
pub(super) const ALPN_HTTP2: &[u8] = b"h2";

/// The TLS configuration of all connections of a client.
#[derive(Clone)]
pub(super) struct TlsSetup {
    pub(super) config: Arc<ClientConfig>,
    /// The name that the server's certificate must contain; `None` means the host of the address.
    server_name: Option<ServerName<'static>>,
    /// Whether the server's certificate is verified.
    pub(super) verified: bool,
}

impl TlsSetup {
    /// Creates the configuration; `None` if TLS is off.
    ///
    /// # Errors
    ///
    /// `InvalidOptions`, whose message names the argument that can't be used.
    pub(super) fn new(tls: &Tls) -> Result<Option<Self>, Error> {
        let server_name = tls.server_name.as_deref().map(parse_server_name).transpose()?;
        let roots = match &tls.roots {
            Roots::Off => {
                let unused =
                    tls.client_certificate.is_some() || server_name.is_some() || tls.skip_verification;
                return if unused {
                    Err(invalid("TLS options are set but TLS is off; use https:// endpoints or enable TLS"))
                } else {
                    Ok(None)
                };
            }
            Roots::System if tls.skip_verification => RootCertStore::empty(),
            Roots::System => system_roots(rustls_native_certs::load_native_certs())?,
            // Parsed even if verification is skipped, so that a wrong certificate is found before it matters.
            Roots::Pem(pem) => parse_roots(pem)?,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(format!("TLS can't be set up: {error}")))?;
        let builder = if tls.skip_verification {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        } else {
            builder.with_root_certificates(roots)
        };
        let mut config = match &tls.client_certificate {
            None => builder.with_no_client_auth(),
            Some(given) => {
                let (chain, key) = parse_client_certificate(given)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| unusable_client_certificate(&error))?
            }
        };
        config.alpn_protocols.push(ALPN_HTTP2.to_vec());
        Ok(Some(Self { config: Arc::new(config), server_name, verified: !tls.skip_verification }))
    }

    /// The name that the certificate of the server at `address` must contain.
    pub(super) fn server_name(&self, address: &Address) -> Result<ServerName<'static>, Error> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => host_name(address),
        }
    }
}

fn parse_server_name(name: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(name.to_owned()).map_err(|_| {
        invalid(format!(
            "the TLS server name can't be used: `{name}` is neither a host name nor an IP address"
        ))
    })
}

fn host_name(address: &Address) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(address.host.clone())
        .map_err(|error| diagnosis::unusable_address(address, &error.to_string()))
}

fn system_roots(loaded: CertificateResult) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    for error in &loaded.errors {
        tracing::debug!(%error, "failed to load root certificates of this system");
    }
    if roots.is_empty() {
        let missing =
            "no trusted root certificate was found on this system; give the server's CA certificate";
        return Err(match loaded.errors.into_iter().next() {
            Some(error) => invalid(missing).explained(&error.to_string()).with_source(error),
            None => invalid(missing),
        });
    }
    Ok(roots)
}

fn parse_roots(pem: &[u8]) -> Result<RootCertStore, Error> {
    const ARGUMENT: &str = "CA certificate";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ARGUMENT, pem)? {
        roots.add(certificate).map_err(|error| unusable(ARGUMENT, &error.to_string()))?;
    }
    Ok(roots)
}

fn parse_client_certificate(
    given: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    Ok((certificates("client certificate", &given.certificate)?, private_key(&given.key)?))
}

/// Parses all certificates of a PEM text; at least one.
fn certificates(argument: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.map_err(|error| unusable(argument, &reason(&error)))?;
    if certificates.is_empty() {
        let reason = if contains(pem, "PRIVATE KEY") {
            "the text contains a private key, but no certificate"
        } else {
            "the text contains no certificate in PEM form"
        };
        return Err(unusable(argument, reason));
    }
    Ok(certificates)
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    const ARGUMENT: &str = "client key";
    if contains(pem, "ENCRYPTED PRIVATE KEY") || contains(pem, "Proc-Type: 4,ENCRYPTED") {
        return Err(unusable(
            ARGUMENT,
            "it is encrypted; decrypt it first, for instance with `openssl pkey -in encrypted.pem -out key.pem`",
        ));
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let reason = match error {
            pem::Error::NoItemsFound if contains(pem, "BEGIN CERTIFICATE") => {
                "the text contains a certificate, but no private key".to_owned()
            }
            pem::Error::NoItemsFound => "the text contains no private key in PEM form".to_owned(),
            error => reason(&error),
        };
        unusable(ARGUMENT, &reason)
    })
}

fn contains(pem: &[u8], text: &str) -> bool {
    pem.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Describes what is wrong with a PEM text. Leaves out its content, which may be secret.
fn reason(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "the last section of the PEM text has no END line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line of the PEM text is malformed".to_owned(),
        pem::Error::Base64Decode(_) => "the PEM text is not valid base64".to_owned(),
        _ => "it is not in PEM form".to_owned(),
    }
}

fn unusable_client_certificate(error: &rustls::Error) -> Error {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            unusable("client key", "it does not belong to the client certificate")
        }
        rustls::Error::InvalidCertificate(_) => unusable("client certificate", &error.to_string()),
        _ => unusable("client key", &error.to_string()),
    }
}

fn unusable(argument: &str, reason: &str) -> Error {
    invalid(format!("the {argument} can't be used: {reason}"))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOptions, "connect", message)
}

/// Accepts any certificate of a server. The handshake still proves that the server holds the certificate's private key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    const TEXT: &str = "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n";

    fn own() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn refusal(tls: &Tls) -> String {
        let error = TlsSetup::new(tls).err().unwrap();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidOptions, "connect"));
        error.message().to_owned()
    }

    #[test]
    fn an_unusable_ca_certificate_is_named() {
        let (_, key) = own();
        for (pem, text) in [
            ("", "no certificate"),
            ("text", "no certificate"),
            (&key, "a private key, but no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "the CA certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "no END line"),
            (TEXT, "base64"),
        ] {
            let message = refusal(&Tls::ca(pem));
            assert!(
                message.starts_with("the CA certificate can't be used") && message.contains(text),
                "{message}"
            );
            assert_eq!(refusal(&Tls::ca(pem).dangerously_skip_verification()), message);
        }
    }

    #[test]
    fn the_reason_why_a_system_has_no_root_certificates_is_named() {
        assert!(system_roots(CertificateResult::default()).unwrap_err().source().is_none());
        let mut loaded = CertificateResult::default();
        loaded.errors.push(rustls_native_certs::Error {
            context: "failed to open file",
            kind: rustls_native_certs::ErrorKind::Io {
                inner: std::io::ErrorKind::PermissionDenied.into(),
                path: "/certificates.pem".into(),
            },
        });
        let error = system_roots(loaded).unwrap_err();
        assert!(error.message().contains("/certificates.pem"), "{error}");
        assert!(error.source().is_some());
    }

    #[test]
    fn an_unusable_client_certificate_or_key_is_named() {
        let (certificate, key) = own();
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n";
        for (certificate, key, text) in [
            (
                key.as_str(),
                key.as_str(),
                "the client certificate can't be used: the text contains a private key",
            ),
            (TEXT, &key, "the client certificate can't be used: the PEM text is not valid base64"),
            (&certificate, &certificate, "the client key can't be used: the text contains a certificate"),
            (&certificate, "", "the client key can't be used: the text contains no private key"),
            (&certificate, &encrypted, "the client key can't be used: it is encrypted; decrypt it"),
            (&certificate, old, "the client key can't be used: it is encrypted; decrypt it"),
            (&certificate, &own().1, "it does not belong to the client certificate"),
        ] {
            let message = refusal(&Tls::ca(certificate_of_ca()).client_certificate(certificate, key));
            assert!(message.contains(text), "{message}");
        }
    }

    fn certificate_of_ca() -> String {
        own().0
    }

    #[test]
    fn settings_without_tls_and_a_wrong_server_name_are_refused() {
        let (certificate, key) = own();
        for tls in [
            Tls::off().client_certificate(&*certificate, &*key),
            Tls::off().server_name("a.example"),
            Tls::off().dangerously_skip_verification(),
        ] {
            assert!(refusal(&tls).contains("TLS is off"));
        }
        assert!(refusal(&Tls::ca(&*certificate).server_name("a b")).contains("`a b`"));
    }

    #[test]
    fn sound_settings_are_accepted() {
        let (certificate, key) = own();
        assert!(TlsSetup::new(&Tls::off()).unwrap().is_none());
        let setup =
            TlsSetup::new(&Tls::ca(&*certificate).client_certificate(&*certificate, &*key)).unwrap().unwrap();
        for host in ["h", "127.0.0.1", "::1", "a_b.local"] {
            setup.server_name(&Address::new(host, 8081)).unwrap();
        }
        let named = TlsSetup::new(&Tls::ca(&*certificate).server_name("a.example")).unwrap().unwrap();
        let name = named.server_name(&Address::new("127.0.0.1", 1)).unwrap();
        assert_eq!(name, ServerName::try_from("a.example").unwrap());
    }
}
