//! Sending: what a message must be, what type it has, and whether its topic takes that type.

use std::time::{Duration, SystemTime};

use super::{Processor, validate};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::service::{
    Body, BodyEncoding, Capabilities, Delay, Message, Persistence, ServiceErrorKind, Services, TopicKind,
    millis, time,
};

/// User properties that brokers read as a message's group and as its trace context.
const MESSAGE_GROUP_PROPERTY: &str = "__SHARDINGKEY";
const TRACE_CONTEXT_PROPERTY: &str = "TRACE_CONTEXT";

/// Messages to store, each with the topic it names.
#[derive(Clone, Debug, Default)]
pub struct SendCommand {
    /// In the order of the answer's entries.
    pub messages: Vec<(TopicName, Draft)>,
}

/// A topic as a request names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicName {
    /// The namespace beside the name; compared, and otherwise without a meaning.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// A message as a producer sent it, not yet checked.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The producer's id for it.
    pub id: String,
    /// Its tag.
    pub tag: Option<String>,
    /// Its keys.
    pub keys: Vec<String>,
    /// The user's properties; keys are unique.
    pub properties: Vec<(String, String)>,
    /// The payload.
    pub body: Body,
    /// How the payload is encoded.
    pub body_encoding: BodyEncoding,
    /// Whether it is declared a half message of a transaction. No other declared type matters.
    pub transaction: bool,
    /// Seconds that the transaction's producer may take.
    pub recovery_secs: Option<i64>,
    /// Its message group.
    pub message_group: Option<String>,
    /// When to deliver it, in milliseconds since 1970.
    pub deliver_at_ms: Option<i64>,
    /// Its priority.
    pub priority: Option<i32>,
    /// Its lite topic.
    pub lite_topic: Option<String>,
    /// When it was made.
    pub born_at: Option<SystemTime>,
    /// Where it was made; blank: the peer.
    pub born_host: String,
    /// W3C trace context.
    pub trace_context: Option<String>,
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The producer's id for it.
    pub message_id: String,
    /// What ends the transaction of a half message; for others, as with Apache's proxy, the message's id.
    pub transaction_id: String,
    /// Its position in its queue.
    pub queue_offset: i64,
    /// What recalls it, for a message that waits for its delivery time.
    pub recall_handle: Option<String>,
    /// How safe it is.
    pub persistence: Persistence,
}

impl Processor {
    /// Stores messages of one topic; an outcome per message, in order.
    ///
    /// # Errors
    /// Those of the whole command, and of messages of which none was stored. The first broken rule; `TypeMismatch` also for a topic that does not exist, as its type can't be told;
    /// `Forbidden` without a writable queue; `NotImplemented` for a type the backend can't store.
    pub async fn send(
        &self,
        context: &Context,
        command: SendCommand,
    ) -> Result<Vec<Result<Stored, Error>>, Error> {
        validate_all(&command, self, millis(SystemTime::now()))?;
        let Some((topic, _)) = command.messages.first() else {
            return Err(nothing_to_send());
        };
        let topic = topic.name.clone();
        let cluster = self.clusters.route(context.into(), &topic);
        let services = &cluster.services;
        let expected = match is_retry_or_dead_letter(&topic) {
            true => None,
            false => Some(type_of_topic(services, &topic).await?),
        };
        let capabilities = services.metadata.capabilities();
        let messages: Vec<_> =
            command.messages.into_iter().map(|(_, draft)| into_message(draft, &context.peer)).collect();
        for message in &messages {
            let kind = message.kind();
            expected.map_or(Ok(()), |expected| accepts(expected, kind))?;
            offered(capabilities, kind)?;
        }
        let ids: Vec<_> = messages.iter().map(|message| message.id.clone()).collect();
        if messages.iter().any(|message| message.half) {
            // The broker's questions must find the producer, also where it had not named this topic.
            self.clients.publishes(&context.client_id, &topic);
        }
        let deadline = context.deadline_within(self.limits.call);
        let sent = services.messages.send(&topic, messages, deadline).await;
        let sent = sent.map_err(|error| Error::on_topic(error, &topic))?;
        let stored = ids.into_iter().zip(sent).map(|(message_id, sent)| {
            let sent = sent.map_err(|error| Error::on_topic(error, &topic))?;
            Ok(Stored {
                transaction_id: match &sent.transaction {
                    Some(coordinates) => {
                        self.recent.stored((&topic, &message_id), (&cluster.name, coordinates));
                        self.handles.seal_transaction(&topic, &cluster.name, coordinates)
                    }
                    None => message_id.clone(),
                },
                message_id,
                queue_offset: sent.queue_offset,
                recall_handle: sent.recall_handle,
                persistence: sent.persistence,
            })
        });
        let stored: Vec<Result<Stored, Error>> = stored.collect();
        match stored.iter().all(Result::is_err) {
            true => Err(stored.into_iter().find_map(Result::err).unwrap_or_else(nothing_to_send)),
            false => Ok(stored),
        }
    }
}

