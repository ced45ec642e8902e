//! The subcommands that administer a running proxy.

use std::io::Read;
use std::path::Path;

use super::admin_error::AdminError;
use super::catalog_reports::{Applied, GroupList, TopicList};
use super::commands::{ClientCommand, Command, GroupCommand, StoreCommand, TopicCommand};
use super::dead_letters;
use super::messages;
use super::output::{ActionReport, show};
use super::quotas;
use super::server_args::{NameArgs, ServerArgs};
use super::stat_reports::{GroupReport, ResetReport, TopicReport};
use super::store_reports::{ClientReport, StoreReport};
use super::summary_reports::{GroupSummaries, TopicSummaries};
use crate::config::Catalog;
use crate::front::grpc::{RemoteAdmin, RemoteError};
use crate::processor::{ClientFilter, Page};
use crate::service::{GroupConfig, LiteTopicPage, ResetGroup, TopicConfig};

/// Runs a subcommand.
pub(super) async fn run(command: Command) -> Result<(), AdminError> {
    match command {
        Command::Topic(command) => topic(command).await,
        Command::Group(command) => group(command).await,
        Command::Message(command) => messages::run(command).await,
        Command::Dlq(command) => dead_letters::run(command).await,
        Command::Quota(command) => quotas::run(command).await,
        Command::LogLevel { level, server } => {
            server.connect().await?.change_log_level(level).await?;
            report_done("set", "log level", level.name().to_owned(), &server)
        }
        Command::Client(ClientCommand::List { group, topic, server }) => {
            let list = server.connect().await?.clients(ClientFilter { group, topic }).await?;
            Ok(show(&ClientReport::new(list), server.json)?)
        }
        Command::Store(StoreCommand::Stats(server)) => {
            let stats = server.connect().await?.store_stats().await?;
            Ok(show(&StoreReport::from(stats), server.json)?)
        }
        // Handled earlier: these commands work without a proxy, or can.
        Command::Store(StoreCommand::Check(_) | StoreCommand::Copy(_))
        | Command::User(_)
        | Command::Acl(_) => Ok(()),
        Command::Apply { file, server } => {
            let Catalog { topics, groups } = read_catalog(&file)?;
            let applied = Applied { topics: topics.len(), groups: groups.len() };
            let topics = topics.into_iter().map(Into::into).collect();
            let groups = groups.into_iter().map(Into::into).collect();
            server.connect().await?.apply(topics, groups, true).await?;
            Ok(show(&applied, server.json)?)
        }
    }
}

async fn find_topic(admin: &mut RemoteAdmin, name: &str) -> Result<TopicConfig, AdminError> {
    let found = admin.topics().await?.into_iter().find(|topic| topic.name == name);
    found.ok_or_else(|| AdminError::Missing(format!("topic {name}")))
}

async fn find_group(admin: &mut RemoteAdmin, name: &str) -> Result<GroupConfig, AdminError> {
    let found = admin.groups().await?.into_iter().find(|group| group.name == name);
    found.ok_or_else(|| AdminError::Missing(format!("group {name}")))
}

async fn topic(command: TopicCommand) -> Result<(), AdminError> {
    match command {
        TopicCommand::Create { topic: NameArgs { name, server }, settings } => {
            let topic = settings.update(name.clone()).values;
            server.connect().await?.apply(vec![topic], Vec::new(), false).await?;
            report_done("created", "topic", name, &server)
        }
        TopicCommand::Update { topic: NameArgs { name, server }, settings } => {
            server.connect().await?.update_topic(settings.update(name.clone())).await?;
            report_done("updated", "topic", name, &server)
        }
        TopicCommand::List(server) => {
            let topics = server.connect().await?.topics().await?;
            Ok(show(&TopicList(topics.into_iter().map(Into::into).collect()), server.json)?)
        }
        TopicCommand::Show(NameArgs { name, server }) => {
            let topic = find_topic(&mut server.connect().await?, &name).await?;
            Ok(show(&Catalog { topics: vec![topic.into()], groups: Vec::new() }, server.json)?)
        }
        TopicCommand::Stats { name: None, limit, server, .. } => {
            let mut admin = server.connect().await?;
            let (lines, more) = fetch_pages(limit, async |after| admin.topic_summaries(after).await).await?;
            Ok(show(&TopicSummaries::new(lines, more), server.json)?)
        }
        TopicCommand::Stats { name: Some(name), lite_topic, lite_count, lite_after, server, .. } => {
            let mut admin = server.connect().await?;
            let stats = admin.topic_stats(&name, lite_topic.clone()).await?;
            let mut report = TopicReport::new(name.clone(), lite_topic, stats);
            if report.has_lite_topics() {
                report.add_lite_topics(fetch_lite_topics(&mut admin, &name, lite_after, lite_count).await?);
            }
            Ok(show(&report, server.json)?)
        }
        TopicCommand::Delete(NameArgs { name, server }) => {
            server.connect().await?.delete_topic(name.clone()).await?;
            report_done("deleted", "topic", name, &server)
        }
    }
}

