//! Apache's Java client with every message type, through a proxy.

use std::path::Path;

use anyhow::Result;
use tokio::process::Command;

use crate::{client, client::Client, succeed};

/// The checks of the program.
pub(crate) const CHECKS: &[&str] = &[
    "fifo",
    "recall",
    "delay",
    "orphan_check",
    "transaction",
    "late_decision",
    "priority",
    "filter",
    "lite",
];

/// The topics by type. A topic's name is that of the run followed by the type.
const TOPICS: &[(&str, &str)] = &[
    ("fifo", "fifo"),
    ("delay", "delay"),
    ("transaction", "transaction"),
    ("decision", "transaction"),
    ("priority", "priority"),
    ("filter", "normal"),
    ("lite", "lite"),
];

/// The program, ready to run under this name in reports.
pub(crate) async fn prepare(cache: &Path, name: &str) -> Result<Client> {
    client::java_program(cache, "java/Kinds.java", name).await
}

/// Creates the topics and groups of the program through our proxy at this address.
pub(crate) async fn make_topics(proxy: &Path, server: &str, name: &str) -> Result<()> {
    for (kind, word) in TOPICS {
        create(proxy, server, &["topic", "create", &format!("{name}-{kind}"), "--type", word]).await?;
    }
    let (fifo, lite) = (format!("{name}-fifo"), format!("{name}-lite"));
    create(proxy, server, &["group", "create", &fifo, "--fifo"]).await?;
    create(proxy, server, &["group", "create", &lite, "--lite-bind-topic", &lite]).await
}

pub(crate) async fn create(proxy: &Path, server: &str, arguments: &[&str]) -> Result<()> {
    succeed(Command::new(proxy).args(arguments).args(["--server", server])).await
}
