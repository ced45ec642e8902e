//! Converts spans to the messages of OTLP. Names are those of OpenTelemetry's semantic conventions for messaging, where there
//! are such.

use std::net::SocketAddr;

use rocketmq_thin_proto::otlp;
use rocketmq_thin_proto::otlp::any_value::Value;
use rocketmq_thin_proto::otlp::span::{Link, SpanKind};
use rocketmq_thin_proto::otlp::status::StatusCode;

use super::values::{attribute, nanos, scope, text};
use crate::layer::{OperationKind, Span, SpanFailure, TraceParent};

/// The request that exports spans.
pub(super) fn build(spans: Vec<Span>, resource: &otlp::Resource) -> otlp::ExportTraceServiceRequest {
    let spans = spans.into_iter().map(span).collect();
    let scope_spans = vec![otlp::ScopeSpans { scope: Some(scope()), spans }];
    otlp::ExportTraceServiceRequest {
        resource_spans: vec![otlp::ResourceSpans { resource: Some(resource.clone()), scope_spans }],
    }
}

fn span(span: Span) -> otlp::Span {
    let operation: &str = span.operation.into();
    let started = nanos(span.started);
    let took = u64::try_from(span.duration.as_nanos()).unwrap_or(u64::MAX);
    let link = |TraceParent { trace_id, span_id, .. }| Link {
        trace_id: trace_id.to_vec(),
        span_id: span_id.to_vec(),
    };
    otlp::Span {
        trace_id: span.trace_id.to_vec(),
        span_id: span.span_id.to_vec(),
        parent_span_id: span.parent.map(Vec::from).unwrap_or_default(),
        name: if span.topic.is_empty() {
            operation.to_owned()
        } else {
            format!("{operation} {}", span.topic)
        },
        kind: SpanKind::Server.into(),
        start_time_unix_nano: started,
        end_time_unix_nano: started.saturating_add(took),
        attributes: attributes(&span, operation),
        status: span.failure.as_ref().map(status),
        dropped_links_count: span.dropped_links,
        links: span.links.into_iter().map(link).collect(),
    }
}

fn attributes(span: &Span, operation: &str) -> Vec<otlp::KeyValue> {
    let protocol: &str = span.protocol.into();
    let mut attributes = vec![
        text("messaging.system", "rocketmq"),
        text("messaging.operation.name", operation),
        text("network.protocol.name", protocol),
        text("messaging.client.id", &span.client_id),
    ];
    attributes.extend(operation_type(span.operation).map(|kind| text("messaging.operation.type", kind)));
    for (name, value) in
        [("messaging.destination.name", &span.topic), ("messaging.consumer.group.name", &span.group)]
    {
        attributes.extend((!value.is_empty()).then(|| text(name, value)));
    }
    if let Ok(peer) = span.peer.parse::<SocketAddr>() {
        attributes.push(text("client.address", peer.ip().to_string()));
        attributes.push(attribute("client.port", Value::IntValue(peer.port().into())));
    }
    if span.messages.messages > 0 {
        let number = |value: usize| Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX));
        attributes.push(attribute("messaging.batch.message_count", number(span.messages.messages)));
        attributes.push(attribute("rocketmq.message.body_bytes", number(span.messages.bytes)));
    }
    attributes.extend(span.failure.as_ref().map(|failure| {
        text(
            "error.type",
            match failure {
                SpanFailure::Error(kind, _) => kind.into(),
                SpanFailure::Cancelled => "cancelled",
            },
        )
    }));
    attributes
}

/// The kind of operation in the semantic conventions. `None` if there is none for it.
fn operation_type(operation: OperationKind) -> Option<&'static str> {
    use OperationKind::{Acknowledge, ChangeInvisible, ForwardToDeadLetter, Pull, Receive, Send, SendBack};
    match operation {
        Send => Some("send"),
        Receive | Pull => Some("receive"),
        Acknowledge | ChangeInvisible | ForwardToDeadLetter | SendBack => Some("settle"),
        _ => None,
    }
}

fn status(failure: &SpanFailure) -> otlp::Status {
    let message = match failure {
        SpanFailure::Error(_, message) => message.clone(),
        SpanFailure::Cancelled => String::new(),
    };
    otlp::Status { message, code: StatusCode::Error.into() }
}
