//! The backends that the suite tests.

use std::time::Duration;

use rocketmq_thin_proxy::backend::embedded::{self, EmbeddedConfig};
use rocketmq_thin_proxy::backend::remote::{self, RemoteConfig};
use rocketmq_thin_proxy::service::Services;
use tempfile::TempDir;

use crate::client::TIMEOUT;

/// A backend under test.
pub(crate) trait Backend {
    /// Starts a fresh backend that creates topics and groups on first use.
    async fn start() -> Self;

    /// The services of the backend.
    fn services(&self) -> Services;

    /// Restarts the part of the backend that runs in this process, with the same data.
    async fn restart(self) -> Self;
}

/// The embedded backend in a directory of its own.
pub(crate) struct Embedded {
    directory: TempDir,
    broker: embedded::Embedded,
    config: EmbeddedConfig,
}

impl Embedded {
    /// Starts a backend with this configuration, except for the directory.
    pub(crate) async fn with(config: EmbeddedConfig) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = EmbeddedConfig { data_dir: directory.path().to_owned(), ..config };
        let broker = embedded::open(config.clone()).await.expect("a fresh directory opens");
        Self { directory, broker, config }
    }
}

impl Backend for Embedded {
    async fn start() -> Self {
        Self::with(EmbeddedConfig::default()).await
    }

    fn services(&self) -> Services {
        self.broker.services()
    }

    async fn restart(self) -> Self {
        let Self { directory, broker, config } = self;
        broker.close().await;
        // The directory is locked until the last request drops its services.
        let reopened = async {
            loop {
                match embedded::open(config.clone()).await {
                    Err(embedded::OpenError::InUse(_)) => tokio::task::yield_now().await,
                    other => break other.expect("a closed directory opens"),
                }
            }
        };
        let broker =
            tokio::time::timeout(Duration::from_secs(30), reopened).await.expect("the directory is released");
        Self { directory, broker, config }
    }
}

/// The environment variable with the address of a real cluster's name server.
const NAME_SERVER: &str = "CONTRACT_NAME_SERVER";

/// The remote backend in front of a real cluster that all cases share.
pub(crate) struct Remote {
    services: Services,
}

impl Backend for Remote {
    async fn start() -> Self {
        let name_server = std::env::var(NAME_SERVER).unwrap_or_else(|_| {
            panic!("set {NAME_SERVER} to the address of a name server; see cargo x cluster")
        });
        let config = RemoteConfig {
            name_server,
            auto_create_topics: true,
            // Other suites run at the same time and may delay the brokers.
            lookup_timeout: TIMEOUT,
            call_timeout: TIMEOUT,
            ..RemoteConfig::default()
        };
        Self { services: remote::open(&config).expect("a valid configuration") }
    }

    fn services(&self) -> Services {
        self.services.clone()
    }

    async fn restart(self) -> Self {
        drop(self);
        Self::start().await
    }
}
