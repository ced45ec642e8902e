//! What an operator does with a data directory that no proxy uses.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tokio::process::Command;

use crate::admin::text;
use crate::inspect::send_keyed;
use crate::support::{Proxy, receive, receive_request, system};

/// Runs `store` with these arguments.
async fn store(arguments: &[&str], directories: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rocketmq-thin-proxy"));
    command.arg("store").args(arguments).args(directories);
    command.output().await.expect("the binary")
}

/// Waits until the proxy that was stopped has left the directory.
async fn checked(directory: &Path) -> Output {
    loop {
        let output = store(&["check", "--json"], &[directory]).await;
        if output.status.code() != Some(1) || !text(&output.stderr).contains("in use by a proxy") {
            return output;
        }
    }
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn journal(directory: &Path) -> PathBuf {
    let files = std::fs::read_dir(directory.join("log")).expect("a folder");
    let mut files = files.map(|file| file.expect("readable").path());
    files.find(|file| file.extension().is_some_and(|extension| extension == "jnl")).expect("a journal")
}

#[tokio::test]
async fn a_directory_is_checked_and_copied_and_a_proxy_starts_on_the_copy() {
    let proxy = Proxy::configured(|config| config.backend.embedded.default_queues = 1).await;
    let mut client = proxy.client().await;
    send_keyed(&mut client, "t", 3).await;
    let running = store(&["check"], &[proxy.data.path()]).await;
    assert_eq!(running.status.code(), Some(1), "{}", text(&running.stderr));
    drop(client);
    let data = proxy.stop().await;

    let sound = checked(data.path()).await;
    assert_eq!((sound.status.code(), &json(&sound)["messages"]), (Some(0), &3.into()));
    let new = tempfile::tempdir().expect("a directory");
    let copied = store(&["copy"], &[data.path(), new.path()]).await;
    assert_eq!(copied.status.code(), Some(0), "{}", text(&copied.stderr));
    assert!(text(&copied.stdout).starts_with("copied everything to "), "{}", text(&copied.stdout));
    let again = store(&["copy"], &[data.path(), new.path()]).await;
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("is not empty"), "{}", text(&again.stderr));

    let proxy = Proxy::in_directory(new, |_| {}).await;
    let mut client = proxy.client().await;
    let received = receive(&mut client, receive_request("t", "g")).await.messages;
    let ids: Vec<_> = received.iter().map(|message| system(message).message_id.as_str()).collect();
    assert_eq!(ids, ["m0", "m1", "m2"]);
}

#[tokio::test]
async fn a_copy_of_a_damaged_directory_has_the_rest_and_says_what_is_lost() {
    let proxy = Proxy::configured(|config| config.backend.embedded.default_queues = 1).await;
    let mut client = proxy.client().await;
    send_keyed(&mut client, "t", 3).await;
    drop(client);
    let data = proxy.stop().await;
    checked(data.path()).await;
    let journal = journal(data.path());
    let mut bytes = std::fs::read(&journal).expect("readable");
    let second = bytes.windows(6).position(|window| window == b"body 1").expect("the message");
    bytes[second] ^= 1;
    std::fs::write(&journal, bytes).expect("writable");

    assert_eq!(checked(data.path()).await.status.code(), Some(3));
    let new = tempfile::tempdir().expect("a directory");
    let copied = store(&["copy", "--json"], &[data.path(), new.path()]).await;
    assert_eq!(copied.status.code(), Some(3), "{}", text(&copied.stderr));
    let report = json(&copied);
    assert_eq!((&report["messages"], &report["findings"][0]["damaged"]), (&1.into(), &true.into()));

    let proxy = Proxy::in_directory(new, |_| {}).await;
    let mut client = proxy.client().await;
    send_keyed(&mut client, "t", 1).await;
    assert_eq!(receive(&mut client, receive_request("t", "g")).await.messages.len(), 2);
}
