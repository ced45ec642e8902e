use serde::{Deserialize, Serialize};

/// The HTTP front end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Whether it is served on `listen`, beside gRPC. Entries name it among their protocols.
    pub enabled: bool,
    /// Whether the console for web browsers is served at `/console/`, wherever HTTP and administration are.
    #[cfg(feature = "console")]
    pub console: bool,
    /// The origins of web pages that may use it, such as `https://shop.example`, or `*` for any. Pages of other
    /// origins are refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cors_origins: Vec<String>,
    /// Whether secrets are also accepted over connections that are neither encrypted nor of this machine, for a balancer
    /// that ends TLS.
    pub plaintext_credentials: bool,
}
