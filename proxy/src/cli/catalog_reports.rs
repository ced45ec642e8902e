//! The output of commands that list and show topics and groups.

use serde::Serialize;

use super::output::{Report, Table};
use crate::config::{Catalog, GroupSpec, Perm, TopicSpec};

/// All topics.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct TopicList(pub(super) Vec<TopicSpec>);

/// All groups.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct GroupList(pub(super) Vec<GroupSpec>);

/// How many topics and groups `apply` has created or changed.
#[derive(Serialize)]
pub(super) struct Applied {
    pub(super) topics: usize,
    pub(super) groups: usize,
}

impl Report for Applied {
    fn text(&self) -> String {
        let count = |number, what| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        format!("applied {} and {}", count(self.topics, "topic"), count(self.groups, "group"))
    }
}

impl Report for TopicList {
    fn text(&self) -> String {
        let mut table = Table::new(["TOPIC", "TYPE", "READ QUEUES", "WRITE QUEUES", "PERM"]);
        for topic in &self.0 {
            let queues = |count: Option<i32>| count.unwrap_or_default().to_string();
            table.row([
                topic.name.clone(),
                format!("{:?}", topic.kind).to_lowercase(),
                queues(topic.read_queues),
                queues(topic.write_queues),
                perm(topic.perm).to_owned(),
            ]);
        }
        table.text()
    }
}

fn perm(perm: Perm) -> &'static str {
    match perm {
        Perm::Rw => "rw",
        Perm::R => "r",
        Perm::W => "w",
        Perm::None => "none",
    }
}

impl Report for GroupList {
    fn text(&self) -> String {
        let yes = |flag: bool| if flag { "yes" } else { "no" }.to_owned();
        let mut table = Table::new(["GROUP", "FIFO", "CONSUME", "MAX RETRIES"]);
        for group in &self.0 {
            table.row([
                group.name.clone(),
                yes(group.fifo),
                yes(group.consume),
                group.max_retries.to_string(),
            ]);
        }
        table.text()
    }
}

impl Report for Catalog {
    /// In the format that `apply` reads.
    fn text(&self) -> String {
        toml::to_string(self).expect("names, numbers and durations can be written as TOML")
    }
}
