//! Honest clients: each sends, receives and acknowledges, one message after the other.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use rocketmq_thin::{
    CLOSE_DEADLINE, Client, ClientOptions, Filter, Message, Producer, ProducerOptions, ReceiveOptions,
    SimpleConsumer, SimpleConsumerOptions, Subscription,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A call that takes longer is a slow one.
pub const LONGEST_CALL: Duration = Duration::from_secs(1);

/// An honest client at work. Each needs a topic of its own.
pub struct Honest {
    stop: oneshot::Sender<()>,
    messages: Arc<AtomicU64>,
    running: JoinHandle<Report>,
}

/// What an honest client does.
#[derive(Clone, Debug)]
pub struct Work {
    /// The topic that it sends to and receives from.
    pub topic: String,
    /// Bytes of a message's body.
    pub body: usize,
    /// The pause between two messages.
    pub pause: Duration,
}

/// What an honest client saw.
#[derive(Debug, Default)]
pub struct Report {
    /// How many calls it made.
    pub calls: u64,
    /// How many messages failed on their way.
    pub errors: u64,
    /// The longest call, and which one it was.
    pub slowest: (Duration, &'static str),
    /// Calls that took longer than [`LONGEST_CALL`].
    pub slow: Vec<SlowCall>,
    /// The first error's text.
    pub first_error: Option<String>,
}

/// A call that took longer than [`LONGEST_CALL`].
#[derive(Clone, Debug)]
pub struct SlowCall {
    /// Which call it was.
    pub name: &'static str,
    /// When it began.
    pub started: Instant,
    /// How long it took.
    pub took: Duration,
}

impl Honest {
    /// Connects to a proxy and begins to work.
    ///
    /// # Errors
    /// The client's, while it connects.
    pub async fn start(address: &str, work: Work) -> Result<Self> {
        let client = Client::connect(ClientOptions::new(address)).await?;
        let producer = client.producer(ProducerOptions::new([work.topic.as_str()])).await?;
        let subscription = Subscription::new(work.topic.as_str(), Filter::All);
        let consumer = client.simple_consumer(SimpleConsumerOptions::new("honest", [subscription])).await?;
        let (stop, mut stopped) = oneshot::channel();
        let messages = Arc::new(AtomicU64::new(0));
        let counted = messages.clone();
        let running = tokio::spawn(async move {
            let mut report = Report::default();
            while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
                if let Err(error) = report.exchange(&producer, &consumer, &work).await {
                    report.errors += 1;
                    report.first_error.get_or_insert_with(|| format!("{error:#}"));
                }
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(work.pause).await;
            }
            client.close(CLOSE_DEADLINE).await;
            report
        });
        Ok(Self { stop, messages, running })
    }

    /// How many messages it has sent so far.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Ends the client after its message under way.
    pub async fn stop(self) -> Report {
        let _ = self.stop.send(());
        self.running.await.expect("an honest client does not panic")
    }
}

/// Sends more than the proxy keeps in memory, and reads it from the disk as a group that is behind.
///
/// # Errors
/// The client's.
pub async fn read_back(address: &str, topic: &str, messages: usize, body: usize) -> Result<()> {
    let client = Client::connect(ClientOptions::new(address)).await?;
    let producer = client.producer(ProducerOptions::new([topic])).await?;
    for _ in 0..messages {
        producer.send(Message::new(topic, vec![b'x'; body])).await?;
    }
    let subscription = Subscription::new(topic, Filter::All);
    let consumer = client.simple_consumer(SimpleConsumerOptions::new("behind", [subscription])).await?;
    let mut received = 0;
    while received < messages {
        for delivery in consumer.receive(ReceiveOptions::default()).await? {
            consumer.ack(&delivery).await?;
            received += 1;
        }
    }
    client.close(CLOSE_DEADLINE).await;
    Ok(())
}

impl Report {
    async fn exchange(&mut self, producer: &Producer, consumer: &SimpleConsumer, work: &Work) -> Result<()> {
        let message = Message::new(work.topic.as_str(), vec![b'x'; work.body]);
        self.timed("send", producer.send(message)).await?;
        let deliveries = self.timed("receive", consumer.receive(ReceiveOptions::default())).await?;
        anyhow::ensure!(!deliveries.is_empty(), "a message did not arrive");
        for delivery in deliveries {
            anyhow::ensure!(delivery.attempt == 1, "a message was delivered again");
            self.timed("ack", consumer.ack(&delivery)).await?;
        }
        Ok(())
    }

    async fn timed<T>(
        &mut self,
        name: &'static str,
        call: impl Future<Output = rocketmq_thin::Result<T>>,
    ) -> Result<T> {
        let started = Instant::now();
        let result = call.await;
        self.calls += 1;
        let took = started.elapsed();
        self.slowest = self.slowest.max((took, name));
        if took > LONGEST_CALL {
            self.slow.push(SlowCall { name, started, took });
        }
        Ok(result?)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (slowest, name) = self.slowest;
        write!(f, "{} calls, {} errors, the slowest ({name}) took {slowest:?}", self.calls, self.errors)
    }
}
