//! POP_MESSAGE, by which clients of 5.x take messages under leases.

use std::time::Duration;

use super::super::heartbeat::expression;
use super::super::request::{Answered, Refusal, Request};
use super::extra_info::{ExtraInfo, LeaseName, PROPERTY, REVIVE_QUEUE, REVIVE_QUEUE_IN_ORDER};
use super::give_back::keep_fitting;
use super::{offsets, records};
use crate::processor::{LeasedDelivery, ReceiveCommand, Received};
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
    if max > MAX_MESSAGES {
        let text = format!("batch size {max} is larger than {MAX_MESSAGES}");
        return Err(Refusal::new(response::INVALID_PARAMETER, text));
    }
    let polling_ms: i64 = request.number("pollTime")?;
    let receive = ReceiveCommand {
        topic: topic.clone(),
        group: group.clone(),
        broker: request.broker().map(str::to_owned),
        expression: expression(
            request.command.text("expType"),
            request.command.text("exp").unwrap_or_default(),
        ),
        batch_size: max,
        invisible_ms: request.number("invisibleTime")?,
        auto_renew: false,
        polling_ms: Some(polling_ms),
        attempt_id: request.command.text("attemptId").filter(|id| !id.is_empty()).map(str::to_owned),
    };
    let broker = offsets::broker_of(&request, &topic).await?;
    let cluster = records::cluster_of(&request, &topic).await;
    let waits = async {
        if polling_ms > 0 {
            return request.session.closing().cancelled().await;
        }
        tokio::time::sleep(SHORT_POP).await;
    };
    let received = tokio::select! {
        biased;
        received = request.run(receive) => received?,
        () = waits => Received::Nothing,
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
    for ExtraInfo { queue_id, offset, popped_at, handle, .. } in infos {
        let name = LeaseName {
            group: group.to_owned(),
            topic: topic.to_owned(),
            queue_id: *queue_id,
            offset: *offset,
            popped_at: *popped_at,
        };
        kept.keep(name, handle.clone().unwrap_or_default());
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
