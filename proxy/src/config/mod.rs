//! The proxy's configuration. Flags override the environment, which overrides the file, which overrides the defaults.

mod check;
mod entry;
mod files;
mod findings;
mod names;
mod source;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::backend::BackendConfig;
pub use crate::catalog::{Catalog, GroupSpec, Perm, RetrySpec, StartSpec, TopicSpec, TopicType};
use crate::front::grpc::RoutePort;
#[cfg(feature = "http")]
use crate::front::http::HttpConfig;
use crate::front::metrics::MetricsConfig;
use crate::front::port::{TlsConfig, TransportConfig};
use crate::front::remoting::RemotingConfig;
use crate::layer::{AccessConfig, AccessLogConfig, MessageTraceConfig, Quota};
use crate::otlp::OtlpConfig;
use crate::processor::{Limits, PlacementRule};
pub(crate) use entry::own_ports;
pub use entry::{EntryAccess, EntryConfig, EntryProtocol};
pub use findings::{Finding, Findings, SettingPath, Severity};
pub use source::ConfigSource;

/// All settings. `--print-config` prints those in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The file that the settings were read from. Changes of `placement` there take effect while the proxy runs.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// The address to listen on, `host:port`. Port 0 picks a free one.
    pub listen: String,
    /// A separate address for administration, `host:port`. By default administration is served on `listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_listen: Option<String>,
    /// The number of threads that serve requests. 0 means half the number of processors.
    pub workers: usize,
    /// How long a shutdown waits for requests in progress.
    #[serde(with = "crate::duration")]
    pub drain: Duration,
    /// The number of concurrent requests above which new ones are refused with TOO_MANY_REQUESTS. Waiting receives don't count.
    /// The last tenth is reserved for acknowledgements and other requests that settle messages; heartbeats are never refused.
    pub max_in_flight: usize,
    /// The number of proxies that share the load. Each enforces its share of every quota.
    pub fleet_size: NonZeroU32,
    /// Whether the proxies of a fleet, those with the same `handle_key`, count each other at Apache's brokers. `fleet_size`
    /// applies while the brokers don't know the number.
    pub learn_fleet_size: bool,
    /// Further addresses to listen on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<EntryConfig>,
    /// The port in routes: `listen` (the proxy's own), or `request` (the one that the client connected to, for proxies behind a
    /// load balancer or a port mapping).
    pub route_port: RoutePort,
    /// The networks of load balancers whose PROXY protocol headers (version 1 or 2) are trusted, such as `10.0.0.0/8`. A
    /// connection from another network that begins with such a header is refused.
    pub trusted_proxies: Vec<IpNet>,
    /// The secret that signs receipt handles. All proxies of a fleet need the same one. By default it is generated at the first
    /// start and stored in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle_key: Option<String>,
    /// Logging.
    pub log: LogConfig,
    /// The access log.
    pub access_log: AccessLogConfig,
    /// Message trace.
    pub message_trace: MessageTraceConfig,
    /// Metrics for Prometheus.
    pub metrics: MetricsConfig,
    /// The export of metrics and traces to a collector of OpenTelemetry.
    pub otlp: OtlpConfig,
    /// TLS.
    pub tls: TlsConfig,
    /// Access control.
    pub access: AccessConfig,
    /// Limits on the parameters of requests.
    pub limits: Limits,
    /// Limits on the number, memory and time of connections.
    pub transport: TransportConfig,
    /// The remoting protocol of classic clients.
    pub remoting: RemotingConfig,
    /// The HTTP front end.
    #[cfg(feature = "http")]
    pub http: HttpConfig,
    /// The broker: embedded, or Apache's.
    pub backend: BackendConfig,
    /// Which requests go to which of `backend.clusters`; all others go to `backend.remote`. Changes in the file take effect
    /// within a second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub placement: Vec<PlacementRule>,
    /// Limits on the requests and messages of clients, users, groups, topics or all together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quotas: Vec<Quota>,
    /// Topics that the start creates if they are missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<TopicSpec>,
    /// Groups that the start creates if they are missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupSpec>,
}

/// Logging to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or filters by module as in `warn,rocketmq_thin_proxy=debug`.
    pub level: String,
    /// The format of log lines.
    pub format: LogFormat,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Readable text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// An error in reading the configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not a valid configuration.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The position and the cause.
        source: Box<toml::de::Error>,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file: None,
            listen: "127.0.0.1:8081".to_owned(),
            admin_listen: None,
            workers: 0,
            drain: Duration::from_secs(10),
            max_in_flight: 10_000,
            fleet_size: NonZeroU32::MIN,
            learn_fleet_size: false,
            entries: Vec::new(),
            route_port: RoutePort::default(),
            trusted_proxies: Vec::new(),
            handle_key: None,
            log: LogConfig::default(),
            access_log: AccessLogConfig::default(),
            message_trace: MessageTraceConfig::default(),
            metrics: MetricsConfig::default(),
            otlp: OtlpConfig::default(),
            tls: TlsConfig::default(),
            access: AccessConfig::default(),
            limits: Limits::default(),
            transport: TransportConfig::default(),
            remoting: RemotingConfig::default(),
            #[cfg(feature = "http")]
            http: HttpConfig::default(),
            backend: BackendConfig::default(),
            placement: Vec::new(),
            quotas: Vec::new(),
            topics: Vec::new(),
            groups: Vec::new(),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "warn".to_owned(), format: LogFormat::default() }
    }
}

