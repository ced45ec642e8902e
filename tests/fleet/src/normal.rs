//! NORMAL messages by our own client: sent, received and acknowledged while proxies and brokers come and go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::Mutex;
use rocketmq_thin::{
    CLOSE_DEADLINE, Client, ClientOptions, Filter, Message, ProducerOptions, ReceiveOptions,
    SimpleConsumerOptions, Subscription,
};
use tokio::time::interval;

/// The pause between sends of one producer.
const PACE: Duration = Duration::from_millis(10);
const PRODUCERS: usize = 2;
const CONSUMERS: usize = 2;

/// The counts of a run.
#[derive(Debug, Default)]
struct Ledger {
    /// How often each acknowledged message was received, by its body.
    acknowledged: HashMap<String, u32>,
    /// Messages that were received before their send returned, or whose send failed.
    early: HashMap<String, u32>,
    errors: Vec<String>,
}

/// Sends to `topic` for this long, then waits until everything has arrived. Returns a line for the report, or an
/// error if messages are missing.
pub(crate) async fn run(
    endpoint: &str,
    topic: &str,
    (load, patience): (Duration, Duration),
) -> Result<String> {
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let until = Instant::now() + load;
    let mut consumers = Vec::new();
    for _ in 0..CONSUMERS {
        consumers.push(tokio::spawn(consume(endpoint.to_owned(), topic.to_owned(), ledger.clone())));
    }
    let mut producers = Vec::new();
    for number in 0..PRODUCERS {
        let (endpoint, topic, ledger) = (endpoint.to_owned(), topic.to_owned(), ledger.clone());
        producers
            .push(tokio::spawn(async move { produce(&endpoint, &topic, (number, until), &ledger).await }));
    }
    for producer in producers {
        producer.await??;
    }
    let all_here = async {
        let mut looks = interval(Duration::from_millis(200));
        loop {
            looks.tick().await;
            if ledger.lock().acknowledged.values().all(|times| *times > 0) {
                break;
            }
        }
    };
    let complete = tokio::time::timeout(patience, all_here).await.is_ok();
    consumers.iter().for_each(tokio::task::JoinHandle::abort);
    let ledger = ledger.lock();
    let again: u32 = ledger.acknowledged.values().map(|times| times.saturating_sub(1)).sum();
    let missing: Vec<_> = ledger.acknowledged.iter().filter(|(_, times)| **times == 0).collect();
    let line = format!(
        "normal: {} acknowledged, {} missing, {again} came again, {} errors",
        ledger.acknowledged.len(),
        missing.len(),
        ledger.errors.len()
    );
    anyhow::ensure!(
        complete && ledger.errors.is_empty() && !ledger.acknowledged.is_empty(),
        "{line}; missing {:?}, errors {:?}",
        missing.iter().take(5).collect::<Vec<_>>(),
        ledger.errors.iter().take(5).collect::<Vec<_>>()
    );
    Ok(line)
}

async fn produce(
    endpoint: &str,
    topic: &str,
    (number, until): (usize, Instant),
    ledger: &Mutex<Ledger>,
) -> Result<()> {
    let client = Client::connect(ClientOptions::new(endpoint)).await?;
    let producer = client.producer(ProducerOptions::new([topic])).await?;
    let mut pace = interval(PACE);
    for count in 0.. {
        pace.tick().await;
        if Instant::now() > until {
            break;
        }
        let body = format!("{number}-{count}");
        let sent = producer.send(Message::new(topic, body.clone())).await;
        let mut ledger = ledger.lock();
        match sent {
            Ok(_) => {
                let early = ledger.early.remove(&body).unwrap_or_default();
                *ledger.acknowledged.entry(body).or_default() += early;
            }
            Err(error) => ledger.errors.push(format!("{body}: {error}")),
        }
    }
    client.close(CLOSE_DEADLINE).await;
    Ok(())
}

async fn consume(endpoint: String, topic: String, ledger: Arc<Mutex<Ledger>>) -> Result<()> {
    let client = Client::connect(ClientOptions::new(endpoint)).await?;
    let subscription = Subscription::new(topic.clone(), Filter::All);
    let options = SimpleConsumerOptions::new(format!("{topic}-group"), [subscription]);
    let consumer = client.simple_consumer(options).await?;
    loop {
        // A message whose ack fails is delivered again, to this or the other consumer.
        let Ok(deliveries) = consumer.receive(ReceiveOptions::default()).await else { continue };
        for delivery in &deliveries {
            let body = String::from_utf8_lossy(&delivery.body).into_owned();
            let mut ledger = ledger.lock();
            match ledger.acknowledged.get_mut(&body) {
                Some(times) => *times += 1,
                None => *ledger.early.entry(body).or_default() += 1,
            }
        }
        consumer.ack_all(&deliveries).await;
    }
}
