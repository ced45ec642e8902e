//! A guarded cluster: it requires TLS and the signature of a known user.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::certificates::Certificates;

/// The access key of a user with all rights.
pub const ACCESS_KEY: &str = "fleet";
/// The user's secret key.
pub const SECRET_KEY: &str = "fleet-secret";

/// What a guarded server needs.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) certificates: Certificates,
}

impl Guard {
    /// Generates new keys.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        Ok(Self { certificates: Certificates::generate(folder)? })
    }

    /// TLS settings of a server: `enforcing` refuses plain TCP, `permissive` accepts it.
    pub(crate) fn tls(&self, mode: &str) -> Vec<String> {
        [
            ("mode", mode.to_owned()),
            ("certPath", self.certificates.certificate.display().to_string()),
            ("keyPath", self.certificates.key.display().to_string()),
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
