//! The subcommands for dead letters.

use std::fmt::Write;

use clap::{ArgGroup, Subcommand};
use serde::Serialize;

use super::admin::AdminError;
use super::commands::Server;
use super::messages::{Reader, Search, Start};
use super::output::{Report, Table, one_line, show};
use super::{note, print, times};
use crate::front::grpc::RemoteAdmin;
use crate::processor::{RESEND_GROUP, ResendSelection, ResentLetter};
use crate::service::names::{DEAD_LETTER_PREFIX, dead_letter_topic};

/// Letters of one call.
const PAGE: usize = 100;

#[derive(Subcommand)]
pub(super) enum DlqCommand {
    /// List the groups that have dead letters
    #[command(after_help = "\
Examples:
  rocketmq-thin-proxy dlq list
  rocketmq-thin-proxy dlq list billing --json")]
    List {
        /// Only this group
        group: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Show the oldest or newest dead letters of a group
    #[command(after_help = "\
`message show %DLQ%GROUP --id ID` shows one of them with its properties and body.

Examples:
  rocketmq-thin-proxy dlq peek billing
  rocketmq-thin-proxy dlq peek billing --newest --count 3")]
    Peek {
        /// The group
        group: String,
        /// The newest letters instead of the oldest
        #[arg(long)]
        newest: bool,
        /// The number of letters
        #[arg(long, value_name = "N", default_value_t = 10)]
        count: usize,
        #[command(flatten)]
        server: Server,
    },
    /// Search the dead letters of a group by id, key, or the time at which they became dead letters
    #[command(after_help = "\
A time is 2026-11-29T10:00:00Z, milliseconds since 1970, or how long ago it was, such as 15m or 2h.

Examples:
  rocketmq-thin-proxy dlq find billing --key customer-17
  rocketmq-thin-proxy dlq find billing --from 2h --count 100")]
    Find {
        /// The group
        group: String,
        #[command(flatten)]
        wanted: Search,
        #[command(flatten)]
        server: Server,
    },
    /// Send dead letters again to the topics in which they failed
    #[command(after_help = "\
Every group of such a topic gets them, not only the one that failed. The progress of the group `dlq-resend` records
what was sent, so an interrupted command can be repeated: a letter is sent twice at most, and none is lost. The dead
letters stay readable until their retention has passed.

Examples:
  rocketmq-thin-proxy dlq resend billing --id 01A2B3C4D5
  rocketmq-thin-proxy dlq resend billing --all
  rocketmq-thin-proxy dlq resend billing --all --count 10
      Send the next ten, to see whether they succeed.")]
    #[command(group = ArgGroup::new("letters").args(["id", "all"]).required(true))]
    Resend {
        /// The group
        group: String,
        /// The letter with this id, even if it was sent again before; may be repeated
        #[arg(long, value_name = "ID")]
        id: Vec<String>,
        /// All letters that have not been sent again yet
        #[arg(long, conflicts_with = "id")]
        all: bool,
        /// The most letters to send
        #[arg(long, value_name = "N", requires = "all")]
        count: Option<usize>,
        #[command(flatten)]
        server: Server,
    },
}

/// Runs one command.
pub(super) async fn run(command: DlqCommand) -> Result<(), AdminError> {
    match command {
        DlqCommand::List { group, server } => {
            let mut admin = server.connect().await?;
            Ok(show(&DeadLetterList(list(&mut admin, group).await?), server.json)?)
        }
        DlqCommand::Peek { group, newest, count, server } => {
            let mut reader = reader(&group, &server).await?;
            let start = if newest { Start::Newest } else { Start::Oldest };
            Ok(show(&reader.peek(start, count).await?, server.json)?)
        }
        DlqCommand::Find { group, wanted, server } => {
            let mut reader = reader(&group, &server).await?;
            Ok(show(&reader.find(&wanted).await?, server.json)?)
        }
        DlqCommand::Resend { group, id, all: _, count, server } => {
            let mut admin = server.connect().await?;
            let mut resent = Resent { json: server.json, letters: Vec::new() };
            let done = match id.is_empty() {
                true => resent.next(&mut admin, &group, count.unwrap_or(usize::MAX)).await,
                false => resent.each(&mut admin, &group, id).await,
            };
            // Even if it fails, some letters may have been sent.
            show(&resent, server.json)?;
            done?;
            match resent.failed() {
                0 => Ok(()),
                failed => Err(AdminError::NotSent(failed)),
            }
        }
    }
}

async fn reader(group: &str, server: &Server) -> Result<Reader, AdminError> {
    let admin = server.connect().await?;
    match Reader::new(admin, dead_letter_topic(group), None).await {
        Err(AdminError::Remote(error)) if error.is_not_found() => {
            Err(AdminError::NoDeadLetters(group.to_owned()))
        }
        opened => opened,
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct DeadLetterList(Vec<GroupView>);

#[derive(Serialize)]
struct GroupView {
    group: String,
    dead_letters: i64,
    /// Those that `resend --all` would send.
    not_resent: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<String>,
}

async fn list(admin: &mut RemoteAdmin, wanted: Option<String>) -> Result<Vec<GroupView>, AdminError> {
    let mut groups = Vec::new();
    // Before the first letter is sent again, the group does not exist.
    let resent = admin.group_stats(RESEND_GROUP, None).await.unwrap_or_default().topics;
    for topic in admin.topics().await? {
        let Some(group) = topic.name.strip_prefix(DEAD_LETTER_PREFIX) else { continue };
        if wanted.as_deref().is_some_and(|wanted| wanted != group) {
            continue;
        }
        let stats = admin.topic_stats(&topic.name, None).await?;
        let dead_letters = stats.queues.iter().map(|queue| queue.next - queue.first).sum();
        // Apache's brokers have retry topics, whose names end with that of the topic.
        let of_topic = resent.iter().filter(|resent| resent.topic.ends_with(&topic.name));
        let lags: Vec<_> = of_topic.flat_map(|resent| &resent.queues).map(|queue| queue.lag).collect();
        groups.push(GroupView {
            group: group.to_owned(),
            dead_letters,
            not_resent: if lags.is_empty() { dead_letters } else { lags.iter().sum() },
            oldest: stats.queues.iter().filter_map(|queue| queue.oldest).min().map(times::at),
            newest: stats.queues.iter().filter_map(|queue| queue.newest).max().map(times::at),
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

/// What was sent again.
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
    async fn next(&mut self, admin: &mut RemoteAdmin, group: &str, count: usize) -> Result<(), AdminError> {
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
        // Those that a later call has reached were given back in time.
        unreached.retain(|id| self.letters.iter().all(|letter| letter.id != *id));
        unreached.dedup();
        unreached.truncate(left);
        self.each(admin, group, unreached).await
    }

    async fn each(
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
                note(&format!(
                    "searched for {} up to offset {} of queue {} of {}",
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
            // Printed at once, because the command may be interrupted.
            let mut line = format!("{}  ", one_line(&id, 64));
            // Writing to a String can't fail.
            let _ = match &failure {
                None => write!(line, "sent to {topic}"),
                Some(failure) => write!(line, "not sent: {failure}"),
            };
            // What can't be printed must not stop the others.
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
            1 => "1 dead letter was sent again".to_owned(),
            sent => format!("{sent} dead letters were sent again"),
        }
    }
}
