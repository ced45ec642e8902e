//! Writes trace records to the trace topic in the background. Records are batched into messages, and requests do not wait for
//! them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::event::{TraceClient, TraceEvent};
use crate::layer::WriteCounts;
use crate::service::names::TRACE_TOPIC;
use crate::service::{Message, Messages};

/// The property of a trace message with the client id.
pub const CLIENT_PROPERTY: &str = "TRACE_CLIENT";
/// The maximum number of records that wait to be written, and their maximum size in bytes. Further records are dropped.
const MAX_QUEUED: usize = 50_000;
const MAX_QUEUED_BYTES: usize = 16 << 20;
/// How long a record waits for others to share a message.
const LINGER: Duration = Duration::from_millis(200);
/// The limits of one message: records, bytes of its body, and bytes of its keys, of which brokers store less than 32 KiB.
const MAX_RECORDS: usize = 100;
const MAX_BODY: usize = 64 << 10;
const MAX_KEYS: usize = 12 << 10;
/// The maximum number of messages of one send.
const MAX_MESSAGES: usize = 32;
/// How long a send may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// The least time between two logs of lost records.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct TraceWriter {
    jobs: mpsc::UnboundedSender<Job>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    queued: AtomicUsize,
    queued_bytes: AtomicUsize,
    written: AtomicU64,
    dropped: AtomicU64,
}

enum Job {
    Event(Box<TraceEvent>),
    Flush(Flush),
}

/// A request to write all earlier records.
struct Flush {
    done: oneshot::Sender<()>,
    /// Whether the writer closes afterwards.
    closes: bool,
}

impl TraceWriter {
    pub(super) fn new(messages: Arc<dyn Messages>) -> Self {
        let (jobs, waiting) = mpsc::unbounded_channel();
        let counts = Arc::new(Counts::default());
        let worker = Worker {
            messages,
            counts: counts.clone(),
            open: HashMap::new(),
            full: Vec::new(),
            lost: 0,
            logged: None,
            error: None,
        };
        tokio::spawn(worker.run(waiting));
        Self { jobs, counts }
    }

