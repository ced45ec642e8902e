//! Validates names and messages. Clients can observe the order of the checks.

use super::draft::{Draft, PropertyRules};
use super::limits::Limits;
use crate::context::{Context, WireProtocol};
use crate::error::{Error, ErrorKind};
use crate::service::names::TRACE_TOPIC;
pub use crate::service::names::is_blank;
use crate::service::names::properties::is_reserved;

/// The maximum number of UTF-16 units of a topic's name, and of a group's name.
const TOPIC_CHARS: usize = 127;
const GROUP_CHARS: usize = 120;
/// The maximum number of UTF-8 bytes of a client's id, and of its namespace.
pub(super) const CLIENT_BYTES: usize = 1024;
/// The maximum number of UTF-8 bytes of a receive's attempt id.
const ATTEMPT_ID_BYTES: usize = 256;
/// The maximum length of a message's id, trace context and birth host together, in bytes. Brokers store at most 32767
/// bytes of properties; user properties have a limit of their own.
const SYSTEM_PROPERTY_BYTES: usize = 8 << 10;

/// Topics of Apache's brokers that clients must not use.
const SYSTEM_TOPICS: [&str; 12] = [
    "TBW102",
    "SCHEDULE_TOPIC_XXXX",
    "BenchmarkTest",
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "RMQ_SYS_ROCKSDB_TRANS_HALF_TOPIC",
    TRACE_TOPIC,
    "RMQ_SYS_TRANS_OP_HALF_TOPIC",
    "RMQ_SYS_ROCKSDB_TRANS_OP_HALF_TOPIC",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "SELF_TEST_TOPIC",
    "OFFSET_MOVED_EVENT",
    "CHECKPOINT_TOPIC",
];

/// Checks a topic's name.
///
/// # Errors
/// `IllegalTopic`.
pub(super) fn topic(name: &str) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::new(ErrorKind::IllegalTopic, message));
    if is_blank(name) {
        return refuse("The specified topic is blank".to_owned());
    }
    if utf16_len(name) > TOPIC_CHARS {
        return refuse(format!("The specified topic is longer than topic max length {TOPIC_CHARS}."));
    }
    if !name.bytes().all(is_name_byte) {
        return refuse(format!(
            "The specified topic[{name}] contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$"
        ));
    }
    if SYSTEM_TOPICS.contains(&name) || name.starts_with("rmq_sys_") {
        return refuse("cannot access system topic".to_owned());
    }
    Ok(())
}

/// Checks the name of a topic whose route a client requests, or to which it sends. Classic clients may also use the topic
/// of message traces, to which they send traces of their own.
///
/// # Errors
/// As [`topic`].
pub(super) fn topic_of(context: &Context, name: &str) -> Result<(), Error> {
    if name == TRACE_TOPIC && context.protocol == WireProtocol::Remoting {
        return Ok(());
    }
    topic(name)
}

/// Checks a consumer group's name.
///
/// # Errors
/// `IllegalGroup`.
pub(super) fn group(name: &str) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::new(ErrorKind::IllegalGroup, message));
    if is_blank(name) {
        return refuse("the specified group is blank".to_owned());
    }
    if utf16_len(name) > GROUP_CHARS {
        return refuse(format!(
            "the specified group[{name}] is longer than group max length: {GROUP_CHARS}."
        ));
    }
    if !name.bytes().all(is_name_byte) {
        return refuse(format!(
            "the specified group[{name}] contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$"
        ));
    }
    if name.starts_with("CID_RMQ_SYS_") {
        return refuse("cannot use system consumer group".to_owned());
    }
    Ok(())
}

/// Checks that a client has sent an id.
///
/// # Errors
/// `ClientIdRequired`.
pub(super) fn client_id(context: &Context) -> Result<(), Error> {
    if is_blank(&context.client_id) && !context.is_admitted {
        return Err(Error::new(ErrorKind::ClientIdRequired, "client id cannot be empty"));
    }
    Ok(())
}

