//! Lists the members of groups, for clients and administrators.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use super::answer::{Answered, Refusal, json};
use super::client_connection::{ClientConnection, Registration};
use super::consume;
use super::heartbeat::{ConsumeFrom, ConsumeType, MessageModel, SubscriptionData};
use super::request::Request;
use crate::layer::OperationKind;
use crate::remoting::response;
use crate::service::millis;

/// A client's connection in an answer (Apache's `Connection`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Connection {
    client_addr: String,
    client_id: String,
    language: &'static str,
    version: i32,
}

impl Connection {
    fn of(connection: &ClientConnection) -> Self {
        let client = connection.client();
        Self {
            client_addr: connection.peer().to_string(),
            client_id: client.id.to_string(),
            language: client.language.name(),
            version: client.version,
        }
    }
}

/// GET_CONSUMER_CONNECTION_LIST.
pub(super) fn consumers(request: &Request) -> Answered {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        connection_set: Vec<Connection>,
        consume_from_where: ConsumeFrom,
        consume_type: ConsumeType,
        message_model: MessageModel,
        subscription_table: BTreeMap<String, SubscriptionData>,
    }
    let group = request.text("consumerGroup")?;
    let members = request.shared.members.of(group);
    let Some(first) = members.first() else {
        let text = format!("the consumer group[{group}] not online");
        return Err(Refusal::new(response::CONSUMER_NOT_ONLINE, text));
    };
    let subscriptions = members.iter().flat_map(|member| member.consumer.subscriptions.clone());
    json(&Body {
        connection_set: members.iter().map(|member| Connection::of(&member.connection)).collect(),
        consume_from_where: first.consumer.from,
        consume_type: first.consumer.consume_type,
        message_model: first.consumer.model,
        subscription_table: subscriptions.collect(),
    })
}

/// GET_PRODUCER_CONNECTION_LIST.
pub(super) fn producers(request: &Request) -> Answered {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        connection_set: Vec<Connection>,
    }
    let group = request.text("producerGroup")?;
    let producers = request.shared.members.producers(group);
    if producers.is_empty() {
        let text = format!("the producer group[{group}] not exist");
        return Err(Refusal::new(response::SYSTEM_ERROR, text));
    }
    json(&Body { connection_set: producers.iter().map(|connection| Connection::of(connection)).collect() })
}

/// GET_ALL_PRODUCER_INFO.
pub(super) fn all_producers(request: &Request) -> Answered {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Producer {
        client_id: String,
        #[serde(rename = "remoteIP")]
        remote_ip: String,
        language: &'static str,
        version: i32,
        last_update_timestamp: i64,
    }
    #[derive(Serialize)]
    struct Body {
        data: BTreeMap<String, Vec<Producer>>,
    }
    // A client without recent heartbeats is disconnected, so all of these are up to date.
    let now = millis(SystemTime::now());
    let mut data = BTreeMap::<_, Vec<_>>::new();
    for connection in request.shared.members.clients() {
        let Registration { client, producers, .. } = connection.registration();
        for group in producers {
            data.entry(group).or_default().push(Producer {
                client_id: client.id.to_string(),
                remote_ip: connection.peer().to_string(),
                language: client.language.name(),
                version: client.version,
                last_update_timestamp: now,
            });
        }
    }
    json(&Body { data })
}

/// GET_CONSUMER_LIST_BY_GROUP: the client ids of a group's members, among which clients divide its queues. A client
/// whose pulls are pops gets its own id alone: see [`consume::is_listed_alone`].
pub(super) fn consumer_ids(request: &Request) -> Answered {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        consumer_id_list: Vec<&'a str>,
    }
    let group = request.text("consumerGroup")?;
    request.check(OperationKind::QueryAssignment, &(), &group.to_owned())?;
    let mut ids = request.shared.members.client_ids(group);
    if consume::is_listed_alone(&request.shared, &request.connection, group) {
        ids.retain(|id| *id == request.connection.client().id);
    }
    if ids.is_empty() {
        return Err(Refusal::new(response::SYSTEM_ERROR, format!("no consumer for this group, {group}")));
    }
    json(&Body { consumer_id_list: ids.iter().map(|id| &**id).collect() })
}
