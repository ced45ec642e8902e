//! Sending: what a message must be, what type it has, and whether its topic takes that type.

use std::time::{Duration, SystemTime};

use super::command::Command;
use super::draft::Draft;
use super::environment::Environment;
use super::handle::TransactionPlace;
use super::limits::Limits;
use super::{message_type, validate};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::layer::{Names, OperationKind, Size, Traced, TracedSend};
use crate::service::names::{self, properties};
use crate::service::{Delay, Message, Persistence, SentBack, TopicKind, millis, time};

/// Stores messages of one topic. Returns a result per message, in order.
///
/// # Errors
/// The first broken rule; `TypeMismatch` also for a topic that does not exist, as its type is unknown;
/// `Forbidden` without a writable queue; `NotImplemented` for a type the backend can't store. Errors of single messages
/// are their results, unless none was stored.
#[derive(Clone, Debug, Default)]
pub struct SendCommand {
    /// In the order of the answer's entries.
    pub messages: Vec<Draft>,
    /// The client's protocol knows no types of messages: topics that declare none take all of its messages.
    pub types_unknown: bool,
}

/// A message that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The producer's id for it.
    pub message_id: String,
    /// The id that ends the transaction of a half message. For other messages, as with Apache's proxy, the message's id.
    pub transaction_id: String,
    /// Its queue.
    pub queue_id: i32,
    /// Its position in its queue.
    pub queue_offset: i64,
    /// What recalls it, for a message that waits for its delivery time.
    pub recall_handle: Option<String>,
    /// How durably it is stored.
    pub persistence: Persistence,
}

impl Names for SendCommand {
    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a str)) {
        self.messages.iter().for_each(|draft| visit(&draft.topic.name));
    }
}

impl Command for SendCommand {
    type Answer = Vec<Result<Stored, Error>>;
    const KIND: OperationKind = OperationKind::Send;

    fn topics(&self) -> &dyn Names {
        self
    }

    fn trace(&self, traced: &mut Traced<'_>) {
        for draft in &self.messages {
            traced.sends(&TracedSend {
                id: &draft.id,
                tag: draft.tag.as_deref(),
                keys: &draft.keys,
                producer_group: &draft.producer_group,
                bytes: draft.body.len(),
                kind: kind(draft),
            });
        }
    }

    fn trace_end(result: Result<&Self::Answer, &Error>, traced: &mut Traced<'_>) {
        match result {
            Ok(stored) => {
                for (index, stored) in stored.iter().enumerate() {
                    traced.ended(index, stored.as_ref().map(drop));
                }
            }
            Err(error) => traced.all_ended(Err(error)),
        }
    }

    fn size(&self) -> Size {
        Size::of_bodies(self.messages.iter().map(|draft| &*draft.body))
    }

