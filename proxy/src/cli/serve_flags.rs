//! The flags and environment variables of a serving proxy, and how they override the configuration file.

use std::path::{Path, PathBuf};

use clap::{ArgAction, Args as ClapArgs, Parser};
use ipnet::IpNet;

use super::commands::Command;
use crate::config::{Config, ConfigError, LogFormat};

const EXAMPLES: &str = "\
Examples:
  rocketmq-thin-proxy
      Serve on 127.0.0.1:8081 and keep messages in ./rocketmq-thin-data. Point any RocketMQ 5 client at it;
      topics and groups are created on first use.
  rocketmq-thin-proxy --listen 0.0.0.0:8081 --data-dir /var/lib/rocketmq-thin
      Serve other machines.
  rocketmq-thin-proxy --name-server 10.0.0.5:9876 --handle-key SECRET
      Run in front of Apache RocketMQ. Start as many proxies as you like, all with the same secret.
  rocketmq-thin-proxy --metrics-listen 127.0.0.1:9464 --access-log access.log
      Serve metrics for Prometheus (http://127.0.0.1:9464/metrics), and log each request to a file.
  rocketmq-thin-proxy --http true --console true
      Look at topics, groups and messages with a web browser: http://127.0.0.1:8081/console/
  rocketmq-thin-proxy topic create invoices --type fifo
  rocketmq-thin-proxy group create accounting --fifo --max-retries 3
      Create a topic and a group on the running proxy.
  rocketmq-thin-proxy topic stats orders
  rocketmq-thin-proxy message peek orders
      Show how many messages a topic holds, and the oldest ones. `rocketmq-thin-proxy help COMMAND` explains a command.
  rocketmq-thin-proxy --print-config > proxy.toml
  rocketmq-thin-proxy --config proxy.toml
      Write all settings to a file, change some, and start with them.
  rocketmq-thin-proxy --check-config --config proxy.toml
      List all mistakes in the file, with remedies, without starting.

A flag overrides the environment (ROCKETMQ_THIN_PROXY_LISTEN and so on), which overrides the configuration file,
which overrides the default. The first line on standard output is `listening on HOST:PORT`.";

/// A RocketMQ 5 proxy in one binary, with a durable broker inside or in front of Apache RocketMQ
#[derive(Parser)]
#[command(name = "rocketmq-thin-proxy", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) serve: Serve,

    /// Print the configuration in force as TOML, and exit
    #[arg(long)]
    pub(super) print_config: bool,

    /// Check the configuration without starting, and exit: print each mistake with its line and a remedy. The exit code is
    /// 0 if the proxy can start, even with warnings, and 1 if it can't
    #[arg(long, conflicts_with = "print_config")]
    pub(super) check_config: bool,

    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(ClapArgs)]
pub(super) struct Serve {
    /// The address to listen on; port 0 picks a free port [default: 127.0.0.1:8081]
    #[arg(long, value_name = "HOST:PORT", env = "ROCKETMQ_THIN_PROXY_LISTEN")]
    listen: Option<String>,

    /// A separate address for administration, which clients need not reach [default: the address of --listen]
    #[arg(long, value_name = "HOST:PORT", env = "ROCKETMQ_THIN_PROXY_ADMIN_LISTEN")]
    admin_listen: Option<String>,

    /// Serve metrics for Prometheus on this address, as `GET /metrics` [default: none]
    #[arg(long, value_name = "HOST:PORT", env = "ROCKETMQ_THIN_PROXY_METRICS_LISTEN")]
    metrics_listen: Option<String>,

    /// Export metrics and traces to this collector of OpenTelemetry, by OTLP over gRPC [default: none]
    #[arg(long, value_name = "URL", env = "ROCKETMQ_THIN_PROXY_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,

    /// Append a line of JSON for each request to this file; - is standard error [default: none]
    #[arg(long, value_name = "FILE", env = "ROCKETMQ_THIN_PROXY_ACCESS_LOG")]
    access_log: Option<PathBuf>,

    /// Also serve classic clients and `mqadmin`: speak the remoting protocol on --listen [default: true]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, env = "ROCKETMQ_THIN_PROXY_REMOTING")]
    remoting: Option<bool>,

    /// Also serve HTTP with JSON on --listen [default: false]
    #[cfg(feature = "http")]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, env = "ROCKETMQ_THIN_PROXY_HTTP")]
    http: Option<bool>,

    /// Serve the console, a page for web browsers, at /console/ wherever HTTP and administration are served [default:
    /// false]
    #[cfg(feature = "console")]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, env = "ROCKETMQ_THIN_PROXY_CONSOLE")]
    console: Option<bool>,

    /// Trust PROXY protocol headers from load balancers in these networks, such as 10.0.0.0/8 [default: none]
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', env = "ROCKETMQ_THIN_PROXY_TRUSTED_PROXIES")]
    trusted_proxies: Option<Vec<IpNet>>,

