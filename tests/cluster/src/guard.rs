//! A guarded cluster: it requires TLS and the signature of a known user.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;

/// The access key of a user with all rights.
pub const ACCESS_KEY: &str = "fleet";
/// The user's secret key.
pub const SECRET_KEY: &str = "fleet-secret";

/// Key and certificate files in the formats of Apache's servers and clients.
#[derive(Debug)]
pub(crate) struct Guard {
    /// The certificate of the authority that signed the servers' certificates.
    pub(crate) ca_file: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Guard {
    /// Generates new keys.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()])?.signed_by(&key, &authority)?;
        let write = |name: &str, pem: String| {
            let file = folder.join(name);
            fs::write(&file, pem).with_context(|| format!("writing {}", file.display()))?;
            anyhow::Ok(file)
        };
        Ok(Self {
            ca_file: write("ca.pem", authority.pem())?,
            certificate: write("server.pem", certificate.pem())?,
            key: write("server.key", key.serialize_pem())?,
        })
    }

    /// TLS settings of a server: `enforcing` refuses plain TCP, `permissive` accepts it.
    pub(crate) fn tls(&self, mode: &str) -> Vec<String> {
        [
            ("mode", mode.to_owned()),
            ("certPath", self.certificate.display().to_string()),
            ("keyPath", self.key.display().to_string()),
        ]
        .map(|(name, value)| format!("-Dtls.server.{name}={value}"))
        .into_iter()
        .chain(["-Dtls.test.mode.enable=false".to_owned()])
        .collect()
    }

    /// Settings that make a broker check signatures.
    pub(crate) fn users() -> [(&'static str, String); 6] {
        const PROVIDERS: &str = "org.apache.rocketmq.auth";
        [
            ("authenticationEnabled", "true".to_owned()),
            (
                "authenticationMetadataProvider",
                format!("{PROVIDERS}.authentication.provider.LocalAuthenticationMetadataProvider"),
            ),
            ("authorizationEnabled", "true".to_owned()),
            (
                "authorizationMetadataProvider",
                format!("{PROVIDERS}.authorization.provider.LocalAuthorizationMetadataProvider"),
            ),
            ("initAuthenticationUser", json!({ "username": ACCESS_KEY, "password": SECRET_KEY }).to_string()),
            // The identity that brokers use among themselves.
            (
                "innerClientAuthenticationCredentials",
                json!({ "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY }).to_string(),
            ),
        ]
    }
}