fn nothing_to_send() -> Error {
    Error::new(ErrorKind::Corrupted, "no message to send")
}

/// What a topic takes. One that surely does not exist has no type. That nobody could be asked is another matter:
/// the client should try again.
pub(super) async fn type_of_topic(services: &Services, topic: &str) -> Result<TopicKind, Error> {
    match services.metadata.topic(topic).await {
        Ok(config) => Ok(config.kind),
        Err(error) if error.kind == ServiceErrorKind::TopicNotFound => Ok(TopicKind::Unspecified),
        Err(error) => Err(error.into()),
    }
}

fn validate_all(command: &SendCommand, processor: &Processor, now_ms: i64) -> Result<(), Error> {
    for (index, (topic, draft)) in command.messages.iter().enumerate() {
        if index == 0 {
            validate::topic(&topic.name)?;
        } else if *topic != command.messages[0].0 {
            return Err(Error::new(ErrorKind::Corrupted, "topic in message is not same"));
        }
        validate::message(draft, &processor.limits, now_ms)?;
    }
    Ok(())
}

/// Whether a topic takes messages of a type.
pub(super) fn accepts(expected: TopicKind, actual: TopicKind) -> Result<(), Error> {
    if expected == actual || expected == TopicKind::Mixed {
        return Ok(());
    }
    let message = format!(
        "TopicMessageType validate failed, the expected type is {}, but actual type is {}",
        type_name(expected),
        type_name(actual)
    );
    Err(Error::new(ErrorKind::TypeMismatch, message))
}

fn offered(capabilities: Capabilities, kind: TopicKind) -> Result<(), Error> {
    let offered = match kind {
        TopicKind::Fifo => capabilities.fifo,
        TopicKind::Delay => capabilities.delay,
        TopicKind::Transaction => capabilities.transaction,
        TopicKind::Priority => capabilities.priority,
        TopicKind::Lite => capabilities.lite,
        TopicKind::Normal | TopicKind::Mixed | TopicKind::Unspecified => true,
    };
    if offered {
        return Ok(());
    }
    let message = format!("messages of type {} are not supported by this server yet", type_name(kind));
    Err(Error::new(ErrorKind::NotImplemented, message))
}