/// Checks the id and the namespace of a client that the proxy copies and keeps. Apache's proxy accepts longer ones.
///
/// # Errors
/// `BadRequest`.
pub(super) fn client(context: &Context) -> Result<(), Error> {
    for (what, name) in [("client id", &context.client_id), ("namespace", &context.namespace)] {
        if name.len() > CLIENT_BYTES {
            let message = format!("the {what} is longer than {CLIENT_BYTES} bytes");
            return Err(Error::new(ErrorKind::BadRequest, message));
        }
    }
    Ok(())
}

/// Checks the attempt id of a receive, which the backend stores.
///
/// # Errors
/// `BadRequest`.
pub(super) fn attempt_id(id: &str) -> Result<(), Error> {
    if id.len() > ATTEMPT_ID_BYTES {
        let message = format!("the attempt id is longer than {ATTEMPT_ID_BYTES} bytes");
        return Err(Error::new(ErrorKind::BadRequest, message));
    }
    Ok(())
}

/// Checks a message, except for its topic.
///
/// # Errors
/// The first violated rule.
pub(super) fn message(draft: &Draft, limits: &Limits, now_ms: i64) -> Result<(), Error> {
    body(draft.body.len(), limits)?;
    properties(draft, limits)?;
    if is_blank(&draft.id) {
        return Err(Error::new(ErrorKind::IllegalMessageId, "message id cannot be empty"));
    }
    system_properties(draft)?;
    let recovery = limits.transaction_recovery.as_secs();
    if draft.transaction && draft.recovery_secs.is_some_and(|asked| asked > recovery.cast_signed()) {
        return Err(Error::new(
            ErrorKind::BadRequest,
            format!("the max transaction recovery time of message is too large, max is {recovery}"),
        ));
    }
    if draft.transaction && draft.deliver_at_ms.is_some() {
        // Apache's proxy accepts such a message, and its broker never delivers it.
        return Err(Error::new(ErrorKind::IllegalDeliveryTime, "a half message can't have a delivery time"));
    }
    let delay = i64::try_from(limits.delay.as_millis()).unwrap_or(i64::MAX);
    if draft.deliver_at_ms.is_some_and(|at| at.saturating_sub(now_ms) > delay) {
        return Err(Error::new(
            ErrorKind::IllegalDeliveryTime,
            format!("the max delay time of message is too large, max is {delay}"),
        ));
    }
    if draft.priority.is_some_and(|priority| priority < 0) {
        return Err(Error::new(ErrorKind::BadRequest, "The priority must be greater than or equal to 0"));
    }
    draft.message_group.as_deref().map_or(Ok(()), |group| message_group(group, limits))?;
    draft.lite_topic.as_deref().map_or(Ok(()), |name| lite_topic(name, limits))
}

fn body(bytes: usize, limits: &Limits) -> Result<(), Error> {
    if bytes == 0 {
        return Err(Error::new(ErrorKind::BodyEmpty, "message body cannot be empty"));
    }
    if bytes > limits.body_bytes {
        let message = format!("message body cannot exceed the max {}", limits.body_bytes);
        return Err(Error::new(ErrorKind::BodyTooLarge, message));
    }
    Ok(())
}

/// The maximum number of bytes of properties that brokers can store, minus the properties that brokers add.
const STORED_PROPERTY_BYTES: usize = i16::MAX as usize - 512;

fn properties(draft: &Draft, limits: &Limits) -> Result<(), Error> {
    match draft.property_rules {
        PropertyRules::Contract => properties_by_contract(draft, limits),
        PropertyRules::Broker => storable_properties(draft),
    }
}

fn storable_properties(draft: &Draft) -> Result<(), Error> {
    let pairs = draft.properties.iter().chain(&draft.system_properties);
    let pairs: usize = pairs.map(|(key, value)| key.len() + value.len() + 2).sum();
    let keys: usize = draft.keys.iter().map(|key| key.len() + 1).sum();
    let tag = draft.tag.as_ref().map_or(0, String::len);
    if pairs + keys + tag > STORED_PROPERTY_BYTES {
        let message = format!("the properties of the message are longer than {STORED_PROPERTY_BYTES} bytes");
        return Err(Error::new(ErrorKind::PropertiesTooLarge, message));
    }
    Ok(())
}

