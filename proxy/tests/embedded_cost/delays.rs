//! Measures how late delayed messages are delivered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rocketmq_thin_proxy::backend::embedded::EmbeddedConfig;
use rocketmq_thin_proxy::service::{Delay, Delivered, Delivery, Message, Receive, Services};

use super::{TOPIC, acknowledge, cpu_time, disk_use, message, open_again, request};

/// How many messages are due in one second.
const MESSAGES: usize = 100_000;
/// The number of consumers.
const CONSUMERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a benchmark"]
async fn many_due_in_one_second() {
    for size in [100, 1024] {
        for (name, spread) in [("over the second", 1_000), ("in one millisecond", 1)] {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let config =
                EmbeddedConfig { data_dir: directory.path().to_owned(), ..EmbeddedConfig::default() };
            let broker = open_again(&config).await;
            let services = broker.services();
            let first = SystemTime::now() + Duration::from_secs(30);
            let due = |number: usize| first + Duration::from_millis((number * spread / MESSAGES) as u64);
            for start in (0..MESSAGES).step_by(100) {
                let delayed = |number: usize| Message {
                    id: number.to_string(),
                    delay: Some(Delay::Until(due(number))),
                    body: vec![7; size].into(),
                    ..message()
                };
                let messages = (start..start + 100).map(delayed).collect();
                let deadline = Instant::now() + Duration::from_secs(60);
                services.messages.send(TOPIC, messages, deadline).await.expect("a send");
            }
            let left = first.duration_since(SystemTime::now()).expect("the sends took less than 30 s");
            tokio::time::sleep(left.saturating_sub(Duration::from_millis(500))).await;
            let (cpu, received) = (cpu_time(), Arc::new(AtomicUsize::new(0)));
            let consumers: Vec<_> =
                (0..CONSUMERS).map(|_| tokio::spawn(consume(services.clone(), received.clone()))).collect();
            let (mut late, mut early) = (Vec::new(), 0);
            for consumer in consumers {
                for (number, at) in consumer.await.expect("no panic") {
                    match at.duration_since(due(number)) {
                        Ok(after) => late.push(after),
                        Err(_) => early += 1,
                    }
                }
            }
            late.sort();
            let percentile = |percent: usize| late[(late.len() - 1) * percent / 100];
            println!(
                "{MESSAGES} messages of {size} bytes due {name}: late p50 {:?}, p99 {:?}, worst {:?}; {early} early; CPU {:?}",
                percentile(50),
                percentile(99),
                percentile(100),
                cpu_time() - cpu,
            );
        }
    }
}

/// Receives until all messages were delivered. Returns their numbers, and when each was delivered.
async fn consume(services: Services, received: Arc<AtomicUsize>) -> Vec<(usize, SystemTime)> {
    let mut delivered = Vec::new();
    while received.load(Ordering::Relaxed) < MESSAGES {
        let request = Receive { deadline: Instant::now() + Duration::from_secs(1), ..request(32) };
        let Delivered::Messages(deliveries) = services.messages.receive(request).await.expect("a receive")
        else {
            continue;
        };
        let at = SystemTime::now();
        let number = |delivery: &Delivery| delivery.message.id.parse().expect("a number");
        delivered.extend(deliveries.iter().map(|delivery| (number(delivery), at)));
        received.fetch_add(acknowledge(&*services.messages, &deliveries).await, Ordering::Relaxed);
    }
    delivered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a benchmark"]
async fn delays_while_a_large_topic_is_removed() {
    const COUNT: usize = 1_000_000;
    for size in [100, 1024] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = EmbeddedConfig { data_dir: directory.path().to_owned(), ..EmbeddedConfig::default() };
        let broker = open_again(&config).await;
        let services = broker.services();
        let start = Instant::now();
        for _ in 0..COUNT / 100 {
            let message = Message { body: vec![7; size].into(), ..message() };
            let deadline = Instant::now() + Duration::from_secs(60);
            services.messages.send("large", vec![message; 100], deadline).await.expect("a send");
        }
        let used = || disk_use(directory.path()) / 1_000_000;
        println!("{COUNT} messages of {size} bytes stored in {:?}, {} MB on disk", start.elapsed(), used());
        println!("before: {}", lateness(&services, Duration::from_secs(3)).await);
        services.metadata.delete_topic("large").await.expect("deleted");
        for _ in 0..10 {
            println!("then: {}, {} MB on disk", lateness(&services, Duration::from_secs(3)).await, used());
        }
    }
}

/// Sends a delayed message every 10 ms for `time`. Returns how late they were delivered, and how long the sends took.
async fn lateness(services: &Services, time: Duration) -> String {
    let (start, mut late, mut sends) = (Instant::now(), Vec::new(), Vec::new());
    let mut due = std::collections::BTreeMap::new();
    let mut number = 0;
    while start.elapsed() < time || !due.is_empty() {
        if start.elapsed() < time {
            number += 1;
            let at = SystemTime::now() + Duration::from_millis(100);
            let message = Message {
                id: number.to_string(),
                delay: Some(Delay::Until(at)),
                body: Bytes::new(),
                ..message()
            };
            due.insert(number.to_string(), at);
            let (sent, deadline) = (Instant::now(), Instant::now() + Duration::from_secs(60));
            services.messages.send(TOPIC, vec![message], deadline).await.expect("a send");
            sends.push(sent.elapsed());
        }
        let request = Receive { deadline: Instant::now() + Duration::from_millis(10), ..request(32) };
        if let Delivered::Messages(deliveries) = services.messages.receive(request).await.expect("a receive")
        {
            for delivery in &deliveries {
                let at = due.remove(&delivery.message.id).expect("it was sent");
                late.push(SystemTime::now().duration_since(at).unwrap_or_default());
            }
            acknowledge(&*services.messages, &deliveries).await;
        }
    }
    late.sort();
    sends.sort();
    format!(
        "late p50 {:?}, worst {:?}; a send p50 {:?}, worst {:?}",
        late[late.len() / 2],
        late[late.len() - 1],
        sends[sends.len() / 2],
        sends[sends.len() - 1]
    )
}
