//! What clients report about themselves.

use std::sync::Arc;

use rocketmq_thin_bridge as core;

use crate::completions::submit;
use crate::outcome::Outcome;
use crate::registry::Registry;

static LOGS: Registry<Arc<core::Logs>> = Registry::new();

/// How much a record matters.
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

/// One thing that a client reports.
#[derive(uniffi::Record)]
pub(crate) struct LogRecord {
    level: LogLevel,
    /// What happened, with the particulars.
    text: String,
}

impl From<core::LogRecord> for LogRecord {
    fn from(record: core::LogRecord) -> Self {
        Self { level: record.level.into(), text: record.to_string() }
    }
}

/// What the clients report from now on, up to this level.
#[uniffi::export]
pub(crate) fn follow_logs(level: LogLevel) -> Outcome {
    Outcome::answer(Some(core::Logs::new(level.into())), |logs| {
        Outcome::made(LOGS.insert(Arc::new(logs)), |key| LOGS.remove(key))
    })
}

/// Waits until there are records.
#[uniffi::export]
pub(crate) fn logs_arrived(logs: i64) -> i64 {
    submit(|| Some(LOGS.get(logs)?.wait()))
}

/// The records that have arrived.
#[uniffi::export]
pub(crate) fn take_logs(logs: i64) -> Outcome {
    let take = || Some(LOGS.get(logs)?.take());
    Outcome::answer(take(), |records| Outcome::Logged {
        records: records.into_iter().map(Into::into).collect(),
    })
}

/// Ends the records: those who wait for them learn it.
#[uniffi::export]
pub(crate) fn close_logs(logs: i64) {
    if let Some(logs) = LOGS.get(logs) {
        logs.close();
    }
}
