//! Helpers for unit tests of a broker with one topic and one group.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::broker::Broker;
use super::config::EmbeddedConfig;
use super::directory::OpenError;
use crate::service::{Delivered, Delivery, Filter, Message, Receive};

/// Opens a broker without background tasks, after an earlier one has released the directory.
pub(super) async fn open(config: EmbeddedConfig) -> Broker {
    loop {
        match Broker::open(config.clone()) {
            Err(OpenError::InUse(_)) => tokio::task::yield_now().await,
            opened => return opened.expect("the directory opens"),
        }
    }
}

/// Changes one byte in the only file of a folder of the database `log`. `find` returns its position.
pub(super) fn flip(directory: &Path, folder: &str, find: impl FnOnce(&[u8]) -> usize) {
    flip_in(directory, "log", folder, find);
}

/// As [`flip`], in the database of this name.
pub(super) fn flip_in(directory: &Path, database: &str, folder: &str, find: impl FnOnce(&[u8]) -> usize) {
    let folder = directory.join(database).join("keyspaces/1").join(folder);
    let file = fs::read_dir(folder).expect("a folder").next().expect("a file").expect("readable").path();
    let mut bytes = fs::read(&file).expect("readable");
    let at = find(&bytes);
    bytes[at] ^= 1;
    fs::write(file, bytes).expect("writable");
}

/// The configuration of a broker with one queue that reads all messages from the disk.
pub(super) fn uncached(directory: &TempDir) -> EmbeddedConfig {
    EmbeddedConfig {
        data_dir: directory.path().to_owned(),
        default_queues: 1,
        cache_bytes: 0,
        ..EmbeddedConfig::default()
    }
}

/// Sends messages with these ids together.
pub(super) async fn send<'a>(broker: &Broker, ids: impl IntoIterator<Item = &'a str>) {
    let message = |id: &str| Message { id: id.to_owned(), ..Message::default() };
    let messages = ids.into_iter().map(message).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    broker.store_messages("topic", messages, deadline).await.expect("a send");
}

/// Receives messages under a long lease. Returns their ids.
pub(super) async fn receive(broker: &Broker, max: usize) -> Vec<String> {
    deliveries(broker, max).await.into_iter().map(|delivery| delivery.message.id).collect()
}

/// A request to receive up to `max` messages under a long lease.
pub(super) fn request(max: usize) -> Receive {
    Receive {
        topic: "topic".to_owned(),
        group: "group".to_owned(),
        broker: None,
        filter: Filter::All,
        max,
        invisible: Duration::from_secs(600),
        deadline: Instant::now() + Duration::from_secs(30),
        fifo: false,
        attempt_id: None,
        lite_client: None,
    }
}

/// Receives messages under a long lease.
pub(super) async fn deliveries(broker: &Broker, max: usize) -> Vec<Delivery> {
    deliver(broker, request(max)).await
}

/// Receives messages, and panics if there are none.
pub(super) async fn deliver(broker: &Broker, request: Receive) -> Vec<Delivery> {
    match broker.receive_messages(request).await.expect("a receive") {
        Delivered::Messages(deliveries) => deliveries,
        other => panic!("{other:?}"),
    }
}