fn into_message(mut draft: Draft, peer: &str) -> Message {
    let told = |text: Option<String>| text.filter(|text| !text.is_empty());
    let property = |key| told(property(&draft.properties, key).map(str::to_owned));
    let group = told(draft.message_group).or_else(|| property(MESSAGE_GROUP_PROPERTY));
    let trace_context = told(draft.trace_context.or_else(|| property(TRACE_CONTEXT_PROPERTY)));
    // As in Apache's brokers, where neither an empty key nor an empty value can be stored.
    draft.properties.retain(|(key, value)| !key.is_empty() && !value.is_empty());
    Message {
        id: draft.id,
        // No other declared type matters: the properties decide.
        half: draft.transaction,
        recovery: draft.recovery_secs.and_then(|secs| u64::try_from(secs).ok()).map(Duration::from_secs),
        delay: draft.deliver_at_ms.map(|at| Delay::Until(time(at))),
        group,
        priority: draft.priority,
        lite_topic: told(draft.lite_topic),
        tag: told(draft.tag),
        keys: split_keys(draft.keys),
        properties: draft.properties,
        body: draft.body,
        body_encoding: draft.body_encoding,
        born_at: draft.born_at,
        born_host: if validate::is_blank(&draft.born_host) { peer.to_owned() } else { draft.born_host },
        trace_context,
    }
}

// Brokers keep keys as one text with spaces between, so a key with a space in it comes back as two.
fn split_keys(keys: Vec<String>) -> Vec<String> {
    if keys.iter().all(|key| !key.is_empty() && !key.contains(' ')) {
        return keys;
    }
    let joined = keys.join(" ");
    let kept = joined.trim_end_matches(' ');
    if kept.is_empty() { Vec::new() } else { kept.split(' ').map(str::to_owned).collect() }
}

fn property<'a>(properties: &'a [(String, String)], key: &str) -> Option<&'a str> {
    properties.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

fn is_retry_or_dead_letter(topic: &str) -> bool {
    topic.starts_with("%RETRY%") || topic.starts_with("%DLQ%")
}

fn type_name(kind: TopicKind) -> &'static str {
    match kind {
        TopicKind::Unspecified => "UNSPECIFIED",
        TopicKind::Normal => "NORMAL",
        TopicKind::Fifo => "FIFO",
        TopicKind::Delay => "DELAY",
        TopicKind::Transaction => "TRANSACTION",
        TopicKind::Mixed => "MIXED",
        TopicKind::Priority => "PRIORITY",
        TopicKind::Lite => "LITE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_decide_the_type() {
        let group = Some("g".to_owned());
        for (draft, kind) in [
            (Draft::default(), TopicKind::Normal),
            (Draft { message_group: group.clone(), priority: Some(1), ..Draft::default() }, TopicKind::Fifo),
            (Draft { message_group: Some(String::new()), ..Draft::default() }, TopicKind::Normal),
            (
                Draft { properties: vec![("__SHARDINGKEY".to_owned(), "g".to_owned())], ..Draft::default() },
                TopicKind::Fifo,
            ),
            (
                Draft { deliver_at_ms: Some(0), message_group: group.clone(), ..Draft::default() },
                TopicKind::Delay,
            ),
            (Draft { transaction: true, deliver_at_ms: Some(0), ..Draft::default() }, TopicKind::Transaction),
            (Draft { priority: Some(0), lite_topic: group.clone(), ..Draft::default() }, TopicKind::Priority),
            (Draft { lite_topic: group, ..Draft::default() }, TopicKind::Lite),
        ] {
            assert_eq!(into_message(draft.clone(), "").kind(), kind, "{draft:?}");
        }
    }

    #[test]
    fn a_topic_takes_its_own_type_and_a_mixed_one_any() {
        assert!(accepts(TopicKind::Normal, TopicKind::Normal).is_ok());
        assert!(accepts(TopicKind::Mixed, TopicKind::Fifo).is_ok());
        assert!(accepts(TopicKind::Unspecified, TopicKind::Normal).is_err());
        assert!(accepts(TopicKind::Priority, TopicKind::Normal).is_err());
    }

    #[test]
    fn keys_come_back_split_at_spaces() {
        for (sent, kept) in [
            (vec!["a", "b"], vec!["a", "b"]),
            (vec!["a b", "", "k", "k"], vec!["a", "b", "", "k", "k"]),
            (vec![""], vec![]),
            (vec!["a", ""], vec!["a"]),
        ] {
            let sent = sent.into_iter().map(str::to_owned).collect();
            assert_eq!(split_keys(sent), kept);
        }
    }
}