    /// Queues a record, or drops it if too many are queued.
    pub(super) fn write(&self, event: TraceEvent) {
        let Counts { queued, queued_bytes, dropped, .. } = &*self.counts;
        let size = event.size();
        let records = queued.fetch_add(1, Ordering::Relaxed);
        let bytes = queued_bytes.fetch_add(size, Ordering::Relaxed);
        let has_room = records < MAX_QUEUED && bytes + size <= MAX_QUEUED_BYTES;
        if !has_room || self.jobs.send(Job::Event(Box::new(event))).is_err() {
            queued.fetch_sub(1, Ordering::Relaxed);
            queued_bytes.fetch_sub(size, Ordering::Relaxed);
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes all queued records. With `closes`, then releases the broker and drops further records.
    pub(super) async fn flush(&self, closes: bool) {
        let (done, flushed) = oneshot::channel();
        if self.jobs.send(Job::Flush(Flush { done, closes })).is_ok() {
            let _ = flushed.await;
        }
    }

    pub(super) fn records(&self) -> WriteCounts {
        let Counts { written, dropped, .. } = &*self.counts;
        WriteCounts { written: written.load(Ordering::Relaxed), dropped: dropped.load(Ordering::Relaxed) }
    }
}

struct Worker {
    messages: Arc<dyn Messages>,
    counts: Arc<Counts>,
    /// The batch of each client to which records are added.
    open: HashMap<TraceClient, TraceBatch>,
    full: Vec<(TraceClient, TraceBatch)>,
    /// The number of dropped records that were logged.
    lost: u64,
    logged: Option<Instant>,
    /// The reason why records were dropped last.
    error: Option<String>,
}

/// The records of one message.
#[derive(Default)]
struct TraceBatch {
    records: usize,
    size: usize,
    text: String,
    keys: Vec<String>,
    keys_bytes: usize,
}

impl Worker {
    async fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        while let Some(first) = jobs.recv().await {
            let mut flush = self.take(first);
            if flush.is_none() {
                let more = async {
                    while self.full.len() < MAX_MESSAGES {
                        match jobs.recv().await {
                            Some(job) => flush = self.take(job),
                            None => break,
                        }
                        if flush.is_some() {
                            break;
                        }
                    }
                };
                tokio::select! {
                    () = more => {}
                    () = sleep(LINGER) => {}
                }
            }
            self.write().await;
            let Some(Flush { done, closes }) = flush else { continue };
            if closes {
                drop((self, jobs));
                let _ = done.send(());
                return;
            }
            let _ = done.send(());
        }
    }

    /// Adds a record to its batch, or returns a request to flush.
    fn take(&mut self, job: Job) -> Option<Flush> {
        match job {
            Job::Flush(flush) => return Some(flush),
            Job::Event(event) => {
                let client = event.client.clone();
                let batch = self.open.entry(client.clone()).or_default();
                batch.add(&event);
                if batch.is_full()
                    && let Some(batch) = self.open.remove(&client)
                {
                    self.full.push((client, batch));
                }
            }
        }
        None
    }

    /// Sends all batches.
    async fn write(&mut self) {
        let mut batches = std::mem::take(&mut self.full);
        batches.extend(self.open.drain());
        let mut batches = batches.into_iter().peekable();
        while batches.peek().is_some() {
            let some = batches.by_ref().take(MAX_MESSAGES);
            let mut counts = Vec::new();
            let messages: Vec<_> = some
                .map(|(client, batch)| {
                    counts.push((batch.records, batch.size));
                    batch.into_message(client)
                })
                .collect();
            let stored = self.send(messages).await;
            for (index, (records, size)) in counts.into_iter().enumerate() {
                let counter = if stored.get(index) == Some(&true) {
                    &self.counts.written
                } else {
                    &self.counts.dropped
                };
                counter.fetch_add(records as u64, Ordering::Relaxed);
                self.counts.queued.fetch_sub(records, Ordering::Relaxed);
                self.counts.queued_bytes.fetch_sub(size, Ordering::Relaxed);
            }
        }
        self.log_lost();
    }

    /// Sends messages. Returns for each whether it was stored; empty if the whole send failed.
    async fn send(&mut self, messages: Vec<Message>) -> Vec<bool> {
        let sent = self.messages.send(TRACE_TOPIC, messages, Instant::now() + SEND_TIMEOUT);
        let error = match timeout(SEND_TIMEOUT, sent).await {
            Ok(Ok(results)) => {
                let failed = results.iter().find_map(|result| result.as_ref().err());
                self.error = failed.map(ToString::to_string).or(self.error.take());
                return results.iter().map(Result::is_ok).collect();
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {SEND_TIMEOUT:?}"),
        };
        self.error = Some(error);
        Vec::new()
    }

    fn log_lost(&mut self) {
        let dropped = self.counts.dropped.load(Ordering::Relaxed);
        if dropped == self.lost || self.logged.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            return;
        }
        let lost = dropped - self.lost;
        let error = self.error.take().unwrap_or_else(|| "the queue of records is full".to_owned());
        tracing::warn!(topic = TRACE_TOPIC, lost, error, "dropped records of message trace");
        (self.lost, self.logged) = (dropped, Some(Instant::now()));
    }
}

impl TraceBatch {
    fn add(&mut self, event: &TraceEvent) {
        self.records += 1;
        self.size += event.size();
        event.encode(&mut self.text);
        for key in std::iter::once(event.message_id.as_str()).chain(event.keys()) {
            if self.keys.iter().all(|known| known != key) {
                self.keys_bytes += key.len() + 1;
                self.keys.push(key.to_owned());
            }
        }
    }

    fn is_full(&self) -> bool {
        self.records >= MAX_RECORDS || self.text.len() >= MAX_BODY || self.keys_bytes >= MAX_KEYS
    }

