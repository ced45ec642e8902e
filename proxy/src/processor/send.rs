//! Sends messages: validates them, determines their type, and checks that the topic accepts it.

use std::time::{Duration, SystemTime};

use super::cluster_router::Cluster;
use super::command::Command;
use super::draft::Draft;
use super::environment::Environment;
use super::handle::TransactionRef;
use super::limits::Limits;
use super::{message_type, trace_context, validate};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::layer::{Names, OperationKind, RequestTrace, Size, TracedSend};
use crate::service::names::{self, properties};
use crate::service::{Delay, Message, Persistence, SentBack, TopicKind, millis, time};

/// Stores messages of one topic. Returns one result per message, in order.
///
/// # Errors
/// The first violated rule; `TypeMismatch` also for a topic that does not exist, because its type is unknown; `Forbidden`
/// without a writable queue; `NotImplemented` for a type that the backend can't store. Errors of single messages are their
/// results, unless no message was stored.
#[derive(Clone, Debug, Default)]
pub struct SendCommand {
    /// The messages, in the order of the results.
    pub messages: Vec<Draft>,
    /// Whether the client's protocol has no message types. Then topics without a declared type accept all messages.
    pub types_unknown: bool,
}

/// A message that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendReceipt {
    /// The producer's id of the message.
    pub message_id: String,
    /// The transaction id of a half message. For other messages the message's id, as with Apache's proxy.
    pub transaction_id: String,
    /// The queue in which the message is stored.
    pub queue_id: i32,
    /// The message's offset in the queue.
    pub queue_offset: i64,
    /// The handle with which a delayed message can be recalled.
    pub recall_handle: Option<String>,
    /// How durably the message is stored.
    pub persistence: Persistence,
}

impl Names for SendCommand {
    fn each<'a>(&'a self, visit: &mut dyn FnMut(&'a str)) {
        self.messages.iter().for_each(|draft| visit(&draft.topic.name));
    }
}

impl Command for SendCommand {
    type Answer = Vec<Result<SendReceipt, Error>>;
    const KIND: OperationKind = OperationKind::Send;

    fn topics(&self) -> &dyn Names {
        self
    }

    fn trace(&self, traced: &mut RequestTrace<'_>) {
        for draft in &self.messages {
            traced.begin_send(&TracedSend {
                id: &draft.id,
                tag: draft.tag.as_deref(),
                keys: &draft.keys,
                producer_group: &draft.producer_group,
                bytes: draft.body.len(),
                kind: trace_kind(draft),
            });
        }
    }

    fn trace_end(result: Result<&Self::Answer, &Error>, traced: &mut RequestTrace<'_>) {
        match result {
            Ok(stored) => {
                for (index, stored) in stored.iter().enumerate() {
                    traced.end(index, stored.as_ref().map(drop));
                }
            }
            Err(error) => traced.end_all(Err(error)),
        }
    }

    fn trace_contexts(&self, visit: &mut dyn FnMut(&str)) {
        trace_context::of_drafts(&self.messages, visit);
    }

    fn size(&self) -> Size {
        Size::of_bodies(self.messages.iter().map(|draft| &*draft.body))
    }

    async fn handle(
        self,
        environment: &Environment,
        context: &Context,
    ) -> Result<Vec<Result<SendReceipt, Error>>, Error> {
        check(&self.messages, context, &environment.limits, millis(SystemTime::now()))?;
        let topic = self.messages.first().ok_or_else(no_messages)?.topic.name.clone();
        // A retry topic accepts only messages that a consumer sends back.
        if topic.starts_with(names::RETRY_PREFIX)
            && self.messages.iter().any(|draft| draft.sent_back.is_none())
        {
            return Err(Error::topic_not_found(&topic));
        }
        let drafts = self.messages.into_iter();
        let messages: Vec<_> = drafts.map(|draft| into_message(draft, &context.peer)).collect();
        let batch = Batch { environment, context, topic: &topic, types_unknown: self.types_unknown };
        let stored = batch.send(messages).await?;
        match stored.iter().all(Result::is_err) {
            true => Err(stored.into_iter().find_map(Result::err).unwrap_or_else(no_messages)),
            false => Ok(stored),
        }
    }
}

/// What the messages of a request have in common.
struct Batch<'a> {
    environment: &'a Environment,
    context: &'a Context,
    topic: &'a str,
    types_unknown: bool,
}

