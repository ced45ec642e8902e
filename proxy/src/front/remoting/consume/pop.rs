//! POP_MESSAGE, by which clients of 5.x take messages under leases, and NOTIFICATION, by which they wait for some.

use std::time::{Duration, SystemTime};

use super::super::heartbeat::expression;
use super::super::request::{Answered, Refusal, Request, success};
use super::extra_info::{ExtraInfo, PROPERTY, REVIVE_QUEUE, REVIVE_QUEUE_IN_ORDER};
use super::give_back::keep_fitting;
use super::kept_handles::LeaseName;
use super::{offsets, records};
use crate::processor::{HasMessageCommand, LeasedDelivery, ReceiveCommand, Received};
use crate::remoting::{Command, properties, response};
use crate::service::millis;

/// Messages of one pop.
const MAX_MESSAGES: i32 = 32;
/// How long a pop may take that waits for nothing.
const SHORT_POP: Duration = Duration::from_millis(500);

/// POP_MESSAGE. A pop of one queue gets messages of the topic as a whole.
pub(super) async fn pop(request: Request) -> Answered {
    let (group, topic) = (request.text("consumerGroup")?.to_owned(), request.text("topic")?.to_owned());
    let max: i32 = request.number("maxMsgNums")?;
    check_batch(max)?;
    let polling_ms: i64 = request.number("pollTime")?;
    let receive = receive(&request, max, request.number("invisibleTime")?)?;
    let broker = offsets::broker_of(&request, &topic).await?;
    let cluster = records::cluster_of(&request, &topic).await;
    let received = tokio::select! {
        biased;
        received = request.run(receive) => received?,
        () = over(&request, polling_ms) => Received::Nothing,
    };
    let Received::Messages(mut leased) = received else {
        return Ok(head(response::POLLING_TIMEOUT, "NO_MESSAGE_IN_QUEUE", None, &request));
    };
    keep_fitting(&request, (&group, &topic), &mut leased);
    let in_order = request.flag("order");
    let infos: Vec<_> = leased.iter().map(|leased| info(leased, &broker, in_order)).collect();
    keep(&request, &group, &topic, &infos);
    let mut texts = infos.iter();
    let deliveries = leased.iter().map(|leased| &leased.delivery);
    let body = records::encode(&request, &cluster, deliveries, |record| {
        let Some(info) = texts.next() else { return };
        let text = info.encode();
        record.properties.push_str(&properties::encode([(PROPERTY, text.as_str())]));
    });
    Ok(head(response::SUCCESS, "FOUND", infos.first(), &request).body(body))
}

/// NOTIFICATION: waits until a pop would bring a message.
pub(super) async fn notification(request: Request) -> Answered {
    const LEASE_MS: i64 = 60_000;
    let polling_ms: i64 = request.number("pollTime")?;
    let receive = receive(&request, 1, LEASE_MS)?;
    let found = tokio::select! {
        biased;
        found = request.run(HasMessageCommand { receive }) => found?,
        () = over(&request, polling_ms) => false,
    };
    Ok(success().field("hasMsg", found).field("pollingFull", false))
}

/// The receive that a request describes.
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

/// Ends once a request has waited as long as it may.
async fn over(request: &Request, polling_ms: i64) {
    if polling_ms > 0 {
        return request.session.closing().cancelled().await;
    }
    tokio::time::sleep(SHORT_POP).await;
}

/// Checks how many messages a client wants.
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

/// Batches of acknowledgements name messages by numbers alone.
fn keep(request: &Request, group: &str, topic: &str, infos: &[ExtraInfo]) {
    let mut kept = request.session.consuming.kept.lock();
    let now = millis(SystemTime::now());
    for ExtraInfo { queue_id, offset, popped_at, invisible, handle, .. } in infos {
        let name = LeaseName {
            group: group.to_owned(),
            topic: topic.to_owned(),
            queue_id: *queue_id,
            offset: *offset,
            popped_at: *popped_at,
        };
        let until = popped_at.saturating_add(*invisible);
        kept.keep(name, handle.clone().unwrap_or_default(), (now, until));
    }
}

/// An answer with the fields that clients expect. They look nothing up in the fields about offsets, as each message tells
/// its own, but take an answer without them for one of an older broker.
fn head(code: i32, remark: &str, first: Option<&ExtraInfo>, request: &Request) -> Command {
    let answer = Command { remark: Some(remark.to_owned()), ..Command::response(code) }
        .field("popTime", first.map_or(0, |info| info.popped_at))
        .field("invisibleTime", first.map_or(0, |info| info.invisible))
        .field("reviveQid", revive_queue(request.flag("order")))
        .field("restNum", 0);
    match first {
        Some(ExtraInfo { queue_id, offset, .. }) => answer
            .field("startOffsetInfo", format!("0 {queue_id} {offset}"))
            .field("msgOffsetInfo", format!("0 {queue_id} {offset}")),
        None => answer,
    }
}

fn revive_queue(in_order: bool) -> i32 {
    if in_order { REVIVE_QUEUE_IN_ORDER } else { REVIVE_QUEUE }
}
