//! Sends messages, one by one or in batches, and recalls delayed messages.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::task::coop::consume_budget;

use super::answer::{Answered, Refusal, success};
use super::inflate::inflate;
use super::message::{self, SendHeader};
use super::request::Request;
use super::{log_position, status, transaction};
use crate::decompression::{Inflating, WORKING_BYTES};
use crate::processor::{Draft, RecallCommand, SendCommand, SendReceipt};
use crate::remoting::compression;
use crate::remoting::message::{BatchEntry, message_id, read_batch};
use crate::remoting::{RemotingCommand, request, response};
use crate::service::names::RETRY_PREFIX;
use crate::service::names::properties as names;
use crate::service::{ChosenQueue, SentBack};

/// The names of a field of a send: the short one, and the one in the oldest kind of requests.
#[derive(Clone, Copy)]
struct FieldName {
    short: &'static str,
    long: &'static str,
}

/// The names of the fields of a send.
mod field {
    use super::FieldName;

    pub(super) const PRODUCER_GROUP: FieldName = FieldName { short: "a", long: "producerGroup" };
    pub(super) const TOPIC: FieldName = FieldName { short: "b", long: "topic" };
    pub(super) const QUEUE_ID: FieldName = FieldName { short: "e", long: "queueId" };
    pub(super) const FLAGS: FieldName = FieldName { short: "f", long: "sysFlag" };
    pub(super) const BORN_AT: FieldName = FieldName { short: "g", long: "bornTimestamp" };
    pub(super) const FLAG: FieldName = FieldName { short: "h", long: "flag" };
    pub(super) const RECONSUMED: FieldName = FieldName { short: "j", long: "reconsumeTimes" };
    pub(super) const MAX_RECONSUMED: FieldName = FieldName { short: "l", long: "maxReconsumeTimes" };
    pub(super) const PROPERTIES: FieldName = FieldName { short: "i", long: "properties" };
    pub(super) const BATCH: FieldName = FieldName { short: "m", long: "batch" };
}

/// SEND_MESSAGE, SEND_MESSAGE_V2, SEND_BATCH_MESSAGE.
pub(super) async fn send(mut request: Request) -> Answered {
    let header = header(&request)?;
    let is_batch = request.command.code == request::SEND_BATCH_MESSAGE
        || request.flag(field_name(&request, field::BATCH));
    if message::requester(properties(&request))
        .is_some_and(|client| client == &*request.connection.client().id)
    {
        request.shared.processor.awaits_replies(&request.uncounted_context());
    }
    let body = std::mem::take(&mut request.command.body);
    let messages = if is_batch {
        batch(&request, header.clone(), body).await?
    } else {
        vec![draft(&request, &header, properties(&request), body).await?]
    };
    let stored = request.run(SendCommand { messages, types_unknown: true }).await?;
    let stored = stored.into_iter().collect::<Result<Vec<_>, _>>().map_err(Refusal::from)?;
    answer(&header, &stored, request.connection.local())
}

/// RECALL_MESSAGE: cancels a delayed message that is not due yet.
pub(super) async fn recall(request: Request) -> Answered {
    let (topic, handle) = (request.text("topic")?.to_owned(), request.text("recallHandle")?.to_owned());
    let message_id = request.run(RecallCommand { topic, handle, types_unknown: true }).await?;
    Ok(success().field("msgId", message_id))
}

/// The name of a field in this request.
fn field_name(request: &Request, name: FieldName) -> &'static str {
    match request.command.code {
        request::SEND_MESSAGE | request::SEND_REPLY_MESSAGE => name.long,
        _ => name.short,
    }
}

