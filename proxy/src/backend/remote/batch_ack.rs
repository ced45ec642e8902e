//! Several acknowledgements in one request (Apache's `BatchAckMessageRequestBody`).

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::handle::{Handle, TopicGroup};
use crate::remoting::{RemotingCommand, request};

/// The revive queue in handles of orderly groups, which have no check-points.
const ORDERLY_REVIVE_QUEUE: i32 = 999;
/// The maximum number of bits of a check-point's bit set. If a filter skipped many messages, an offset may be far from
/// the start of its pop, and a bit set for it would be long and nearly empty.
const MAX_BITS: i64 = 1024;

/// Whether this delivery can share an acknowledge request with other deliveries.
pub(super) fn is_batchable(handle: &Handle) -> bool {
    handle.revive_queue != ORDERLY_REVIVE_QUEUE
        && (0..MAX_BITS).contains(&handle.queue_offset.saturating_sub(handle.start_offset))
}

/// The request that acknowledges these deliveries of one broker, all of which are [batchable](is_batchable).
pub(super) fn command(
    source: TopicGroup<'_>,
    broker: &str,
    handles: &[&Handle],
) -> serde_json::Result<RemotingCommand> {
    let body = Body { acks: acks(source, handles), broker_name: broker };
    Ok(RemotingCommand::request(request::BATCH_ACK_MESSAGE).body(serde_json::to_vec(&body)?))
}

#[derive(Serialize)]
struct Body<'a> {
    acks: Vec<Ack<'a>>,
    #[serde(rename = "brokerName")]
    broker_name: &'a str,
}

/// The deliveries of one check-point.
#[derive(Serialize)]
struct Ack<'a> {
    #[serde(rename = "c")]
    group: &'a str,
    #[serde(rename = "t")]
    topic: &'a str,
    #[serde(rename = "r")]
    variant: &'static str,
    #[serde(rename = "so")]
    start_offset: i64,
    #[serde(rename = "q")]
    queue_id: i32,
    #[serde(rename = "rq")]
    revive_queue: i32,
    #[serde(rename = "pt")]
    pop_time: i64,
    #[serde(rename = "it")]
    invisible: i64,
    #[serde(rename = "b")]
    offsets: String,
}

fn acks<'a>(TopicGroup { topic, group }: TopicGroup<'a>, handles: &[&Handle]) -> Vec<Ack<'a>> {
    let mut by_check_point: HashMap<_, Vec<i64>> = HashMap::new();
    for handle in handles {
        let check_point = (
            (handle.variant, handle.queue_id, handle.start_offset),
            (handle.revive_queue, handle.pop_time, handle.invisible),
        );
        by_check_point.entry(check_point).or_default().push(handle.queue_offset - handle.start_offset);
    }
    let acks = by_check_point.into_iter().map(|(check_point, relative_offsets)| {
        let ((variant, queue_id, start_offset), (revive_queue, pop_time, invisible)) = check_point;
        let (variant, offsets) = (variant.code(), STANDARD.encode(bit_set(&relative_offsets)));
        Ack { group, topic, variant, start_offset, queue_id, revive_queue, pop_time, invisible, offsets }
    });
    acks.collect()
}

/// A bit set with these bits set, the lowest bit of each byte first.
fn bit_set(positions: &[i64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for position in positions.iter().filter_map(|position| usize::try_from(*position).ok()) {
        let index = position / 8;
        if bytes.len() <= index {
            bytes.resize(index + 1, 0);
        }
        bytes[index] |= 1 << (position % 8);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(text: &str) -> Handle {
        Handle::parse(text).unwrap()
    }

    #[test]
    fn deliveries_of_one_check_point_share_a_bit_set() {
        let handles = [
            handle("100 1700000000000 60000 3 1 b 2 100"),
            handle("100 1700000000000 60000 3 1 b 2 109"),
            handle("100 1700000000000 60000 3 0 b 2 101"),
        ];
        let handles: Vec<_> = handles.iter().collect();
        let command = command(TopicGroup { topic: "t", group: "g" }, "b", &handles).unwrap();
        let mut body: serde_json::Value = serde_json::from_slice(&command.body).unwrap();
        body["acks"].as_array_mut().unwrap().sort_by_key(|ack| ack["r"].to_string());
        let ack = |variant, bits: &[u8]| {
            serde_json::json!({ "c": "g", "t": "t", "r": variant, "so": 100, "q": 2, "rq": 3,
                "pt": 1_700_000_000_000_i64, "it": 60_000, "b": STANDARD.encode(bits) })
        };
        let expected = serde_json::json!({ "acks": [ack("0", &[2]), ack("1", &[1, 2])], "brokerName": "b" });
        assert_eq!(body, expected);
    }

    #[test]
    fn orderly_and_far_deliveries_are_acknowledged_alone() {
        for (text, together) in [
            ("100 1 60000 3 0 b 2 100", true),
            ("100 1 60000 999 0 b 2 100", false),
            ("100 1 60000 3 0 b 2 99", false),
            ("100 1 60000 3 0 b 2 1124", false),
        ] {
            assert_eq!(is_batchable(&handle(text)), together, "{text}");
        }
    }
}