    async fn handle(
        self,
        environment: &Environment,
        context: &Context,
    ) -> Result<Vec<Result<Stored, Error>>, Error> {
        check(&self.messages, context, &environment.limits, millis(SystemTime::now()))?;
        let topic = self.messages.first().ok_or_else(no_messages)?.topic.name.clone();
        // Only what a consumer could not consume goes there.
        if topic.starts_with(names::RETRY_PREFIX)
            && self.messages.iter().any(|draft| draft.sent_back.is_none())
        {
            return Err(Error::topic_not_found(&topic));
        }
        let cluster = environment.clusters.route(context.into(), &topic);
        let services = &cluster.services;
        let expected = match names::is_retry_or_dead_letter(&topic) {
            true => None,
            false => Some(message_type::of_topic(services, &topic).await?),
        };
        let capabilities = services.metadata.capabilities();
        let drafts = self.messages.into_iter();
        let mut messages: Vec<_> = drafts.map(|draft| into_message(draft, &context.peer)).collect();
        if let Some(group) = topic.strip_prefix(names::RETRY_PREFIX)
            && services.metadata.group(group).await?.fifo
        {
            // A message that is delivered later would come out of order.
            messages.iter_mut().for_each(|message| message.sent_back = Some(SentBack::LAST));
        }
        for message in &messages {
            let kind = message.kind();
            expected.map_or(Ok(()), |expected| message_type::accepts(expected, kind, self.types_unknown))?;
            message_type::supported(capabilities, kind)?;
        }
        let ids: Vec<_> = messages.iter().map(|message| message.id.clone()).collect();
        if messages.iter().any(|message| message.half) {
            // The broker's checks must find the producer, even if its settings did not name this topic.
            environment.clients.publishes(context, &topic);
        }
        let deadline = context.deadline_within(environment.limits.call);
        let sent = services.messages.send(&topic, messages, deadline).await;
        let sent = sent.map_err(|error| Error::on_topic(error, &topic))?;
        let stored = ids.into_iter().zip(sent).map(|(message_id, sent)| {
            let sent = sent.map_err(|error| Error::on_topic(error, &topic))?;
            let transaction_id = match sent.transaction {
                Some(coordinates) => {
                    let place = TransactionPlace { cluster: cluster.name.as_ref().to_owned(), coordinates };
                    let transaction_id = environment.handles.seal_transaction(&topic, &place);
                    environment.transactions.stored(&topic, &message_id, place);
                    transaction_id
                }
                None => message_id.clone(),
            };
            Ok(Stored {
                message_id,
                transaction_id,
                queue_id: sent.queue_id,
                queue_offset: sent.queue_offset,
                recall_handle: sent.recall_handle,
                persistence: sent.persistence,
            })
        });
        let stored: Vec<Result<Stored, Error>> = stored.collect();
        match stored.iter().all(Result::is_err) {
            true => Err(stored.into_iter().find_map(Result::err).unwrap_or_else(no_messages)),
            false => Ok(stored),
        }
    }
}

fn no_messages() -> Error {
    Error::new(ErrorKind::Corrupted, "no message to send")
}

/// Checks messages that are to be stored together.
fn check(messages: &[Draft], context: &Context, limits: &Limits, now_ms: i64) -> Result<(), Error> {
    for (index, draft) in messages.iter().enumerate() {
        if index == 0 {
            validate::topic_of(context, &draft.topic.name)?;
        } else if draft.topic != messages[0].topic {
            return Err(Error::new(ErrorKind::Corrupted, "topic in message is not same"));
        }
        validate::message(draft, limits, now_ms)?;
    }
    Ok(())
}

/// The type by which a trace tells a message from others.
fn kind(draft: &Draft) -> TopicKind {
    if draft.transaction {
        TopicKind::Transaction
    } else if draft.deliver_at_ms.is_some() {
        TopicKind::Delay
    } else if draft.message_group.is_some() {
        TopicKind::Fifo
    } else {
        TopicKind::Normal
    }
}

fn into_message(mut draft: Draft, peer: &str) -> Message {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let property = |key| given(property(&draft.properties, key).map(str::to_owned));
    let group = given(draft.message_group).or_else(|| property(properties::SHARDING_KEY));
    let trace_context = given(draft.trace_context.or_else(|| property(properties::TRACE_CONTEXT)));
    // As in Apache's brokers, which store neither empty keys nor empty values.
    draft.properties.retain(|(key, value)| !key.is_empty() && !value.is_empty());
    Message {
        id: draft.id,
        // No other declared type matters: the properties decide.
        half: draft.transaction,
        recovery: draft.recovery_secs.and_then(|secs| u64::try_from(secs).ok()).map(Duration::from_secs),
        delay: draft.deliver_at_ms.map(|at| Delay::Until(time(at))),
        group,
        priority: draft.priority,
        lite_topic: given(draft.lite_topic),
        tag: given(draft.tag),
        keys: split_keys(draft.keys),
        properties: draft.properties,
        system_properties: draft.system_properties,
        flag: draft.flag,
        sent_back: draft.sent_back,
        queue: draft.queue,
        body: draft.body,
        body_encoding: draft.body_encoding,
        born_at: draft.born_at,
        born_host: if validate::is_blank(&draft.born_host) { peer.to_owned() } else { draft.born_host },
        trace_context,
        dead_letter_origin: None,
    }
}

// Brokers store keys as one text separated by spaces, so a key with a space in it comes back as two.
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