impl Config {
    /// Reads a TOML file. Settings that are not in the file have their defaults.
    ///
    /// # Errors
    /// [`ConfigError`]; unknown names are errors too.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(&Self::text(path)?)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: source.into() })?;
        Ok(Self { file: Some(path.to_owned()), ..config })
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`ConfigError::Read`].
    pub fn text(path: &Path) -> Result<String, ConfigError> {
        std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_printed_configuration_can_be_read() {
        let config = Config { handle_key: Some("k".to_owned()), ..Config::default() };
        let printed = toml::to_string(&config).expect("TOML");
        assert_eq!(toml::from_str::<Config>(&printed).expect("the same"), config, "{printed}");
    }

    #[test]
    fn the_readme_names_every_setting() {
        fn check(table: &toml::Table, words: &HashSet<&str>) {
            for (name, value) in table {
                assert!(words.contains(name.as_str()), "{name}");
                if let toml::Value::Table(settings) = value {
                    check(settings, words);
                }
            }
        }
        let is_in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = include_str!("../../README.md").split(|c| !is_in_name(c)).collect();
        check(&toml::Table::try_from(Config::default()).expect("TOML"), &words);
    }

    #[test]
    fn an_empty_file_means_the_defaults_and_a_misspelt_name_is_an_error() {
        for text in
            ["", "[tls]", "[backend]", "[backend.embedded]", "[backend.remote]", "[remoting]", "[limits]"]
        {
            assert_eq!(toml::from_str::<Config>(text).expect("defaults"), Config::default(), "{text}");
        }
        for text in [
            "listne = 'x'",
            "[tls]\ncert = 'x'",
            "[backend.embedded]\nflash = 'sync'",
            "[limits]\nx = 1",
            "trusted_proxies = ['10.0.0.0/33']",
        ] {
            assert!(toml::from_str::<Config>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn clusters_have_names_and_rules_send_requests_to_them() {
        let config: Config = toml::from_str(
            "[backend.remote]\nname_server = 'a:9876'\n\
             [backend.clusters.payments]\nname_server = 'b:9876'\n\
             [[placement]]\ntopic = 'pay-*'\ncluster = 'payments'\n",
        )
        .expect("a configuration");
        assert_eq!(config.backend.clusters["payments"].name_server, "b:9876");
        assert_eq!(config.placement[0].cluster, "payments");
        let printed = toml::to_string(&config).expect("TOML");
        assert_eq!(toml::from_str::<Config>(&printed).expect("the same"), config, "{printed}");
    }

    #[test]
    fn quotas_are_declared_in_tables() {
        let config: Config = toml::from_str(
            "fleet_size = 3\n\
             [[quotas]]\nname = 'guests'\nper = 'client'\nuser = 'guest*'\nsend_messages_per_second = 100\n\
             long_polls = 4\nburst = '2s'\non_excess = 'delay'\n",
        )
        .expect("a configuration");
        assert_eq!(config.quotas[0].long_polls.map(u32::from), Some(4));
        let printed = toml::to_string(&config).expect("TOML");
        assert_eq!(toml::from_str::<Config>(&printed).expect("the same"), config, "{printed}");
        for wrong in [
            "fleet_size = 0",
            "[[quotas]]\nname = 'x'\nlong_polls = 1",
            "[[quotas]]\nname = 'x'\nper = 'planet'\nlong_polls = 1",
            "[[quotas]]\nname = 'x'\nper = 'client'\nlong_polls = 0",
            "[[quotas]]\nname = 'x'\nper = 'client'\nmessages = 1",
        ] {
            assert!(toml::from_str::<Config>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn topics_and_groups_are_declared_in_tables() {
        let config: Config = toml::from_str(
            "[backend.embedded]\nflush = 'async'\nauto_create_topics = false\n\
             [[topics]]\nname = 'orders'\ntype = 'fifo'\nqueues = 4\n\
             [[groups]]\nname = 'billing'\nfifo = true\nmax_retries = 3\n",
        )
        .expect("a configuration");
        assert_eq!(config.topics[0].name, "orders");
        assert_eq!(config.groups[0].max_retries, 3);
        assert!(!config.backend.embedded.auto_create_topics);
    }
}