fn properties_by_contract(draft: &Draft, limits: &Limits) -> Result<(), Error> {
    if draft.properties.len() > limits.properties {
        let message = format!("too many user properties, max is {}", limits.properties);
        return Err(Error::new(ErrorKind::PropertiesTooLarge, message));
    }
    let mut bytes = 0;
    for (key, value) in &draft.properties {
        property(key, value)?;
        bytes += key.len() + value.len();
    }
    if let Some(name) = &draft.tag {
        tag(name)?;
        bytes += name.len();
    }
    for name in &draft.keys {
        key(name)?;
        bytes += name.len();
    }
    if bytes > limits.property_bytes {
        let message =
            format!("the total size of user property is too large, max is {}", limits.property_bytes);
        return Err(Error::new(ErrorKind::PropertiesTooLarge, message));
    }
    Ok(())
}

fn system_properties(draft: &Draft) -> Result<(), Error> {
    let trace_context = draft.trace_context.as_ref().map_or(0, String::len);
    if draft.id.len() + trace_context + draft.born_host.len() > SYSTEM_PROPERTY_BYTES {
        let message =
            format!("message id, trace context and birth host are longer than {SYSTEM_PROPERTY_BYTES} bytes");
        return Err(Error::new(ErrorKind::PropertiesTooLarge, message));
    }
    Ok(())
}

fn property(key: &str, value: &str) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::new(ErrorKind::IllegalPropertyKey, message));
    if is_reserved(key) {
        return refuse(format!("property is used by system: {key}"));
    }
    if has_control(key) {
        return refuse("the key of property cannot contain control character".to_owned());
    }
    if has_control(value) {
        return refuse("the value of property cannot contain control character".to_owned());
    }
    Ok(())
}

fn tag(name: &str) -> Result<(), Error> {
    let refuse = |message| Err(Error::new(ErrorKind::IllegalTag, message));
    if name.is_empty() {
        return Ok(());
    }
    if is_blank(name) {
        return refuse("tag cannot be the char sequence of whitespace");
    }
    if name.contains('|') {
        return refuse("tag cannot contain '|'");
    }
    if has_control(name) {
        return refuse("tag cannot contain control character");
    }
    Ok(())
}

fn key(name: &str) -> Result<(), Error> {
    let refuse = |message| Err(Error::new(ErrorKind::IllegalKey, message));
    if !name.is_empty() && is_blank(name) {
        return refuse("key cannot be the char sequence of whitespace");
    }
    if has_control(name) {
        return refuse("key cannot contain control character");
    }
    Ok(())
}

fn message_group(name: &str, limits: &Limits) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::new(ErrorKind::IllegalMessageGroup, message));
    if name.is_empty() {
        return Ok(());
    }
    if is_blank(name) {
        return refuse("message group cannot be the char sequence of whitespace".to_owned());
    }
    if name.len() >= limits.message_group_bytes {
        return refuse(format!("message group exceed the max size {}", limits.message_group_bytes));
    }
    if has_control(name) {
        return refuse("message group cannot contain control character".to_owned());
    }
    Ok(())
}

/// Checks the lite topic of a message. An empty name means that there is none.
fn lite_topic(name: &str, limits: &Limits) -> Result<(), Error> {
    if name.is_empty() { Ok(()) } else { lite_topic_name(name, limits) }
}

/// Checks the name of a lite topic.
///
/// # Errors
/// `IllegalLiteTopic`.
pub(super) fn lite_topic_name(name: &str, limits: &Limits) -> Result<(), Error> {
    let refuse = |message: String| Err(Error::new(ErrorKind::IllegalLiteTopic, message));
    if is_blank(name) {
        return refuse("lite topic cannot be the char sequence of whitespace".to_owned());
    }
    if name.len() > limits.lite_topic_bytes {
        return refuse(format!("lite topic exceed the max size {}", limits.lite_topic_bytes));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return refuse(
            "lite topic can only contain alphanumeric characters, hyphens(-), and underscores(_)".to_owned(),
        );
    }
    Ok(())
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'|' | b'-' | b'_')
}

