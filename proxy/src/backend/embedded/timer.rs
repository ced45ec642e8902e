//! Timers: delayed messages, stored in the order of their due times until they are moved to their queues.
//!
//! The value is the topic's id (4 bytes) and the queue (4 bytes), big-endian, then the message ([`super::codec`]). A
//! recalled message leaves its timer with its id in place of the message, so that a recall can be repeated.

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};

use super::codec::{self, Encoded};
use super::commit::{Commit, MAX_BYTES_READ, MAX_MOVED};
use super::keys;
use super::scan::{Record, Scan};
use super::store::{OpenDatabase, Store, corrupt};
use crate::service::ServiceError;

/// Identifies a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerKey {
    /// When it is due, in ms.
    pub(super) due: u64,
    /// Distinguishes timers that are due in the same millisecond.
    pub(super) sequence: u64,
}

impl TimerKey {
    const FIRST: Self = Self { due: 0, sequence: 0 };

    fn read(key: &[u8]) -> Result<Self, ServiceError> {
        let (due, sequence) = keys::timer_parts(key).ok_or_else(|| corrupt("timer key"))?;
        Ok(Self { due, sequence })
    }

    /// The key of its record.
    pub(super) fn encode(self) -> [u8; 20] {
        keys::timer(self.due, self.sequence)
    }
}

/// A delayed message to store.
pub(super) struct DelayedMessage<'a> {
    /// Its timer, due when the message may be delivered.
    pub(super) timer: TimerKey,
    pub(super) topic: u32,
    pub(super) queue: u32,
    pub(super) message: &'a Encoded,
}

/// A timer that is due.
pub(super) struct DueTimer {
    pub(super) key: TimerKey,
    pub(super) topic: u32,
    /// The queue and the message. `None` if the message was recalled.
    pub(super) message: Option<(u32, Encoded)>,
}

/// The timers that are due now.
pub(super) struct DueTimers {
    pub(super) timers: Vec<DueTimer>,
    /// Where the other timers begin.
    pub(super) rest: TimerKey,
    /// When the first of the others is due, in ms. `None` if there are none.
    pub(super) next_due: Option<u64>,
}

/// The position of the writer thread in the timers on the disk.
pub(super) struct Timers {
    // No timer is earlier. This avoids reading over removed records of delivered timers.
    from: TimerKey,
    // In ms. `None` without timers.
    next_due: Option<u64>,
    // Set after a failure.
    paused_until: Option<Instant>,
}

/// How long deliveries pause after a failure.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// The length of the topic's id and the queue in a record.
const HEADER: usize = 8;
/// Takes the place of the queue in the timer of a recalled message. No queue has this number.
const RECALLED: u32 = u32::MAX;
/// The longest wait before the wall clock is read again. It may be set, and it runs on while the machine is suspended.
const MAX_CLOCK_WAIT: Duration = Duration::from_secs(1);

impl Timers {
    /// Finds the first due time. Reads the disk.
    pub(super) fn open(store: &Store) -> Result<Self, ServiceError> {
        let mut timers = Self { from: TimerKey::FIRST, next_due: None, paused_until: None };
        timers.reload(store)?;
        Ok(timers)
    }

    /// How long to wait before the next call of [`Timers::is_due`]. `None` without timers. `now` is in ms.
    pub(super) fn wait(&self, now: u64) -> Option<Duration> {
        // Times are rounded down to milliseconds. A message is due after its millisecond has passed, so it is never
        // early.
        let until_due = Duration::from_millis(self.next_due?.saturating_add(1).saturating_sub(now));
        let pause =
            self.paused_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        Some(until_due.max(pause).min(MAX_CLOCK_WAIT))
    }

    /// Whether a message is due.
    pub(super) fn is_due(&self, now: u64) -> bool {
        let paused = self.paused_until.is_some_and(|until| Instant::now() < until);
        !paused && self.next_due.is_some_and(|due| due < now)
    }

    /// Adds a timer to a commit.
    pub(super) fn add(&mut self, waiting: &DelayedMessage<'_>, commit: &mut Commit) {
        let DelayedMessage { timer, topic, queue, message } = *waiting;
        commit.put(&timer.encode(), record(topic, queue, &[&message.head, &message.body]));
        // If the commit fails, this causes one needless read.
        self.from = self.from.min(timer);
        self.next_due = Some(self.next_due.map_or(timer.due, |next| next.min(timer.due)));
    }

