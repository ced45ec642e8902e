//! The subcommands that administer a running proxy.

use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::args::{Command, GroupCommand, Named, TopicCommand};
use super::print;
use crate::config::{Catalog, GroupSpec, TopicSpec};
use crate::front::grpc::{RemoteAdmin, RemoteError};
use crate::service::{GroupConfig, TopicConfig};

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
    /// There is no such topic or group.
    #[error("{0} does not exist")]
    Missing(String),
    /// The topic or group can't be written as TOML.
    #[error(transparent)]
    Show(#[from] toml::ser::Error),
}

/// Runs one subcommand.
pub(super) async fn run(command: Command) -> Result<(), AdminError> {
    match command {
        Command::Topic(command) => topic(command).await,
        Command::Group(command) => group(command).await,
        Command::Apply { file, server } => {
            let Catalog { topics, groups } = read(&file)?;
            let topics = topics.into_iter().map(Into::into).collect();
            let groups = groups.into_iter().map(Into::into).collect();
            Ok(RemoteAdmin::connect(&server.address).await?.apply(topics, groups, true).await?)
        }
    }
}

async fn topic(command: TopicCommand) -> Result<(), AdminError> {
    match command {
        TopicCommand::Create { topic, server } => {
            let topic = TopicConfig::from(TopicSpec::from(topic));
            let name = topic.name.clone();
            RemoteAdmin::connect(&server.address).await?.apply(vec![topic], Vec::new(), false).await?;
            print(&format!("created topic {name}"));
        }
        TopicCommand::List(server) => {
            let topics = RemoteAdmin::connect(&server.address).await?.topics().await?;
            print(&topic_table(topics));
        }
        TopicCommand::Show(Named { name, server }) => {
            let topics = RemoteAdmin::connect(&server.address).await?.topics().await?;
            let found = topics.into_iter().find(|topic| topic.name == name);
            let topic = found.ok_or_else(|| AdminError::Missing(format!("topic {name}")))?;
            print(&toml::to_string(&Catalog { topics: vec![topic.into()], groups: Vec::new() })?);
        }
        TopicCommand::Delete(Named { name, server }) => {
            RemoteAdmin::connect(&server.address).await?.delete_topic(name.clone()).await?;
            print(&format!("deleted topic {name}"));
        }
    }
    Ok(())
}

async fn group(command: GroupCommand) -> Result<(), AdminError> {
    match command {
        GroupCommand::Create { group, server } => {
            let group = GroupConfig::from(GroupSpec::from(group));
            let name = group.name.clone();
            RemoteAdmin::connect(&server.address).await?.apply(Vec::new(), vec![group], false).await?;
            print(&format!("created group {name}"));
        }
        GroupCommand::List(server) => {
            let groups = RemoteAdmin::connect(&server.address).await?.groups().await?;
            print(&group_table(groups));
        }
        GroupCommand::Show(Named { name, server }) => {
            let groups = RemoteAdmin::connect(&server.address).await?.groups().await?;
            let found = groups.into_iter().find(|group| group.name == name);
            let group = found.ok_or_else(|| AdminError::Missing(format!("group {name}")))?;
            print(&toml::to_string(&Catalog { topics: Vec::new(), groups: vec![group.into()] })?);
        }
        GroupCommand::Delete(Named { name, server }) => {
            RemoteAdmin::connect(&server.address).await?.delete_group(name.clone()).await?;
            print(&format!("deleted group {name}"));
        }
    }
    Ok(())
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

fn topic_table(topics: Vec<TopicConfig>) -> String {
    let header = ["TOPIC", "TYPE", "READ QUEUES", "WRITE QUEUES", "PERM"].map(str::to_owned);
    let row = |topic: TopicConfig| {
        let (kind, perm) = (topic.kind, topic.permission);
        let perm = match (perm.read, perm.write) {
            (true, true) => "rw",
            (true, false) => "r",
            (false, true) => "w",
            (false, false) => "none",
        };
        let queues = [topic.read_queues.to_string(), topic.write_queues.to_string()];
        let [read, write] = queues;
        [topic.name, format!("{kind:?}").to_lowercase(), read, write, perm.to_owned()]
    };
    table(std::iter::once(header).chain(topics.into_iter().map(row)).collect())
}

fn group_table(groups: Vec<GroupConfig>) -> String {
    let header = ["GROUP", "FIFO", "CONSUME", "MAX RETRIES"].map(str::to_owned);
    let yes = |flag: bool| if flag { "yes" } else { "no" }.to_owned();
    let row =
        |group: GroupConfig| [group.name, yes(group.fifo), yes(group.consume), group.max_retries.to_string()];
    table(std::iter::once(header).chain(groups.into_iter().map(row)).collect())
}

fn table<const N: usize>(rows: Vec<[String; N]>) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![["A", "BB"].map(str::to_owned), ["long", "x"].map(str::to_owned)];
        assert_eq!(table(rows), "A     BB\nlong  x\n");
    }
}
