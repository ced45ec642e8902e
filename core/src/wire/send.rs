//! Builds SendMessage requests, and reads their results.

use std::time::SystemTime;

use rocketmq_thin_proto::v2;

use crate::{
    error::{Error, ErrorKind},
    message::{Message, MessageType, Receipt},
    rpc::{CallContext, Outcome},
    trace::trace_parent,
};

/// A message to send, with the fields that the client adds.
#[derive(Debug)]
pub(crate) struct OutgoingMessage {
    pub(crate) message: Message,
    pub(crate) message_type: MessageType,
    pub(crate) deliver_at: Option<SystemTime>,
    /// Whether the body is compressed.
    pub(crate) compressed: bool,
    pub(crate) id: String,
    pub(crate) born_at: SystemTime,
}

impl OutgoingMessage {
    /// Prepares a message that is sent at `now`.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if its fields contradict each other.
    pub(crate) fn new(
        message: Message,
        in_transaction: bool,
        id: String,
        now: SystemTime,
    ) -> Result<Self, Error> {
        let message_type = message.message_type(in_transaction)?;
        let deliver_at = message.delivery_time(now)?;
        Ok(Self { message, message_type, deliver_at, compressed: false, id, born_at: now })
    }
}

/// Builds a request with messages of one topic, for one queue.
pub(crate) fn build_send<'a>(
    topic: &v2::Resource,
    queue_id: i32,
    born_host: &str,
    messages: impl Iterator<Item = &'a OutgoingMessage>,
) -> v2::SendMessageRequest {
    let build = |outgoing: &OutgoingMessage| {
        let Message { body, tag, keys, properties, message_group, priority, lite_topic, .. } =
            &outgoing.message;
        let encoding = if outgoing.compressed { v2::Encoding::Gzip } else { v2::Encoding::Identity };
        v2::Message {
            topic: Some(topic.clone()),
            user_properties: properties.iter().cloned().collect(),
            system_properties: Some(v2::SystemProperties {
                tag: tag.clone(),
                keys: keys.clone(),
                message_id: outgoing.id.clone(),
                body_encoding: encoding.into(),
                message_type: wire_type(outgoing.message_type).into(),
                message_group: message_group.clone(),
                delivery_timestamp: outgoing.deliver_at.map(Into::into),
                priority: *priority,
                lite_topic: lite_topic.clone(),
                born_timestamp: Some(outgoing.born_at.into()),
                born_host: born_host.to_owned(),
                queue_id,
                trace_context: trace_parent(properties).map(str::to_owned),
                ..Default::default()
            }),
            body: body.clone(),
        }
    };
    v2::SendMessageRequest { messages: messages.map(build).collect() }
}

fn wire_type(message_type: MessageType) -> v2::MessageType {
    match message_type {
        MessageType::Normal => v2::MessageType::Normal,
        MessageType::Fifo => v2::MessageType::Fifo,
        MessageType::Delay => v2::MessageType::Delay,
        MessageType::Priority => v2::MessageType::Priority,
        MessageType::Lite => v2::MessageType::Lite,
        MessageType::Transaction => v2::MessageType::Transaction,
    }
}

