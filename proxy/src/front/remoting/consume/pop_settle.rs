//! ACK_MESSAGE, BATCH_ACK_MESSAGE and CHANGE_MESSAGE_INVISIBLETIME, by which clients settle the messages that they have
//! popped.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::super::answer::{Answered, Refusal, success};
use super::super::request::{Request, check_names};
use super::extra_info::ExtraInfo;
use super::handle_cache::{CachedHandle, LeaseKey};
use super::ledger::GroupTopic;
use crate::error::{Error, ErrorKind};
use crate::processor::{AckCommand, AckEntry, ChangeInvisibleCommand};
use crate::remoting::response;
use crate::service::millis;

/// The maximum number of acknowledgements in one BATCH_ACK_MESSAGE, over all its parts. Without it, a small body that
/// names the same messages in many parts could expand without bound.
const MAX_ACKS: usize = 4096;

/// ACK_MESSAGE.
pub(super) async fn acknowledge(request: Request) -> Answered {
    let at = group_topic(&request)?;
    let (entry, info) = ack_entry(&request, &at)?;
    let key = lease_key(at.clone(), &info);
    let GroupTopic { group, topic } = at;
    let results = request.run(AckCommand { topic, group, entries: vec![entry] }).await?;
    if let Some(Err(error)) = results.into_iter().next() {
        return Err(invalid_handle_is_no_message(error));
    }
    request.connection.consumer_state.handles.lock().remove(&key);
    Ok(success())
}

/// CHANGE_MESSAGE_INVISIBLETIME. The client builds the new `extraInfo` itself from the numbers in the answer, so the
/// new handle is stored here under them.
pub(super) async fn change(request: Request) -> Answered {
    let at = group_topic(&request)?;
    let invisible_ms: i64 = request.number("invisibleTime")?;
    let (entry, info) = ack_entry(&request, &at)?;
    let change = ChangeInvisibleCommand {
        topic: at.topic.clone(),
        group: at.group.clone(),
        entry,
        invisible_ms,
        suspend: request.flag("suspend"),
    };
    let changed = request.shared.processor.run(&request.context(), change).await;
    let handle = changed.map_err(invalid_handle_is_no_message)?;
    let popped_at = millis(SystemTime::now());
    let old_key = lease_key(at, &info);
    let revive_queue = info.revive_queue;
    let key = LeaseKey { popped_at, ..old_key.clone() };
    {
        let mut handles = request.connection.consumer_state.handles.lock();
        handles.remove(&old_key);
        let expires_at = popped_at.saturating_add(invisible_ms);
        handles.insert(key, CachedHandle { handle, expires_at }, popped_at);
    }
    Ok(success()
        .field("popTime", popped_at)
        .field("invisibleTime", invisible_ms)
        .field("reviveQid", revive_queue))
}

/// Finds the handle that a request's `extraInfo` stands for: in the text itself, or among the stored handles.
fn ack_entry(request: &Request, at: &GroupTopic) -> Result<(AckEntry, ExtraInfo), Refusal> {
    let text = request.text("extraInfo")?;
    let info = ExtraInfo::decode(text).ok_or_else(|| {
        Refusal::new(response::INVALID_PARAMETER, format!("invalid extraInfo: {text:.200}"))
    })?;
    let handle = match &info.handle {
        Some(handle) => handle.clone(),
        None => {
            let handles = request.connection.consumer_state.handles.lock();
            handles.get(&lease_key(at.clone(), &info)).map(str::to_owned).ok_or_else(unknown_lease)?
        }
    };
    Ok((AckEntry { handle, message_id: String::new(), lite_topic: None }, info))
}

fn group_topic(request: &Request) -> Result<GroupTopic, Refusal> {
    let (group, topic) = (request.text("consumerGroup")?.to_owned(), request.text("topic")?.to_owned());
    Ok(GroupTopic { group, topic })
}

fn lease_key(at: GroupTopic, info: &ExtraInfo) -> LeaseKey {
    LeaseKey { at, queue_id: info.queue_id, offset: info.offset, popped_at: info.popped_at }
}

/// The body of BATCH_ACK_MESSAGE.
#[derive(Deserialize)]
struct AckBatch {
    #[serde(default)]
    acks: Option<Vec<BatchAck>>,
}

/// Acknowledgements of messages that were popped together from one queue.
#[derive(Deserialize)]
struct BatchAck {
    #[serde(rename = "c", alias = "consumerGroup")]
    group: String,
    #[serde(rename = "t", alias = "topic")]
    topic: String,
    #[serde(rename = "q", alias = "queueId")]
    queue_id: i32,
    #[serde(rename = "so", alias = "startOffset")]
    start_offset: i64,
    #[serde(rename = "pt", alias = "popTime")]
    popped_at: i64,
    /// In base64: bit `i` is set if the message at `start_offset + i` is acknowledged.
    #[serde(rename = "b", alias = "bitSet")]
    bit_set: String,
}

impl BatchAck {
    /// The leases that this part names. `None` if the bit set can't be decoded.
    fn leases(&self) -> Option<impl Iterator<Item = LeaseKey>> {
        let bits = STANDARD.decode(&self.bit_set).ok()?;
        let set = (0..bits.len() * 8).filter(move |bit| bits[bit / 8] >> (bit % 8) & 1 == 1);
        Some(set.map(|bit| LeaseKey {
            at: GroupTopic { group: self.group.clone(), topic: self.topic.clone() },
            queue_id: self.queue_id,
            offset: self.start_offset.saturating_add(bit as i64),
            popped_at: self.popped_at,
        }))
    }
}

