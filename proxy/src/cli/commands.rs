//! The subcommands and their arguments.

use std::path::PathBuf;

use clap::{ArgGroup, Args as ClapArgs, Subcommand};

use super::access::{AclCommand, UserCommand};
use super::catalog_flags::{GroupSettings, TopicSettings};
use super::dead_letters::DlqCommand;
use super::messages::MessageCommand;
use super::quotas::QuotaCommand;
use super::server_args::{NameArgs, ServerArgs};
use super::store_check::{CheckArgs, CopyArgs};
use super::units;
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
    /// Inspect stored messages without consuming them
    #[command(subcommand)]
    Message(MessageCommand),
    /// Inspect the dead letters of consumer groups, and resend them
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// List the clients of a running proxy
    #[command(subcommand)]
    Client(ClientCommand),
    /// Manage the quotas of a running proxy
    #[command(subcommand)]
    Quota(QuotaCommand),
    /// Manage the users of a proxy with access control
    #[command(subcommand)]
    User(UserCommand),
    /// Manage the policies of these users
    #[command(subcommand)]
    Acl(AclCommand),
    /// Inspect the store of the embedded broker
    #[command(subcommand)]
    Store(StoreCommand),
    /// Set the log level of a running proxy until its next start
    LogLevel {
        /// The level
        level: LogLevel,
        #[command(flatten)]
        server: ServerArgs,
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
  name = \"accounting\"
  fifo = true
  max_retries = 3
  retry = [\"1s\", \"30s\", \"5m\"]")]
    Apply {
        /// The file; - reads standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        server: ServerArgs,
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
        topic: NameArgs,
        #[command(flatten)]
        settings: TopicSettings,
    },
    /// Change settings of a topic; the other settings stay unchanged
    #[command(after_help = "\
With fewer queues, the messages in the removed queues stay stored, but are not delivered until the number of queues is
raised again.

