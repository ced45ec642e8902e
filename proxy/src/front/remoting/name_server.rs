//! Requests of tools to a name server, except for routes: brokers, topics, and the key-value configuration, which is
//! always empty.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::admin_rights;
use super::answer::{Answered, Refusal, json, success};
use super::request::Request;
use super::topic_route::{BrokerData, addresses};
use crate::processor::ListBrokersCommand;
use crate::remoting::response;
use crate::service::names::retry_topic;

/// All brokers (Apache's `ClusterInfo`).
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterInfo {
    broker_addr_table: BTreeMap<String, BrokerData>,
    cluster_addr_table: BTreeMap<String, Vec<String>>,
}

/// The names of topics (Apache's `TopicList`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TopicList {
    pub(super) topic_list: Vec<String>,
}

/// GET_BROKER_CLUSTER_INFO.
pub(super) async fn cluster_info(request: Request) -> Answered {
    let mut info = ClusterInfo::default();
    for broker in request.run(ListBrokersCommand).await? {
        let data = BrokerData::new(&broker.name, &broker.cluster, addresses(&request.connection));
        info.cluster_addr_table.entry(broker.cluster).or_default().push(broker.name.clone());
        info.broker_addr_table.insert(broker.name, data);
    }
    json(&info)
}

/// GET_ALL_TOPIC_LIST_FROM_NAMESERVER. Tools find groups by their retry topics, so the list has these even if they
/// don't exist.
pub(super) async fn topics(request: Request) -> Answered {
    request.check_admin_right(admin_rights::LIST_TOPICS)?;
    let processor = &request.shared.processor;
    let (topics, groups) =
        futures::try_join!(processor.topics(), processor.groups()).map_err(Refusal::from)?;
    let retry_topics = groups.iter().map(|group| retry_topic(&group.name));
    let names: BTreeSet<_> = topics.into_iter().map(|topic| topic.name).chain(retry_topics).collect();
    json(&TopicList { topic_list: names.into_iter().collect() })
}

/// GET_TOPICS_BY_CLUSTER.
pub(super) async fn topics_of_cluster(request: Request) -> Answered {
    let cluster = request.text("cluster")?;
    let brokers = request.run(ListBrokersCommand).await?;
    if !brokers.iter().any(|broker| broker.cluster == cluster) {
        return json(&TopicList { topic_list: Vec::new() });
    }
    topics(request).await
}

/// GET_SYSTEM_TOPIC_LIST_FROM_NS: the names of clusters and brokers, of which each of Apache's brokers has topics. The
/// answer has no `brokerAddr`, so that tools do not ask a broker for its own list.
pub(super) async fn system_topics(request: Request) -> Answered {
    let brokers = request.run(ListBrokersCommand).await?;
    let names: BTreeSet<_> = brokers.into_iter().flat_map(|broker| [broker.cluster, broker.name]).collect();
    json(&TopicList { topic_list: names.into_iter().collect() })
}

/// GET_KV_CONFIG.
pub(super) fn key_value(request: &Request) -> Answered {
    let (namespace, key) = (request.text("namespace")?, request.text("key")?);
    let text = format!("No config item, Namespace: {namespace} Key: {key}");
    Err(Refusal::new(response::QUERY_NOT_FOUND, text))
}

/// GET_KVLIST_BY_NAMESPACE.
pub(super) fn key_values(request: &Request) -> Answered {
    let text = format!("No config item, Namespace: {}", request.text("namespace")?);
    Err(Refusal::new(response::QUERY_NOT_FOUND, text))
}

/// DELETE_TOPIC_IN_NAMESRV: does nothing. Tools send it after they have deleted a topic on its brokers, which ends its
/// route.
pub(super) fn forget_topic() -> Answered {
    Ok(success())
}

/// DELETE_KV_CONFIG: does nothing. Tools send it when they delete a topic.
pub(super) fn forget_key_value() -> Answered {
    Ok(success())
}