/// The fields of a send or a reply that all its messages share.
pub(super) fn header(request: &Request) -> Result<SendHeader, Refusal> {
    let name = |field| field_name(request, field);
    let queue_id: i32 = request.number(name(field::QUEUE_ID))?;
    let broker = request.broker().map(str::to_owned);
    let topic = request.text(name(field::TOPIC))?;
    let sent_back = SentBack {
        deliveries: request.optional_number(name(field::RECONSUMED))?.unwrap_or_default(),
        max_retries: request.optional_number(name(field::MAX_RECONSUMED))?,
    };
    Ok(SendHeader {
        topic: topic.to_owned(),
        producer_group: request.text(name(field::PRODUCER_GROUP))?.to_owned(),
        system_flags: request.number(name(field::FLAGS))?,
        born_at: request.number(name(field::BORN_AT))?,
        // A negative queue id leaves the choice to the broker.
        queue: (queue_id >= 0).then_some(ChosenQueue { broker, id: queue_id }),
        flag: request.optional_number(name(field::FLAG))?.unwrap_or_default(),
        sent_back: topic.starts_with(RETRY_PREFIX).then_some(sent_back),
    })
}

/// The encoded properties of a message.
pub(super) fn properties(request: &Request) -> &str {
    request.command.text(field_name(request, field::PROPERTIES)).unwrap_or_default()
}

/// Adds the fields of a send's answer to that of a reply, which is not stored.
pub(super) fn reply_answer(command: RemotingCommand, local: SocketAddr) -> RemotingCommand {
    let command = command.field("msgId", message_id(local, 0)).field("queueId", 0).field("queueOffset", 0);
    command.field(names::REGION, names::DEFAULT_REGION).field(names::TRACE_ON, true)
}

async fn batch(request: &Request, mut header: SendHeader, body: Bytes) -> Result<Vec<Draft>, Refusal> {
    let max_messages = request.max_fields;
    let mut drafts = Vec::new();
    for entry in read_batch(body) {
        let BatchEntry { flag, properties, body } = entry.map_err(|error| illegal(error.to_string()))?;
        if drafts.len() >= max_messages {
            let text = format!("the batch has more than {max_messages} messages (transport.request_fields)");
            return Err(illegal(text));
        }
        header.flag = flag;
        drafts.push(draft(request, &header, &properties, body).await?);
        consume_budget().await;
    }
    Ok(drafts)
}

async fn draft(
    request: &Request,
    header: &SendHeader,
    properties: &str,
    body: Bytes,
) -> Result<Draft, Refusal> {
    request.charge.grow(message::draft_bytes(header, properties))?;
    let body = match header.is_compressed() {
        true => inflated(request, header.system_flags, &body).await?,
        false => body,
    };
    message::draft(header, properties, body).map_err(|error| illegal(error.to_string()))
}

async fn inflated(request: &Request, system_flags: i32, body: &[u8]) -> Result<Bytes, Refusal> {
    let max_body = request.shared.processor.limits().body_bytes;
    let unreadable =
        |_| illegal(format!("the body can't be decompressed, or it is longer than {max_body} bytes"));
    request.charge.grow(WORKING_BYTES)?;
    let inflating =
        Inflating::new(compression::of_flags(system_flags), body, max_body).map_err(unreadable)?;
    let inflated = inflate(inflating, &request.charge).await?.map_err(unreadable)?;
    request.charge.shrink(WORKING_BYTES);
    Ok(inflated)
}

fn illegal(text: String) -> Refusal {
    Refusal::new(response::MESSAGE_ILLEGAL, text)
}

/// The answer to a send. Clients need the region in it.
fn answer(header: &SendHeader, stored: &[SendReceipt], local: SocketAddr) -> Answered {
    let empty = || Refusal::new(response::MESSAGE_ILLEGAL, "the batch is empty");
    let first = stored.first().ok_or_else(empty)?;
    let ids = stored.iter().map(|stored| message_id(local, log_position::of_stored(&header.topic, stored)));
    let command = RemotingCommand::response(status::of_persistence(first.persistence))
        .field("msgId", ids.collect::<Vec<_>>().join(","))
        .field("queueId", first.queue_id)
        .field("queueOffset", first.queue_offset)
        .field("transactionId", transaction::id(&header.topic, first))
        .field(names::REGION, names::DEFAULT_REGION)
        .field(names::TRACE_ON, true);
    Ok(match &first.recall_handle {
        Some(handle) => command.field("recallHandle", handle),
        None => command,
    })
}