Examples:
  rocketmq-thin-proxy topic update orders --queues 16
  rocketmq-thin-proxy topic update orders --perm r
  rocketmq-thin-proxy topic update audit --retention 30d --retention-bytes 10GiB")]
    Update {
        #[command(flatten)]
        topic: NameArgs,
        #[command(flatten)]
        settings: TopicSettings,
    },
    /// List all topics
    List(#[command(flatten)] ServerArgs),
    /// Show the configuration of one topic, as `apply` reads it
    Show(#[command(flatten)] NameArgs),
    /// Show the offsets of a topic's queues, and its messages, bytes and rate; without a name, a line for each topic
    #[command(after_help = "\
A topic of type lite also shows its lite topics, by name.

Examples:
  rocketmq-thin-proxy topic stats
  rocketmq-thin-proxy topic stats orders --json
  rocketmq-thin-proxy topic stats chats --lite-after chat-1700 --lite-count 100
  rocketmq-thin-proxy topic stats chats --lite-topic chat-17")]
    Stats {
        /// The topic [default: all topics]
        name: Option<String>,
        /// Only this lite topic
        #[arg(long, value_name = "NAME", requires = "name")]
        lite_topic: Option<String>,
        /// The number of lite topics to show
        #[arg(long, value_name = "N", default_value_t = 20, requires = "name")]
        lite_count: usize,
        /// Show the lite topics after this one
        #[arg(long, value_name = "NAME", requires = "name")]
        lite_after: Option<String>,
        /// The number of topics to show
        #[arg(long, value_name = "N", default_value_t = 1000, conflicts_with = "name")]
        limit: usize,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Delete a topic and its messages
    Delete(#[command(flatten)] NameArgs),
}

#[derive(Subcommand)]
pub(super) enum GroupCommand {
    /// Create a consumer group
    #[command(after_help = "\
Examples:
  rocketmq-thin-proxy group create accounting
  rocketmq-thin-proxy group create accounting --fifo --max-retries 3 --retry 1s,30s,5m
      The second delivery follows after 1 s, the third after 30 s, each further one after 5 min.
  rocketmq-thin-proxy group create audit --retry-initial 1s --retry-max 10m --retry-multiplier 2
      Pauses of 1 s, 2 s, 4 s and so on, up to 10 min.
  rocketmq-thin-proxy group create audit --start latest
      Start with the messages that are sent after the group's first receive.
  rocketmq-thin-proxy group create audit --start 2026-11-29T10:00:00Z")]
    Create {
        #[command(flatten)]
        group: NameArgs,
        #[command(flatten)]
        settings: GroupSettings,
    },
    /// Change settings of a consumer group; the other settings stay unchanged
    #[command(after_help = "\
Examples:
  rocketmq-thin-proxy group update accounting --max-retries 5
  rocketmq-thin-proxy group update accounting --retry 1s,30s,5m
  rocketmq-thin-proxy group update accounting --consume=false
      Consumers are refused until --consume=true.")]
    Update {
        #[command(flatten)]
        group: NameArgs,
        #[command(flatten)]
        settings: GroupSettings,
    },
    /// Move a group to another position in a topic
    #[command(after_help = "\
Messages before the new position count as consumed. Later ones are delivered again, even if they were settled. Consumers
can no longer settle the deliveries that they hold at this moment. Attempts are counted from 1 again.

Times are written as 2026-11-29T10:00:00Z, in milliseconds since 1970, or as a duration before now, such as 15m or 2h.

Examples:
  rocketmq-thin-proxy group reset accounting orders --to earliest
  rocketmq-thin-proxy group reset accounting orders --to latest
  rocketmq-thin-proxy group reset accounting orders --to 2h
      Deliver all messages of the last two hours again.
  rocketmq-thin-proxy group reset accounting orders --queue 3 --offset 1500
      One queue only; `group stats accounting --queues` shows the offsets.")]
    Reset {
        /// The group
        group: String,
        /// The topic
        topic: String,
        #[command(flatten)]
        position: ResetPosition,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// List all groups
    List(#[command(flatten)] ServerArgs),
    /// Show the configuration of one group, as `apply` reads it
    Show(#[command(flatten)] NameArgs),
    /// Show the progress of a group: lag, deliveries in flight, rates; without a name, a line for each group
    #[command(after_help = "\
LAG is the number of unsettled messages: undelivered, in flight, or to be delivered again. A delivery that was given
back with a delay is in flight until the delay is over. RETRY counts the messages that are ready to be delivered again.
BLOCKED counts the messages of a FIFO group that wait for earlier ones of their message group.

Examples:
  rocketmq-thin-proxy group stats
  rocketmq-thin-proxy group stats accounting
  rocketmq-thin-proxy group stats accounting --topic orders --queues")]
    Stats {
        /// The group [default: all groups]
        name: Option<String>,
        /// Only this topic
        #[arg(long, value_name = "TOPIC", requires = "name")]
        topic: Option<String>,
        /// Show each queue
        #[arg(long, requires = "name")]
        queues: bool,
        /// The number of groups to show
        #[arg(long, value_name = "N", default_value_t = 1000, conflicts_with = "name")]
        limit: usize,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Delete a group and its progress
    Delete(#[command(flatten)] NameArgs),
}

#[derive(ClapArgs)]
#[command(group = ArgGroup::new("position").args(["to", "offset"]).required(true))]
pub(super) struct ResetPosition {
    /// The new position in every queue: earliest, latest, or a time
    #[arg(long, value_name = "PLACE", value_parser = parse_position)]
    to: Option<ResetTarget>,
    /// The queue whose position to change; needs --offset
    #[arg(long, value_name = "N", requires = "offset", conflicts_with = "to")]
    queue: Option<i32>,
    /// The offset of the next message to deliver from the queue
    #[arg(long, value_name = "N", requires = "queue", conflicts_with = "to")]
    offset: Option<i64>,
    /// The broker, if several have this queue
    #[arg(long, value_name = "NAME", requires = "queue")]
    broker: Option<String>,
}

impl From<ResetPosition> for ResetTarget {
    fn from(position: ResetPosition) -> Self {
        let ResetPosition { to, queue, offset, broker } = position;
        to.unwrap_or_else(|| Self::Offset {
            broker,
            queue: queue.unwrap_or_default(),
            offset: offset.unwrap_or_default(),
        })
    }
}

/// Parses `earliest`, `latest` or a time.
fn parse_position(text: &str) -> Result<ResetTarget, String> {
    match text {
        "earliest" => Ok(ResetTarget::Earliest),
        "latest" => Ok(ResetTarget::Latest),
        text => units::parse_time(text).map(ResetTarget::Time),
    }
}

#[derive(Subcommand)]
pub(super) enum ClientCommand {
    /// List the producers and consumers with a session at this proxy
    #[command(after_help = "\
Clients of other proxies in front of the same brokers are not listed.

Examples:
  rocketmq-thin-proxy client list
  rocketmq-thin-proxy client list --group accounting
  rocketmq-thin-proxy client list --topic orders --json")]
    List {
        /// Only clients of this group
        #[arg(long, value_name = "GROUP")]
        group: Option<String>,
        /// Only clients of this topic
        #[arg(long, value_name = "TOPIC")]
        topic: Option<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
}

#[derive(Subcommand)]
pub(super) enum StoreCommand {
    /// Show the disk usage and the health of a running proxy's store
    #[command(after_help = "\
Examples:
  rocketmq-thin-proxy store stats
  rocketmq-thin-proxy store stats --json")]
    Stats(#[command(flatten)] ServerArgs),
    /// Check a data directory that no proxy uses, and report damage, its consequences and remedies
    #[command(after_help = "\
The check reads the whole directory and never writes to it. The exit code is 0 if the directory is sound, 1 if it could
not be checked, and 3 if it is damaged.

Examples:
  rocketmq-thin-proxy store check /var/lib/rocketmq-thin
  rocketmq-thin-proxy store check /var/lib/rocketmq-thin --json")]
    Check(CheckArgs),
    /// Copy the readable part of a data directory that no proxy uses into a new one, and report what is lost
    #[command(after_help = "\
This is the remedy for damage that `store check` finds, if there is no backup. The old directory is not changed. If the
last messages of a queue are lost, new messages reuse their offsets. The exit code is 0 if everything was copied, 1 if
the copy failed, and 3 if something is lost.

Examples:
  rocketmq-thin-proxy store copy /var/lib/rocketmq-thin /var/lib/rocketmq-thin.new")]
    Copy(CopyArgs),
}