/// The leases that all parts of the batch name.
///
/// # Errors
/// If a part is invalid, or there are more than [`MAX_ACKS`] leases.
fn leases_of(acks: &[BatchAck]) -> Result<Vec<LeaseKey>, Refusal> {
    let refuse = |text: String| Refusal::new(response::INVALID_PARAMETER, text);
    let mut leases = Vec::new();
    for ack in acks {
        // Each acknowledgement has a copy.
        check_names([&*ack.group, &*ack.topic])?;
        let keys = ack.leases().ok_or_else(|| refuse("the bitSet can't be decoded".to_owned()))?;
        leases.extend(keys.take(MAX_ACKS + 1 - leases.len()));
        if leases.len() > MAX_ACKS {
            return Err(refuse(format!("a batch has at most {MAX_ACKS} acknowledgements")));
        }
    }
    Ok(leases)
}

/// BATCH_ACK_MESSAGE. As with Apache's brokers, the answer has no result per message, and leases that have expired
/// are passed over. If an acknowledgement fails, the answer is an error, so that the client can repeat the batch.
/// Apache's brokers answer SUCCESS even then.
pub(super) async fn acknowledge_batch(request: Request) -> Answered {
    let batch: Option<AckBatch> = if request.command.body.is_empty() { None } else { request.json()? };
    let acks = batch.and_then(|batch| batch.acks).unwrap_or_default();
    if acks.is_empty() {
        return Err(Refusal::new(response::NO_MESSAGE, "the batch is empty"));
    }
    // A batch may name a lease several times.
    let leases: HashSet<_> = leases_of(&acks)?.into_iter().collect();
    let mut by_topic: HashMap<GroupTopic, Vec<(LeaseKey, AckEntry)>> = HashMap::new();
    {
        let handles = request.connection.consumer_state.handles.lock();
        for key in leases {
            let Some(handle) = handles.get(&key).map(str::to_owned) else { continue };
            let entry = AckEntry { handle, message_id: String::new(), lite_topic: None };
            by_topic.entry(key.at.clone()).or_default().push((key, entry));
        }
    }
    let mut failed = None;
    for (GroupTopic { group, topic }, acks) in by_topic {
        let (keys, entries): (Vec<_>, _) = acks.into_iter().unzip();
        match request.run(AckCommand { topic, group, entries }).await {
            Ok(results) => {
                let mut handles = request.connection.consumer_state.handles.lock();
                for (key, result) in keys.iter().zip(results) {
                    match result {
                        // The client will find a failed message by its handle when it repeats the batch.
                        Err(error) if error.kind != ErrorKind::InvalidHandle => failed = Some(error.into()),
                        _ => handles.remove(key),
                    }
                }
            }
            Err(refusal) => failed = Some(refusal),
        }
    }
    failed.map_or_else(|| Ok(success()), Err)
}

/// An invalid handle means that the client no longer holds the message: NO_MESSAGE.
fn invalid_handle_is_no_message(error: Error) -> Refusal {
    match error.kind {
        ErrorKind::InvalidHandle => Refusal::new(response::NO_MESSAGE, error.message),
        _ => error.into(),
    }
}

fn unknown_lease() -> Refusal {
    Refusal::new(
        response::NO_MESSAGE,
        "this connection does not know the lease; the message will be delivered again",
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::request::MAX_NAME_BYTES;
    use super::*;

    #[test]
    fn set_bits_name_messages() {
        let batch: AckBatch = serde_json::from_str(
            r#"{"acks":[{"b":"BQE=","c":"g","it":60000,"pt":1700,"q":2,"r":"0","rq":3,"so":100,"t":"t"}]}"#,
        )
        .expect("a batch");
        let acks = batch.acks.expect("acknowledgements");
        let offsets =
            |ack: &BatchAck| ack.leases().map(|keys| keys.map(|key| key.offset).collect::<Vec<_>>());
        assert_eq!(offsets(&acks[0]), Some(vec![100, 102, 108]));
        let broken = BatchAck { bit_set: "?".to_owned(), ..acks.into_iter().next().expect("one") };
        assert_eq!(offsets(&broken), None);
    }

    #[test]
    fn the_parts_of_a_batch_are_bounded_together() {
        let all = STANDARD.encode([0xFF; MAX_ACKS / 8]);
        let part = format!(r#"{{"b":"{all}","c":"g","pt":1700,"q":2,"so":100,"t":"t"}}"#);
        let leases = |parts: &[&str]| {
            let batch = format!(r#"{{"acks":[{}]}}"#, parts.join(","));
            let batch: AckBatch = serde_json::from_str(&batch).expect("a batch");
            let acks = batch.acks.expect("acknowledgements");
            leases_of(&acks).map(|leases| leases.len()).map_err(|refusal| refusal.code)
        };
        assert_eq!(leases(&[&part]), Ok(MAX_ACKS));
        assert_eq!(leases(&[&part, &part]), Err(response::INVALID_PARAMETER));
        let named = |group: &str| part.replace("\"g\"", &format!("\"{group}\""));
        assert_eq!(leases(&[&named(&"g".repeat(MAX_NAME_BYTES))]), Ok(MAX_ACKS));
        assert_eq!(leases(&[&named(&"g".repeat(MAX_NAME_BYTES + 1))]), Err(response::INVALID_PARAMETER));
    }
}
