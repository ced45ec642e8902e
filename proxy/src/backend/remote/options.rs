//! The configuration of a cluster of Apache RocketMQ.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The configuration of an Apache RocketMQ cluster. Every field has a default. Without a name server, the proxy stores
/// messages itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteConfig {
    /// The name servers, `host:port;host:port`. Empty if there is no cluster.
    pub name_server: String,
    /// The cluster's name in its brokers' configuration (`brokerClusterName`).
    pub cluster: String,
    /// Whether topics are created on every broker when a client first uses them. Groups are created by the brokers, if
    /// their `autoCreateSubscriptionGroup` allows it.
    pub auto_create_topics: bool,
    /// The proxy's credentials at brokers that authenticate clients. The proxy acts for all clients, so this user needs all
    /// rights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<BrokerCredentials>,
    /// A file of PEM certificates. If it is set, connections to name servers and brokers use TLS, and the servers'
    /// certificates must be signed by one of these. Otherwise the connections are plain TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The timeout for connecting.
    #[serde(with = "crate::duration")]
    pub connect_timeout: Duration,
    /// The timeout for looking up a route, or the configuration of one topic or group.
    #[serde(with = "crate::duration")]
    pub lookup_timeout: Duration,
    /// The timeout for storing and settling messages. A receive may take this long in addition to its wait for messages.
    #[serde(with = "crate::duration")]
    pub call_timeout: Duration,
}

/// The credentials of a user of the brokers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerCredentials {
    /// The user's access key.
    pub access_key: String,
    /// The user's secret key.
    pub secret_key: String,
}

impl std::fmt::Debug for BrokerCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerCredentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

impl Default for RemoteConfig {
    fn default() -> Self {
        Self {
            name_server: String::new(),
            cluster: "DefaultCluster".to_owned(),
            auto_create_topics: false,
            credentials: None,
            ca_file: None,
            connect_timeout: Duration::from_millis(1500),
            lookup_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(2),
        }
    }
}

impl RemoteConfig {
    /// The TLS settings for connections to name servers and brokers; `None` for plain TCP.
    ///
    /// # Errors
    /// The file of certificates can't be read.
    pub(crate) fn tls(&self) -> io::Result<Option<TlsConnector>> {
        self.ca_file.as_deref().map(tls_trusting).transpose()
    }
}

/// TLS settings that trust only the certificates of this file.
fn tls_trusting(ca_file: &Path) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file).map_err(io::Error::other)? {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
