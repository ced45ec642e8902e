//! POP_MESSAGE, by which clients of version 5 receive messages under leases, and NOTIFICATION, by which they wait for
//! messages.

use std::time::{Duration, SystemTime};

use super::super::answer::{Answered, Refusal, success};
use super::super::heartbeat::expression;
use super::super::request::Request;
use super::extra_info::{ExtraInfo, REVIVE_QUEUE, REVIVE_QUEUE_IN_ORDER};
use super::give_back::truncate_to_answer;
use super::handle_cache::{CachedHandle, LeaseKey};
use super::ledger::GroupTopic;
use super::queue_names::broker_of;
use super::records;
use crate::processor::{HasMessageCommand, LeasedDelivery, ReceiveCommand, Received};
use crate::remoting::{RemotingCommand, properties, response};
use crate::service::millis;
use crate::service::names::properties as names;

/// The maximum number of messages of one pop.
const MAX_MESSAGES: i32 = 32;
/// The time limit of a pop without long polling.
const SHORT_POLL_TIMEOUT: Duration = Duration::from_millis(500);

/// POP_MESSAGE. A pop of one queue returns messages of any queue of the topic.
pub(super) async fn pop(request: Request) -> Answered {
    let (group, topic) = (request.text("consumerGroup")?.to_owned(), request.text("topic")?.to_owned());
    let at = GroupTopic { group, topic };
    let max: i32 = request.number("maxMsgNums")?;
    check_batch(max)?;
    let polling_ms: i64 = request.number("pollTime")?;
    let receive = receive(&request, max, request.number("invisibleTime")?)?;
    let broker = broker_of(&request, &at.topic).await?;
    let cluster = records::cluster_of(&request, &at.topic).await;
    let received = tokio::select! {
        biased;
        received = request.run(receive) => received?,
        () = poll_timeout(&request, polling_ms) => Received::Nothing,
    };
    let nothing = || answer(response::POLLING_TIMEOUT, "NO_MESSAGE_IN_QUEUE", None, &request);
    let Received::Messages(leased) = received else { return Ok(nothing()) };
    let leased = truncate_to_answer(&request, &at, leased).await?;
    if leased.is_empty() {
        return Ok(nothing());
    }
    let in_order = request.flag("order");
    let infos: Vec<_> = leased.iter().map(|leased| info(leased, &broker, in_order)).collect();
    store_handles(&request, &at, &infos);
    let mut texts = infos.iter();
    let deliveries = leased.iter().map(|leased| &leased.delivery);
    let body = records::encode(&request, &cluster, deliveries, |record| {
        let Some(info) = texts.next() else { return };
        let text = info.encode();
        record.properties.push_str(&properties::encode([(names::POP_CHECK_POINT, text.as_str())]));
    });
    Ok(answer(response::SUCCESS, "FOUND", infos.first(), &request).body(body))
}

/// NOTIFICATION: waits until a pop would return a message.
pub(super) async fn notification(request: Request) -> Answered {
    const LEASE_MS: i64 = 60_000;
    let polling_ms: i64 = request.number("pollTime")?;
    let receive = receive(&request, 1, LEASE_MS)?;
    let found = tokio::select! {
        biased;
        found = request.run(HasMessageCommand { receive }) => found?,
        () = poll_timeout(&request, polling_ms) => false,
    };
    Ok(success().field("hasMsg", found).field("pollingFull", false))
}

/// The receive command of a request.
fn receive(request: &Request, batch_size: i32, invisible_ms: i64) -> Result<ReceiveCommand, Refusal> {
    let command = &request.command;
    Ok(ReceiveCommand {
        topic: request.text("topic")?.to_owned(),
        group: request.text("consumerGroup")?.to_owned(),
        broker: request.broker().map(str::to_owned),
        expression: expression(command.text("expType"), command.text("exp").unwrap_or_default()),
        batch_size,
        invisible_ms,
        auto_renew: false,
        polling_ms: Some(request.number("pollTime")?),
        attempt_id: command.text("attemptId").filter(|id| !id.is_empty()).map(str::to_owned),
    })
}

/// Completes when a request must be answered without messages. The processor ends long polls itself, except while the
/// connection is closing.
async fn poll_timeout(request: &Request, polling_ms: i64) {
    if polling_ms > 0 {
        return request.connection.closing().cancelled().await;
    }
    tokio::time::sleep(SHORT_POLL_TIMEOUT).await;
}

/// Checks the number of messages that a client requests.
pub(super) fn check_batch(max: i32) -> Result<(), Refusal> {
    if max > MAX_MESSAGES {
        let text = format!("batch size {max} is larger than {MAX_MESSAGES}");
        return Err(Refusal::new(response::INVALID_PARAMETER, text));
    }
    Ok(())
}

fn info(leased: &LeasedDelivery, broker: &str, in_order: bool) -> ExtraInfo {
    let delivery = &leased.delivery;
    ExtraInfo {
        popped_at: millis(delivery.received_at),
        invisible: i64::try_from(delivery.invisible.as_millis()).unwrap_or(i64::MAX),
        revive_queue: revive_queue(in_order),
        broker: broker.to_owned(),
        queue_id: delivery.queue_id,
        offset: delivery.queue_offset,
        handle: Some(leased.handle.clone()),
    }
}

/// Stores the sealed handles, because a BATCH_ACK_MESSAGE does not contain them.
fn store_handles(request: &Request, at: &GroupTopic, infos: &[ExtraInfo]) {
    let mut handles = request.connection.consumer_state.handles.lock();
    let now = millis(SystemTime::now());
    for ExtraInfo { queue_id, offset, popped_at, invisible, handle, .. } in infos {
        let key = LeaseKey { at: at.clone(), queue_id: *queue_id, offset: *offset, popped_at: *popped_at };
        let expires_at = popped_at.saturating_add(*invisible);
        handles.insert(key, CachedHandle { handle: handle.clone().unwrap_or_default(), expires_at }, now);
    }
}

/// An answer with the fields that clients expect. They don't read the fields with offsets, because each message has its
/// own, but treat an answer without these fields as one of an older broker.
fn answer(code: i32, remark: &str, first: Option<&ExtraInfo>, request: &Request) -> RemotingCommand {
    let command = RemotingCommand { remark: Some(remark.to_owned()), ..RemotingCommand::response(code) }
        .field("popTime", first.map_or(0, |info| info.popped_at))
        .field("invisibleTime", first.map_or(0, |info| info.invisible))
        .field("reviveQid", revive_queue(request.flag("order")))
        .field("restNum", 0);
    match first {
        Some(ExtraInfo { queue_id, offset, .. }) => command
            .field("startOffsetInfo", format!("0 {queue_id} {offset}"))
            .field("msgOffsetInfo", format!("0 {queue_id} {offset}")),
        None => command,
    }
}

fn revive_queue(in_order: bool) -> i32 {
    if in_order { REVIVE_QUEUE_IN_ORDER } else { REVIVE_QUEUE }
}
