//! Apache's Rust client under measurement. It has no push consumer.

use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rocketmq::conf::{ClientOption, ProducerOption, SimpleConsumerOption};
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::MessageBuilder;
use rocketmq::{Producer, SimpleConsumer};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const IN_FLIGHT: usize = 32;
const WARM_UP: usize = 2_000;

fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let work = runtime.spawn(async move {
        match &arguments[..] {
            [role, count, address] if role == "idle" => idle(address, count.parse()?).await,
            [address] => measure(address).await,
            _ => Err("[idle COUNT] ADDRESS".into()),
        }
    });
    runtime.block_on(work)?
}

async fn measure(address: &str) -> Result<(), Failure> {
    let mut options = ProducerOption::default();
    options.set_topics(vec!["bench"]);
    let mut producer = Producer::new(options, connect(address))?;
    producer.start().await?;
    let producer = Arc::new(producer);
    let consumer = consumer(address, "bench-apache-rust", "bench").await?;
    send(&producer, WARM_UP).await?;
    receive(&consumer, WARM_UP / 2).await?;
    println!("ready");
    while let Some(line) = line().await? {
        match line.split_once(' ').ok_or("WORKLOAD COUNT")? {
            ("send", count) => send(&producer, count.parse()?).await?,
            ("receive", count) => receive(&consumer, count.parse()?).await?,
            _ => {
                println!("it has none");
                continue;
            }
        }
        println!("done");
    }
    Ok(())
}

async fn idle(address: &str, count: usize) -> Result<(), Failure> {
    for at in 0..count {
        let consumer = consumer(address, &format!("bench-idle-{at}"), "bench-idle").await?;
        tokio::spawn(async move {
            while consumer.receive("bench-idle", &everything()).await.is_ok() {}
        });
    }
    println!("ready");
    line().await.map(drop)
}

fn connect(address: &str) -> ClientOption {
    let mut options = ClientOption::default();
    options.set_access_url(address);
    options.set_enable_tls(false);
    options
}

async fn consumer(address: &str, group: &str, topic: &str) -> Result<SimpleConsumer, Failure> {
    let mut options = SimpleConsumerOption::default();
    options.set_topics(vec![topic]);
    options.set_consumer_group(group);
    let mut consumer = SimpleConsumer::new(options, connect(address))?;
    consumer.start().await?;
    Ok(consumer)
}

fn everything() -> FilterExpression {
    FilterExpression::new(FilterType::Tag, "*")
}

async fn line() -> Result<Option<String>, Failure> {
    let line = tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().next().transpose());
    Ok(line.await??)
}

async fn send(producer: &Arc<Producer>, count: usize) -> Result<(), Failure> {
    let started = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..IN_FLIGHT)
        .map(|_| {
            let (producer, started) = (producer.clone(), started.clone());
            tokio::spawn(async move {
                while started.fetch_add(1, Ordering::Relaxed) < count {
                    let message = MessageBuilder::builder()
                        .set_topic("bench")
                        .set_body(vec![b'x'; 1024])
                        .set_tag("t")
                        .set_keys(vec!["key"])
                        .build()?;
                    producer.send(message).await?;
                }
                Ok::<_, Failure>(())
            })
        })
        .collect();
    for worker in workers {
        worker.await??;
    }
    Ok(())
}

/// Its acks take one message each; those of a batch run at the same time.
async fn receive(consumer: &SimpleConsumer, count: usize) -> Result<(), Failure> {
    let mut left = count;
    while left > 0 {
        let messages = consumer.receive("bench", &everything()).await?;
        let acks = futures::future::join_all(messages.iter().map(|message| consumer.ack(message)));
        acks.await.into_iter().collect::<Result<(), _>>()?;
        left = left.saturating_sub(messages.len());
    }
    Ok(())
}
