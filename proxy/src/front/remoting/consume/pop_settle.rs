//! ACK_MESSAGE, BATCH_ACK_MESSAGE and CHANGE_MESSAGE_INVISIBLETIME, by which clients settle what they have popped.

use std::collections::HashMap;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::super::request::{Answered, Refusal, Request, success};
use super::extra_info::ExtraInfo;
use super::kept_handles::LeaseName;
use crate::error::{Error, ErrorKind};
use crate::processor::{AckCommand, AckEntry, ChangeCommand};
use crate::remoting::response;
use crate::service::millis;

/// Acknowledgements of one request, in all its parts: parts of a few bytes may each name the same messages again.
const MAX_ACKS: usize = 4096;

/// ACK_MESSAGE.
pub(super) async fn acknowledge(request: Request) -> Answered {
    let (group, topic) = (request.text("consumerGroup")?.to_owned(), request.text("topic")?.to_owned());
    let (entry, info) = named(&request, &group, &topic)?;
    let name = lease_name(&group, &topic, &info);
    let results = request.run(AckCommand { topic, group, entries: vec![entry] }).await?;
    if let Some(Err(error)) = results.into_iter().next() {
        return Err(of_handle(error));
    }
    request.session.consuming.kept.lock().forget(&name);
    Ok(success())
}

/// CHANGE_MESSAGE_INVISIBLETIME. The client makes the text of the new lease itself, from the numbers in the answer.
pub(super) async fn change(request: Request) -> Answered {
    let (group, topic) = (request.text("consumerGroup")?.to_owned(), request.text("topic")?.to_owned());
    let invisible_ms: i64 = request.number("invisibleTime")?;
    let (entry, info) = named(&request, &group, &topic)?;
    let change = ChangeCommand {
        topic: topic.clone(),
        group: group.clone(),
        entry,
        invisible_ms,
        suspend: request.flag("suspend"),
    };
    let changed = request.shared.processor.run(&request.context(), change).await;
    let handle = changed.map_err(of_handle)?;
    let popped_at = millis(SystemTime::now());
    let before = lease_name(&group, &topic, &info);
    let revive_queue = info.revive_queue;
    let name = LeaseName { popped_at, ..before.clone() };
    {
        let mut kept = request.session.consuming.kept.lock();
        kept.forget(&before);
        kept.keep(name, handle, (popped_at, popped_at.saturating_add(invisible_ms)));
    }
    Ok(success()
        .field("popTime", popped_at)
        .field("invisibleTime", invisible_ms)
        .field("reviveQid", revive_queue))
}

/// The delivery that a request names.
fn named(request: &Request, group: &str, topic: &str) -> Result<(AckEntry, ExtraInfo), Refusal> {
    let text = request.text("extraInfo")?;
    let info = ExtraInfo::decode(text).ok_or_else(|| {
        Refusal::new(response::INVALID_PARAMETER, format!("the extraInfo can't be read: {text:.200}"))
    })?;
    let handle = match &info.handle {
        Some(handle) => handle.clone(),
        None => {
            let kept = request.session.consuming.kept.lock();
            kept.find(&lease_name(group, topic, &info)).map(str::to_owned).ok_or_else(unknown)?
        }
    };
    Ok((AckEntry { handle, message_id: String::new(), lite_topic: None }, info))
}

fn lease_name(group: &str, topic: &str, info: &ExtraInfo) -> LeaseName {
    LeaseName {
        group: group.to_owned(),
        topic: topic.to_owned(),
        queue_id: info.queue_id,
        offset: info.offset,
        popped_at: info.popped_at,
    }
}

/// The body of BATCH_ACK_MESSAGE.
#[derive(Deserialize)]
struct Batch {
    #[serde(default)]
    acks: Vec<BatchAck>,
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
    /// In base64: bit `i` stands for the message `i` behind the first.
    #[serde(rename = "b", alias = "bitSet")]
    bits: String,
}

