//! The broker under test: shorthands for its services, and ways to restart it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::super::broker::Broker;
use super::super::clock;
use super::super::config::{EmbeddedConfig, Flush};
use super::super::retention::{Cutoff, Retention};
use super::super::testing;
use super::rules::ReceiveParams;
use crate::service::{
    self, AckOutcome, Acknowledge, BrokerRequest, ChangeInvisible, CheckOutcome, Delivery, EndTransaction,
    Filter, Forward, GroupConfig, GroupStart, InvisibleOutcome, LiteAction, LiteChange, Message, NextAttempt,
    Receive, Resolution, RetryPolicy, ServiceError, Services, Settle, StoreReceipt, TopicConfig, TopicKind,
};

/// The time before the first orphan check of a half message, and between two checks, in ms.
pub(super) const CHECK_INTERVAL: u64 = 10_000;
/// How many orphan checks a half message gets at most.
pub(super) const MAX_CHECKS: u32 = 2;

/// A broker with a directory and a clock of its own.
pub(super) struct BrokerUnderTest {
    directory: TempDir,
    // `None` only during a restart.
    broker: Option<Arc<Broker>>,
    clock: Arc<clock::controlled::Clock>,
}

/// A topic, and a group that consumes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) topic: &'static str,
    pub(super) group: &'static str,
    pub(super) kind: TopicKind,
    pub(super) selection: Selection,
}

/// The filter of a group.
#[derive(Clone, Copy, Debug)]
pub(super) enum Selection {
    All,
    /// Passes messages with one of two tags.
    Tags,
    /// Passes messages for which an SQL expression is true.
    Sql,
}

/// The tag of a message.
pub(super) fn tag_of(number: u32) -> String {
    format!("tag-{}", number % 3)
}

/// The property `n` of a message.
pub(super) fn property_of(number: u32) -> u32 {
    number % 5
}

impl Selection {
    /// Whether the filter passes a message.
    pub(super) fn matches(self, number: u32) -> bool {
        match self {
            Self::All => true,
            Self::Tags => number % 3 != 1,
            Self::Sql => number % 3 == 1 || property_of(number) > 2,
        }
    }

    fn filter(self) -> Filter {
        match self {
            Self::All => Filter::All,
            Self::Tags => Filter::Tags(vec!["tag-0".to_owned(), "tag-2".to_owned()]),
            Self::Sql => Filter::Sql("TAGS = 'tag-1' OR n > 2".to_owned()),
        }
    }
}

/// The number of message groups, lite topics and priorities.
pub(super) const CLASSES: u32 = 3;
const CLIENT: &str = "client";

impl BrokerUnderTest {
    /// Creates a broker with these topics and groups.
    pub(super) async fn new(sources: &[Source]) -> Self {
        let clock = clock::controlled::begin(1_700_000_000_000);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = Some(Arc::new(testing::open(config(directory.path())).await));
        let subject = Self { directory, broker, clock };
        let metadata = subject.services().metadata;
        for source in sources {
            let topic = TopicConfig::new(source.topic, source.kind, 3);
            // Several groups consume the same topic.
            let _ = metadata.create_topic(topic, false).await;
            metadata.create_group(group(source), false).await.expect("a new group");
        }
        let dead = Source { topic: "", group: "dead", kind: TopicKind::Normal, selection: Selection::All };
        metadata.create_group(group(&dead), false).await.expect("a new group");
        subject.announce(sources).await;
        subject
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.now()
    }

    fn services(&self) -> Services {
        Services::of(self.broker().clone())
    }

    /// Registers producers and subscriptions, which the broker keeps only in memory.
    async fn announce(&self, sources: &[Source]) {
        let services = self.services();
        let topics: Vec<_> = sources.iter().map(|source| source.topic.to_owned()).collect();
        services.broker_requests.announce_producers(&topics).await;
        let lite = sources.iter().filter(|source| source.kind == TopicKind::Lite);
        for (source, class) in lite.flat_map(|source| (0..CLASSES).map(move |class| (source, class))) {
            let change = LiteChange {
                client_id: CLIENT.to_owned(),
                topic: source.topic.to_owned(),
                group: source.group.to_owned(),
                action: LiteAction::Add,
                lite_topics: vec![class_name(class)],
                quota: 100,
                start: None,
                deadline: deadline(),
            };
            services.lite.sync(change).await.expect("a subscription");
        }
    }

