//! The honest client: it sends, receives and acknowledges, one message after the other.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use rocketmq_thin::{
    CLOSE_DEADLINE, Client, ClientOptions, Filter, Message, Producer, ProducerOptions, ReceiveOptions,
    SimpleConsumer, SimpleConsumerOptions, Subscription,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const TOPIC: &str = "honest";
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) struct Honest {
    stop: oneshot::Sender<()>,
    running: JoinHandle<Report>,
}

/// What the honest client saw.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) slowest: Duration,
    pub(crate) first_error: Option<String>,
}

impl Honest {
    pub(crate) async fn start(address: &str) -> Result<Self> {
        let client = Client::connect(ClientOptions::new(address)).await?;
        let producer = client.producer(ProducerOptions::new([TOPIC])).await?;
        let subscription = Subscription::new(TOPIC, Filter::All);
        let consumer = client.simple_consumer(SimpleConsumerOptions::new("honest", [subscription])).await?;
        let (stop, mut stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            let mut report = Report::default();
            while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
                if let Err(error) = report.exchange(&producer, &consumer).await {
                    report.errors += 1;
                    report.first_error.get_or_insert_with(|| format!("{error:#}"));
                }
                tokio::time::sleep(PAUSE).await;
            }
            client.close(CLOSE_DEADLINE).await;
            report
        });
        Ok(Self { stop, running })
    }

    pub(crate) async fn stop(self) -> Report {
        let _ = self.stop.send(());
        self.running.await.expect("the honest client does not panic")
    }
}

impl Report {
    async fn exchange(&mut self, producer: &Producer, consumer: &SimpleConsumer) -> Result<()> {
        self.timed(producer.send(Message::new(TOPIC, "body"))).await?;
        let deliveries = self.timed(consumer.receive(ReceiveOptions::default())).await?;
        anyhow::ensure!(!deliveries.is_empty(), "a message did not arrive");
        for delivery in deliveries {
            anyhow::ensure!(delivery.attempt == 1, "a message was delivered again");
            self.timed(consumer.ack(&delivery)).await?;
        }
        Ok(())
    }

    async fn timed<T>(&mut self, call: impl Future<Output = rocketmq_thin::Result<T>>) -> Result<T> {
        let started = Instant::now();
        let result = call.await;
        self.calls += 1;
        self.slowest = self.slowest.max(started.elapsed());
        Ok(result?)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls, {} errors, the slowest took {:?}", self.calls, self.errors, self.slowest)
    }
}
