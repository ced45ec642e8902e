//! The subcommands, which administer a running proxy.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::messages::MessageCommand;
use crate::config::{GroupSpec, Perm, TopicSpec, TopicType};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Topics of a running proxy
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Consumer groups of a running proxy
    #[command(subcommand)]
    Group(GroupCommand),
    /// Look at stored messages, without consuming them
    #[command(subcommand)]
    Message(MessageCommand),
    /// Clients that are connected to a running proxy
    #[command(subcommand)]
    Client(ClientCommand),
    /// The store of a running proxy
    #[command(subcommand)]
    Store(StoreCommand),
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
    Create {
        #[command(flatten)]
        topic: NewTopic,
        #[command(flatten)]
        server: Server,
    },
    /// List all topics
    List(#[command(flatten)] Server),
    /// Show the configuration of one topic, as `apply` reads it
    Show(#[command(flatten)] Named),
    /// Show what a topic holds: offsets of its queues, messages, bytes, rate
    #[command(after_help = "\
Examples:
  rocketmq-thin-proxy topic stats orders
  rocketmq-thin-proxy topic stats orders --json")]
    Stats(#[command(flatten)] Named),
    /// Delete a topic and its messages
    Delete(#[command(flatten)] Named),
}

#[derive(ClapArgs)]
pub(super) struct NewTopic {
    /// Its name
    pub(super) name: String,
    /// What it takes
    #[arg(long = "type", value_name = "TYPE", default_value = "normal")]
    kind: TopicType,
    /// How many queues can be read
    #[arg(long, value_name = "N", default_value_t = 8)]
    read_queues: i32,
    /// How many queues can be written
    #[arg(long, value_name = "N", default_value_t = 8)]
    write_queues: i32,
    /// What it allows
    #[arg(long, value_name = "PERM", default_value = "rw")]
    perm: Perm,
    /// Remove a lite topic, with its messages, this long after its last use [default: never]
    #[arg(long, value_name = "DURATION")]
    lite_expiration: Option<humantime::Duration>,
}

impl From<NewTopic> for TopicSpec {
    fn from(new: NewTopic) -> Self {
        Self {
            name: new.name,
            kind: new.kind,
            queues: None,
            read_queues: Some(new.read_queues),
            write_queues: Some(new.write_queues),
            perm: new.perm,
            lite_expiration: new.lite_expiration.map(Into::into),
        }
    }
}

#[derive(Subcommand)]
pub(super) enum GroupCommand {
    /// Create a consumer group
    Create {
        #[command(flatten)]
        group: NewGroup,
        #[command(flatten)]
        server: Server,
    },
    /// List all groups
    List(#[command(flatten)] Server),
    /// Show the configuration of one group, as `apply` reads it
    Show(#[command(flatten)] Named),
    /// Show how far a group has got: lag, deliveries in flight, rates
    #[command(after_help = "\
LAG is the number of messages that are not settled: undelivered, in flight, or to be delivered again. A delivery
that was given back with a delay is in flight until the delay is over. RETRY are those that the next receive gets
again; BLOCKED are those of a FIFO group that wait for others of their message group.

Examples:
  rocketmq-thin-proxy group stats billing
  rocketmq-thin-proxy group stats billing --topic orders --queues")]
    Stats {
        #[command(flatten)]
        group: Named,
        /// Only this topic
        #[arg(long, value_name = "TOPIC")]
        topic: Option<String>,
        /// Show each queue
        #[arg(long)]
        queues: bool,
    },
    /// Delete a group and its progress
    Delete(#[command(flatten)] Named),
}

#[derive(ClapArgs)]
pub(super) struct NewGroup {
    /// Its name
    name: String,
    /// Consume in order
    #[arg(long)]
    fifo: bool,
    /// Deliveries after the first, before a message becomes a dead letter
    #[arg(long, value_name = "N", default_value_t = 16)]
    max_retries: i32,
    /// Create the group disabled: nobody can consume
    #[arg(long)]
    no_consume: bool,
    /// Consume lite topics of this topic, which has the type lite
    #[arg(long, value_name = "TOPIC")]
    lite_bind_topic: Option<String>,
    /// The most lite topics that a client may subscribe to
    #[arg(long, value_name = "N", default_value_t = 2000)]
    lite_quota: i32,
    /// Let a lite topic have one subscriber at a time: a later one takes it over
    #[arg(long)]
    lite_exclusive: bool,
}

impl From<NewGroup> for GroupSpec {
    fn from(new: NewGroup) -> Self {
        Self {
            fifo: new.fifo,
            max_retries: new.max_retries,
            consume: !new.no_consume,
            lite_bind_topic: new.lite_bind_topic,
            lite_quota: new.lite_quota,
            lite_exclusive: new.lite_exclusive,
            ..Self::named(new.name)
        }
    }
}

#[derive(ClapArgs)]
pub(super) struct Named {
    /// Its name
    pub(super) name: String,
    #[command(flatten)]
    pub(super) server: Server,
}

#[derive(ClapArgs)]
pub(super) struct Server {
    /// The address of the proxy
    #[arg(
        long = "server",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8081",
        env = "ROCKETMQ_THIN_PROXY_SERVER"
    )]
    pub(super) address: String,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Subcommand)]
pub(super) enum ClientCommand {
    /// List clients: producers and consumers with a session at this proxy
    #[command(after_help = "\
Other proxies in front of the same brokers have clients of their own.

Examples:
  rocketmq-thin-proxy client list
  rocketmq-thin-proxy client list --group billing
  rocketmq-thin-proxy client list --topic orders --json")]
    List {
        /// Only those of this group
        #[arg(long, value_name = "GROUP")]
        group: Option<String>,
        /// Only those that name this topic
        #[arg(long, value_name = "TOPIC")]
        topic: Option<String>,
        #[command(flatten)]
        server: Server,
    },
}

#[derive(Subcommand)]
pub(super) enum StoreCommand {
    /// Show what the store of a running proxy takes on the disk, and whether it is healthy
    #[command(after_help = "\
Examples:
  rocketmq-thin-proxy store stats
  rocketmq-thin-proxy store stats --json")]
    Stats(#[command(flatten)] Server),
}
