//! The subcommands that administer a running proxy.

use std::io::Read;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::catalog_reports::{Applied, GroupList, TopicList};
use super::commands::{ClientCommand, Command, GroupCommand, Named, Server, StoreCommand, TopicCommand};
use super::dead_letters;
use super::messages;
use super::output::{Done, show};
use super::stat_reports::{GroupReport, ResetReport, TopicReport};
use super::store_reports::{ClientReport, StoreReport};
use crate::config::{Catalog, GroupSpec, TopicSpec};
use crate::front::grpc::{RemoteAdmin, RemoteError};
use crate::processor::ClientFilter;
use crate::service::{GroupConfig, ResetGroup, TopicConfig};

/// Why a subcommand failed.
#[derive(Debug, Error)]
pub(super) enum AdminError {
    /// The proxy can't be reached, or refuses.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The file can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not a valid declaration.
    #[error("{}: {reason}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The position and the cause.
        reason: String,
    },
    /// What the command names does not exist.
    #[error("{0} does not exist")]
    Missing(String),
    /// The arguments don't fit what is there; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// The group has no dead letters.
    #[error("group {0} has no dead letters")]
    NoDeadLetters(String),
    /// Dead letters were not sent.
    #[error("{0} dead letters could not be sent; the command can be repeated after a minute")]
    NotSent(usize),
    /// The answer can't be printed.
    #[error("cannot print the answer: {0}")]
    Print(#[from] std::io::Error),
}

/// Runs one subcommand.
pub(super) async fn run(command: Command) -> Result<(), AdminError> {
    match command {
        Command::Topic(command) => topic(command).await,
        Command::Group(command) => group(command).await,
        Command::Message(command) => messages::run(command).await,
        Command::Dlq(command) => dead_letters::run(command).await,
        Command::LogLevel { level, server } => {
            connect(&server).await?.change_log_level(level).await?;
            done("set", "log level", level.name().to_owned(), &server)
        }
        Command::Client(ClientCommand::List { group, topic, server }) => {
            let (clients, truncated) = connect(&server).await?.clients(ClientFilter { group, topic }).await?;
            Ok(show(&ClientReport::new(clients, truncated), server.json)?)
        }
        Command::Store(StoreCommand::Stats(server)) => {
            let stats = connect(&server).await?.store_stats().await?;
            Ok(show(&StoreReport::from(stats), server.json)?)
        }
        // Checked before: it needs no proxy.
        Command::Store(StoreCommand::Check(_)) => Ok(()),
        Command::Apply { file, server } => {
            let Catalog { topics, groups } = read(&file)?;
            let applied = Applied { topics: topics.len(), groups: groups.len() };
            let topics = topics.into_iter().map(Into::into).collect();
            let groups = groups.into_iter().map(Into::into).collect();
            connect(&server).await?.apply(topics, groups, true).await?;
            Ok(show(&applied, server.json)?)
        }
    }
}

async fn connect(server: &Server) -> Result<RemoteAdmin, RemoteError> {
    RemoteAdmin::connect(&server.address).await
}

async fn known_topic(admin: &mut RemoteAdmin, name: &str) -> Result<TopicConfig, AdminError> {
    let found = admin.topics().await?.into_iter().find(|topic| topic.name == name);
    found.ok_or_else(|| AdminError::Missing(format!("topic {name}")))
}

async fn known_group(admin: &mut RemoteAdmin, name: &str) -> Result<GroupConfig, AdminError> {
    let found = admin.groups().await?.into_iter().find(|group| group.name == name);
    found.ok_or_else(|| AdminError::Missing(format!("group {name}")))
}

async fn topic(command: TopicCommand) -> Result<(), AdminError> {
    match command {
        TopicCommand::Create { topic: Named { name, server }, settings } => {
            let mut topic = TopicSpec { name: name.clone(), ..TopicSpec::default() };
            settings.apply_to(&mut topic);
            connect(&server).await?.apply(vec![topic.into()], Vec::new(), false).await?;
            done("created", "topic", name, &server)
        }
        TopicCommand::Update { topic: Named { name, server }, settings } => {
            let mut admin = connect(&server).await?;
            let mut topic = TopicSpec::from(known_topic(&mut admin, &name).await?);
            settings.apply_to(&mut topic);
            admin.apply(vec![topic.into()], Vec::new(), true).await?;
            done("updated", "topic", name, &server)
        }
        TopicCommand::List(server) => {
            let topics = connect(&server).await?.topics().await?;
            Ok(show(&TopicList(topics.into_iter().map(Into::into).collect()), server.json)?)
        }
        TopicCommand::Show(Named { name, server }) => {
            let topic = known_topic(&mut connect(&server).await?, &name).await?;
            Ok(show(&Catalog { topics: vec![topic.into()], groups: Vec::new() }, server.json)?)
        }
        TopicCommand::Stats(Named { name, server }) => {
            let stats = connect(&server).await?.topic_stats(&name).await?;
            Ok(show(&TopicReport::new(name, stats), server.json)?)
        }
        TopicCommand::Delete(Named { name, server }) => {
            connect(&server).await?.delete_topic(name.clone()).await?;
            done("deleted", "topic", name, &server)
        }
    }
}

async fn group(command: GroupCommand) -> Result<(), AdminError> {
    match command {
        GroupCommand::Create { group: Named { name, server }, settings } => {
            let mut group = GroupSpec::named(&name);
            settings.apply_to(&mut group);
            connect(&server).await?.apply(Vec::new(), vec![group.into()], false).await?;
            done("created", "group", name, &server)
        }
        GroupCommand::Update { group: Named { name, server }, settings } => {
            let mut admin = connect(&server).await?;
            let mut group = GroupSpec::from(known_group(&mut admin, &name).await?);
            settings.apply_to(&mut group);
            admin.apply(Vec::new(), vec![group.into()], true).await?;
            done("updated", "group", name, &server)
        }
        GroupCommand::Reset { group, topic, target, server } => {
            let reset = ResetGroup { group: group.clone(), topic: topic.clone(), target: target.into() };
            let queues = connect(&server).await?.reset_group(reset).await?;
            Ok(show(&ResetReport::new(group, topic, queues), server.json)?)
        }
        GroupCommand::List(server) => {
            let groups = connect(&server).await?.groups().await?;
            Ok(show(&GroupList(groups.into_iter().map(Into::into).collect()), server.json)?)
        }
        GroupCommand::Show(Named { name, server }) => {
            let group = known_group(&mut connect(&server).await?, &name).await?;
            Ok(show(&Catalog { topics: Vec::new(), groups: vec![group.into()] }, server.json)?)
        }
        GroupCommand::Stats { group: Named { name, server }, topic, queues } => {
            let stats = connect(&server).await?.group_stats(&name, topic).await?;
            Ok(show(&GroupReport::new(name, stats, queues), server.json)?)
        }
        GroupCommand::Delete(Named { name, server }) => {
            connect(&server).await?.delete_group(name.clone()).await?;
            done("deleted", "group", name, &server)
        }
    }
}

fn done(done: &'static str, kind: &'static str, name: String, server: &Server) -> Result<(), AdminError> {
    Ok(show(&Done { done, kind, name }, server.json)?)
}

fn read(file: &Path) -> Result<Catalog, AdminError> {
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
