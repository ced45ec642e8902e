//! The embedded backend: a full disk, and the recovery once there is space.
//!
//! A limit on the size of files stands for the full disk. It applies to a whole process, so the test runs in one of its
//! own.

use std::process::Command;

use rocketmq_thin_proxy::backend::embedded::EmbeddedConfig;
use rocketmq_thin_proxy::service::{AckOutcome, Message, Resolution, ServiceErrorKind};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::backend::{Backend, Embedded};
use crate::client::{Client, LONG, delayed, plain, sorted_ids};
use crate::transactions::half;

#[test]
fn the_broker_recovers_once_there_is_space() {
    let case = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "disk_full::the_process_with_a_full_disk", "--ignored", "--nocapture"])
        .output()
        .expect("a child process");
    assert!(case.status.success(), "{}", String::from_utf8_lossy(&case.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test above, in a process of its own"]
async fn the_process_with_a_full_disk() {
    // Without a handler, the first write beyond the limit would end the process.
    let _handler = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).expect("a handler");
    let backend = Embedded::with(EmbeddedConfig::default()).await;
    let client = Client::with_queues(backend.services(), 1).await;
    let big = |id: &str| Message { body: vec![7; 16 << 10].into(), ..plain(id) };
    client.send(vec![big("before-1"), big("before-2")]).await;
    let delivery = client.next(LONG).await;
    let transaction = client.send_half(half("half")).await;
    let handle = client.send_later(delayed("recalled", LONG)).await;

    let unlimited = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(4096), ..unlimited }).expect("a lower limit");
    for _ in 0..3 {
        let error = client.try_send(vec![big("refused")]).await.expect_err("no room");
        assert_eq!(error.kind, ServiceErrorKind::Unavailable);
        assert!(error.message.contains("disk"), "{error}");
    }
    let error = client.end(&transaction, Resolution::Commit).await.expect_err("no room");
    assert_eq!(error.kind, ServiceErrorKind::Unavailable);
    assert_eq!(client.recall(&handle).await.expect_err("no room").kind, ServiceErrorKind::Unavailable);
    while client.services.routes.ready().await.is_ok() {
        tokio::task::yield_now().await;
    }
    setrlimit(Resource::Fsize, unlimited).expect("the old limit");

    while client.services.routes.ready().await.is_err() {
        tokio::task::yield_now().await;
    }
    client.send(vec![big("after")]).await;
    client.commit(&transaction).await;
    assert_eq!(client.recall(&handle).await.expect("in time"), "recalled");
    assert_eq!(client.acknowledge(&[delivery]).await, [AckOutcome::Done]);
    let (topic, group) = (client.topic.clone(), client.group.clone());
    drop(client);
    let backend = backend.restart().await;
    let client = Client { services: backend.services(), topic, group };
    let deliveries = client.receive_all(3).await;
    let mut ids = sorted_ids(&deliveries);
    // A send that was refused may be stored nevertheless.
    ids.retain(|id| *id != "refused");
    assert_eq!(ids, ["after", "before-2", "half"]);
}
