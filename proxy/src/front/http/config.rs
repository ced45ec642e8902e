//! The configuration of the HTTP front end.

use serde::{Deserialize, Serialize};

/// The configuration of the HTTP front end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Whether HTTP is also served on `listen` [default: no]. Entries list it in their protocols.
    pub enabled: bool,
    /// Whether the console for web browsers is served at `/console/`, wherever HTTP and administration are served [default:
    /// no].
    #[cfg(feature = "console")]
    pub console: bool,
    /// The origins of web pages that may send requests, such as `https://shop.example`, or `*` for any. Requests from pages
    /// of other origins are refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cors_origins: Vec<String>,
    /// Whether secrets are also accepted on plaintext connections from other machines, behind a load balancer that terminates
    /// TLS [default: no].
    pub plaintext_credentials: bool,
}
