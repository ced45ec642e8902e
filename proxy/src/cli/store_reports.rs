//! The output of `store stats` and `client list`.

use std::fmt::Write;

use serde::Serialize;

use super::output::{Report, Table, one_line};
use super::stat_reports::BytesView;
use super::units;
use crate::processor::{ClientList, ConnectedClient};
use crate::service::StoreStats;

/// The topics that the text output shows. JSON has all.
const SHOWN_TOPICS: usize = 20;

/// The result of `store stats`.
#[derive(Serialize)]
pub(super) struct StoreReport {
    directory: String,
    healthy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    free_bytes: u64,
    total_bytes: u64,
    usage: Vec<UsageView>,
    topics: Vec<TopicView>,
    truncated: bool,
}

#[derive(Serialize)]
struct UsageView {
    kind: String,
    bytes: u64,
}

#[derive(Serialize)]
struct TopicView {
    topic: String,
    messages: i64,
    bytes: BytesView,
}

impl From<StoreStats> for StoreReport {
    fn from(stats: StoreStats) -> Self {
        let topics = stats.topics.into_iter().map(|topic| TopicView {
            topic: topic.name,
            messages: topic.messages,
            bytes: topic.bytes.into(),
        });
        Self {
            directory: stats.directory,
            healthy: stats.disk.failure.is_none(),
            failure: stats.disk.failure,
            free_bytes: stats.disk.free_bytes,
            total_bytes: stats.disk.total_bytes,
            usage: stats.disk.usage.into_iter().map(|(kind, bytes)| UsageView { kind, bytes }).collect(),
            topics: topics.collect(),
            truncated: stats.truncated,
        }
    }
}

impl Report for StoreReport {
    fn text(&self) -> String {
        let mut text = format!("{}: ", self.directory);
        // Writing to a String can't fail.
        let _ = match &self.failure {
            None => writeln!(text, "healthy"),
            Some(failure) => writeln!(text, "sends are refused: {failure}"),
        };
        let (free, total) = (units::format_bytes(self.free_bytes), units::format_bytes(self.total_bytes));
        let _ = writeln!(text, "{free} of {total} are free on its file system\n");
        let mut table = Table::new(["KIND", "ON DISK"]);
        for usage in &self.usage {
            table.row([usage.kind.clone(), units::format_bytes(usage.bytes)]);
        }
        let all = self.usage.iter().map(|usage| usage.bytes).sum();
        table.row(["all".to_owned(), units::format_bytes(all)]);
        text.push_str(&table.text());
        if !self.topics.is_empty() {
            let mut table = Table::new(["TOPIC", "MESSAGES", "BYTES"]);
            for topic in self.topics.iter().take(SHOWN_TOPICS) {
                table.row([topic.topic.clone(), topic.messages.to_string(), topic.bytes.text()]);
            }
            let _ = write!(text, "\n{}", table.text());
        }
        if self.truncated {
            text.push_str("There are more topics than the proxy reports.\n");
        } else if self.topics.len() > SHOWN_TOPICS {
            let _ = writeln!(
                text,
                "{} smaller topics are left out; --json shows all",
                self.topics.len() - SHOWN_TOPICS
            );
        }
        text
    }
}

/// The result of `client list`.
#[derive(Serialize)]
pub(super) struct ClientReport {
    clients: Vec<ClientView>,
    truncated: bool,
}

#[derive(Serialize)]
struct ClientView {
    id: String,
    address: String,
    language: String,
    version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    role: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    topics: Vec<String>,
    since: String,
    connected: bool,
}

impl ClientReport {
    pub(super) fn new(list: ClientList) -> Self {
        let view = |client: ConnectedClient| ClientView {
            id: client.id,
            address: client.address,
            language: client.language,
            version: client.version,
            namespace: client.namespace,
            role: client.kind.to_lowercase().replace('_', " "),
            group: client.group,
            topics: client.topics,
            since: units::format_time(client.since),
            connected: client.connected,
        };
        Self { clients: list.clients.into_iter().map(view).collect(), truncated: list.truncated }
    }
}

impl Report for ClientReport {
    fn text(&self) -> String {
        if self.clients.is_empty() {
            return "no clients".to_owned();
        }
        let mut table =
            Table::new(["CLIENT", "ADDRESS", "LANGUAGE", "ROLE", "GROUP", "TOPICS", "SINCE", "CONNECTED"]);
        for client in &self.clients {
            table.row([
                one_line(&client.id, 80),
                client.address.clone(),
                one_line(&format!("{} {}", client.language, client.version), 30).trim().to_owned(),
                client.role.clone(),
                one_line(&client.group, 120),
                one_line(&client.topics.join(" "), 60),
                client.since.clone(),
                if client.connected { "yes" } else { "no" }.to_owned(),
            ]);
        }
        let mut text = table.text();
        if self.truncated {
            text.push_str(
                "There are more clients than are shown. Use --group or --topic to list some of them.\n",
            );
        }
        text
    }
}
