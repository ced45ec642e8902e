//! Builds ReceiveMessage requests, and reads the deliveries of their responses.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use rocketmq_thin_proto::v2;

use super::{body, settings::filter};
use crate::{
    error::{Error, ErrorKind},
    message::{DeadLetterOrigin, Delivery, Group, Lease, LeasedMessage},
    options::{Endpoints, Filter},
    route::Queue,
    rpc::{CallContext, Outcome, Received},
    trace,
};

/// The parameters of a subscription that all its polls share.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) group: Arc<Group>,
    pub(crate) topic: Arc<str>,
    pub(crate) filter: Filter,
    /// The maximum size of a body after decompression, in bytes.
    pub(crate) max_body_size: usize,
}

/// The parameters of one long poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Poll {
    pub(crate) max_messages: u32,
    pub(crate) invisible: Duration,
    pub(crate) wait: Duration,
}

/// One attempt of a long poll.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    /// Retries of a poll use the same id, so that the server can return the same messages again.
    pub(crate) id: &'a str,
    pub(crate) poll: Poll,
    pub(crate) source: &'a Source,
    pub(crate) queue: &'a Queue,
}

/// Builds the request of an attempt.
pub(crate) fn build_receive(
    group: v2::Resource,
    topic: v2::Resource,
    attempt: &Attempt<'_>,
) -> v2::ReceiveMessageRequest {
    let Attempt { id, poll, source, queue } = attempt;
    v2::ReceiveMessageRequest {
        group: Some(group),
        message_queue: Some(v2::MessageQueue {
            topic: Some(topic),
            id: queue.id,
            permission: v2::Permission::ReadWrite.into(),
            broker: Some(v2::Broker { name: queue.broker.to_string(), id: 0, endpoints: None }),
            accept_message_types: Vec::new(),
        }),
        filter_expression: Some(filter(&source.filter)),
        batch_size: i32::try_from(poll.max_messages).unwrap_or(i32::MAX),
        invisible_duration: Some(super::duration(poll.invisible)),
        auto_renew: false,
        long_polling_timeout: Some(super::duration(poll.wait)),
        attempt_id: Some((*id).to_owned()),
    }
}