    /// Reads the timers that are due from the disk, the earliest first, as many as one commit may move. Damaged ones are
    /// passed over.
    pub(super) fn due(&self, store: &Store, now: u64) -> Result<DueTimers, ServiceError> {
        let mut due = DueTimers { timers: Vec::new(), rest: self.from, next_due: None };
        let mut bytes = 0;
        let log = store.log()?;
        let until = keys::timer(now, 0);
        for record in self.stored(&log).values_if(|key| key < until.as_slice()).reported() {
            let Record { key, value } = record?;
            let key = TimerKey::read(&key)?;
            if key.due >= now || due.timers.len() >= MAX_MOVED || bytes >= MAX_BYTES_READ {
                (due.rest, due.next_due) = (key, Some(key.due));
                break;
            }
            due.rest = TimerKey { sequence: key.sequence.saturating_add(1), ..key };
            let Some(mut value) = value.filter(|value| value.len() >= HEADER) else { continue };
            bytes += value.len();
            let (topic, queue) = (value.get_u32(), value.get_u32());
            let message = (queue != RECALLED).then_some((queue, Encoded { head: Vec::new(), body: value }));
            due.timers.push(DueTimer { key, topic, message });
        }
        Ok(due)
    }

    /// Continues with these timers, because the due ones were removed or passed over. `rest` and `next_due` are of
    /// [`Timers::due`].
    pub(super) fn continue_with(&mut self, rest: TimerKey, next_due: Option<u64>) {
        (self.from, self.next_due) = (rest, next_due);
    }

    /// Finds the first due time after the log was opened again. Reads the disk.
    pub(super) fn reload(&mut self, store: &Store) -> Result<(), ServiceError> {
        self.from = TimerKey::FIRST;
        let log = store.log()?;
        let first = self.stored(&log).values_if(|_| false).reported().next().transpose()?;
        self.next_due = first.map(|first| TimerKey::read(&first.key)).transpose()?.map(|key| key.due);
        Ok(())
    }

    fn stored<'a>(&self, log: &'a OpenDatabase) -> Scan<'a> {
        Scan::range(log, &self.from.encode(), &keys::timer(u64::MAX, u64::MAX))
    }

    /// Pauses deliveries after a failure.
    pub(super) fn postpone(&mut self) {
        self.paused_until = Some(Instant::now() + RETRY_DELAY);
    }
}

/// Recalls the message of a timer, if it belongs to the topic and has this id. Returns whether it is recalled now, also
/// by an earlier call. Reads the disk.
pub(super) fn recall(
    timer: TimerKey,
    topic: u32,
    message_id: &str,
    commit: &mut Commit,
) -> Result<bool, ServiceError> {
    let key = timer.encode();
    let Some(mut value) = commit.get(&key)?.sound().filter(|value| value.len() >= HEADER) else {
        return Ok(false);
    };
    let (of_topic, queue) = (value.get_u32(), value.get_u32());
    let is_recalled = queue == RECALLED;
    let is_same = match is_recalled {
        true => value == message_id.as_bytes(),
        false => codec::decode(&value).map_err(|_| corrupt("timer"))?.message.id == message_id,
    };
    if of_topic != topic || !is_same {
        return Ok(false);
    }
    if !is_recalled {
        commit.put(&key, record(topic, RECALLED, &[message_id.as_bytes()]));
    }
    Ok(true)
}

/// Whether a record can be delivered.
pub(super) fn is_sound(mut record: Bytes) -> bool {
    if record.len() < HEADER {
        return false;
    }
    let (_topic, queue) = (record.get_u32(), record.get_u32());
    queue == RECALLED || codec::decode(&record).is_ok()
}

fn record(topic: u32, queue: u32, rest: &[&[u8]]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER + rest.iter().map(|part| part.len()).sum::<usize>());
    value.extend_from_slice(&topic.to_be_bytes());
    value.extend_from_slice(&queue.to_be_bytes());
    rest.iter().for_each(|part| value.extend_from_slice(part));
    value
}

#[cfg(test)]
mod tests {
    use super::super::broker::Broker;
    use super::super::config::EmbeddedConfig;
    use super::*;
    use crate::service::{Delay, Message};

    #[tokio::test]
    async fn a_commit_delivers_a_bounded_number_of_bytes() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = EmbeddedConfig { data_dir: directory.path().to_owned(), ..EmbeddedConfig::default() };
        let broker = Broker::open(config).expect("a fresh directory opens");
        let later = std::time::SystemTime::now() + Duration::from_secs(600);
        for _ in 0..6 {
            let message = Message {
                delay: Some(Delay::Until(later)),
                body: vec![7; 3 << 20].into(),
                ..Message::default()
            };
            let deadline = Instant::now() + Duration::from_secs(30);
            broker.store_messages("topic", vec![message], deadline).await.expect("a send");
        }
        let timers = Timers::open(&broker.store).expect("timers");
        assert_eq!(timers.due(&broker.store, u64::MAX).expect("due").timers.len(), 2);
    }
}
