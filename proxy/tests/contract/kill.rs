//! What survives SIGKILL of a real process.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use rocketmq_thin_proxy::backend::embedded::{EmbeddedConfig, Flush, open};
use rocketmq_thin_proxy::service::{Receive, Services};

use crate::client::{Client, LONG, delayed, ids, plain};

const TOPIC: &str = "topic";
const GROUP: &str = "group";

fn client(services: Services) -> Client {
    Client { services, topic: TOPIC.to_owned(), group: GROUP.to_owned() }
}

/// A client that receives messages and does not settle them.
fn holder(services: Services) -> Client {
    Client { services, topic: "held".to_owned(), group: GROUP.to_owned() }
}

#[tokio::test]
async fn what_was_answered_survives_with_fsync() {
    what_was_answered_survives("sync").await;
}

#[tokio::test]
async fn what_was_answered_survives_without_fsync() {
    what_was_answered_survives("async").await;
}

/// A child process sends and acknowledges, and prints what was answered, until it is killed.
async fn what_was_answered_survives(flush: &str) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "kill::the_process_that_is_killed", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child process");
    let mut stdin = child.stdin.take().expect("its input");
    writeln!(stdin, "{}\n{flush}", directory.path().display()).expect("it reads");
    let (mut sent, mut settling, mut settled, mut leased) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let told = BufReader::new(child.stdout.take().expect("its output"));
    for line in told.lines() {
        let line = line.expect("text");
        if let Some(id) = line.strip_prefix("sent ") {
            sent.insert(id.to_owned());
        } else if let Some(id) = line.strip_prefix("settling ") {
            settling.insert(id.to_owned());
        } else if let Some(id) = line.strip_prefix("leased ") {
            leased.insert(id.to_owned());
        } else if let Some(id) = line.strip_prefix("settled ") {
            settled.insert(id.to_owned());
        }
        if settled.len() >= 200 {
            // SIGKILL. What it printed before is still read.
            let _ = child.kill();
        }
    }
    child.wait().expect("it is gone");
    assert!(settled.len() >= 200, "the child ended early");

    let config = EmbeddedConfig { data_dir: directory.path().to_owned(), ..EmbeddedConfig::default() };
    let broker = open(config).await.expect("what was killed opens");
    let client = client(broker.services());
    let mut seen = BTreeSet::new();
    // Messages that were being acknowledged may come or not. All others must come when their leases end.
    let expected: BTreeSet<_> = sent.difference(&settling).cloned().collect();
    while !expected.is_subset(&seen) {
        let deliveries = client.receive(client.request()).await;
        assert!(!deliveries.is_empty(), "lost: {:?}", expected.difference(&seen));
        seen.extend(ids(&deliveries).into_iter().map(str::to_owned));
    }
    assert!(seen.is_disjoint(&settled), "an acknowledged message came again");
    assert!(
        !leased.is_empty() && seen.is_disjoint(&leased),
        "a message under a lease came to another consumer"
    );
}

#[tokio::test]
#[ignore = "run by the tests above, to be killed"]
async fn the_process_that_is_killed() {
    let line = || std::io::stdin().lines().next().expect("an input").expect("text");
    let (data_dir, flush) = (line().into(), line());
    let flush = if flush == "sync" { Flush::Sync } else { Flush::Async };
    let config = EmbeddedConfig { data_dir, flush, ..EmbeddedConfig::default() };
    let broker = open(config).await.expect("a new directory opens");
    let (client, holder) = (client(broker.services()), holder(broker.services()));
    // Ends if the test above has ended: its input is closed then.
    std::thread::spawn(move || {
        let _ = std::io::stdin().lines().last();
        std::process::exit(1);
    });
    for round in 0.. {
        let ids: Vec<String> = (0..10).map(|n| format!("{round}-{n}")).collect();
        client.send(ids.iter().map(plain).collect()).await;
        client.send(vec![delayed(format!("{round}-delayed"), std::time::Duration::from_millis(20))]).await;
        for id in ids {
            println!("sent {id}");
        }
        println!("sent {round}-delayed");
        holder.send_ids([round]).await;
        println!("leased {}", holder.next(LONG).await.message.id);
        let deliveries = client.receive(Receive { max: 6, invisible: LONG / 300, ..client.request() }).await;
        for delivery in &deliveries {
            println!("settling {}", delivery.message.id);
        }
        client.acknowledge(&deliveries).await;
        for delivery in deliveries {
            println!("settled {}", delivery.message.id);
        }
    }
}
