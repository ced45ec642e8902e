//! The TLS options of a client.

use std::fmt;

/// Whether and how connections are encrypted.
///
/// ```
/// # use rocketmq_thin::Tls;
/// # let (ca, certificate, key) = ("", "", "");
/// let mutual = Tls::ca(ca).client_certificate(certificate, key);
/// let by_address = Tls::system_roots().server_name("mq.example.org");
/// ```
///
/// Certificates and keys are in PEM form. They are checked before the first connection: an unusable one is an error of
/// kind `InvalidOptions` that names the argument. The `Debug` output does not contain the key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    pub(crate) roots: Roots,
    pub(crate) client_certificate: Option<ClientCertificate>,
    pub(crate) server_name: Option<String>,
    pub(crate) skip_verification: bool,
}

/// Which certificate authorities are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Roots {
    /// TLS is off, except for endpoints written as `https://`.
    #[default]
    Off,
    System,
    Pem(Vec<u8>),
}

/// The certificate by which the client authenticates itself, and its key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl Tls {
    /// Plaintext, except for endpoints written as `https://`, which use the certificate authorities of the system.
    #[must_use]
    pub fn off() -> Self {
        Self::default()
    }

    /// TLS with the certificate authorities that the machine trusts.
    #[must_use]
    pub fn system_roots() -> Self {
        Self { roots: Roots::System, ..Self::default() }
    }

    /// TLS with these certificate authorities only: one or more certificates in PEM form.
    #[must_use]
    pub fn ca(pem: impl Into<Vec<u8>>) -> Self {
        Self { roots: Roots::Pem(pem.into()), ..Self::default() }
    }

    /// Authenticates the client by a certificate (mutual TLS).
    ///
    /// `certificate` is the client's certificate in PEM form, followed by those of intermediate authorities if
    /// there are any. `key` is its private key in PEM form (PKCS#8, PKCS#1 or SEC1), not encrypted.
    #[must_use]
    pub fn client_certificate(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.client_certificate =
            Some(ClientCertificate { certificate: certificate.into(), key: key.into() });
        self
    }

    /// Sets the name that the server's certificate must contain. Default: the host of the endpoint.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Accepts any certificate of the server. Anybody between client and server can then read and change the traffic.
    /// For tests only; each connection logs a warning.
    #[must_use]
    pub fn dangerously_skip_verification(mut self) -> Self {
        self.skip_verification = true;
        self
    }

    /// The same options with TLS turned on, for endpoints written as `https://`.
    pub(crate) fn for_https(mut self) -> Self {
        if self.roots == Roots::Off {
            self.roots = Roots::System;
        }
        self
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots = match &self.roots {
            Roots::Off => "off",
            Roots::System => "system",
            Roots::Pem(_) => "given",
        };
        f.debug_struct("Tls")
            .field("roots", &roots)
            .field("client_certificate", &self.client_certificate.is_some())
            .field("server_name", &self.server_name)
            .field("skip_verification", &self.skip_verification)
            .finish()
    }
}