/// Returns the deliveries of one long poll; empty if there was no message.
pub(crate) fn process_receive(
    call: &CallContext,
    received: Received,
    attempt: &Attempt<'_>,
) -> Result<Vec<Delivery>, Error> {
    if received.messages.is_empty() {
        return match call.check(received.status.as_ref()) {
            Ok(Outcome::Done | Outcome::PerEntry) => Ok(Vec::new()),
            Err(error) if is_empty_poll(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
    }
    let Attempt { poll, source, queue, .. } = attempt;
    // The server counts the leases from before it sends the messages.
    let since = received.started.unwrap_or_else(Instant::now);
    let lease = LeaseTime { since, length: poll.invisible };
    let delivery = |message| delivery(message, source, &queue.endpoints, lease);
    let mut deliveries: Vec<_> = received.messages.into_iter().map(delivery).collect();
    decompress_bodies(&mut deliveries, source.max_body_size);
    Ok(deliveries)
}

/// Decompresses bodies up to `max_total` bytes in total. The other ones stay compressed until they are handed out, because
/// a small response may contain many bodies that are large when they are decompressed.
fn decompress_bodies(deliveries: &mut [Delivery], max_total: usize) {
    let mut left = max_total;
    for delivery in deliveries {
        let Some(max_size) = delivery.compressed else { continue };
        let plain = body::decompress(&delivery.body, max_size.min(left));
        if plain.is_none() && left < max_size {
            return;
        }
        left -= plain.as_ref().map_or(0, Bytes::len);
        set_plain(delivery, plain);
    }
}

/// Decompresses the body of a delivery, if it is still compressed.
pub(crate) fn decompress_body(delivery: &mut Delivery) {
    if let Some(max_size) = delivery.compressed {
        let plain = body::decompress(&delivery.body, max_size);
        set_plain(delivery, plain);
    }
}

/// Sets the decompressed body; `None` marks the delivery as corrupted.
fn set_plain(delivery: &mut Delivery, plain: Option<Bytes>) {
    delivery.compressed = None;
    match plain {
        Some(plain) => delivery.body = plain,
        None => delivery.corrupted = true,
    }
}

fn is_empty_poll(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound && error.code() == Some(v2::Code::MessageNotFound.into())
}

/// When a lease began, and how long it lasts.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaseTime {
    pub(super) since: Instant,
    pub(super) length: Duration,
}

/// Converts a message that the server at `endpoints` has delivered. Does not decompress its body.
pub(super) fn delivery(
    message: v2::Message,
    source: &Source,
    endpoints: &Endpoints,
    lease: LeaseTime,
) -> Delivery {
    let system = message.system_properties.unwrap_or_default();
    let compressed = body::is_compressed(&message.body, &system);
    let mut properties: Vec<_> = message.user_properties.into_iter().collect();
    properties.sort_unstable();
    // OpenTelemetry's instrumentation of Apache's client sets only the property.
    let trace_parent = system.trace_context.filter(|context| !context.is_empty());
    let trace_parent = trace_parent.or_else(|| trace::trace_parent(&properties).map(str::to_owned));
    let leased = LeasedMessage {
        message_id: system.message_id.clone(),
        topic: source.topic.clone(),
        lite_topic: system.lite_topic.clone(),
        group: source.group.clone(),
        endpoints: endpoints.clone(),
    };
    let lease = Lease::new(system.receipt_handle.unwrap_or_default(), leased, lease.since, lease.length);
    let origin =
        system.dead_letter_queue.map(|origin| DeadLetterOrigin::new(origin.topic, origin.message_id));
    Delivery {
        message_id: system.message_id,
        // The subscribed name, because servers truncate the name of a topic at its first percent sign.
        topic: source.topic.to_string(),
        corrupted: compressed.is_none(),
        compressed: compressed.filter(|compressed| *compressed).map(|_| source.max_body_size),
        body: message.body,
        tag: system.tag,
        keys: system.keys,
        properties,
        message_group: system.message_group,
        deliver_at: system.delivery_timestamp.and_then(time),
        priority: system.priority,
        lite_topic: system.lite_topic,
        dead_letter_origin: origin,
        trace_parent,
        born_at: system.born_timestamp.and_then(time),
        born_host: system.born_host,
        stored_at: system.store_timestamp.and_then(time),
        attempt: system.delivery_attempt.and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(1),
        queue_id: system.queue_id,
        queue_offset: system.queue_offset.unwrap_or(-1),
        lease: Arc::new(lease),
    }
}

fn time(timestamp: prost_types::Timestamp) -> Option<SystemTime> {
    SystemTime::try_from(timestamp).ok()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::route::AcceptedTypes;

    fn source() -> Source {
        let group = Arc::new(Group { namespace: String::new(), name: "g".into() });
        Source { group, topic: "%DLQ%g".into(), filter: Filter::All, max_body_size: 100 }
    }

    fn process(code: Option<v2::Code>, messages: Vec<v2::Message>) -> Result<Vec<Delivery>, Error> {
        let call = CallContext { operation: "receive", endpoint: "h:1".into(), request_id: "r".into() };
        let status = code.map(|code| v2::Status { code: code.into(), message: String::new() });
        let endpoints = Endpoints::from_iter([]);
        let broker = "b".into();
        let accepts = AcceptedTypes::new(Vec::new());
        let queue = Queue { id: 0, broker, endpoints, readable: true, writable: true, accepts };
        let second = Duration::from_secs(1);
        let poll = Poll { max_messages: 1, invisible: second, wait: second };
        let attempt = Attempt { id: "1", poll, source: &source(), queue: &queue };
        process_receive(&call, Received { status, messages, ..Received::default() }, &attempt)
    }

    fn message(system: v2::SystemProperties) -> v2::Message {
        v2::Message {
            topic: None,
            user_properties: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into(),
            system_properties: Some(system),
            body: "body".into(),
        }
    }

    #[test]
    fn every_field_of_a_delivery_is_converted() {
        let system = v2::SystemProperties {
            tag: Some("t".into()),
            keys: vec!["k".into()],
            message_id: "id".into(),
            born_timestamp: Some(UNIX_EPOCH.into()),
            born_host: "there".into(),
            receipt_handle: Some("handle".into()),
            queue_id: 3,
            queue_offset: Some(9),
            delivery_attempt: Some(2),
            message_group: Some("g".into()),
            delivery_timestamp: Some((UNIX_EPOCH + Duration::from_millis(1500)).into()),
            priority: Some(7),
            lite_topic: Some("l".into()),
            dead_letter_queue: Some(v2::DeadLetterQueue { topic: "o".into(), message_id: "before".into() }),
            trace_context: Some("00-1-2-01".into()),
            ..Default::default()
        };
        let deliveries = process(Some(v2::Code::Ok), vec![message(system)]).unwrap();
        let delivery = &deliveries[0];
        assert_eq!((delivery.message_id.as_str(), delivery.topic.as_str()), ("id", "%DLQ%g"));
        assert_eq!(delivery.properties, [("a".into(), "1".into()), ("b".into(), "2".into())]);
        assert_eq!((delivery.attempt, delivery.queue_id, delivery.queue_offset), (2, 3, 9));
        assert_eq!((delivery.born_at, delivery.stored_at), (Some(UNIX_EPOCH), None));
        assert_eq!((delivery.lease.handle().as_str(), delivery.corrupted), ("handle", false));
        assert_eq!(delivery.deliver_at, Some(UNIX_EPOCH + Duration::from_millis(1500)));
        assert_eq!((delivery.priority, delivery.lite_topic.as_deref()), (Some(7), Some("l")));
        assert_eq!(delivery.dead_letter_origin, Some(DeadLetterOrigin::new("o".into(), "before".into())));
        assert_eq!(delivery.trace_parent.as_deref(), Some("00-1-2-01"));
        let leased = delivery.lease.message();
        assert_eq!((leased.message_id.as_str(), leased.lite_topic.as_deref()), ("id", Some("l")));
    }

    #[test]
    fn a_broken_body_marks_only_its_delivery() {
        let broken = v2::SystemProperties { body_encoding: v2::Encoding::Gzip.into(), ..Default::default() };
        let deliveries =
            process(Some(v2::Code::Ok), vec![message(broken), message(Default::default())]).unwrap();
        let seen: Vec<_> = deliveries.iter().map(|it| (it.corrupted, &it.body[..])).collect();
        assert_eq!(seen, [(true, &b"body"[..]), (false, &b"body"[..])]);
    }

    #[test]
    fn bodies_are_decompressed_up_to_the_maximum_in_total() {
        let packed = |plain: &str| {
            let system =
                v2::SystemProperties { body_encoding: v2::Encoding::Gzip.into(), ..Default::default() };
            v2::Message { body: body::compress(plain.as_bytes()).unwrap(), ..message(system) }
        };
        let (small, large, too_large) = ("a".repeat(60), "b".repeat(90), "c".repeat(101));
        let messages = [&small, &large, &too_large, &small].map(|plain| packed(plain)).to_vec();
        let mut deliveries = process(Some(v2::Code::Ok), messages).unwrap();
        deliveries.push(process(Some(v2::Code::Ok), vec![packed(&too_large)]).unwrap().remove(0));
        let packed: Vec<_> = deliveries.iter().map(|it| it.compressed.is_some()).collect();
        assert_eq!(packed, [false, true, true, true, false]);
        deliveries.iter_mut().for_each(decompress_body);
        let corrupted: Vec<_> = deliveries.iter().map(|it| it.corrupted).collect();
        assert_eq!(corrupted, [false, false, true, false, true]);
        assert!(deliveries.iter().all(|it| it.compressed.is_none()));
        assert_eq!(deliveries[0].body, small);
        assert_eq!(deliveries[1].body, large);
    }

    #[test]
    fn an_empty_poll_is_not_an_error() {
        assert!(process(Some(v2::Code::MessageNotFound), vec![]).unwrap().is_empty());
        assert!(process(Some(v2::Code::Ok), vec![]).unwrap().is_empty());
        assert_eq!(process(Some(v2::Code::Forbidden), vec![]).unwrap_err().code(), Some(40300));
        assert_eq!(process(None, vec![]).unwrap_err().kind(), ErrorKind::Protocol);
    }

    #[test]
    fn messages_without_a_status_are_returned() {
        assert_eq!(process(None, vec![message(Default::default())]).unwrap().len(), 1);
    }
}
