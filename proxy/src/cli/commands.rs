//! The subcommands, which administer a running proxy.

use std::path::PathBuf;

use clap::{ArgGroup, Args as ClapArgs, Subcommand};

use super::access::{AclCommand, UserCommand};
use super::dead_letters::DlqCommand;
use super::messages::MessageCommand;
use super::quotas::QuotaCommand;
use super::settings::{GroupSettings, TopicSettings};
use super::store_check::{Check, CopyTo};
use super::times;
use crate::front::grpc::{RemoteAdmin, RemoteError};
use crate::log_level::LogLevel;
use crate::service::ResetTarget;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Manage the topics of a running proxy
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Manage the consumer groups of a running proxy
    #[command(subcommand)]
    Group(GroupCommand),
    /// Look at stored messages without consuming them
    #[command(subcommand)]
    Message(MessageCommand),
    /// Look at the dead letters of consumer groups, and send them again
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// Look at the clients of a running proxy
    #[command(subcommand)]
    Client(ClientCommand),
    /// Manage how much the clients of a running proxy may do
    #[command(subcommand)]
    Quota(QuotaCommand),
    /// Manage the users of a proxy with access control
    #[command(subcommand)]
    User(UserCommand),
    /// Manage what these users may do
    #[command(subcommand)]
    Acl(AclCommand),
    /// Inspect the store of the embedded broker
    #[command(subcommand)]
    Store(StoreCommand),
    /// Set how much a running proxy logs, until its next start
    LogLevel {
        /// What is logged
        level: LogLevel,
        #[command(flatten)]
        server: Server,
    },
    /// Create or change the topics and groups that a TOML or JSON file declares
    #[command(after_help = "\
