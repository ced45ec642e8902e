//! The measured Rust client. The programs of the other languages in `clients/` do the same.

use std::sync::Arc;

use futures::future::try_join_all;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::Semaphore;

use rocketmq_thin::{Client, ClientOptions, Message, Producer, ProducerOptions};

use crate::load::{BODY, TOPIC};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const IN_FLIGHT: usize = 32;
const WARM_UP: usize = 5_000;

/// Warms up, prints `ready`, reads the number of messages, sends them, and prints `done`.
#[allow(clippy::print_stdout)]
pub(crate) async fn run(endpoint: &str) -> Result<(), Failure> {
    let client = Client::connect(ClientOptions::new(endpoint)).await?;
    let producer = client.producer(ProducerOptions::new([TOPIC])).await?;
    send(&producer, WARM_UP).await?;
    println!("ready");
    let line = BufReader::new(tokio::io::stdin()).lines().next_line().await?.ok_or("no count")?;
    send(&producer, line.trim().parse()?).await?;
    println!("done");
    // Keep the process, and with it its CPU account, until the benchmark has read it.
    std::future::pending().await
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
