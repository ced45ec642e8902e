//! `message`: shows and searches stored messages.

use std::time::SystemTime;

use clap::{ArgGroup, Args as ClapArgs, Subcommand};

use super::admin_error::AdminError;
use super::message_reports::{FoundMessages, ShownMessage};
use super::message_trace::{self, TraceArgs};
use super::output::show;
use super::server_args::ServerArgs;
use super::units;
use crate::front::grpc::RemoteAdmin;
use crate::service::{QueueStats, ReadMessage, ReadQueue, WantedMessage};

/// The bytes of a body that are fetched for a table row.
const PREVIEW_BYTES: usize = 120;
/// The maximum number of messages that one request returns.
const PAGE: usize = 100;

#[derive(Subcommand)]
pub(super) enum MessageCommand {
    /// Show messages of a topic: the oldest ones, or those from an offset on
    #[command(after_help = "\
Examples:
  rocketmq-thin-proxy message peek orders
      Show the ten oldest messages of all queues.
  rocketmq-thin-proxy message peek orders --newest --count 3
  rocketmq-thin-proxy message peek orders --queue 2 --offset 1500
  rocketmq-thin-proxy message peek chats --lite-topic chat-17
  rocketmq-thin-proxy message peek %DLQ%accounting
      Show dead letters of a group; see also `dlq`.")]
    Peek {
        #[command(flatten)]
        topic: TopicArgs,
        /// Only this queue
        #[arg(long, value_name = "N")]
        queue: Option<i32>,
        /// Start at this offset
        #[arg(long, value_name = "N", requires = "queue", conflicts_with = "newest")]
        offset: Option<i64>,
        /// Show the newest messages instead of the oldest
        #[arg(long)]
        newest: bool,
        /// The number of messages
        #[arg(long, value_name = "N", default_value_t = 10)]
        count: usize,
    },
    /// Search the messages of a topic by id, key, or the time at which they were stored
    #[command(after_help = "\
Times are written as 2026-11-29T10:00:00Z, in milliseconds since 1970, or as a duration before now, such as 15m or 2h.
The search reads each queue from its oldest message on, and stops after --limit messages. --from and --to shorten it.

Examples:
  rocketmq-thin-proxy message find orders --id 01A2B3C4D5
  rocketmq-thin-proxy message find orders --key customer-17 --from 2h
  rocketmq-thin-proxy message find orders --from 2026-11-29T10:00:00Z --to 2026-11-29T10:05:00Z --count 100")]
    Find(#[command(flatten)] FindArgs),
    /// Show the recorded steps of a message: which clients sent, received and settled it, when, and how long it took
    #[command(after_help = "\
Only traced messages have records: messages of the topics and users in [message_trace] of the configuration, and
messages that classic clients trace themselves. Records are stored as long as other messages. Times are written as in
`message find`.

Examples:
  rocketmq-thin-proxy message trace 01A2B3C4D5
  rocketmq-thin-proxy message trace 01A2B3C4D5 --from 2h --json")]
    Trace(#[command(flatten)] TraceArgs),
    /// Show one message with its properties and body
    #[command(after_help = "\
Examples:
  rocketmq-thin-proxy message show orders --queue 2 --offset 1500
  rocketmq-thin-proxy message show orders --id 01A2B3C4D5")]
    #[command(group = ArgGroup::new("place").args(["queue", "id"]).required(true))]
    Show {
        #[command(flatten)]
        topic: TopicArgs,
        /// The queue of the message
        #[arg(long, value_name = "N", requires = "offset")]
        queue: Option<i32>,
        /// The offset of the message
        #[arg(long, value_name = "N", requires = "queue")]
        offset: Option<i64>,
        /// The id of the message; this searches the topic
        #[arg(long, value_name = "ID", conflicts_with_all = ["queue", "offset"])]
        id: Option<String>,
    },
}

#[derive(ClapArgs)]
pub(super) struct TopicArgs {
    /// The topic
    topic: String,
    /// The lite topic, in a topic of type lite
    #[arg(long, value_name = "NAME")]
    lite_topic: Option<String>,
    /// The broker, if several have queues of the topic
    #[arg(long, value_name = "NAME")]
    broker: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(ClapArgs)]
pub(super) struct FindArgs {
    #[command(flatten)]
    topic: TopicArgs,
    #[command(flatten)]
    search: SearchArgs,
}

#[derive(ClapArgs)]
#[command(group = ArgGroup::new("criteria").args(["id", "key", "from", "to"]).required(true).multiple(true))]
pub(super) struct SearchArgs {
    /// The id of the message
    #[arg(long, value_name = "ID", conflicts_with = "key")]
    pub(super) id: Option<String>,
    /// One of the keys of the message
    #[arg(long, value_name = "KEY")]
    pub(super) key: Option<String>,
    /// Stored at this time or later
    #[arg(long, value_name = "TIME", value_parser = units::parse_time)]
    pub(super) from: Option<SystemTime>,
    /// Stored at this time or earlier
    #[arg(long, value_name = "TIME", value_parser = units::parse_time)]
    pub(super) to: Option<SystemTime>,
    /// The maximum number of messages to find
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(super) count: usize,
    /// The maximum number of messages to read
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub(super) limit: u64,
}

/// Runs `message`.
pub(super) async fn run(command: MessageCommand) -> Result<(), AdminError> {
    match command {
        MessageCommand::Peek { topic, queue, offset, newest, count } => {
            let json = topic.server.json;
            let mut reader = TopicReader::open(topic).await?;
            reader.select_queue(queue)?;
            let start = match (offset, newest) {
                (Some(offset), _) => PeekFrom::At(offset),
                (None, true) => PeekFrom::Newest,
                (None, false) => PeekFrom::Oldest,
            };
            Ok(show(&reader.peek(start, count).await?, json)?)
        }
        MessageCommand::Find(FindArgs { topic, search }) => {
            let json = topic.server.json;
            let mut reader = TopicReader::open(topic).await?;
            Ok(show(&reader.find(&search).await?, json)?)
        }
        MessageCommand::Trace(trace) => message_trace::run(trace).await,
        MessageCommand::Show { topic, queue, offset, id } => {
            let json = topic.server.json;
            let mut reader = TopicReader::open(topic).await?;
            let message = match (id, offset) {
                (Some(id), _) => reader.find_by_id(&id).await?,
                (None, offset) => {
                    reader.select_queue(queue)?;
                    reader.read_at(offset.unwrap_or_default()).await?
                }
            };
            Ok(show(&ShownMessage::new(message), json)?)
        }
    }
}

/// Which messages of each queue `peek` shows.
#[derive(Clone, Copy)]
pub(super) enum PeekFrom {
    Oldest,
    Newest,
    At(i64),
}

/// Reads the queues of a topic.
pub(super) struct TopicReader {
    admin: RemoteAdmin,
    topic: String,
    lite_topic: Option<String>,
    queues: Vec<QueueStats>,
}

impl TopicReader {
    async fn open(topic: TopicArgs) -> Result<Self, AdminError> {
        let TopicArgs { topic, lite_topic, broker, server } = topic;
        let mut reader = Self::new(server.connect().await?, topic, lite_topic).await?;
        if let Some(broker) = broker {
            reader.queues.retain(|queue| queue.broker == broker);
            if reader.queues.is_empty() {
                let text = format!("broker {broker} has no queue of topic {}", reader.topic);
                return Err(AdminError::Invalid(text));
            }
        }
        Ok(reader)
    }

    /// Reads all queues of a topic.
    pub(super) async fn new(
        mut admin: RemoteAdmin,
        topic: String,
        lite_topic: Option<String>,
    ) -> Result<Self, AdminError> {
        let queues = admin.topic_stats(&topic, lite_topic.clone()).await?.queues;
        Ok(Self { admin, topic, lite_topic, queues })
    }

    /// Reads only this queue from now on, if one is given.
    fn select_queue(&mut self, queue: Option<i32>) -> Result<(), AdminError> {
        let Some(id) = queue else { return Ok(()) };
        self.queues.retain(|queue| queue.id == id);
        match self.queues.len() {
            0 => Err(AdminError::Missing(format!("queue {id} of topic {}", self.topic))),
            1 => Ok(()),
            _ => {
                let brokers: Vec<_> = self.queues.iter().map(|queue| queue.broker.as_str()).collect();
                Err(AdminError::Invalid(format!(
                    "several brokers have a queue {id} of topic {}: name one with --broker ({})",
                    self.topic,
                    brokers.join(", ")
                )))
            }
        }
    }

    /// Reads `count` messages of all queues together, ordered by the time they were stored.
    pub(super) async fn peek(&mut self, start: PeekFrom, count: usize) -> Result<FoundMessages, AdminError> {
        let mut found = Vec::new();
        for queue in self.queues.clone() {
            let offset = match start {
                PeekFrom::Oldest => queue.first,
                PeekFrom::Newest => queue.next - i64::try_from(count).unwrap_or(i64::MAX),
                PeekFrom::At(offset) => offset,
            };
            let mut read = self.read_request(&queue, offset, PREVIEW_BYTES);
            let mut wanted = count;
            while wanted > 0 {
                read.max = wanted.min(PAGE);
                let page = self.admin.read(read.clone()).await?;
                wanted -= page.messages.len().min(wanted);
                found.extend(page.messages);
                read.offset = page.next_offset;
                if page.finished {
                    break;
                }
            }
        }
        found.sort_by_key(|message| message.delivery.stored_at);
        match start {
            PeekFrom::Newest => found.drain(..found.len().saturating_sub(count)).for_each(drop),
            PeekFrom::Oldest | PeekFrom::At(_) => found.truncate(count),
        }
        let looked_at = found.len() as u64;
        Ok(FoundMessages::new(found, looked_at, None))
    }

    /// Searches the queues one after the other.
    pub(super) async fn find(&mut self, search: &SearchArgs) -> Result<FoundMessages, AdminError> {
        let (mut found, mut looked_at) = (Vec::new(), 0);
        for queue in self.queues.clone() {
            let mut read = self.read_request(&queue, queue.first, PREVIEW_BYTES);
            (read.from, read.to) = (search.from, search.to);
            read.wanted = match (&search.id, &search.key) {
                (Some(id), _) => WantedMessage::Id(id.clone()),
                (None, Some(key)) => WantedMessage::Key(key.clone()),
                (None, None) => WantedMessage::Any,
            };
            loop {
                let left = search.count.saturating_sub(found.len());
                if left == 0 {
                    let text = "there may be more: raise --count to see them".to_owned();
                    return Ok(FoundMessages::new(found, looked_at, Some(text)));
                }
                if looked_at >= search.limit {
                    let text = format!(
                        "the search stopped at --limit, in queue {} at offset {}: narrow it with --from and --to, or \
                         raise --limit",
                        queue.id, read.offset
                    );
                    return Ok(FoundMessages::new(found, looked_at, Some(text)));
                }
                read.max = left.min(PAGE);
                let page = self.admin.read(read.clone()).await?;
                looked_at += page.looked_at;
                found.extend(page.messages);
                read.offset = page.next_offset;
                if page.finished {
                    break;
                }
            }
        }
        found.sort_by_key(|message| message.delivery.stored_at);
        Ok(FoundMessages::new(found, looked_at, None))
    }

    async fn find_by_id(&mut self, id: &str) -> Result<ReadMessage, AdminError> {
        for queue in self.queues.clone() {
            let mut read = self.read_request(&queue, queue.first, usize::MAX);
            read.wanted = WantedMessage::Id(id.to_owned());
            loop {
                read.max = 1;
                let page = self.admin.read(read.clone()).await?;
                if let Some(message) = page.messages.into_iter().next() {
                    return Ok(message);
                }
                read.offset = page.next_offset;
                if page.finished {
                    break;
                }
            }
        }
        Err(AdminError::Missing(format!("message {id} in topic {}", self.topic)))
    }

    async fn read_at(&mut self, offset: i64) -> Result<ReadMessage, AdminError> {
        let missing = || format!("a message at offset {offset} of topic {}", self.topic);
        let Some(queue) = self.queues.first().cloned() else { return Err(AdminError::Missing(missing())) };
        if queue.first == queue.next {
            return Err(AdminError::Invalid(format!("queue {} of topic {} is empty", queue.id, self.topic)));
        }
        if !(queue.first..queue.next).contains(&offset) {
            return Err(AdminError::Invalid(format!(
                "queue {} of topic {} has the offsets {} to {}, not {offset}",
                queue.id,
                self.topic,
                queue.first,
                queue.next - 1
            )));
        }
        let mut read = self.read_request(&queue, offset, usize::MAX);
        read.max = 1;
        let page = self.admin.read(read).await?;
        let found = page.messages.into_iter().find(|message| message.delivery.queue_offset == offset);
        found.ok_or_else(|| AdminError::Missing(missing()))
    }

    fn read_request(&self, queue: &QueueStats, offset: i64, max_body: usize) -> ReadQueue {
        ReadQueue {
            topic: self.topic.clone(),
            lite_topic: self.lite_topic.clone(),
            broker: queue.broker.clone(),
            queue_id: queue.id,
            offset,
            max: PAGE,
            max_body,
            from: None,
            to: None,
            wanted: WantedMessage::Any,
        }
    }
}