/// Returns the result of each message of the request, in order.
///
/// For a batch, Apache's proxy returns one entry, with all ids joined by commas and the offset of the first message. Other
/// servers return an entry for each message.
pub(crate) fn process_send<'a>(
    call: &CallContext,
    response: v2::SendMessageResponse,
    sent: impl ExactSizeIterator<Item = &'a OutgoingMessage>,
) -> Result<Vec<Result<Receipt, Error>>, Error> {
    let top = call.check(response.status.as_ref());
    let entries = response.entries;
    match (&top, entries.len()) {
        (Err(error), 0) => return Err(error.clone()),
        (Ok(Outcome::PerEntry), count) if count != sent.len() => {
            return Err(count_mismatch(call, count, sent.len()));
        }
        (_, count) if count > 1 && count != sent.len() => {
            return Err(count_mismatch(call, count, sent.len()));
        }
        _ => {}
    }
    let one_for_all = entries.len() == 1 && sent.len() > 1;
    Ok(sent
        .enumerate()
        .map(|(at, outgoing)| {
            let mut receipt = Receipt {
                message_id: outgoing.id.clone(),
                topic: outgoing.message.topic.clone(),
                queue_offset: -1,
                transaction_id: String::new(),
                recall_handle: None,
            };
            let Some(entry) = entries.get(if one_for_all { 0 } else { at }) else {
                return top.clone().map(|_| receipt);
            };
            match &entry.status {
                Some(status) => call.check(Some(status))?,
                None => top.clone()?,
            };
            receipt.queue_offset = if one_for_all { entry.offset + at as i64 } else { entry.offset };
            receipt.transaction_id = entry.transaction_id.clone();
            receipt.recall_handle = Some(entry.recall_handle.clone()).filter(|handle| !handle.is_empty());
            Ok(receipt)
        })
        .collect())
}

