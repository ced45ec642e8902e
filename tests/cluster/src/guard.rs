//! Secured clusters. Brokers of a signed cluster require the signature of a known user. Brokers of a guarded cluster
//! also require TLS; its name servers accept both plain TCP and TLS.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::certificates::Certificates;

/// The access key of a user with all rights.
pub const ACCESS_KEY: &str = "fleet";
/// The user's secret key.
pub const SECRET_KEY: &str = "fleet-secret";

/// The certificates of a secured cluster.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) certificates: Certificates,
}

impl Guard {
    /// Generates certificates in this folder.
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
}

/// The broker settings that enable signatures and rights.
pub(crate) fn users() -> [(&'static str, String); 6] {
    [
        ("authenticationEnabled", "true".to_owned()),
        (
            "authenticationMetadataProvider",
            "org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider".to_owned(),
        ),
        ("authorizationEnabled", "true".to_owned()),
        (
            "authorizationMetadataProvider",
            "org.apache.rocketmq.auth.authorization.provider.LocalAuthorizationMetadataProvider".to_owned(),
        ),
        ("initAuthenticationUser", json!({ "username": ACCESS_KEY, "password": SECRET_KEY }).to_string()),
        // The identity that brokers use among themselves.
        ("innerClientAuthenticationCredentials", credentials()),
    ]
}

/// Settings that make Apache's proxy check signatures and rights, by the users of its brokers. They are cached for a short time
/// only, so that tests need not wait.
pub(crate) fn users_of_proxy() -> [(String, Value); 8] {
    const PROVIDERS: &str = "org.apache.rocketmq.proxy.auth";
    [
        ("authenticationEnabled", true.into()),
        ("authenticationMetadataProvider", format!("{PROVIDERS}.ProxyAuthenticationMetadataProvider").into()),
        ("authorizationEnabled", true.into()),
        ("authorizationMetadataProvider", format!("{PROVIDERS}.ProxyAuthorizationMetadataProvider").into()),
        ("enableAclRpcHookForClusterMode", true.into()),
        ("innerClientAuthenticationCredentials", credentials().into()),
        ("userCacheRefreshSeconds", 1.into()),
        ("aclCacheRefreshSeconds", 1.into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

fn credentials() -> String {
    json!({ "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY }).to_string()
}
