//! The access log: a JSON object per line for each request, for a sample of requests, or for slow requests.

mod entry;
mod writer;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{RequestFacts, WriteCounts};
pub(super) use entry::LogEntry;
use entry::Selection;
use writer::LineWriter;

/// The configuration of the access log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogConfig {
    /// The file that lines are appended to, or `-` for standard error. There is no access log without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The share of requests that are logged, from 0 to 1, regardless of their results [default: 1].
    pub sample: f64,
    /// Requests that take longer than this are logged in any case, except those that wait for messages.
    #[serde(with = "crate::duration::optional", skip_serializing_if = "Option::is_none")]
    pub slow: Option<Duration>,
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self { file: None, sample: 1.0, slow: None }
    }
}

impl AccessLogConfig {
    /// Checks the constraints that the types do not express.
    ///
    /// # Errors
    /// `Sample`.
    pub fn check(&self) -> Result<(), AccessLogError> {
        let is_share = (0.0..=1.0).contains(&self.sample);
        if is_share { Ok(()) } else { Err(AccessLogError::Sample(self.sample)) }
    }
}

/// Why the access log can't be opened.
#[derive(Debug, Error)]
pub enum AccessLogError {
    /// The file can't be opened.
    #[error("cannot open the access log {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The share of requests is not between 0 and 1.
    #[error("the share {0} of requests is not between 0 and 1")]
    Sample(f64),
}

/// Logs requests. A slow or full disk does not delay requests: lines are dropped and counted.
pub struct AccessLog {
    sample: f64,
    slow: Option<Duration>,
    writer: LineWriter,
}

impl AccessLog {
    /// Opens the log. Returns `None` if no file is configured.
    ///
    /// # Errors
    /// [`AccessLogError`].
    pub fn open(config: &AccessLogConfig) -> Result<Option<Self>, AccessLogError> {
        config.check()?;
        let Some(file) = &config.file else { return Ok(None) };
        let failed = |source| AccessLogError::Open { path: file.clone(), source };
        let writer = LineWriter::open(file).map_err(failed)?;
        Ok(Some(Self { sample: config.sample, slow: config.slow, writer }))
    }

    /// Reopens the file, after a log rotation has renamed it.
    pub fn reopen(&self) {
        self.writer.reopen();
    }

    /// Completes when all earlier lines are written or dropped.
    pub async fn flushed(&self) {
        self.writer.flushed().await;
    }

    /// The numbers of written and of dropped lines.
    #[must_use]
    pub fn lines(&self) -> WriteCounts {
        self.writer.lines()
    }

    /// Begins the line of a request. Returns `None` if the request is not logged in any case. `user` returns the user that the
    /// request claims to come from.
    pub(super) fn begin<'a>(
        &'a self,
        facts: &RequestFacts<'_>,
        user: impl FnOnce() -> Option<String>,
    ) -> Option<LogEntry<'a>> {
        let sampled = self.sample >= 1.0 || rand::random::<f64>() < self.sample;
        let slow = self.slow.filter(|_| !facts.kind.waits());
        (sampled || slow.is_some())
            .then(|| LogEntry::new(&self.writer, facts, user(), Selection { sampled, slow }))
    }
}
