//! Requests that register and unregister this proxy's producers at brokers.

use serde_json::json;

use crate::remoting::{RemotingCommand, request};

/// A heartbeat that registers a client as a producer of these topics. Producer groups have the names of their topics.
pub(super) fn of_producers(client_id: &str, topics: &[&str]) -> RemotingCommand {
    let groups: Vec<_> = topics.iter().map(|topic| json!({"groupName": topic})).collect();
    let body = json!({
        "clientID": client_id, "producerDataSet": groups, "consumerDataSet": [],
        "heartbeatFingerprint": 0, "withoutSub": false,
    });
    RemotingCommand::request(request::HEART_BEAT).body(body.to_string())
}

/// A heartbeat without producers or consumers. Every broker answers it, and it registers nothing.
pub(super) fn empty() -> RemotingCommand {
    of_producers("rocketmq-thin-proxy", &[])
}

/// Unregisters a client from the producer group of a topic.
pub(super) fn unregister(client_id: &str, topic: &str) -> RemotingCommand {
    RemotingCommand::request(request::UNREGISTER_CLIENT)
        .field("clientID", client_id)
        .field("producerGroup", topic)
}
