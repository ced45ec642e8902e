//! Passes the log records of clients to a binding, which hands them to the logging library of its language.
//!
//! The core logs with `tracing`. This library links its own copy of `tracing`, so its subscriber sees only
//! the events of the core, and does not affect other libraries in the process. It is installed with the first
//! [`Logs`].

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, Weak};

use parking_lot::Mutex;
use rocketmq_thin::Error;
use tokio::sync::Notify;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::operation::Operation;
use crate::outcome::Outcome;
use crate::process::Process;
use crate::process_bound::ProcessBound;

/// The maximum number of records that wait to be fetched. Further records are dropped and counted.
const MAX_RECORDS: usize = 1024;

/// The maximum size of the message and of each field of a record, in bytes: they may contain texts of a
/// server.
const MAX_TEXT_BYTES: usize = 2048;

/// The severity of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// The client has lost data, or a part of it no longer works.
    Error,
    /// A failure that the client recovers from, or a problem that the application should know of.
    Warn,
    /// A change of state.
    Info,
    /// Details for developers of the client.
    Debug,
}

impl LogLevel {
    /// Returns `error`, `warn`, `info` or `debug`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// Returns the level that [`name`](Self::name) calls `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Error, Self::Warn, Self::Info, Self::Debug].into_iter().find(|level| level.name() == name)
    }

    /// Returns `None` for levels that are more verbose than `Debug`.
    fn from_tracing(level: Level) -> Option<Self> {
        match level {
            Level::ERROR => Some(Self::Error),
            Level::WARN => Some(Self::Warn),
            Level::INFO => Some(Self::Info),
            Level::DEBUG => Some(Self::Debug),
            _ => None,
        }
    }
}

/// One log record of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// The severity.
    pub level: LogLevel,
    /// The message, without the fields.
    pub message: String,
    /// The fields: names and values.
    pub fields: Vec<(&'static str, String)>,
}

impl fmt::Display for LogRecord {
    /// Writes the message and then each field as `name=value`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.fields.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// The log records of the clients of this process. There may be several `Logs` at the same time.
pub struct Logs(ProcessBound<Arc<Records>>);

impl Logs {
    /// Collects the records from now on, of this level and of more severe ones.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the process cannot start a thread.
    pub fn new(level: LogLevel) -> Result<Self, Error> {
        static INSTALLED: Once = Once::new();
        let process = Process::current()?;
        let (buffer, arrived, closed) = (Mutex::default(), Notify::new(), AtomicBool::new(false));
        let records = Arc::new(Records { level, buffer, arrived, closed });
        process.log_listeners().lock().push(Arc::downgrade(&records));
        // Fails if there is already a subscriber: this library may be part of a program that has its own.
        INSTALLED.call_once(|| drop(tracing::subscriber::set_global_default(RecordSubscriber)));
        Ok(Self(ProcessBound::new(records, process)))
    }

    /// Waits for records. Completes with [`Outcome::Done`] when there are some, and with [`Outcome::End`] once the
    /// logs are closed and all records are taken.
    pub fn wait(&self) -> Operation {
        self.0.operation("logs", |records| async move {
            loop {
                let closed = records.closed.load(Ordering::SeqCst);
                if !records.buffer.lock().is_empty() {
                    return Ok(Outcome::Done);
                }
                if closed {
                    return Ok(Outcome::End);
                }
                records.arrived.notified().await;
            }
        })
    }

    /// Takes the records that have arrived, oldest first. Never blocks.
    ///
    /// # Errors
    ///
    /// `Closed` in a forked child.
    pub fn take(&self) -> Result<Vec<LogRecord>, Error> {
        self.0.call("logs", |records| records.buffer.lock().take())
    }

    /// Stops collecting records. Does nothing in a forked child.
    pub fn close(&self) {
        if let Some(records) = self.0.get() {
            records.closed.store(true, Ordering::SeqCst);
            records.arrived.notify_one();
        }
    }
}

/// Records that wait to be fetched.
pub(crate) struct Records {
    level: LogLevel,
    buffer: Mutex<Buffer>,
    arrived: Notify,
    closed: AtomicBool,
}

/// The records of all open [`Logs`] of a process.
pub(crate) type Listeners = Mutex<Vec<Weak<Records>>>;

#[derive(Default)]
struct Buffer {
    records: VecDeque<LogRecord>,
    dropped: u64,
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    fn push(&mut self, record: &LogRecord) {
        if self.records.len() < MAX_RECORDS {
            self.records.push_back(record.clone());
        } else {
            self.dropped += 1;
        }
    }

