//! Benchmarks of the embedded backend alone: the CPU time per message of 1 KiB, and how late delayed messages are
//! delivered. The results are printed, not checked.
//!
//! `cargo test --release -p rocketmq-thin-proxy --test embedded_cost -- --ignored --nocapture`

mod delays;
mod lite;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rocketmq_thin_proxy::backend::embedded::{Embedded, EmbeddedConfig, Flush, OpenError, open};
use rocketmq_thin_proxy::service::{
    Acknowledge, Delivered, Delivery, Filter, Message, Messages, Receive, Services, Settle,
};

const TOPIC: &str = "cost";
const GROUP: &str = "cost";
const IN_FLIGHT: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a benchmark"]
async fn cost_per_message() {
    for (flush, name) in [(Flush::Sync, "fsync"), (Flush::Async, "no fsync")] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config =
            EmbeddedConfig { data_dir: directory.path().to_owned(), flush, ..EmbeddedConfig::default() };
        let start = Instant::now();
        let broker = open(config.clone()).await.expect("a fresh directory opens");
        println!("{name}: opened in {:?}, {} MB resident", start.elapsed(), resident());
        let services = broker.services();
        println!(
            "{name}: send, {IN_FLIGHT} in flight: {}",
            measure(Load { count: 100_000, batch: 1 }, &services, send_one).await
        );
        println!(
            "{name}: receive + ack, one by one: {}",
            measure(Load { count: 100_000, batch: 1 }, &services, receive_one).await
        );
        println!(
            "{name}: send, 32 per request: {}",
            measure(Load { count: 200_000, batch: 32 }, &services, send_many).await
        );
        println!(
            "{name}: receive + ack, 32 per request: {}",
            measure(Load { count: 200_000, batch: 32 }, &services, receive_many).await
        );
        println!(
            "{name}: send, not received before the restart: {}",
            measure(Load { count: 100_000, batch: 32 }, &services, send_many).await
        );
        drop(services);
        broker.close().await;
        let start = Instant::now();
        let broker = open_again(&config).await;
        println!("{name}: opened again in {:?}, {} MB resident", start.elapsed(), resident());
        println!(
            "{name}: receive + ack from disk: {}",
            measure(Load { count: 100_000, batch: 32 }, &broker.services(), receive_many).await
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a benchmark"]
async fn time_to_open() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = EmbeddedConfig { data_dir: directory.path().to_owned(), ..EmbeddedConfig::default() };
    for count in [0, 0, 10_000, 90_000, 200_000] {
        let start = Instant::now();
        let broker = open_again(&config).await;
        println!("opened in {:?}, {} MB resident", start.elapsed(), resident());
        if count > 0 {
            println!("send: {}", measure(Load { count, batch: 32 }, &broker.services(), send_many).await);
        }
        broker.close().await;
    }
    let start = Instant::now();
    open_again(&config).await;
    println!("opened in {:?}, {} MB resident", start.elapsed(), resident());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a benchmark"]
async fn disk_use_with_short_retention() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = EmbeddedConfig {
        data_dir: directory.path().to_owned(),
        retention: Duration::from_secs(2),
        ..EmbeddedConfig::default()
    };
    let broker = open_again(&config).await;
    for _ in 0..10 {
        let cost = measure(Load { count: 50_000, batch: 32 }, &broker.services(), send_many).await;
        println!("send: {cost}; {} MB on disk", disk_use(directory.path()) / 1_000_000);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// The disk usage of a directory, in bytes.
fn disk_use(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::symlink_metadata(path).map_or(0, |metadata| metadata.blocks() * 512);
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    metadata + entries.map(|entry| disk_use(&entry.path())).sum::<u64>()
}

async fn open_again(config: &EmbeddedConfig) -> Embedded {
    loop {
        match open(config.clone()).await {
            Ok(broker) => return broker,
            Err(OpenError::InUse(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The load of a measurement.
#[derive(Clone, Copy)]
struct Load {
    /// The total number of messages.
    count: usize,
    /// The number of messages per request.
    batch: usize,
}

/// Runs `work` in many tasks until it has processed all messages. Returns a description of the cost.
async fn measure<F, W>(load: Load, services: &Services, work: W) -> String
where
    F: Future<Output = usize> + Send,
    W: Fn(Arc<dyn Messages>) -> F + Copy + Send + 'static,
{
    let done = Arc::new(AtomicUsize::new(0));
    let (cpu, start) = (cpu_time(), Instant::now());
    let tasks: Vec<_> = (0..IN_FLIGHT / load.batch.min(8))
        .map(|_| {
            let (messages, done) = (services.messages.clone(), done.clone());
            tokio::spawn(async move {
                while done.load(Ordering::Relaxed) < load.count {
                    done.fetch_add(work(messages.clone()).await, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let done = done.load(Ordering::Relaxed) as f64;
    let micros = (cpu_time() - cpu).as_micros() as f64 / done;
    let rate = done / start.elapsed().as_secs_f64();
    format!("{micros:7.2} us CPU per message, {rate:9.0} messages/s, {} MB", resident())
}

fn message() -> Message {
    static BODY: [u8; 1024] = [7; 1024];
    Message {
        id: "01AABBCCDDEEFF001122334455667788AA".to_owned(),
        tag: Some("tag".to_owned()),
        keys: vec!["key".to_owned()],
        properties: vec![("a".to_owned(), "1".to_owned())],
        body: Bytes::copy_from_slice(&BODY),
        born_at: Some(SystemTime::now()),
        born_host: "127.0.0.1:40000".to_owned(),
        ..Message::default()
    }
}

async fn send_one(messages: Arc<dyn Messages>) -> usize {
    send(messages, 1).await
}

async fn send_many(messages: Arc<dyn Messages>) -> usize {
    send(messages, 32).await
}

async fn send(messages: Arc<dyn Messages>, count: usize) -> usize {
    let batch = (0..count).map(|_| message()).collect();
    messages.send(TOPIC, batch, Instant::now() + Duration::from_secs(60)).await.expect("a send").len()
}

async fn receive_one(messages: Arc<dyn Messages>) -> usize {
    receive(messages, 1).await
}

async fn receive_many(messages: Arc<dyn Messages>) -> usize {
    receive(messages, 32).await
}

async fn receive(messages: Arc<dyn Messages>, max: usize) -> usize {
    let request = Receive { deadline: Instant::now() + Duration::from_millis(50), ..request(max) };
    let Delivered::Messages(deliveries) = messages.receive(request).await.expect("a receive") else {
        return max;
    };
    acknowledge(&*messages, &deliveries).await
}

fn request(max: usize) -> Receive {
    Receive {
        topic: TOPIC.to_owned(),
        group: GROUP.to_owned(),
        broker: None,
        filter: Filter::All,
        max,
        invisible: Duration::from_secs(600),
        deadline: Instant::now() + Duration::from_secs(60),
        fifo: false,
        attempt_id: None,
        lite_client: None,
    }
}

async fn acknowledge(messages: &dyn Messages, deliveries: &[Delivery]) -> usize {
    let entries = deliveries.iter().map(settle).collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    let request = Acknowledge { topic: TOPIC.to_owned(), group: GROUP.to_owned(), entries, deadline };
    messages.acknowledge(request).await.expect("an acknowledgement").len()
}

fn settle(delivery: &Delivery) -> Settle {
    Settle {
        coordinates: delivery.coordinates.clone(),
        message_id: delivery.message.id.clone(),
        lite_topic: delivery.message.lite_topic.clone(),
        received_at: delivery.received_at,
        invisible: delivery.invisible,
    }
}

/// The CPU time of this process, in steps of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("procfs");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<u64>().expect("a number");
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// The resident memory of this process, in MB.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages: u64 = pages.split(' ').nth(1).and_then(|field| field.parse().ok()).expect("a number");
    pages * 4096 / 1_000_000
}
