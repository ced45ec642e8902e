//! A line of the access log, collected while its request is in flight.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::writer::LineWriter;
use crate::error::Error;
use crate::layer::truncate::truncate;
use crate::layer::{Names, OperationKind, RequestFacts, Size};

/// The maximum number of topics, and of groups, in a line.
const MAX_NAMES: usize = 8;

/// The line of a request in flight. Dropping it without [`LogEntry::finish`] logs the request as cancelled.
pub(in crate::layer) struct LogEntry<'a> {
    writer: &'a LineWriter,
    // Boxed, so that requests take no more memory without an access log.
    request: Option<Box<LoggedRequest>>,
    selection: Selection,
}

/// Why a request is logged.
#[derive(Clone, Copy)]
pub(super) struct Selection {
    /// Whether it belongs to the sample.
    pub(super) sampled: bool,
    /// It is logged if it takes longer than this.
    pub(super) slow: Option<Duration>,
}

/// The fields that are known when the request begins.
struct LoggedRequest {
    received: Instant,
    kind: OperationKind,
    protocol: &'static str,
    peer: Arc<str>,
    user: Option<String>,
    client: String,
    topics: Vec<String>,
    groups: Vec<String>,
    size: Size,
}

/// The line as it is written, with its fields in this order.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    peer: &'a str,
    protocol: &'a str,
    operation: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    client: &'a str,
    topics: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    groups: &'a [String],
    code: &'a str,
    duration_ms: f64,
    messages: usize,
    bytes: usize,
    answer_messages: usize,
    answer_bytes: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    slow: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl<'a> LogEntry<'a> {
    pub(super) fn new(
        writer: &'a LineWriter,
        facts: &RequestFacts<'_>,
        user: Option<String>,
        selection: Selection,
    ) -> Self {
        let context = facts.context;
        let request = LoggedRequest {
            received: context.received,
            kind: facts.kind,
            protocol: context.protocol.into(),
            peer: context.peer.clone(),
            user: user.map(|user| truncate(&user).to_owned()),
            client: truncate(&context.client_id).to_owned(),
            topics: distinct_names(facts.topics),
            groups: distinct_names(facts.groups),
            size: facts.size,
        };
        Self { writer, request: Some(Box::new(request)), selection }
    }

    /// Writes the line of a request that has ended.
    pub(in crate::layer) fn finish(mut self, result: Result<Size, &Error>) {
        match result {
            Ok(answer) => self.write("ok", answer, None),
            Err(error) => self.write(error.kind.into(), Size::default(), Some(&error.message)),
        }
    }

    fn write(&mut self, code: &str, answer: Size, error: Option<&str>) {
        let Some(request) = self.request.take() else { return };
        let duration = request.received.elapsed();
        let slow = self.selection.slow.is_some_and(|slow| duration > slow);
        if !self.selection.sampled && !slow {
            return;
        }
        let line = Line {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            peer: &request.peer,
            protocol: request.protocol,
            operation: request.kind.into(),
            user: request.user.as_deref(),
            client: &request.client,
            topics: &request.topics,
            groups: &request.groups,
            code,
            duration_ms: duration.as_micros() as f64 / 1000.0,
            messages: request.size.messages,
            bytes: request.size.bytes,
            answer_messages: answer.messages,
            answer_bytes: answer.bytes,
            slow,
            error: error.map(truncate),
        };
        if let Ok(mut line) = serde_json::to_vec(&line) {
            line.push(b'\n');
            self.writer.write(line);
        }
    }
}

impl Drop for LogEntry<'_> {
    fn drop(&mut self) {
        self.write("cancelled", Size::default(), None);
    }
}

/// The first [`MAX_NAMES`] names, without immediate repetitions.
fn distinct_names(names: &dyn Names) -> Vec<String> {
    let mut some: Vec<String> = Vec::new();
    names.each(&mut |name| {
        if some.len() < MAX_NAMES && some.last().is_none_or(|last| last != truncate(name)) {
            some.push(truncate(name).to_owned());
        }
    });
    some
}