// Apache's proxy counts the UTF-16 units of Java's strings.
fn utf16_len(text: &str) -> usize {
    text.encode_utf16().count()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn reserved_properties_are_refused() {
        assert!(property("TAGS", "x").is_err());
        assert!(property("tags", "x").is_ok());
    }

    #[test]
    fn blank_is_what_java_calls_blank() {
        for (text, blank) in
            [("", true), (" \t\u{3000}\u{1F}", true), ("\u{A0}", false), ("\u{85}", false), (" x ", false)]
        {
            assert_eq!(is_blank(text), blank, "{text:?}");
        }
    }

    #[test]
    fn names() {
        let long = "x".repeat(128);
        for (name, legal) in [
            ("a", true),
            ("%RETRY%g_t", true),
            ("a|b-c_9", true),
            ("", false),
            (" ", false),
            ("a b", false),
            ("ü", false),
            ("TBW102", false),
            ("rmq_sys_x", false),
            (&long[..127], true),
            (&long, false),
        ] {
            assert_eq!(topic(name).is_ok(), legal, "{name}");
        }
        for (name, legal) in [
            ("g", true),
            ("CID_RMQ_SYS_x", false),
            (&long[..120], true),
            (&long[..121], false),
            ("a.b", false),
        ] {
            assert_eq!(group(name).is_ok(), legal, "{name}");
        }
    }

    #[test]
    fn the_first_violated_rule_is_returned() {
        let good = Draft { id: "m".to_owned(), body: Bytes::from_static(b"b"), ..Draft::default() };
        let blank_key = Draft { keys: vec![" ".to_owned()], ..good.clone() };
        let mut heavy = good.clone();
        heavy.properties = vec![("p".to_owned(), "v".repeat(16_385))];
        let cases = [
            (good.clone(), None),
            (Draft { body: Bytes::new(), ..blank_key.clone() }, Some(ErrorKind::BodyEmpty)),
            (Draft { id: String::new(), ..blank_key.clone() }, Some(ErrorKind::IllegalKey)),
            (Draft { id: String::new(), ..heavy.clone() }, Some(ErrorKind::PropertiesTooLarge)),
            (Draft { id: String::new(), ..good.clone() }, Some(ErrorKind::IllegalMessageId)),
            (Draft { id: "i".repeat(8192), ..good.clone() }, None),
            (Draft { id: "i".repeat(8193), ..good.clone() }, Some(ErrorKind::PropertiesTooLarge)),
            (
                Draft { trace_context: Some("t".repeat(8192)), ..good.clone() },
                Some(ErrorKind::PropertiesTooLarge),
            ),
            (
                Draft { tag: Some("a|b".to_owned()), id: String::new(), ..good.clone() },
                Some(ErrorKind::IllegalTag),
            ),
            (
                Draft {
                    transaction: true,
                    recovery_secs: Some(3601),
                    deliver_at_ms: Some(i64::MAX),
                    ..good.clone()
                },
                Some(ErrorKind::BadRequest),
            ),
            (Draft { recovery_secs: Some(3601), ..good.clone() }, None),
            (
                Draft { transaction: true, deliver_at_ms: Some(0), ..good.clone() },
                Some(ErrorKind::IllegalDeliveryTime),
            ),
            (
                Draft {
                    deliver_at_ms: Some(86_400_001),
                    message_group: Some("\u{1}".to_owned()),
                    ..good.clone()
                },
                Some(ErrorKind::IllegalDeliveryTime),
            ),
            (Draft { deliver_at_ms: Some(-5), ..good.clone() }, None),
            (Draft { priority: Some(-1), ..good.clone() }, Some(ErrorKind::BadRequest)),
            (Draft { message_group: Some("x".repeat(63)), ..good.clone() }, None),
            (
                Draft { message_group: Some("ü".repeat(32)), ..good.clone() },
                Some(ErrorKind::IllegalMessageGroup),
            ),
            (Draft { lite_topic: Some("x".repeat(64)), ..good.clone() }, None),
            (Draft { lite_topic: Some("a b".to_owned()), ..good }, Some(ErrorKind::IllegalLiteTopic)),
        ];
        for (draft, expected) in cases {
            let answer = message(&draft, &Limits::default(), 0).err().map(|error| error.kind);
            assert_eq!(answer, expected, "{draft:?}");
        }
    }
}
