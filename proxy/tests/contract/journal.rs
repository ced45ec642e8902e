//! The embedded backend: opening a journal after an interrupted write or with damaged data.

use std::fs;

use rocketmq_thin_proxy::backend::embedded::{Embedded, EmbeddedConfig, OpenError, open};
use rocketmq_thin_proxy::service::Message;

use crate::client::{Client, LONG, plain, sorted_ids};

fn in_directory(directory: &tempfile::TempDir) -> EmbeddedConfig {
    EmbeddedConfig { data_dir: directory.path().to_owned(), ..EmbeddedConfig::default() }
}

/// Stores three messages, each in a batch of its own. Returns the journal with them, and its size without the zeros at
/// the end.
async fn three_messages(directory: &tempfile::TempDir) -> (std::path::PathBuf, usize) {
    let broker = open(in_directory(directory)).await.expect("a fresh directory opens");
    for id in ["a", "b", "c"] {
        let message = Message { body: vec![7; 20_000].into(), ..plain(id) };
        client(&broker).send(vec![message]).await;
    }
    broker.close().await;
    let journal = directory.path().join("log").join("0.jnl");
    let bytes = fs::read(&journal).expect("readable");
    let size = bytes.iter().rposition(|byte| *byte != 0).expect("written") + 1;
    (journal, size)
}

fn client(broker: &Embedded) -> Client {
    Client { services: broker.services(), topic: "topic".to_owned(), group: "group".to_owned() }
}

#[tokio::test]
async fn an_interrupted_last_write_is_dropped() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (journal, size) = three_messages(&directory).await;
    let mut bytes = fs::read(&journal).expect("readable");
    bytes[size - 10_000..size - 4_000].fill(0);
    fs::write(&journal, bytes).expect("writable");
    let broker = open(in_directory(&directory)).await.expect("it is repaired");
    let client = client(&broker);
    assert_eq!(sorted_ids(&client.receive_all(2).await), ["a", "b"]);
    client.send_ids(["d"]).await;
    assert_eq!(client.next(LONG).await.message.id, "d");
}

#[tokio::test]
async fn damaged_messages_are_refused_with_advice() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (journal, size) = three_messages(&directory).await;
    let mut bytes = fs::read(&journal).expect("readable");
    bytes[size - 30_000..size - 25_000].fill(0);
    fs::write(&journal, &bytes).expect("writable");
    let error = open(in_directory(&directory)).await.err().expect("acknowledged messages are damaged");
    assert!(matches!(error, OpenError::DamagedJournal { .. }), "{error}");
    assert!(error.to_string().contains("truncate --size="), "{error}");
    assert!(bytes == fs::read(&journal).expect("readable"), "the journal was changed");
}
