//! Acknowledgements of classic clients while the disk is full.
//!
//! A limit on the size of files stands for the full disk. The limit applies to a process, so the test runs in a child process.

use std::process::Command as Process;

use rocketmq_thin_proxy::remoting::message::decode_all;
use rocketmq_thin_proxy::remoting::{RemotingCommand, properties, request, response};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::classic::{Classic, send};
use crate::classic_queue::{Consumer, bodies};
use crate::support::Proxy;

const FIFO: Consumer<'_> = Consumer { group: "fifo", topic: "t", consume_type: "CONSUME_PASSIVELY" };
const POP: Consumer<'_> = Consumer { group: "pop", topic: "t", consume_type: "CONSUME_POP" };

#[test]
fn failed_acknowledgements_are_reported_or_retried() {
    let case = Process::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "classic_disk_full::the_process_with_a_full_disk", "--ignored", "--nocapture"])
        .output()
        .expect("a child process");
    assert!(case.status.success(), "{}", String::from_utf8_lossy(&case.stderr));
}

/// Acknowledges the message of a pop by BATCH_ACK_MESSAGE.
fn batch_ack(popped: &RemotingCommand) -> RemotingCommand {
    let message = decode_all(popped.body.clone()).remove(0);
    let info = properties::decode(&message.properties).find(|(key, _)| *key == "POP_CK").expect("a handle").1;
    let popped_at: i64 = info.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a time");
    let ack = json!({"c": POP.group, "t": POP.topic, "q": message.queue_id, "so": message.queue_offset,
        "pt": popped_at, "b": "AQ=="});
    RemotingCommand::request(request::BATCH_ACK_MESSAGE).body(json!({"acks": [ack]}).to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test above, in a process of its own"]
async fn the_process_with_a_full_disk() {
    // Without a handler the first write beyond the limit ends the process.
    let _handler = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).expect("a handler");
    let proxy = Proxy::configured(|config| {
        config.remoting.enabled = true;
        config.backend.embedded.default_queues = 1;
        config.groups = vec![serde_json::from_value(json!({"name": "fifo", "fifo": true})).expect("a group")];
    })
    .await;
    let mut fifo = Classic::consumer(&proxy, "fifo", FIFO).await;
    let mut popper = Classic::consumer(&proxy, "popper", POP).await;
    assert_eq!(popper.call(send("t", 0, &[], "a")).await.code, response::SUCCESS);
    let start = fifo.offset(FIFO).await;
    assert_eq!(bodies(&fifo.messages(FIFO, start).await), ["a"]);
    let pop = POP.about(request::POP_MESSAGE);
    let pop = pop.field("maxMsgNums", 1).field("invisibleTime", 600_000).field("pollTime", 20_000);
    let popped = popper.call(pop).await;
    assert_eq!(popped.code, response::SUCCESS, "{popped:?}");
    assert_eq!(popper.call(send("t", 0, &[], "b")).await.code, response::SUCCESS);

    let unlimited = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(0), ..unlimited }).expect("a lower limit");
    // The answer to a commit does not wait for the acknowledgement.
    fifo.commit(FIFO, start + 1).await;
    for _ in 0..2 {
        let answer = popper.call(batch_ack(&popped)).await;
        assert_ne!(answer.code, response::SUCCESS, "an acknowledgement that can't be written");
    }
    setrlimit(Resource::Fsize, unlimited).expect("no limit");
    while popper.call(batch_ack(&popped)).await.code != response::SUCCESS {}

    // A FIFO group gets "b" only after "a" is settled.
    for _ in 0..20 {
        let pulled = fifo.pull(FIFO, start + 1).await;
        if pulled.code == response::SUCCESS {
            assert_eq!(bodies(&decode_all(pulled.body)), ["b"]);
            return;
        }
    }
    panic!("the group is stuck");
}