impl Batch<'_> {
    /// Sends each message to its cluster. Messages of one request may belong to several, if a placement rule has a percentage.
    async fn send(&self, messages: Vec<Message>) -> Result<Vec<Result<SendReceipt, Error>>, Error> {
        let Self { environment, context, topic, .. } = *self;
        let mut parts: Vec<(&Cluster, Vec<usize>, Vec<Message>)> = Vec::new();
        let count = messages.len();
        for (index, message) in messages.into_iter().enumerate() {
            // Delayed and half messages have no order, and are recalled and checked where the client's other messages are.
            let group = message.group.as_deref().filter(|_| message.kind() == TopicKind::Fifo);
            let cluster = environment.clusters.route_message(context.into(), topic, group);
            match parts.iter_mut().find(|(other, ..)| other.name == cluster.name) {
                Some((_, indexes, messages)) => {
                    indexes.push(index);
                    messages.push(message);
                }
                None => parts.push((cluster, vec![index], vec![message])),
            }
        }
        if parts.len() == 1
            && let Some((cluster, _, messages)) = parts.pop()
        {
            return self.send_to(cluster, messages).await;
        }
        let mut all: Vec<_> = (0..count).map(|_| Err(no_messages())).collect();
        for (cluster, indexes, messages) in parts {
            let stored = match self.send_to(cluster, messages).await {
                Ok(stored) => stored,
                Err(error) => indexes.iter().map(|_| Err(error.clone())).collect(),
            };
            indexes.into_iter().zip(stored).for_each(|(index, stored)| all[index] = stored);
        }
        Ok(all)
    }

    async fn send_to(
        &self,
        cluster: &Cluster,
        mut messages: Vec<Message>,
    ) -> Result<Vec<Result<SendReceipt, Error>>, Error> {
        let Self { environment, context, topic, .. } = *self;
        let services = &cluster.services;
        let expected = match names::is_retry_or_dead_letter(topic) {
            true => None,
            false => Some(message_type::of_topic(services, topic).await?),
        };
        let capabilities = services.metadata.capabilities();
        if let Some(group) = topic.strip_prefix(names::RETRY_PREFIX)
            && services.metadata.group(group).await?.fifo
        {
            // In a FIFO group, a retry would deliver the message out of order, so it becomes a dead letter at once.
            messages.iter_mut().for_each(|message| message.sent_back = Some(SentBack::LAST));
        }
        for message in &messages {
            let kind = message.kind();
            expected.map_or(Ok(()), |expected| {
                message_type::check_accepted(expected, kind, self.types_unknown)
            })?;
            message_type::check_supported(capabilities, kind)?;
        }
        let ids: Vec<_> = messages.iter().map(|message| message.id.clone()).collect();
        if messages.iter().any(|message| message.half) {
            // The broker's transaction checks must find the producer even if its settings did not name this topic.
            environment.clients.record_publishing(context, topic);
        }
        let deadline = context.deadline_within(environment.limits.call);
        let sent = services.messages.send(topic, messages, deadline).await;
        let sent = sent.map_err(|error| Error::on_topic(error, topic))?;
        let stored = ids.into_iter().zip(sent).map(|(message_id, sent)| {
            let sent = sent.map_err(|error| Error::on_topic(error, topic))?;
            let transaction_id = match sent.transaction {
                Some(coordinates) => {
                    let transaction =
                        TransactionRef { cluster: cluster.name.as_ref().to_owned(), coordinates };
                    let transaction_id = environment.handle_sealer.seal_transaction(topic, &transaction);
                    environment.transactions.record_half_message(topic, &message_id, transaction);
                    transaction_id
                }
                None => message_id.clone(),
            };
            Ok(SendReceipt {
                message_id,
                transaction_id,
                queue_id: sent.queue_id,
                queue_offset: sent.queue_offset,
                recall_handle: sent.recall_handle,
                persistence: sent.persistence,
            })
        });
        Ok(stored.collect())
    }
}

fn no_messages() -> Error {
    Error::new(ErrorKind::Corrupted, "no message to send")
}

/// Validates the messages of one request.
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

/// The type of a message in the trace.
fn trace_kind(draft: &Draft) -> TopicKind {
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
    let non_empty = |text: Option<String>| text.filter(|text| !text.is_empty());
    let property = |key| non_empty(property(&draft.properties, key).map(str::to_owned));
    let group = non_empty(draft.message_group).or_else(|| property(properties::SHARDING_KEY));
    let trace_context = non_empty(draft.trace_context.or_else(|| property(properties::TRACE_CONTEXT)));
    // Like Apache's brokers, drops properties with an empty key or value.
    draft.properties.retain(|(key, value)| !key.is_empty() && !value.is_empty());
    Message {
        id: draft.id,
        // All other types are determined by the fields, not by the declared type.
        half: draft.transaction,
        recovery: draft.recovery_secs.and_then(|secs| u64::try_from(secs).ok()).map(Duration::from_secs),
        delay: draft.deliver_at_ms.map(|at| Delay::Until(time(at))),
        group,
        priority: draft.priority,
        lite_topic: non_empty(draft.lite_topic),
        tag: non_empty(draft.tag),
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

// Brokers store keys as one text separated by spaces, so a key with a space becomes two keys.
fn split_keys(keys: Vec<String>) -> Vec<String> {
    if keys.iter().all(|key| !key.is_empty() && !key.contains(' ')) {
        return keys;
    }
    let joined = keys.join(" ");
    let trimmed = joined.trim_end_matches(' ');
    if trimmed.is_empty() { Vec::new() } else { trimmed.split(' ').map(str::to_owned).collect() }
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
    fn keys_are_split_at_spaces() {
        for (sent, expected) in [
            (vec!["a", "b"], vec!["a", "b"]),
            (vec!["a b", "", "k", "k"], vec!["a", "b", "", "k", "k"]),
            (vec![""], vec![]),
            (vec!["a", ""], vec!["a"]),
        ] {
            let sent = sent.into_iter().map(str::to_owned).collect();
            assert_eq!(split_keys(sent), expected);
        }
    }
}