async fn group(command: GroupCommand) -> Result<(), AdminError> {
    match command {
        GroupCommand::Create { group: NameArgs { name, server }, settings } => {
            let update = settings.update(name.clone());
            let group = update.apply_to(&GroupConfig::named(&name));
            server.connect().await?.apply(Vec::new(), vec![group], false).await?;
            report_done("created", "group", name, &server)
        }
        GroupCommand::Update { group: NameArgs { name, server }, settings } => {
            server.connect().await?.update_group(settings.update(name.clone())).await?;
            report_done("updated", "group", name, &server)
        }
        GroupCommand::Reset { group, topic, position, server } => {
            let reset = ResetGroup { group: group.clone(), topic: topic.clone(), target: position.into() };
            let queues = server.connect().await?.reset_group(reset).await?;
            Ok(show(&ResetReport::new(group, topic, queues), server.json)?)
        }
        GroupCommand::List(server) => {
            let groups = server.connect().await?.groups().await?;
            Ok(show(&GroupList(groups.into_iter().map(Into::into).collect()), server.json)?)
        }
        GroupCommand::Show(NameArgs { name, server }) => {
            let group = find_group(&mut server.connect().await?, &name).await?;
            Ok(show(&Catalog { topics: Vec::new(), groups: vec![group.into()] }, server.json)?)
        }
        GroupCommand::Stats { name: None, limit, server, .. } => {
            let mut admin = server.connect().await?;
            let (lines, more) = fetch_pages(limit, async |after| admin.group_summaries(after).await).await?;
            Ok(show(&GroupSummaries::new(lines, more), server.json)?)
        }
        GroupCommand::Stats { name: Some(name), topic, queues, server, .. } => {
            let stats = server.connect().await?.group_stats(&name, topic).await?;
            Ok(show(&GroupReport::new(name, stats, queues), server.json)?)
        }
        GroupCommand::Delete(NameArgs { name, server }) => {
            server.connect().await?.delete_group(name.clone()).await?;
            report_done("deleted", "group", name, &server)
        }
    }
}

/// Fetches pages until `limit` lines are there. Returns the lines, and whether there are more.
async fn fetch_pages<T>(
    limit: usize,
    mut fetch: impl AsyncFnMut(Option<String>) -> Result<Page<T>, RemoteError>,
) -> Result<(Vec<T>, bool), AdminError> {
    let (mut lines, mut after) = (Vec::new(), None);
    loop {
        let answer = fetch(after).await?;
        lines.extend(answer.lines);
        let is_full = lines.len() > limit || (lines.len() == limit && answer.next.is_some());
        lines.truncate(limit);
        if is_full || answer.next.is_none() {
            return Ok((lines, is_full));
        }
        after = answer.next;
    }
}

/// Fetches up to `count` lite topics, those after the name `after` if it is given.
async fn fetch_lite_topics(
    admin: &mut RemoteAdmin,
    topic: &str,
    mut after: Option<String>,
    count: usize,
) -> Result<LiteTopicPage, AdminError> {
    let mut found = LiteTopicPage::default();
    while found.lite_topics.len() < count && !found.finished {
        let max = i32::try_from(count - found.lite_topics.len()).unwrap_or(i32::MAX);
        let page = admin.lite_topics(topic, after, max).await?;
        found.finished = page.finished;
        found.lite_topics.extend(page.lite_topics);
        after = found.lite_topics.last().map(|last| last.name.clone());
    }
    Ok(found)
}

fn report_done(
    done: &'static str,
    kind: &'static str,
    name: String,
    server: &ServerArgs,
) -> Result<(), AdminError> {
    Ok(show(&ActionReport { done, kind, name }, server.json)?)
}

/// Reads topics and groups from a TOML or JSON file, or from standard input for `-`.
fn read_catalog(file: &Path) -> Result<Catalog, AdminError> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|source| AdminError::Read { path: file.to_owned(), source })?;
    let parsed = if text.trim_start().starts_with('{') {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    } else {
        toml::from_str(&text).map_err(|error| error.to_string())
    };
    parsed.map_err(|reason| AdminError::Parse { path: file.to_owned(), reason })
}
