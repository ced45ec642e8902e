//! A line of the access log.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::AccessLog;
use crate::error::Error;
use crate::layer::text::cut;
use crate::layer::{Names, Operation, OperationKind, Size};

/// Topics, and groups, in a line.
const MAX_NAMES: usize = 8;

/// The line of a request that is under way. Dropping it means that the request was cancelled.
pub(in crate::layer) struct Entry<'a> {
    log: &'a AccessLog,
    // In a box: without an access log, requests must not take more memory.
    request: Option<Box<Request>>,
    sampled: bool,
    slow: Option<Duration>,
}

/// What is known of a request when it comes in.
struct Request {
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

/// As it is written. The order of the fields is that of the line.
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

impl<'a> Entry<'a> {
    pub(super) fn new(
        log: &'a AccessLog,
        operation: &Operation<'_>,
        user: Option<String>,
        (sampled, slow): (bool, Option<Duration>),
    ) -> Self {
        let context = operation.context;
        let request = Request {
            received: context.received,
            kind: operation.kind,
            protocol: context.protocol.into(),
            peer: context.peer.clone(),
            user: user.map(|user| cut(&user).to_owned()),
            client: cut(&context.client_id).to_owned(),
            topics: some(operation.topics),
            groups: some(operation.groups),
            size: operation.size,
        };
        Self { log, request: Some(Box::new(request)), sampled, slow }
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
        let slow = self.slow.is_some_and(|slow| duration > slow);
        if !self.sampled && !slow {
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
            error: error.map(cut),
        };
        if let Ok(mut line) = serde_json::to_vec(&line) {
            line.push(b'\n');
            self.log.writer.write(line);
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.write("cancelled", Size::default(), None);
    }
}

fn some(names: &dyn Names) -> Vec<String> {
    let mut some: Vec<String> = Vec::new();
    names.each(&mut |name| {
        if some.len() < MAX_NAMES && some.last().is_none_or(|last| last != cut(name)) {
            some.push(cut(name).to_owned());
        }
    });
    some
}