    /// The message looks as if the client had sent it: consoles show its born host as the address of the client.
    fn into_message(self, client: TraceClient) -> Message {
        let id: [u8; 16] = rand::random();
        Message {
            id: hex::encode_upper(id),
            keys: self.keys,
            properties: vec![(CLIENT_PROPERTY.to_owned(), client.id)],
            body: self.text.into(),
            born_at: Some(SystemTime::now()),
            born_host: client.address,
            ..Message::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use parking_lot::Mutex;

    use super::*;
    use crate::layer::TraceStep;
    use crate::service::{
        AckOutcome, Acknowledge, ChangeInvisible, Delivered, Forward, InvisibleOutcome, Receive,
        ServiceError, ServiceErrorKind, StoreReceipt,
    };

    /// Stores sent messages, or refuses all.
    #[derive(Default)]
    struct Broker {
        refuses: bool,
        sent: Mutex<Vec<Message>>,
    }

    fn unused() -> ServiceError {
        ServiceError::new(ServiceErrorKind::Internal, "not used")
    }

    #[async_trait]
    impl Messages for Broker {
        async fn send(
            &self,
            topic: &str,
            messages: Vec<Message>,
            _: Instant,
        ) -> Result<Vec<Result<StoreReceipt, ServiceError>>, ServiceError> {
            assert_eq!(topic, TRACE_TOPIC);
            if self.refuses {
                return Err(unused());
            }
            let stored = messages.iter().map(|_| Ok(StoreReceipt::default())).collect();
            self.sent.lock().extend(messages);
            Ok(stored)
        }

        async fn receive(&self, _: Receive) -> Result<Delivered, ServiceError> {
            Err(unused())
        }

        async fn acknowledge(&self, _: Acknowledge) -> Result<Vec<AckOutcome>, ServiceError> {
            Err(unused())
        }

        async fn change_invisible(&self, _: ChangeInvisible) -> Result<InvisibleOutcome, ServiceError> {
            Err(unused())
        }

        async fn forward_to_dead_letter(&self, _: Forward) -> Result<(), ServiceError> {
            Err(unused())
        }
    }

    fn event(client: &str, id: &str) -> TraceEvent {
        let client = TraceClient { id: client.to_owned(), address: format!("{client}:1") };
        TraceEvent::new(TraceStep::Sent, id, client)
    }

    #[tokio::test]
    async fn records_of_a_client_share_messages() {
        let broker = Arc::new(Broker::default());
        let writer = TraceWriter::new(broker.clone());
        for number in 0..MAX_RECORDS + 1 {
            writer.write(event("a", &format!("m{number}")));
        }
        writer.write(event("b", "m0"));
        writer.flush(false).await;
        let mut sent = std::mem::take(&mut *broker.sent.lock());
        sent.sort_by_key(|message| (message.born_host.clone(), message.keys.len()));
        let sizes: Vec<_> =
            sent.iter().map(|message| (message.born_host.as_str(), message.keys.len())).collect();
        assert_eq!(sizes, [("a:1", 1), ("a:1", MAX_RECORDS), ("b:1", 1)]);
        assert_eq!(writer.records(), WriteCounts { written: MAX_RECORDS as u64 + 2, dropped: 0 });
    }

    #[tokio::test]
    async fn records_that_a_broker_refuses_are_dropped_and_counted() {
        let writer = TraceWriter::new(Arc::new(Broker { refuses: true, ..Broker::default() }));
        // The task has not started yet, so that the queue fills.
        for _ in 0..MAX_QUEUED + 7 {
            writer.write(event("a", "m"));
        }
        assert_eq!(writer.records(), WriteCounts { written: 0, dropped: 7 });
        writer.flush(false).await;
        assert_eq!(writer.records(), WriteCounts { written: 0, dropped: MAX_QUEUED as u64 + 7 });
        // There is room again.
        let waiting = writer.counts.queued_bytes.load(Ordering::Relaxed);
        assert_eq!((writer.counts.queued.load(Ordering::Relaxed), waiting), (0, 0));
    }
}
