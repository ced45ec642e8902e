//! Routes of topics. They name the proxies as the brokers.

use std::collections::BTreeMap;

use serde::Serialize;

use super::answer::{Answered, Refusal, json};
use super::client_connection::ClientConnection;
use super::consume::reads_by_offset;
use super::request::Request;
use crate::front::route_addresses::RouteAddresses;
use crate::processor::{BrokersCommand, GetGroupConfigCommand, ListBrokersCommand, MakeRetryTopicCommand};
use crate::remoting::response;
use crate::service::names::{RETRY_PREFIX, permission_bits};
use crate::service::{BrokerInfo, Permission, QueueRange, Route, TopicKind};

/// The route of a topic (Apache's `TopicRouteData`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TopicRoute {
    broker_datas: Vec<BrokerData>,
    filter_server_table: BTreeMap<String, Vec<String>>,
    queue_datas: Vec<QueueData>,
}

/// A broker and its addresses.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BrokerData {
    broker_addrs: BTreeMap<usize, String>,
    broker_name: String,
    cluster: String,
    enable_acting_master: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QueueData {
    broker_name: String,
    perm: i32,
    read_queue_nums: i32,
    topic_sys_flag: i32,
    write_queue_nums: i32,
}

/// GET_ROUTEINFO_BY_TOPIC. The keys of the addresses are always quoted, which clients of all versions can read.
pub(super) async fn route(request: Request) -> Answered {
    let topic = request.text("topic")?.to_owned();
    let route = match request.run(BrokersCommand { topic: topic.clone() }).await {
        Err(refusal) if refusal.code == response::TOPIC_NOT_EXIST => {
            retry_route(&request, &topic).await.ok_or(refusal)?
        }
        // Clients query the route of a system topic if there is no route of their own topic.
        Err(refusal) if refusal.code == response::INVALID_PARAMETER => {
            return Err(Refusal { code: response::TOPIC_NOT_EXIST, ..refusal });
        }
        route => route?,
    };
    let brokers = route
        .queues
        .iter()
        .map(|range| BrokerData::new(&range.broker, &range.cluster, addresses(&request.connection)));
    json(&TopicRoute {
        broker_datas: brokers.collect(),
        filter_server_table: BTreeMap::new(),
        queue_datas: route.queues.iter().map(QueueData::of).collect(),
    })
}

/// The route of a group's retry topic that does not exist. It names all brokers, because tools look for the brokers of
/// a group there, and one queue to send to, because a send creates the topic. For a group that reads by offset, the
/// topic is created first.
async fn retry_route(request: &Request, topic: &str) -> Option<Route> {
    let group = topic.strip_prefix(RETRY_PREFIX)?.to_owned();
    if reads_by_offset(&request.shared, &group) {
        request.run(MakeRetryTopicCommand { group: group.clone() }).await.ok()?;
        if let Ok(route) = request.run(BrokersCommand { topic: topic.to_owned() }).await {
            return Some(route);
        }
    }
    request.run(GetGroupConfigCommand { group }).await.ok()?;
    let brokers = request.run(ListBrokersCommand).await.ok()?;
    let queues = brokers.into_iter().map(|BrokerInfo { name, cluster }| QueueRange {
        broker: name,
        cluster,
        replicas: vec![0],
        read_queues: 1,
        write_queues: 1,
        permission: Permission { read: false, write: true },
    });
    Some(Route { kind: TopicKind::Normal, queues: queues.collect() })
}

impl BrokerData {
    /// A broker with these addresses. The first one is the master's.
    pub(super) fn new(name: &str, cluster: &str, addresses: Vec<String>) -> Self {
        Self {
            broker_addrs: addresses.into_iter().enumerate().collect(),
            broker_name: name.to_owned(),
            cluster: cluster.to_owned(),
            enable_acting_master: false,
        }
    }
}

impl QueueData {
    fn of(range: &QueueRange) -> Self {
        Self {
            broker_name: range.broker.clone(),
            perm: permission_bits(range.permission),
            read_queue_nums: range.read_queues,
            topic_sys_flag: 0,
            write_queue_nums: range.write_queues,
        }
    }
}

/// The addresses of the proxies: those configured for the entry, or else the address that the client has connected to,
/// followed by the others of the fleet. Clients treat the first address as the master's, and send the heartbeats of
/// consumers to all.
pub(super) fn addresses(connection: &ClientConnection) -> Vec<String> {
    match &*connection.served_entry().route {
        RouteAddresses::Named(addresses) => addresses.iter().map(ToString::to_string).collect(),
        RouteAddresses::Reached { others, .. } => {
            let own = connection.local().to_string();
            let others = others.iter().filter(|address| **address != own).cloned();
            std::iter::once(own.clone()).chain(others).collect()
        }
    }
}
