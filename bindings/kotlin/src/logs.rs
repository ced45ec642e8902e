//! Log records of the clients.

use std::sync::Arc;

use rocketmq_thin_bridge as core;

use crate::completions::submit;
use crate::outcome::Outcome;
use crate::registry::Registry;

static LOGS: Registry<Arc<core::Logs>> = Registry::new();

/// The severity of a record.
#[derive(uniffi::Enum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

impl From<LogLevel> for core::LogLevel {
    fn from(given: LogLevel) -> Self {
        match given {
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
        }
    }
}

impl From<core::LogLevel> for LogLevel {
    fn from(level: core::LogLevel) -> Self {
        match level {
            core::LogLevel::Error => Self::Error,
            core::LogLevel::Warn => Self::Warn,
            core::LogLevel::Info => Self::Info,
            core::LogLevel::Debug => Self::Debug,
        }
    }
}

/// One log record of a client.
#[derive(uniffi::Record)]
pub(crate) struct LogRecord {
    level: LogLevel,
    /// The message, followed by the fields as `name=value`.
    text: String,
}

impl From<core::LogRecord> for LogRecord {
    fn from(record: core::LogRecord) -> Self {
        Self { level: record.level.into(), text: record.to_string() }
    }
}

/// Collects the log records of the clients from now on, of this level and of more severe ones.
#[uniffi::export]
pub(crate) fn open_logs(level: LogLevel) -> Outcome {
    Outcome::from_result(Some(core::Logs::new(level.into())), |logs| {
        Outcome::registered(LOGS.insert(Arc::new(logs)), |key| LOGS.remove(key))
    })
}

/// Waits until there are records.
#[uniffi::export]
pub(crate) fn wait_for_logs(logs: i64) -> i64 {
    submit(|| Some(LOGS.get(logs)?.wait()))
}

/// Takes the records that have arrived, oldest first.
#[uniffi::export]
pub(crate) fn take_logs(logs: i64) -> Outcome {
    let take = || Some(LOGS.get(logs)?.take());
    Outcome::from_result(take(), |records| Outcome::LogRecords {
        records: records.into_iter().map(Into::into).collect(),
    })
}

/// Stops collecting records. A pending `wait_for_logs` ends.
#[uniffi::export]
pub(crate) fn close_logs(logs: i64) {
    if let Some(logs) = LOGS.get(logs) {
        logs.close();
    }
}
