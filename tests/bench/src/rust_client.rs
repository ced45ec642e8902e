//! The measured Rust client. The programs of the other languages in `clients/` do the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::try_join_all;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{Notify, Semaphore};

use rocketmq_thin::{
    CLOSE_DEADLINE, Client, ClientOptions, ConsumeResult, Message, Producer, ProducerOptions,
    PushConsumerOptions, ReceiveOptions, SimpleConsumer, SimpleConsumerOptions,
};

use crate::load::{BODY, IDLE_TOPIC, TOPIC};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const IN_FLIGHT: usize = 32;
const WARM_UP: usize = 5_000;

/// Starts that many clients with a receive each, and prints `ready`. Ends with standard input.
#[allow(clippy::print_stdout)]
pub(crate) async fn idle(endpoint: &str, count: usize) -> Result<(), Failure> {
    let mut clients = Vec::new();
    for number in 0..count {
        let client = Client::connect(ClientOptions::new(endpoint)).await?;
        let options = SimpleConsumerOptions::new(format!("bench-idle-{number}"), [IDLE_TOPIC]);
        let consumer = client.simple_consumer(options).await?;
        tokio::spawn(async move { while consumer.receive(ReceiveOptions::default()).await.is_ok() {} });
        clients.push(client);
    }
    println!("ready");
    BufReader::new(tokio::io::stdin()).lines().next_line().await?;
    Ok(())
}

/// Warms up and prints `ready`. Then reads lines with a workload and a number of messages, and prints `done` after
/// each.
#[allow(clippy::print_stdout)]
pub(crate) async fn run(endpoint: &str) -> Result<(), Failure> {
    let client = Client::connect(ClientOptions::new(endpoint)).await?;
    let producer = client.producer(ProducerOptions::new([TOPIC])).await?;
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("bench-rust", [TOPIC])).await?;
    send(&producer, WARM_UP).await?;
    receive(&consumer, WARM_UP / 2).await?;
    println!("ready");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let (workload, count) = line.split_once(' ').ok_or("WORKLOAD COUNT")?;
        let count = count.parse()?;
        match workload {
            "send" => send(&producer, count).await?,
            "receive" => receive(&consumer, count).await?,
            _ => push(&client, count).await?,
        }
        println!("done");
    }
    Ok(())
}

async fn receive(consumer: &SimpleConsumer, count: usize) -> Result<(), Failure> {
    let mut left = count;
    while left > 0 {
        let deliveries = consumer.receive(ReceiveOptions::default()).await?;
        consumer.ack_all(&deliveries).await.into_iter().collect::<Result<(), _>>()?;
        left = left.saturating_sub(deliveries.len());
    }
    Ok(())
}

async fn push(client: &Client, count: usize) -> Result<(), Failure> {
    let options = PushConsumerOptions::new("bench-rust-push", [TOPIC]).concurrency(IN_FLIGHT);
    let consumer = client.push_consumer(options).await?;
    let (handled, done) = (AtomicUsize::new(0), Arc::new(Notify::new()));
    let last = done.clone();
    consumer.start(move |_| {
        if handled.fetch_add(1, Ordering::Relaxed) + 1 == count {
            last.notify_one();
        }
        std::future::ready(ConsumeResult::Ack)
    })?;
    done.notified().await;
    consumer.close(CLOSE_DEADLINE).await;
    Ok(())
}

async fn send(producer: &Producer, count: usize) -> Result<(), Failure> {
    let left = Arc::new(Semaphore::new(count));
    try_join_all((0..IN_FLIGHT).map(|_| {
        let (producer, left) = (producer.clone(), left.clone());
        tokio::spawn(async move {
            while let Ok(permit) = left.try_acquire() {
                permit.forget();
                producer.send(Message::new(TOPIC, vec![b'x'; BODY]).tag("t").key("key")).await?;
            }
            Ok::<_, Failure>(())
        })
    }))
    .await?
    .into_iter()
    .collect()
}
