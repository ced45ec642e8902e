//! Why the proxy can't run.

use std::io;

use crate::backend::embedded::OpenError;
use crate::error::Error;
use crate::front::port::TlsError;
use crate::layer::{AccessError, AccessLogError};
use crate::otlp::OtlpError;

/// Why the proxy can't run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Listening on the address fails.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: String,
        /// The system's error.
        source: io::Error,
    },
    /// The data directory can't be opened.
    #[error(transparent)]
    Backend(#[from] OpenError),
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Access control can't be opened.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The access log can't be opened.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// The export of metrics and traces can't be set up.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    /// A declared topic or group can't be created.
    #[error("cannot create the configured topics and groups: {0}")]
    Catalog(Error),
    /// The settings contradict each other.
    #[error("the configuration is invalid: {0}")]
    Config(String),
    /// Another error of the system.
    #[error("{0}")]
    System(#[from] io::Error),
}
