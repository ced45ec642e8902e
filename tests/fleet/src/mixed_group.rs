//! A group with two push consumers: Apache's classic client 4.9.3, and ours over gRPC. One of them hangs in its handlers.
//! The other one must get all messages that the hung one has not begun to handle, and those as well when the hung one ends.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rocketmq_thin::{
    CLOSE_DEADLINE, Client, ClientOptions, ConsumeResult, Message, ProducerOptions, PushConsumer,
    PushConsumerOptions,
};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, interval, timeout, timeout_at};

const MESSAGES: u32 = 10_000;
/// How many messages the hung consumer handles before it hangs.
const HANDLED_BEFORE: usize = 500;
/// How many messages a hung consumer may keep. The proxy leaves a classic one the 64 that it may have begun, and what came
/// with the last of them.
const KEPT: usize = 96;
/// The cache of our consumer. It renews the leases of all messages in its cache.
const CACHED: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hung {
    Classic,
    Grpc,
}

impl Hung {
    /// The consumer that hangs, as a part of names and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Grpc => "grpc",
        }
    }
}

/// The messages that were acknowledged to the producer, and how often each message was handled.
#[derive(Default)]
struct Ledger {
    sent: HashSet<String>,
    handled: HashMap<String, u32>,
    errors: Vec<String>,
}

impl Ledger {
    fn missing(&self) -> usize {
        self.sent.iter().filter(|body| !self.handled.contains_key(*body)).count()
    }

    /// Notes handled messages until at most this many are missing.
    async fn wait(
        &mut self,
        missing: usize,
        handled: &mut UnboundedReceiver<String>,
        patience: Duration,
    ) -> Result<()> {
        let until = Instant::now() + patience;
        while self.missing() > missing {
            let body = timeout_at(until, handled.recv()).await;
            let body = body.ok().flatten().with_context(|| {
                format!(
                    "{} of {} messages are missing; expected at most {missing}",
                    self.missing(),
                    self.sent.len()
                )
            })?;
            self.note(body);
            // Counting the missing ones takes a while.
            while let Ok(body) = handled.try_recv() {
                self.note(body);
            }
        }
        Ok(())
    }

    fn note(&mut self, body: String) {
        *self.handled.entry(body).or_default() += 1;
    }
}

/// Sends to `topic` during the first half of the load, and waits until everything is handled. Returns a line for the report, or
/// an error if messages are missing.
pub(crate) async fn run(
    endpoint: &str,
    topic: &str,
    (hung, classic_client): (Hung, &str),
    (load, patience): (Duration, Duration),
) -> Result<String> {
    let (handles, mut handled) = unbounded_channel();
    let (mut classic, _home) =
        start_classic((classic_client, endpoint), (topic, hung), handles.clone()).await?;
    let (client, _consumer) = start_grpc(endpoint, (topic, hung), handles).await?;
    let mut ledger = Ledger::default();
    send(endpoint, topic, load / 2, &mut ledger).await?;
    let title = format!("mixed group, {} hangs", hung.name());
    let since = Instant::now();
    ledger.wait(KEPT, &mut handled, patience).await.with_context(|| title.clone())?;
    let (rest, kept) = (since.elapsed(), ledger.missing());
    match hung {
        Hung::Classic => classic.kill().await?,
        Hung::Grpc => drop(client.close(Duration::from_secs(1)).await),
    }
    ledger.wait(0, &mut handled, patience).await.with_context(|| title.clone())?;
    let again: u32 = ledger.handled.values().map(|times| times - 1).sum();
    let line = format!(
        "{title}: {} acknowledged, all but {kept} handled {} s after the last, 0 missing at the end, {again} came again, {} errors",
        ledger.sent.len(),
        rest.as_secs(),
        ledger.errors.len()
    );
    ensure!(
        ledger.errors.is_empty(),
        "{line}; errors {:?}",
        ledger.errors.iter().take(5).collect::<Vec<_>>()
    );
    Ok(line)
}

async fn send(endpoint: &str, topic: &str, duration: Duration, ledger: &mut Ledger) -> Result<()> {
    let client = Client::connect(ClientOptions::new(endpoint)).await?;
    let producer = client.producer(ProducerOptions::new([topic])).await?;
    let mut pace = interval(duration / MESSAGES);
    for number in 0..MESSAGES {
        pace.tick().await;
        let body = number.to_string();
        match producer.send(Message::new(topic, body.clone())).await {
            Ok(_) => drop(ledger.sent.insert(body)),
            Err(error) => ledger.errors.push(format!("{body}: {error}")),
        }
    }
    client.close(CLOSE_DEADLINE).await;
    Ok(())
}

/// Starts our consumer. A hung handler does not report its message.
async fn start_grpc(
    endpoint: &str,
    (topic, hung): (&str, Hung),
    handles: UnboundedSender<String>,
) -> Result<(Client, PushConsumer)> {
    let client = Client::connect(ClientOptions::new(endpoint)).await?;
    let options = PushConsumerOptions::new(topic, [topic]).max_cached_messages(CACHED);
    let consumer = client.push_consumer(options).await?;
    let begun = Arc::new(AtomicUsize::new(0));
    consumer.start(move |delivery| {
        let (handles, begun) = (handles.clone(), begun.clone());
        async move {
            if hung == Hung::Grpc && begun.fetch_add(1, Ordering::Relaxed) >= HANDLED_BEFORE {
                pending::<()>().await;
            }
            // Nobody receives it after an error.
            let _ = handles.send(String::from_utf8_lossy(&delivery.body).into_owned());
            ConsumeResult::Ack
        }
    })?;
    Ok((client, consumer))
}

/// Starts Apache's classic consumer, which prints a line when it is ready and then the body of each message that it has handled.
async fn start_classic(
    (class_path, endpoint): (&str, &str),
    (topic, hung): (&str, Hung),
    handles: UnboundedSender<String>,
) -> Result<(Child, TempDir)> {
    let home = tempfile::tempdir()?;
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/java/Classic.java");
    let hangs_after = if hung == Hung::Classic { HANDLED_BEFORE } else { usize::MAX };
    let mut java = Command::new("java");
    java.arg("-Xmx256m").arg(format!("-Duser.home={}", home.path().display()));
    java.args(["-cp", class_path.trim(), program, endpoint, topic, &hangs_after.to_string()]);
    // The client writes its logs into the home directory.
    java.env("HOME", home.path()).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = java.spawn().context("starting java")?;
    let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    let ready = timeout(Duration::from_secs(60), lines.next_line()).await.context("waiting for java")??;
    ensure!(ready.as_deref() == Some("ready"), "the classic client printed {ready:?}");
    tokio::spawn(async move {
        while let Ok(Some(body)) = lines.next_line().await {
            let _ = handles.send(body);
        }
    });
    Ok((child, home))
}