    /// Takes all records. If records were dropped, an additional last record says how many.
    fn take(&mut self) -> Vec<LogRecord> {
        let dropped = mem::take(&mut self.dropped);
        let lost = (dropped > 0).then(|| LogRecord {
            level: LogLevel::Warn,
            message: "further records were dropped because they were not fetched in time".to_owned(),
            fields: vec![("dropped", dropped.to_string())],
        });
        self.records.drain(..).chain(lost).collect()
    }
}

impl Records {
    fn accepts(&self, level: LogLevel) -> bool {
        level <= self.level && !self.closed.load(Ordering::SeqCst)
    }
}

/// The `tracing` subscriber, which turns events of the core into log records.
struct RecordSubscriber;

impl RecordSubscriber {
    /// Returns whether this is an event of the client, and not of a library that it uses.
    fn is_client_event(metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("rocketmq_thin")
    }
}

impl Subscriber for RecordSubscriber {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::is_client_event(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Self::is_client_event(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn event(&self, event: &Event<'_>) {
        let Some(level) = LogLevel::from_tracing(*event.metadata().level()) else { return };
        let Some(process) = Process::existing() else { return };
        let listeners: Vec<_> = {
            let mut listeners = process.log_listeners().lock();
            listeners.retain(|listener| listener.strong_count() > 0);
            listeners.iter().filter_map(Weak::upgrade).filter(|listener| listener.accepts(level)).collect()
        };
        if listeners.is_empty() {
            return;
        }
        let mut record = LogRecord { level, message: String::new(), fields: Vec::new() };
        event.record(&mut record);
        for listener in listeners {
            listener.buffer.lock().push(&record);
            listener.arrived.notify_one();
        }
    }

    // The core has no spans.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Visit for LogRecord {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = TruncatedText(String::new());
        // Fails once the text has its maximum size.
        let _ = write!(text, "{value:?}");
        match field.name() {
            "message" => self.message = text.0,
            name => self.fields.push((name, text.0)),
        }
    }
}

/// A text of at most [`MAX_TEXT_BYTES`] bytes. A longer text is cut off.
struct TruncatedText(String);

impl Write for TruncatedText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut length = text.len().min(MAX_TEXT_BYTES - self.0.len());
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        self.0.push_str(&text[..length]);
        if length == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::running_operation::run;

    fn record(message: String) -> LogRecord {
        LogRecord { level: LogLevel::Info, message, fields: Vec::new() }
    }

    #[test]
    fn events_arrive_with_their_fields_until_the_logs_are_closed() {
        let logs = Logs::new(LogLevel::Info).unwrap();
        let text = "x".repeat(MAX_TEXT_BYTES + 1);
        tracing::warn!(target: "rocketmq_thin::test", endpoint = "h:1", tries = 3, text, "it is {}", "lost");
        tracing::debug!(target: "rocketmq_thin::test", "too verbose");
        tracing::error!(target: "hyper::test", "not ours");
        assert!(matches!(run(logs.wait()), Outcome::Done));
        // Clients of other tests may log, too.
        let records = logs.take().unwrap();
        let record = records.iter().find(|record| record.message == "it is lost").unwrap();
        assert_eq!(
            (record.level, &record.fields[..2]),
            (LogLevel::Warn, &[("endpoint", "h:1".to_owned()), ("tries", "3".to_owned())][..])
        );
        assert_eq!(record.fields[2].1.len(), MAX_TEXT_BYTES);
        assert!(record.to_string().starts_with("it is lost endpoint=h:1 tries=3 text=x"), "{record}");
        assert!(records.iter().all(|record| record.message != "too verbose" && record.message != "not ours"));
        logs.close();
        assert!(matches!(run(logs.wait()), Outcome::End));
    }

    #[test]
    fn records_beyond_the_maximum_are_dropped_and_counted() {
        let mut buffer = Buffer::default();
        (0..MAX_RECORDS + 3).for_each(|number| buffer.push(&record(number.to_string())));
        let records = buffer.take();
        assert_eq!(records.len(), MAX_RECORDS + 1);
        assert_eq!(records[MAX_RECORDS - 1].message, (MAX_RECORDS - 1).to_string());
        assert_eq!(records[MAX_RECORDS].fields, [("dropped", "3".to_owned())]);
        assert!(buffer.take().is_empty());
    }
}
