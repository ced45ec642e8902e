//! The embedded backend: the data that survives SIGKILL of a real process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use rocketmq_thin_proxy::backend::embedded::{EmbeddedConfig, Flush, open};
use rocketmq_thin_proxy::service::{Delivery, NextAttempt, Receive, Services};

use crate::client::{Client, LONG, delayed, ids, of_group, plain};
use crate::transactions::half;

const TOPIC: &str = "topic";
const GROUP: &str = "group";

fn client(services: Services) -> Client {
    Client { services, topic: TOPIC.to_owned(), group: GROUP.to_owned() }
}

/// A client that receives messages and does not settle them.
fn holder(services: Services) -> Client {
    Client { services, topic: "held".to_owned(), group: GROUP.to_owned() }
}

/// A client that receives messages in order from a topic with one queue.
fn ordered(services: Services) -> Client {
    Client { services, topic: "ordered".to_owned(), group: "ordered".to_owned() }
}

/// The message group whose first message keeps its lease.
const BLOCKED: &str = "blocked";
const FREE: [&str; 2] = ["free", "other"];

/// The lines that the child printed about messages in order: `verb group number`.
#[derive(Default)]
struct Order {
    sent: BTreeMap<String, BTreeSet<u32>>,
    settling: BTreeMap<String, BTreeSet<u32>>,
    settled: BTreeMap<String, BTreeSet<u32>>,
}

impl Order {
    fn read(&mut self, line: &str) -> Option<()> {
        let mut words = line.split(' ');
        let list = match words.next()? {
            "sent-in-order" => &mut self.sent,
            "settling-in-order" => &mut self.settling,
            "settled-in-order" => &mut self.settled,
            _ => return None,
        };
        let group = words.next()?.to_owned();
        list.entry(group).or_default().insert(words.next()?.parse().ok()?);
        Some(())
    }

    /// Receives the remaining messages. Asserts that they are in order, and that the blocked group stays blocked.
    async fn check(&self, client: &Client) {
        let empty = BTreeSet::new();
        let of =
            |list: &BTreeMap<String, BTreeSet<u32>>, group: &str| list.get(group).unwrap_or(&empty).clone();
        let mut expected: BTreeMap<_, BTreeSet<u32>> = BTreeMap::new();
        for group in FREE {
            expected.insert(group, &of(&self.sent, group) - &of(&self.settling, group));
        }
        let mut seen: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        while !expected.iter().all(|(group, ids)| {
            let seen = seen.get(*group).cloned().unwrap_or_default();
            ids.iter().all(|id| seen.contains(id))
        }) {
            let deliveries = client.receive(client.in_order()).await;
            assert!(!deliveries.is_empty(), "lost: {expected:?}, seen {seen:?}");
            client.acknowledge(&deliveries).await;
            for delivery in &deliveries {
                seen.entry(group_of(delivery).to_owned()).or_default().push(number_of(delivery));
            }
        }
        for (group, numbers) in seen {
            assert_ne!(group, BLOCKED, "a message group did not stay blocked");
            assert!(numbers.is_sorted(), "{group} was delivered as {numbers:?}");
            let settled = of(&self.settled, &group);
            assert!(
                numbers.iter().all(|number| !settled.contains(number)),
                "{group}: a settled message was redelivered"
            );
        }
    }
}

fn group_of(delivery: &Delivery) -> &str {
    delivery.message.group.as_deref().expect("a message in order")
}

fn number_of(delivery: &Delivery) -> u32 {
    delivery.message.id.parse().expect("a number")
}

/// Sends to each message group, receives and settles messages, and prints what was answered.
#[expect(clippy::print_stdout, reason = "the test that kills this process reads it")]
async fn one_round_in_order(client: &Client, round: u32) {
    for group in FREE.into_iter().chain([BLOCKED]) {
        for id in [2 * round, 2 * round + 1] {
            client.send(vec![of_group(id, group)]).await;
            println!("sent-in-order {group} {id}");
        }
    }
    let deliveries = client.now(Receive { max: 3, invisible: LONG / 300, ..client.in_order() }).await;
    let (blocked, free): (Vec<_>, Vec<_>) =
        deliveries.into_iter().partition(|delivery| group_of(delivery) == BLOCKED);
    for delivery in blocked {
        client.change(&delivery, LONG, NextAttempt::Counts).await;
    }
    let print = |what: &str| {
        for delivery in &free {
            println!("{what} {} {}", group_of(delivery), delivery.message.id);
        }
    };
    print("settling-in-order");
    client.acknowledge(&free).await;
    print("settled-in-order");
}

#[tokio::test]
async fn acknowledged_requests_survive_with_fsync() {
    acknowledged_requests_survive("sync").await;
}

#[tokio::test]
async fn acknowledged_requests_survive_without_fsync() {
    acknowledged_requests_survive("async").await;
}

/// Runs a child process that sends and acknowledges messages and prints what was answered, until it is killed.
async fn acknowledged_requests_survive(flush: &str) {
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
    let mut order = Order::default();
    let output = BufReader::new(child.stdout.take().expect("its output"));
    for line in output.lines() {
        let line = line.expect("text");
        if order.read(&line).is_some() {
            continue;
        }
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
            // SIGKILL. The loop still reads the lines that were printed before.
            let _ = child.kill();
        }
    }
    child.wait().expect("the child has ended");
    assert!(settled.len() >= 200, "the child ended early");

    let config = EmbeddedConfig { data_dir: directory.path().to_owned(), ..EmbeddedConfig::default() };
    let broker = open(config).await.expect("the directory opens after a kill");
    let client = client(broker.services());
    let mut seen = BTreeSet::new();
    // Messages that were being acknowledged may be redelivered. All others must be, when their leases expire.
    let expected: BTreeSet<_> = sent.difference(&settling).cloned().collect();
    while !expected.is_subset(&seen) {
        let deliveries = client.receive(client.request()).await;
        assert!(!deliveries.is_empty(), "lost: {:?}", expected.difference(&seen));
        seen.extend(ids(&deliveries).into_iter().map(str::to_owned));
    }
    assert!(seen.is_disjoint(&settled), "an acknowledged message was redelivered");
    assert!(!seen.iter().any(|id| id.ends_with("-dropped")), "a message that was rolled back was delivered");
    assert!(
        !leased.is_empty() && seen.is_disjoint(&leased),
        "a leased message was delivered to another consumer"
    );
    order.check(&ordered(broker.services())).await;
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
    let ordered = ordered(broker.services());
    ordered.services.metadata.create_topic(ordered.topic_config(1), false).await.expect("a new topic");
    // Ends this process when the test above has ended, which closes the input.
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
        let committed = client.send_half(half(format!("{round}-committed"))).await;
        let dropped = client.send_half(half(format!("{round}-dropped"))).await;
        client.commit(&committed).await;
        println!("sent {round}-committed");
        client.roll_back(&dropped).await;
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
        one_round_in_order(&ordered, round).await;
    }
}
