//! `dlq`: lists, shows and searches the dead letters of groups, and resends them.

use std::fmt::Write;

use clap::{ArgGroup, Subcommand};
use serde::Serialize;

use super::admin_error::AdminError;
use super::messages::{PeekFrom, SearchArgs, TopicReader};
use super::output::{Report, Table, one_line, print, print_note, show};
use super::server_args::ServerArgs;
use super::units;
use crate::front::grpc::RemoteAdmin;
use crate::processor::{RESEND_GROUP, ResendSelection, ResentLetter};
use crate::service::names::{DEAD_LETTER_PREFIX, dead_letter_topic};

/// The maximum number of dead letters that one request resends.
const PAGE: usize = 100;

#[derive(Subcommand)]
pub(super) enum DlqCommand {
    /// List the groups that have dead letters
    #[command(after_help = "\
Examples:
  rocketmq-thin-proxy dlq list
  rocketmq-thin-proxy dlq list accounting --json")]
    List {
        /// Only this group
        group: Option<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Show the oldest or the newest dead letters of a group
    #[command(after_help = "\
`message show %DLQ%GROUP --id ID` shows one of them with its properties and body.

Examples:
  rocketmq-thin-proxy dlq peek accounting
  rocketmq-thin-proxy dlq peek accounting --newest --count 3")]
    Peek {
        /// The group
        group: String,
        /// Show the newest dead letters instead of the oldest
        #[arg(long)]
        newest: bool,
        /// The number of dead letters
        #[arg(long, value_name = "N", default_value_t = 10)]
        count: usize,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Search the dead letters of a group by id, key, or the time at which they became dead letters
    #[command(after_help = "\
Times are written as 2026-11-29T10:00:00Z, in milliseconds since 1970, or as a duration before now, such as 15m or 2h.

Examples:
  rocketmq-thin-proxy dlq find accounting --key customer-17
  rocketmq-thin-proxy dlq find accounting --from 2h --count 100")]
    Find {
        /// The group
        group: String,
        #[command(flatten)]
        search: SearchArgs,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Resend dead letters to their original topics
    #[command(after_help = "\
All groups of the topic receive them, not only the one that failed. The progress of the group `dlq-resend` records what
was resent, so that an interrupted command can be repeated: a dead letter is resent twice at most, and none is lost.
Dead letters stay readable until their retention ends.

Examples:
  rocketmq-thin-proxy dlq resend accounting --id 01A2B3C4D5
  rocketmq-thin-proxy dlq resend accounting --all
  rocketmq-thin-proxy dlq resend accounting --all --count 10
      Resend the next ten, to see whether they succeed.")]
    #[command(group = ArgGroup::new("letters").args(["id", "all"]).required(true))]
    Resend {
        /// The group
        group: String,
        /// Resend the dead letter with this id, even if it was resent before; may be repeated
        #[arg(long, value_name = "ID")]
        id: Vec<String>,
        /// Resend all dead letters that were not resent yet
        #[arg(long, conflicts_with = "id")]
        all: bool,
        /// The maximum number of dead letters to resend
        #[arg(long, value_name = "N", requires = "all")]
        count: Option<usize>,
        #[command(flatten)]
        server: ServerArgs,
    },
}

/// Runs `dlq`.
pub(super) async fn run(command: DlqCommand) -> Result<(), AdminError> {
    match command {
        DlqCommand::List { group, server } => {
            let mut admin = server.connect().await?;
            Ok(show(&DeadLetterList(list_groups(&mut admin, group).await?), server.json)?)
        }
        DlqCommand::Peek { group, newest, count, server } => {
            let mut reader = open_reader(&group, &server).await?;
            let start = if newest { PeekFrom::Newest } else { PeekFrom::Oldest };
            Ok(show(&reader.peek(start, count).await?, server.json)?)
        }
        DlqCommand::Find { group, search, server } => {
            let mut reader = open_reader(&group, &server).await?;
            Ok(show(&reader.find(&search).await?, server.json)?)
        }
        DlqCommand::Resend { group, id, all: _, count, server } => {
            let mut admin = server.connect().await?;
            let mut resent = Resent { json: server.json, letters: Vec::new() };
            let done = match id.is_empty() {
                true => resent.resend_next(&mut admin, &group, count.unwrap_or(usize::MAX)).await,
                false => resent.resend_ids(&mut admin, &group, id).await,
            };
            // Some dead letters may have been resent before a failure.
            show(&resent, server.json)?;
            done?;
            match resent.failed() {
                0 => Ok(()),
                failed => Err(AdminError::NotSent(failed)),
            }
        }
    }
}

async fn open_reader(group: &str, server: &ServerArgs) -> Result<TopicReader, AdminError> {
    let admin = server.connect().await?;
    match TopicReader::new(admin, dead_letter_topic(group), None).await {
        Err(AdminError::Remote(error)) if error.is_not_found() => {
            Err(AdminError::NoDeadLetters(group.to_owned()))
        }
        opened => opened,
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct DeadLetterList(Vec<GroupLetters>);

#[derive(Serialize)]
struct GroupLetters {
    group: String,
    dead_letters: i64,
    /// Dead letters that `resend --all` would resend.
    not_resent: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<String>,
}

async fn list_groups(
    admin: &mut RemoteAdmin,
    wanted: Option<String>,
) -> Result<Vec<GroupLetters>, AdminError> {
    let mut groups = Vec::new();
    // The group is created when the first dead letter is resent.
    let resent = admin.group_stats(RESEND_GROUP, None).await.unwrap_or_default().topics;
    for topic in admin.topics().await? {
        let Some(group) = topic.name.strip_prefix(DEAD_LETTER_PREFIX) else { continue };
        if wanted.as_deref().is_some_and(|wanted| wanted != group) {
            continue;
        }
        let stats = admin.topic_stats(&topic.name, None).await?;
        let dead_letters = stats.queues.iter().map(|queue| queue.next - queue.first).sum();
        // On Apache's brokers the group also has retry topics, whose names end with the topic's name.
        let of_topic = resent.iter().filter(|resent| resent.topic.ends_with(&topic.name));
        let lags: Vec<_> = of_topic.flat_map(|resent| &resent.queues).map(|queue| queue.lag).collect();
        groups.push(GroupLetters {
            group: group.to_owned(),
            dead_letters,
            not_resent: if lags.is_empty() { dead_letters } else { lags.iter().sum() },
            oldest: stats.queues.iter().filter_map(|queue| queue.oldest).min().map(units::format_time),
            newest: stats.queues.iter().filter_map(|queue| queue.newest).max().map(units::format_time),
        });
    }
    Ok(groups)
}

impl Report for DeadLetterList {
    fn text(&self) -> String {
        if self.0.is_empty() {
            return "no dead letters".to_owned();
        }
        let mut table = Table::new(["GROUP", "DEAD LETTERS", "NOT RESENT", "OLDEST", "NEWEST"]);
        for group in &self.0 {
            table.row([
                group.group.clone(),
                group.dead_letters.to_string(),
                group.not_resent.to_string(),
                group.oldest.clone().unwrap_or_default(),
                group.newest.clone().unwrap_or_default(),
            ]);
        }
        table.text()
    }
}

/// The result of `dlq resend`.
#[derive(Serialize)]
struct Resent {
    #[serde(skip)]
    json: bool,
    letters: Vec<LetterView>,
}

#[derive(Serialize)]
struct LetterView {
    id: String,
    queue: i32,
    offset: i64,
    topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

impl Resent {
    /// Resends up to `count` dead letters that were not resent yet.
    async fn resend_next(
        &mut self,
        admin: &mut RemoteAdmin,
        group: &str,
        count: usize,
    ) -> Result<(), AdminError> {
        let mut left = count;
        let mut unreached = Vec::new();
        while left > 0 {
            let page = admin.resend_dead_letters(group, ResendSelection::Next(left.min(PAGE))).await?;
            left = left.saturating_sub(page.letters.len());
            let none_sent = page.letters.iter().all(|letter| letter.failure.is_some());
            page.letters.into_iter().for_each(|letter| self.add(letter));
            unreached.extend(page.unreached);
            if let Some(failure) = page.failure {
                return Err(AdminError::EndedEarly(failure));
            }
            if page.finished || none_sent {
                break;
            }
        }
        // A later request may have resent some of them.
        unreached.retain(|id| self.letters.iter().all(|letter| letter.id != *id));
        unreached.dedup();
        unreached.truncate(left);
        self.resend_ids(admin, group, unreached).await
    }

    /// Resends the dead letters with these ids.
    async fn resend_ids(
        &mut self,
        admin: &mut RemoteAdmin,
        group: &str,
        ids: Vec<String>,
    ) -> Result<(), AdminError> {
        for id in ids {
            let mut from = None;
            loop {
                let selection = ResendSelection::Id { id: id.clone(), from };
                let page = admin.resend_dead_letters(group, selection).await?;
                page.letters.into_iter().for_each(|letter| self.add(letter));
                let Some(position) = page.searched_to else { break };
                print_note(&format!(
                    "searched for {} up to offset {} of queue {} of broker {}",
                    one_line(&id, 64),
                    position.offset,
                    position.queue,
                    position.broker
                ));
                from = Some(position);
            }
        }
        Ok(())
    }

    fn add(&mut self, letter: ResentLetter) {
        let ResentLetter { id, queue, offset, topic, failure } = letter;
        if !self.json {
            // Each result is printed immediately, because the command may be interrupted.
            let mut line = format!("{}  ", one_line(&id, 64));
            // Writing to a String can't fail.
            let _ = match &failure {
                None => write!(line, "resent to {topic}"),
                Some(failure) => write!(line, "not resent: {failure}"),
            };
            // A failure to print must not stop the command.
            let _ = print(&line);
        }
        self.letters.push(LetterView { id, queue, offset, topic, failure });
    }

    fn failed(&self) -> usize {
        self.letters.iter().filter(|letter| letter.failure.is_some()).count()
    }
}

impl Report for Resent {
    fn text(&self) -> String {
        match self.letters.len() - self.failed() {
            1 => "1 dead letter was resent".to_owned(),
            sent => format!("{sent} dead letters were resent"),
        }
    }
}
