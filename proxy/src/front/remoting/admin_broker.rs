//! Queries of tools about a broker: its configuration, the groups of a topic, the topics of a group.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::answer::{Answered, Refusal, json, success};
use super::name_server::TopicList;
use super::request::Request;
use crate::error::ErrorKind;
use crate::processor::{ClientFilter, ClientKind, ListBrokersCommand};
use crate::remoting::response;
use crate::service::millis;

/// After this time, a search for the groups of a topic stops before the next group. Tools wait for 5 s.
const MAX_SEARCH: Duration = Duration::from_secs(3);

/// GET_BROKER_CONFIG: the settings that tools read, in the format of Java's properties.
pub(super) async fn configuration(request: Request) -> Answered {
    let brokers = request.run(ListBrokersCommand).await?;
    let named = request.broker();
    let broker = brokers.iter().find(|broker| named.is_none_or(|named| named == broker.name));
    let mut text = String::new();
    if let Some(broker) = broker {
        let _ = writeln!(text, "brokerName={}\nbrokerClusterName={}", broker.name, broker.cluster);
    }
    let max_body = request.shared.processor.limits().body_bytes;
    let _ = writeln!(
        text,
        "brokerId=0\nlistenPort={}\nmaxMessageSize={max_body}",
        request.connection.local().port()
    );
    Ok(success().body(text))
}

/// UPDATE_BROKER_CONFIG: always refused. The proxy reads its own configuration at its start. Users of the proxy must
/// not change that of Apache's brokers: some settings name programs that a broker runs.
pub(super) fn configure() -> Answered {
    let text = "a broker's configuration can't be changed through the proxy: change the file of the proxy, or ask the broker itself";
    Err(Refusal::new(response::REQUEST_CODE_NOT_SUPPORTED, text))
}

/// QUERY_TOPIC_CONSUME_BY_WHO: the groups that consume from a topic, or have done so. The answer is complete or an
/// error, because administrators decide by it whether a topic is still needed.
pub(super) async fn groups_of_topic(request: Request) -> Answered {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        group_list: BTreeSet<String>,
    }
    let topic = request.text("topic")?;
    let processor = &request.shared.processor;
    let mut groups = request.shared.members.subscribed_to(topic);
    let filter = ClientFilter { topic: Some(topic.to_owned()), ..ClientFilter::default() };
    let connected = processor.connected_clients(&filter).clients;
    // The groups of classic clients come from `members`: one client may be in several groups.
    let others = connected.into_iter().filter(|client| client.kind != ClientKind::Classic.name());
    groups.extend(others.map(|client| client.group).filter(|group| !group.is_empty()));
    let until = Instant::now() + MAX_SEARCH;
    for group in processor.groups().await? {
        if groups.contains(&group.name) {
            continue;
        }
        if Instant::now() > until {
            let text = format!("too many groups: the search was not finished within {MAX_SEARCH:?}");
            return Err(Refusal::new(response::SYSTEM_BUSY, text));
        }
        match processor.group_stats(&group.name, Some(topic)).await {
            Ok(stats) if stats.topics.iter().any(|topic| topic.queues.iter().any(|queue| queue.next > 0)) => {
                groups.insert(group.name);
            }
            Err(error) if error.kind == ErrorKind::TopicNotFound => return Err(error.into()),
            _ => {}
        }
    }
    json(&Body { group_list: groups })
}

/// QUERY_TOPICS_BY_CONSUMER: the topics that a group has received from.
pub(super) async fn topics_of_group(request: Request) -> Answered {
    let stats = request.shared.processor.group_stats(request.text("group")?, None).await?;
    json(&TopicList { topic_list: stats.topics.into_iter().map(|topic| topic.topic).collect() })
}

/// GET_EARLIEST_MSG_STORETIME: when the first message of a queue was stored, or -1 if the queue is empty.
pub(super) async fn earliest(request: Request) -> Answered {
    let (topic, id): (_, i32) = (request.text("topic")?, request.number("queueId")?);
    let stats = request.shared.processor.topic_stats(topic, None).await?;
    let of_broker = |name: &str| request.broker().is_none_or(|wanted| wanted == name);
    let queue = stats.queues.iter().find(|queue| queue.id == id && of_broker(&queue.broker));
    let oldest = queue.and_then(|queue| queue.oldest);
    Ok(success().field("timestamp", oldest.map_or(-1, millis)))
}