    /// Advances the clock, and lets the broker do everything that is due.
    pub(super) async fn pass(&self, time: u64) {
        self.clock.advance(time);
        self.broker().expiry.wake_due();
        // The writer thread delivers due messages after each change, as many as fit in a commit.
        for _ in 0..2 {
            self.broker().change(deadline(), |_, _| Ok(())).await.expect("an empty change");
        }
    }

    /// Removes the messages that were stored before this time.
    pub(super) fn expire(&self, before: u64) {
        let broker = self.broker();
        let retention = Retention::new(broker.store.clone(), broker.catalog.clone(), &broker.config);
        retention.remove_stored_before(Cutoff::At(before)).expect("a pass");
        retention.review_lite_topics(None, Cutoff::At(before)).expect("a pass");
    }

    /// Stops the broker and starts it again.
    pub(super) async fn restart(&mut self, sources: &[Source]) {
        self.broker().writer.stop();
        self.broker().progress_writer.stop();
        self.broker().store.sync().expect("a sync");
        self.start(sources).await;
    }

    /// Starts a broker on a copy of the files as the operating system sees them, as after a SIGKILL.
    pub(super) async fn kill(&mut self, sources: &[Source]) {
        let copy = tempfile::tempdir().expect("a temporary directory");
        copy_files(self.directory.path(), copy.path()).expect("a copy");
        self.broker = None;
        self.directory = copy;
        self.start(sources).await;
    }

    async fn start(&mut self, sources: &[Source]) {
        self.broker = None;
        self.broker = Some(Arc::new(testing::open(config(self.directory.path())).await));
        self.announce(sources).await;
        // So that no two starts are in the same millisecond.
        self.pass(1).await;
    }

    fn broker(&self) -> &Arc<Broker> {
        self.broker.as_ref().expect("it is started")
    }

    pub(super) async fn send(&self, topic: &str, message: Message) -> StoreReceipt {
        let sent = self.services().messages.send(topic, vec![message], deadline()).await;
        sent.expect("a send").remove(0).expect("a message")
    }

    /// Receives messages without waiting. Returns `None` if the topic does not exist.
    pub(super) async fn receive(&self, source: Source, asked: ReceiveParams) -> Option<Vec<Delivery>> {
        let ReceiveParams { max, invisible, attempt_id } = asked;
        let request = Receive {
            topic: source.topic.to_owned(),
            group: source.group.to_owned(),
            broker: None,
            filter: source.selection.filter(),
            max,
            invisible: Duration::from_millis(invisible),
            deadline: Instant::now(),
            fifo: source.kind == TopicKind::Fifo,
            attempt_id: attempt_id.map(|id| id.to_string()),
            lite_client: (source.kind == TopicKind::Lite).then(|| CLIENT.to_owned()),
        };
        match self.services().messages.receive(request).await {
            Ok(service::Delivered::Messages(deliveries)) => Some(deliveries),
            Ok(_) => Some(Vec::new()),
            Err(error) if error.kind == service::ServiceErrorKind::TopicNotFound => None,
            Err(error) => panic!("{error}"),
        }
    }

    pub(super) async fn acknowledge(&self, source: Source, entry: Settle) -> AckOutcome {
        let request = Acknowledge {
            topic: source.topic.to_owned(),
            group: source.group.to_owned(),
            entries: vec![entry],
            deadline: deadline(),
        };
        self.services().messages.acknowledge(request).await.expect("an acknowledgement").remove(0)
    }

