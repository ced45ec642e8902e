//! Converts searches of message traces, and their results, between the wire and the processor.

use std::str::FromStr;
use std::time::Duration;

use rocketmq_thin_proto::thin as pb;
use tonic::Status;

use super::admin_messages::checked_time;
use super::convert;
use crate::layer::{TraceClient, TraceEvent, TraceStep};
use crate::processor::{FoundTrace, TraceSearch};
use crate::service;

pub(super) fn search_to_wire(search: TraceSearch) -> pb::TraceMessageRequest {
    pb::TraceMessageRequest {
        message_id: search.message_id,
        from: search.from.map(convert::timestamp),
        to: search.to.map(convert::timestamp),
    }
}

pub(super) fn search(request: pb::TraceMessageRequest) -> Result<TraceSearch, Status> {
    if request.message_id.is_empty() {
        return Err(Status::invalid_argument("message_id must not be empty"));
    }
    Ok(TraceSearch {
        message_id: request.message_id,
        from: checked_time("from", request.from)?,
        to: checked_time("to", request.to)?,
    })
}

pub(super) fn found_to_wire(found: FoundTrace) -> pb::TraceMessageResponse {
    let events = found.events.into_iter().map(|event| pb::TraceEvent {
        at: Some(convert::timestamp(service::time(event.at_ms))),
        step: <&str>::from(event.step).to_owned(),
        keys: event.keys().map(str::to_owned).collect(),
        topic: event.topic,
        group: event.group,
        tag: event.tag,
        client_id: event.client.id,
        address: event.client.address,
        cost: prost_types::Duration::try_from(Duration::from_millis(
            u64::try_from(event.cost_ms).unwrap_or_default(),
        ))
        .ok(),
        result: event.result,
        attempt: event.attempt,
        body_bytes: event.body_bytes,
        delivery_id: event.delivery_id,
    });
    pb::TraceMessageResponse { events: events.collect(), complete: found.complete }
}

pub(super) fn found(message_id: &str, response: pb::TraceMessageResponse) -> FoundTrace {
    let event = |event: pb::TraceEvent| {
        // A newer proxy may know more steps. They are skipped.
        let step = TraceStep::from_str(&event.step).ok()?;
        let client = TraceClient { id: event.client_id, address: event.address };
        let cost = event.cost.and_then(|cost| Duration::try_from(cost).ok()).unwrap_or_default();
        Some(TraceEvent {
            at_ms: event.at.and_then(convert::timestamp_millis).unwrap_or_default(),
            topic: event.topic,
            group: event.group,
            tag: event.tag,
            keys: event.keys.join(" "),
            cost_ms: i64::try_from(cost.as_millis()).unwrap_or(i64::MAX),
            result: event.result,
            attempt: event.attempt,
            body_bytes: event.body_bytes,
            delivery_id: event.delivery_id,
            ..TraceEvent::new(step, message_id, client)
        })
    };
    FoundTrace {
        events: response.events.into_iter().filter_map(event).collect(),
        complete: response.complete,
    }
}