    /// Enable access control with the users and policies in this file [default: everybody may do everything]
    #[arg(long, value_name = "FILE", env = "ROCKETMQ_THIN_PROXY_ACCESS_FILE")]
    access_file: Option<PathBuf>,

    /// Enable access control with the users and policies in the catalog of the embedded broker, which `user` and `acl`
    /// change with --server [default: false]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, env = "ROCKETMQ_THIN_PROXY_ACCESS_CATALOG")]
    access_catalog: Option<bool>,

    /// The directory for messages, created if missing [default: rocketmq-thin-data]
    #[arg(long, value_name = "DIR", env = "ROCKETMQ_THIN_PROXY_DATA_DIR")]
    data_dir: Option<PathBuf>,

    /// Use the Apache RocketMQ cluster of these name servers instead of the embedded broker
    #[arg(long, value_name = "HOST:PORT[;HOST:PORT]", env = "ROCKETMQ_THIN_PROXY_NAME_SERVER")]
    name_server: Option<String>,

    /// A TOML file with settings
    #[arg(long, value_name = "FILE", env = "ROCKETMQ_THIN_PROXY_CONFIG")]
    config: Option<PathBuf>,

    /// Create topics on first use [default: true; with --name-server: false]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, env = "ROCKETMQ_THIN_PROXY_AUTO_CREATE_TOPICS")]
    auto_create_topics: Option<bool>,

    /// Create consumer groups on first use [default: true]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, env = "ROCKETMQ_THIN_PROXY_AUTO_CREATE_GROUPS")]
    auto_create_groups: Option<bool>,

    /// The secret that signs receipt handles; all proxies of a fleet need the same one [default: generated at the
    /// first start and stored in the data directory]
    #[arg(long, value_name = "SECRET", env = "ROCKETMQ_THIN_PROXY_HANDLE_KEY", hide_env_values = true)]
    handle_key: Option<String>,

    /// The level of the log on standard error: error, warn, info, debug, trace, or filters by module [default: warn]
    #[arg(long, value_name = "LEVEL", env = "ROCKETMQ_THIN_PROXY_LOG")]
    log: Option<String>,

    /// The format of log lines [default: text]
    #[arg(long, value_name = "FORMAT", env = "ROCKETMQ_THIN_PROXY_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

impl Serve {
    /// The settings in force.
    pub(super) fn into_config(self) -> Result<Config, ConfigError> {
        let mut config = self.config_file().map_or_else(|| Ok(Config::default()), Config::read)?;
        self.apply(&mut config);
        Ok(config)
    }

    /// The path of the configuration file, if one is given.
    pub(super) fn config_file(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Overrides settings with those given by flags and the environment.
    pub(super) fn apply(self, config: &mut Config) {
        overwrite(&mut config.listen, self.listen);
        overwrite(&mut config.backend.embedded.data_dir, self.data_dir);
        overwrite(&mut config.backend.remote.name_server, self.name_server);
        overwrite(&mut config.backend.embedded.auto_create_topics, self.auto_create_topics);
        overwrite(&mut config.backend.remote.auto_create_topics, self.auto_create_topics);
        overwrite(&mut config.backend.embedded.auto_create_groups, self.auto_create_groups);
        overwrite(&mut config.trusted_proxies, self.trusted_proxies);
        overwrite(&mut config.remoting.enabled, self.remoting);
        #[cfg(feature = "http")]
        overwrite(&mut config.http.enabled, self.http);
        #[cfg(feature = "console")]
        overwrite(&mut config.http.console, self.console);
        overwrite_option(&mut config.access.file, self.access_file);
        overwrite(&mut config.access.catalog, self.access_catalog);
        overwrite_option(&mut config.admin_listen, self.admin_listen);
        overwrite_option(&mut config.access_log.file, self.access_log);
        overwrite_option(&mut config.metrics.listen, self.metrics_listen);
        overwrite_option(&mut config.otlp.endpoint, self.otlp_endpoint);
        overwrite_option(&mut config.handle_key, self.handle_key);
        overwrite(&mut config.log.level, self.log);
        overwrite(&mut config.log.format, self.log_format);
    }
}

fn overwrite<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

fn overwrite_option<T>(setting: &mut Option<T>, given: Option<T>) {
    if given.is_some() {
        *setting = given;
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_override_the_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "listen = 'x:1'\n[backend.embedded]\nauto_create_groups = false\n")
            .expect("written");
        let path = file.path().to_str().expect("UTF-8");
        let line = ["proxy", "--config", path, "--listen", "y:2", "--auto-create-topics", "false"];
        let config = Args::parse_from(line).serve.into_config().expect("a configuration");
        assert_eq!(config.listen, "y:2");
        assert!(!config.backend.embedded.auto_create_topics);
        assert!(!config.backend.embedded.auto_create_groups);
    }
}
