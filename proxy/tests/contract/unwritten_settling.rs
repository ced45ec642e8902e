//! The embedded backend: settling while the disk can't be written.

use std::path::Path;
use std::process::Command;
use std::time::{Instant, SystemTime};

use rocketmq_thin_proxy::backend::embedded::{EmbeddedConfig, open};
use rocketmq_thin_proxy::service::{
    AckOutcome, Acknowledge, ChangeInvisible, Forward, NextAttempt, Receive, Services, Settle,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::client::{Client, LONG, TIMEOUT, plain, settle, sorted_ids};

const DIRECTORY: &str = "CONTRACT_UNWRITTEN_SETTLING";
const COUNT: usize = 20;

fn client(services: Services) -> Client {
    Client { services, topic: "full".to_owned(), group: "settling".to_owned() }
}

#[tokio::test]
async fn an_acknowledgement_that_was_not_written_is_never_answered_with_success() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "unwritten_settling::the_process_whose_disk_is_full", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .output()
        .expect("a child process");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    let refused: Vec<_> = printed.lines().filter_map(|line| line.strip_prefix("refused ")).collect();
    assert_eq!(refused.len(), COUNT, "{printed}");

    let config = EmbeddedConfig { data_dir: directory.path().to_owned(), ..EmbeddedConfig::default() };
    let broker = open(config).await.expect("the directory opens with room on the disk");
    let client = client(broker.services());
    for coordinates in refused {
        let entry = Settle {
            coordinates: coordinates.to_owned(),
            message_id: String::new(),
            lite_topic: None,
            received_at: SystemTime::now(),
            invisible: LONG,
        };
        let request = ChangeInvisible {
            topic: client.topic.clone(),
            group: client.group.clone(),
            entry,
            invisible: std::time::Duration::ZERO,
            next_attempt: NextAttempt::Counts,
            deadline: Instant::now() + TIMEOUT,
        };
        client.services.messages.change_invisible(request).await.expect("a change");
    }
    let mut again = client.receive_all(COUNT).await;
    again.sort_by(|a, b| a.message.id.cmp(&b.message.id));
    let mut expected: Vec<_> = (0..COUNT).map(|id| id.to_string()).collect();
    expected.sort();
    assert_eq!(sorted_ids(&again), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test above"]
async fn the_process_whose_disk_is_full() {
    // Without a handler, the first write beyond the limit would end the process.
    let _handler = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).expect("a handler");
    let data_dir = std::env::var_os(DIRECTORY).expect("run by the test above");
    let config = EmbeddedConfig { data_dir: Path::new(&data_dir).to_owned(), ..EmbeddedConfig::default() };
    let broker = open(config).await.expect("a fresh directory opens");
    let client = client(broker.services());
    client.send((0..COUNT).map(plain).collect()).await;
    let deliveries = client.receive_all(COUNT).await;
    // No file can be written from now on.
    let limits = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(0), ..limits }).expect("a lower limit");
    for delivery in &deliveries {
        for _ in 0..2 {
            let request = Acknowledge {
                topic: client.topic.clone(),
                group: client.group.clone(),
                entries: vec![settle(delivery)],
                deadline: Instant::now() + TIMEOUT,
            };
            let outcome = client.services.messages.acknowledge(request).await;
            let success = outcome.as_ref().is_ok_and(|outcomes| outcomes.contains(&AckOutcome::Done));
            assert!(!success, "an acknowledgement that can't be written: {outcome:?}");
        }
        println!("refused {}", delivery.coordinates);
    }
    for _ in 0..2 {
        let request = Forward {
            topic: client.topic.clone(),
            group: client.group.clone(),
            entry: settle(&deliveries[0]),
            deadline: Instant::now() + TIMEOUT,
        };
        client
            .services
            .messages
            .forward_to_dead_letter(request)
            .await
            .expect_err("no room for a dead letter");
    }
    let now = Receive { deadline: Instant::now(), ..client.request() };
    assert!(client.try_receive(now).await.unwrap_or_default().is_empty(), "their leases continue");
    // Without a clean shutdown, as with a kill.
    std::process::exit(0);
}