impl Batch {
    /// The leases that all its parts name.
    ///
    /// # Errors
    /// If a part can't be read, or there are more than [`MAX_ACKS`].
    fn leases(&self) -> Result<Vec<LeaseName>, Refusal> {
        let refuse = |text: String| Refusal::new(response::INVALID_PARAMETER, text);
        let mut leases = Vec::new();
        for ack in &self.acks {
            let names = ack.names().ok_or_else(|| refuse("bits that can't be read".to_owned()))?;
            leases.extend(names.take(MAX_ACKS + 1 - leases.len()));
            if leases.len() > MAX_ACKS {
                return Err(refuse(format!("a batch has at most {MAX_ACKS} acknowledgements")));
            }
        }
        Ok(leases)
    }
}

impl BatchAck {
    /// The leases that it names; `None` if the bits can't be read.
    fn names(&self) -> Option<impl Iterator<Item = LeaseName>> {
        let bits = STANDARD.decode(&self.bits).ok()?;
        let set = (0..bits.len() * 8).filter(move |bit| bits[bit / 8] >> (bit % 8) & 1 == 1);
        Some(set.map(|bit| LeaseName {
            group: self.group.clone(),
            topic: self.topic.clone(),
            queue_id: self.queue_id,
            offset: self.start_offset.saturating_add(bit as i64),
            popped_at: self.popped_at,
        }))
    }
}

/// BATCH_ACK_MESSAGE. As with Apache's brokers, the answer tells nothing of single messages.
pub(super) async fn acknowledge_batch(request: Request) -> Answered {
    let batch: Batch = request.json()?;
    if batch.acks.is_empty() {
        return Err(Refusal::new(response::NO_MESSAGE, "the batch is empty"));
    }
    let leases = batch.leases()?;
    let mut by_topic: HashMap<(String, String), Vec<AckEntry>> = HashMap::new();
    {
        let mut kept = request.session.consuming.kept.lock();
        for name in leases {
            let Some(handle) = kept.find(&name).map(str::to_owned) else { continue };
            // What could not be acknowledged is delivered again.
            kept.forget(&name);
            let entry = AckEntry { handle, message_id: String::new(), lite_topic: None };
            by_topic.entry((name.group, name.topic)).or_default().push(entry);
        }
    }
    for ((group, topic), entries) in by_topic {
        request.run(AckCommand { topic, group, entries }).await?;
    }
    Ok(success())
}

/// A refusal because of a handle: the message is not this client's any more.
fn of_handle(error: Error) -> Refusal {
    match error.kind {
        ErrorKind::InvalidHandle => Refusal::new(response::NO_MESSAGE, error.message),
        _ => error.into(),
    }
}

fn unknown() -> Refusal {
    Refusal::new(response::NO_MESSAGE, "the lease is not known here: the message will be delivered again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_name_messages() {
        let batch: Batch = serde_json::from_str(
            r#"{"acks":[{"b":"BQE=","c":"g","it":60000,"pt":1700,"q":2,"r":"0","rq":3,"so":100,"t":"t"}]}"#,
        )
        .expect("a batch");
        let offsets =
            |ack: &BatchAck| ack.names().map(|names| names.map(|name| name.offset).collect::<Vec<_>>());
        assert_eq!(offsets(&batch.acks[0]), Some(vec![100, 102, 108]));
        let broken = BatchAck { bits: "?".to_owned(), ..batch.acks.into_iter().next().expect("one") };
        assert_eq!(offsets(&broken), None);
    }

    #[test]
    fn the_parts_of_a_batch_are_bounded_together() {
        let all = STANDARD.encode([0xFF; MAX_ACKS / 8]);
        let part = format!(r#"{{"b":"{all}","c":"g","pt":1700,"q":2,"so":100,"t":"t"}}"#);
        let leases = |parts: &[&str]| {
            let batch = format!(r#"{{"acks":[{}]}}"#, parts.join(","));
            let batch: Batch = serde_json::from_str(&batch).expect("a batch");
            batch.leases().map(|leases| leases.len()).map_err(|refusal| refusal.code)
        };
        assert_eq!(leases(&[&part]), Ok(MAX_ACKS));
        assert_eq!(leases(&[&part, &part]), Err(response::INVALID_PARAMETER));
    }
}
