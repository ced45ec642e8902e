//! The heartbeats by which brokers know this proxy.

use serde_json::json;

use crate::remoting::{Command, request};

/// A heartbeat of a client that has producers of these topics.
pub(super) fn of_producers(client_id: &str, topics: &[&str]) -> Command {
    let groups: Vec<_> = topics.iter().map(|topic| json!({"groupName": topic})).collect();
    let body = json!({
        "clientID": client_id, "producerDataSet": groups, "consumerDataSet": [],
        "heartbeatFingerprint": 0, "withoutSub": false,
    });
    Command::request(request::HEART_BEAT).body(body.to_string())
}

/// A heartbeat without producers or consumers: every broker answers it, and it changes nothing.
pub(super) fn empty() -> Command {
    of_producers("rocketmq-thin-proxy", &[])
}

/// Takes a producer group off a broker's list.
pub(super) fn unregister(client_id: &str, topic: &str) -> Command {
    Command::request(request::UNREGISTER_CLIENT).field("clientID", client_id).field("producerGroup", topic)
}