The file has tables as in the configuration:
  [[topics]]
  name = \"orders\"
  type = \"fifo\"       # normal fifo delay transaction mixed priority lite unspecified
  queues = 4          # or read_queues and write_queues
  perm = \"rw\"         # rw r w none

  [[groups]]
  name = \"billing\"
  fifo = true
  max_retries = 3
  retry = [\"1s\", \"30s\", \"5m\"]")]
    Apply {
        /// The file; - reads standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Subcommand)]
pub(super) enum TopicCommand {
    /// Create a topic
    #[command(after_help = "\
Examples:
  rocketmq-thin-proxy topic create orders
  rocketmq-thin-proxy topic create payments --type fifo --queues 4")]
    Create {
        #[command(flatten)]
        topic: Named,
        #[command(flatten)]
        settings: TopicSettings,
    },
    /// Change settings of a topic; the others stay as they are
    #[command(after_help = "\
With fewer queues, the messages in the others stay stored, but nobody receives them until there are as many queues
again.

Examples:
  rocketmq-thin-proxy topic update orders --queues 16
  rocketmq-thin-proxy topic update orders --perm r
  rocketmq-thin-proxy topic update audit --retention 30d --retention-bytes 10GiB")]
    Update {
        #[command(flatten)]
        topic: Named,
        #[command(flatten)]
        settings: TopicSettings,
    },
    /// List all topics
    List(#[command(flatten)] Server),
    /// Show the configuration of one topic, as `apply` reads it
    Show(#[command(flatten)] Named),
    /// Show what a topic holds: offsets of its queues, messages, bytes, rate; without a name, a line for each topic
    #[command(after_help = "\
A topic of type lite also shows its lite topics, by name.

Examples:
  rocketmq-thin-proxy topic stats
  rocketmq-thin-proxy topic stats orders --json
  rocketmq-thin-proxy topic stats chats --lite-after chat-1700 --lite-count 100
  rocketmq-thin-proxy topic stats chats --lite-topic chat-17")]
    Stats {
        /// Its name; all topics without it
        name: Option<String>,
        /// Only this lite topic
        #[arg(long, value_name = "NAME", requires = "name")]
        lite_topic: Option<String>,
        /// How many lite topics to show
        #[arg(long, value_name = "N", default_value_t = 20, requires = "name")]
        lite_count: usize,
        /// Show the lite topics after this one
        #[arg(long, value_name = "NAME", requires = "name")]
        lite_after: Option<String>,
        /// How many topics to show
        #[arg(long, value_name = "N", default_value_t = 1000, conflicts_with = "name")]
        limit: usize,
        #[command(flatten)]
        server: Server,
    },
    /// Delete a topic and its messages
    Delete(#[command(flatten)] Named),
}

#[derive(Subcommand)]
pub(super) enum GroupCommand {
    /// Create a consumer group
    #[command(after_help = "\
Examples:
  rocketmq-thin-proxy group create billing
  rocketmq-thin-proxy group create billing --fifo --max-retries 3 --retry 1s,30s,5m
      The second delivery follows after 1 s, the third after 30 s, each further one after 5 min.
  rocketmq-thin-proxy group create audit --retry-initial 1s --retry-max 10m --retry-multiplier 2
      Pauses of 1 s, 2 s, 4 s and so on, up to 10 min.
  rocketmq-thin-proxy group create audit --start latest
      Begin with the messages that are sent after its first receive.
  rocketmq-thin-proxy group create audit --start 2026-11-29T10:00:00Z")]
    Create {
        #[command(flatten)]
        group: Named,
        #[command(flatten)]
        settings: GroupSettings,
    },
    /// Change settings of a consumer group; the others stay as they are
    #[command(after_help = "\
Examples:
  rocketmq-thin-proxy group update billing --max-retries 5
  rocketmq-thin-proxy group update billing --retry 1s,30s,5m
  rocketmq-thin-proxy group update billing --consume=false
      Nobody can consume until --consume=true.")]
    Update {
        #[command(flatten)]
        group: Named,
        #[command(flatten)]
        settings: GroupSettings,
    },
    /// Move a group to another position in a topic
    #[command(after_help = "\
Messages before the new position count as consumed. Those after it are delivered again, even if they were settled.
Consumers can no longer settle what they hold at this moment. Attempts are counted from 1 again.

A time is 2026-11-29T10:00:00Z, milliseconds since 1970, or how long ago it was, such as 15m or 2h.

Examples:
  rocketmq-thin-proxy group reset billing orders --to earliest
  rocketmq-thin-proxy group reset billing orders --to latest
  rocketmq-thin-proxy group reset billing orders --to 2h
      Deliver everything that was stored in the last two hours again.
  rocketmq-thin-proxy group reset billing orders --queue 3 --offset 1500
      One queue only; `group stats billing --queues` shows the offsets.")]
    Reset {
        /// The group
        group: String,
        /// The topic
        topic: String,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        server: Server,
    },
    /// List all groups
    List(#[command(flatten)] Server),
    /// Show the configuration of one group, as `apply` reads it
    Show(#[command(flatten)] Named),
    /// Show how far a group has got: lag, deliveries in flight, rates; without a name, a line for each group
    #[command(after_help = "\
LAG is the number of messages that are not settled: undelivered, in flight, or to be delivered again. A delivery
that was given back with a delay is in flight until the delay is over. RETRY counts the messages that are ready to be
delivered again. BLOCKED counts those of a FIFO group that wait for earlier ones of their message group.

Examples:
  rocketmq-thin-proxy group stats
  rocketmq-thin-proxy group stats billing
  rocketmq-thin-proxy group stats billing --topic orders --queues")]
    Stats {
        /// Its name; all groups without it
        name: Option<String>,
        /// Only this topic
        #[arg(long, value_name = "TOPIC", requires = "name")]
        topic: Option<String>,
        /// Show each queue
        #[arg(long, requires = "name")]
        queues: bool,
        /// How many groups to show
        #[arg(long, value_name = "N", default_value_t = 1000, conflicts_with = "name")]
        limit: usize,
        #[command(flatten)]
        server: Server,
    },
    /// Delete a group and its progress
    Delete(#[command(flatten)] Named),
}

#[derive(ClapArgs)]
#[command(group = ArgGroup::new("position").args(["to", "offset"]).required(true))]
pub(super) struct Target {
    /// The new position in every queue: earliest, latest, or a time
    #[arg(long, value_name = "PLACE", value_parser = target)]
    to: Option<ResetTarget>,
    /// The queue to move in; it needs --offset
    #[arg(long, value_name = "N", requires = "offset", conflicts_with = "to")]
    queue: Option<i32>,
    /// The offset of the next message that the group gets from the queue
    #[arg(long, value_name = "N", requires = "queue", conflicts_with = "to")]
    offset: Option<i64>,
    /// The broker, if several have this queue
    #[arg(long, value_name = "NAME", requires = "queue")]
    broker: Option<String>,
}

impl From<Target> for ResetTarget {
    fn from(target: Target) -> Self {
        let Target { to, queue, offset, broker } = target;
        to.unwrap_or_else(|| Self::Offset {
            broker,
            queue: queue.unwrap_or_default(),
            offset: offset.unwrap_or_default(),
        })
    }
}

fn target(text: &str) -> Result<ResetTarget, String> {
    match text {
        "earliest" => Ok(ResetTarget::Earliest),
        "latest" => Ok(ResetTarget::Latest),
        text => times::parse(text).map(ResetTarget::Time),
    }
}

#[derive(ClapArgs)]
pub(super) struct Named {
    /// The name
    pub(super) name: String,
    #[command(flatten)]
    pub(super) server: Server,
}

#[derive(ClapArgs)]
pub(super) struct Server {
    /// The address of the proxy; https://HOST:PORT uses TLS
    #[arg(
        long = "server",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8081",
        env = "ROCKETMQ_THIN_PROXY_SERVER"
    )]
    pub(super) address: String,
    #[command(flatten)]
    connection: Connection,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Server {
    /// Connects to the proxy.
    pub(super) async fn connect(&self) -> Result<RemoteAdmin, RemoteError> {
        self.connection.open(&self.address).await
    }
}

/// How a proxy is spoken to.
#[derive(ClapArgs)]
pub(super) struct Connection {
    /// Use TLS, and trust the certificates in this file (PEM), instead of those that the machine trusts
    #[arg(long, value_name = "FILE", env = "ROCKETMQ_THIN_PROXY_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// The user, if the proxy has access control
    #[arg(long, value_name = "NAME", requires = "secret_key", env = "ROCKETMQ_THIN_PROXY_ACCESS_KEY")]
    access_key: Option<String>,
    /// The user's secret; better given by the environment, where other users of the machine don't see it
    #[arg(
        long,
        value_name = "SECRET",
        requires = "access_key",
        allow_hyphen_values = true,
        env = "ROCKETMQ_THIN_PROXY_SECRET_KEY",
        hide_env_values = true
    )]
    secret_key: Option<String>,
}

impl Connection {
    /// Connects to the proxy at this address.
    pub(super) async fn open(&self, address: &str) -> Result<RemoteAdmin, RemoteError> {
        let user = self.access_key.clone().zip(self.secret_key.clone());
        RemoteAdmin::connect(address, self.ca_file.as_deref(), user).await
    }
}

#[derive(Subcommand)]
pub(super) enum ClientCommand {
    /// List clients: producers and consumers with a session at this proxy
    #[command(after_help = "\
Clients of other proxies in front of the same brokers are not listed.

Examples:
  rocketmq-thin-proxy client list
  rocketmq-thin-proxy client list --group billing
  rocketmq-thin-proxy client list --topic orders --json")]
    List {
        /// Only clients of this group
        #[arg(long, value_name = "GROUP")]
        group: Option<String>,
        /// Only clients that use this topic
        #[arg(long, value_name = "TOPIC")]
        topic: Option<String>,
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Subcommand)]
pub(super) enum StoreCommand {
    /// Show how much disk space the store of a running proxy takes, and whether it is healthy
    #[command(after_help = "\
Examples:
  rocketmq-thin-proxy store stats
  rocketmq-thin-proxy store stats --json")]
    Stats(#[command(flatten)] Server),
    /// Check a data directory that no proxy uses, and report what is damaged, what that costs and what to do
    #[command(after_help = "\
It reads all of the directory and never writes to it. The exit code is 0 if the directory is sound, 1 if it could not
be checked, and 3 if it is damaged.

Examples:
  rocketmq-thin-proxy store check /var/lib/rocketmq-thin
  rocketmq-thin-proxy store check /var/lib/rocketmq-thin --json")]
    Check(Check),
    /// Copy what can be read of a data directory that no proxy uses into a new one, and say what is lost
    #[command(after_help = "\
The remedy for damage that `store check` finds, where there is no backup. The old directory is not changed. Where the last
messages of a queue are lost, the next ones get their offsets. Exit codes: 0 all was copied, 1 it could not be done, 3
something is lost.

Examples:
  rocketmq-thin-proxy store copy /var/lib/rocketmq-thin /var/lib/rocketmq-thin.new")]
    Copy(CopyTo),
}