fn count_mismatch(call: &CallContext, entries: usize, sent: usize) -> Error {
    call.error(ErrorKind::Protocol, format!("the server returned {entries} results for {sent} messages"))
        .with_maybe_delivered()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn call() -> CallContext {
        CallContext { operation: "send", endpoint: "h:1".into(), request_id: "r".into() }
    }

    fn outgoing(ids: &[&str]) -> Vec<OutgoingMessage> {
        let message = Message::new("t", "x").tag("a").key("k").property("p", "1").property("p", "2");
        let outgoing =
            |id: &&str| OutgoingMessage::new(message.clone(), false, (*id).to_owned(), UNIX_EPOCH).unwrap();
        ids.iter().map(outgoing).collect()
    }

    fn status(code: v2::Code) -> Option<v2::Status> {
        Some(v2::Status { code: code.into(), message: String::new() })
    }

    fn entry(code: v2::Code, message_id: &str, offset: i64) -> v2::SendResultEntry {
        v2::SendResultEntry {
            status: status(code),
            message_id: message_id.into(),
            offset,
            ..Default::default()
        }
    }

    fn offsets(
        top: v2::Code,
        entries: Vec<v2::SendResultEntry>,
        sent: &[OutgoingMessage],
    ) -> Vec<Result<i64, Option<i32>>> {
        let response = v2::SendMessageResponse { status: status(top), entries };
        match process_send(&call(), response, sent.iter()) {
            Ok(results) => results
                .into_iter()
                .map(|result| result.map(|receipt| receipt.queue_offset).map_err(|error| error.code()))
                .collect(),
            Err(error) => vec![Err(error.code()); sent.len()],
        }
    }

    #[test]
    fn a_request_has_the_fields_of_the_message_and_of_the_client() {
        let topic = v2::Resource { resource_namespace: "ns".into(), name: "t".into() };
        let sent = outgoing(&["1", "2"]);
        let request = build_send(&topic, 3, "host", sent.iter());
        assert_eq!(request.messages.len(), 2);
        let message = &request.messages[1];
        let system = message.system_properties.as_ref().unwrap();
        assert_eq!(message.topic.as_ref(), Some(&topic));
        assert_eq!((system.message_id.as_str(), system.tag(), system.queue_id), ("2", "a", 3));
        assert_eq!(system.message_type(), v2::MessageType::Normal);
        assert_eq!(message.user_properties["p"], "2");
        assert_eq!((system.keys.as_slice(), system.born_host.as_str()), (&["k".to_owned()][..], "host"));
    }

    #[test]
    fn each_type_has_its_fields() {
        let message = || Message::new("t", "x");
        for (message, in_transaction, expected) in [
            (message(), true, v2::MessageType::Transaction),
            (message().message_group("g"), false, v2::MessageType::Fifo),
            (message().delay(Duration::from_secs(2)), false, v2::MessageType::Delay),
            (message().priority(0), false, v2::MessageType::Priority),
            (message().lite_topic("l"), false, v2::MessageType::Lite),
        ] {
            let now = UNIX_EPOCH + Duration::from_secs(1);
            let sent = OutgoingMessage::new(message.clone(), in_transaction, "1".into(), now).unwrap();
            let request = build_send(&v2::Resource::default(), 0, "host", [sent].iter());
            let system = request.messages[0].system_properties.clone().unwrap();
            assert_eq!(system.message_type(), expected);
            assert_eq!(system.message_group, message.message_group);
            assert_eq!((system.priority, system.lite_topic), (message.priority, message.lite_topic));
            let deliver_at = message.delay.map(|_| prost_types::Timestamp { seconds: 3, nanos: 0 });
            assert_eq!(system.delivery_timestamp, deliver_at);
        }
    }

    #[test]
    fn a_receipt_has_the_values_of_the_server() {
        let given = v2::SendResultEntry {
            status: status(v2::Code::Ok),
            message_id: "a".into(),
            transaction_id: "tx".into(),
            offset: 4,
            recall_handle: "handle".into(),
        };
        let response = v2::SendMessageResponse { status: status(v2::Code::Ok), entries: vec![given] };
        let results = process_send(&call(), response, outgoing(&["a"]).iter()).unwrap();
        let receipt = results[0].as_ref().unwrap();
        assert_eq!((receipt.transaction_id.as_str(), receipt.queue_offset), ("tx", 4));
        assert_eq!(receipt.recall_handle.as_deref(), Some("handle"));
    }

    #[test]
    fn one_entry_for_a_batch_is_the_result_of_all() {
        let sent = outgoing(&["a", "b", "c"]);
        assert_eq!(
            offsets(v2::Code::Ok, vec![entry(v2::Code::Ok, "a,b,c", 7)], &sent),
            [Ok(7), Ok(8), Ok(9)]
        );
        let response = v2::SendMessageResponse {
            status: status(v2::Code::Ok),
            entries: vec![entry(v2::Code::Ok, "an id of the server's own", 7)],
        };
        let results = process_send(&call(), response, sent.iter()).unwrap();
        let ids: Vec<_> = results.into_iter().map(|result| result.unwrap().message_id).collect();
        assert_eq!(ids, ["a", "b", "c"]);
    }

    #[test]
    fn each_entry_is_the_result_of_its_message() {
        let sent = outgoing(&["a", "b"]);
        let entries = vec![entry(v2::Code::Ok, "a", 4), entry(v2::Code::HaNotAvailable, "", 0)];
        assert_eq!(offsets(v2::Code::MultipleResults, entries, &sent), [Ok(4), Err(Some(50002))]);
    }

    #[test]
    fn a_refusal_without_entries_is_the_result_of_the_request() {
        let response = v2::SendMessageResponse { status: status(v2::Code::TopicNotFound), entries: vec![] };
        let error = process_send(&call(), response, outgoing(&["a"]).iter()).unwrap_err();
        assert_eq!(error.code(), Some(40402));
    }

    #[test]
    fn a_refusal_in_the_only_entry_is_the_result_of_all() {
        let sent = outgoing(&["a", "b"]);
        let entries = vec![entry(v2::Code::MasterPersistenceTimeout, "", 0)];
        assert_eq!(
            offsets(v2::Code::MasterPersistenceTimeout, entries, &sent),
            [Err(Some(50401)), Err(Some(50401))]
        );
    }

    #[test]
    fn success_without_entries_is_success() {
        assert_eq!(offsets(v2::Code::Ok, vec![], &outgoing(&["a"])), [Ok(-1)]);
    }

    #[test]
    fn results_that_do_not_match_the_messages_are_an_error() {
        let sent = outgoing(&["a", "b", "c"]);
        let two = || vec![entry(v2::Code::Ok, "a", 1), entry(v2::Code::Ok, "b", 2)];
        for top in [v2::Code::Ok, v2::Code::MultipleResults] {
            let response = v2::SendMessageResponse { status: status(top), entries: two() };
            let error = process_send(&call(), response, sent.iter()).unwrap_err();
            assert!(error.kind() == ErrorKind::Protocol && error.maybe_delivered());
        }
    }
}