    pub(super) async fn change(
        &self,
        source: Source,
        entry: Settle,
        (invisible, next_attempt): (u64, NextAttempt),
    ) -> InvisibleOutcome {
        let request = ChangeInvisible {
            topic: source.topic.to_owned(),
            group: source.group.to_owned(),
            entry,
            invisible: Duration::from_millis(invisible),
            next_attempt,
            deadline: deadline(),
        };
        self.services().messages.change_invisible(request).await.expect("a change")
    }

    pub(super) async fn forward(&self, source: Source, entry: Settle) {
        let (topic, group) = (source.topic.to_owned(), source.group.to_owned());
        let request = Forward { topic, group, entry, deadline: deadline() };
        self.services().messages.forward_to_dead_letter(request).await.expect("a forward");
    }

    pub(super) async fn end(
        &self,
        topic: &str,
        coordinates: &str,
        resolution: Resolution,
    ) -> Result<(), ServiceError> {
        let end = EndTransaction {
            topic: topic.to_owned(),
            message_id: String::new(),
            coordinates: coordinates.to_owned(),
            resolution,
            answers_check: false,
            deadline: deadline(),
        };
        self.services().transactions.end(end).await
    }

    pub(super) async fn recall(&self, topic: &str, handle: &str) -> Result<String, ServiceError> {
        self.services().messages.recall(topic, handle, deadline()).await
    }

    /// Takes the checks that are due, and reports that producers were asked. Returns the ids of the messages.
    pub(super) async fn checks(&self) -> Vec<String> {
        let requests = self.services().broker_requests;
        let mut asked = Vec::new();
        // Each poll reads the checks of one topic through the writer thread.
        let mut idle_polls = 0;
        while idle_polls < 10 {
            let next = requests.next();
            tokio::pin!(next);
            match futures::poll!(next) {
                Poll::Ready(BrokerRequest::Check(check)) => {
                    requests.checked(&check.coordinates, CheckOutcome::Sent).await;
                    asked.push(check.message.id);
                    idle_polls = 0;
                }
                Poll::Ready(BrokerRequest::LiteUnsubscribed { .. } | BrokerRequest::Reply { .. }) => {}
                Poll::Pending => {
                    idle_polls += 1;
                    self.broker().change(deadline(), |_, _| Ok(())).await.expect("an empty change");
                }
            }
        }
        asked
    }
}

/// The configuration of a group in which attempts are never exhausted.
fn group(source: &Source) -> GroupConfig {
    GroupConfig {
        name: source.group.to_owned(),
        fifo: source.kind == TopicKind::Fifo,
        consume: true,
        max_retries: 1_000_000,
        retry: RetryPolicy::default(),
        lite_bind_topic: (source.kind == TopicKind::Lite).then(|| source.topic.to_owned()),
        lite_quota: 100,
        lite_exclusive: false,
        // A group may receive for the first time after messages have expired.
        start: GroupStart::Earliest,
    }
}

/// The name of a message group or lite topic.
pub(super) fn class_name(class: u32) -> String {
    format!("class-{class}")
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn config(data_dir: &Path) -> EmbeddedConfig {
    EmbeddedConfig {
        data_dir: data_dir.to_owned(),
        flush: Flush::Async,
        // Small, so that consumers read the disk, too.
        cache_bytes: 40_000,
        transaction_timeout: Duration::from_millis(CHECK_INTERVAL),
        transaction_check_interval: Duration::from_millis(CHECK_INTERVAL),
        transaction_check_max: MAX_CHECKS,
        ..EmbeddedConfig::default()
    }
}

/// Copies a folder. Blocks of zeros become holes, because journals are preallocated.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_files(&entry.path(), &target)?;
            continue;
        }
        let (mut source, mut copy) = (File::open(entry.path())?, File::create(target)?);
        let mut block = vec![0; 1 << 18];
        loop {
            let length = source.read(&mut block)?;
            if length == 0 {
                break;
            }
            if block[..length].iter().all(|byte| *byte == 0) {
                copy.seek(SeekFrom::Current(length as i64))?;
            } else {
                copy.write_all(&block[..length])?;
            }
        }
        copy.set_len(source.metadata()?.len())?;
    }
    Ok(())
}
