//! A server to play cases against: Apache's name server with its broker, Apache's proxy, or ours.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use rocketmq_thin_proxy::remoting::{RemotingCommand, lenient, request};
use serde_json::{Value, json};

use super::{
    call::call,
    case::{Case, Group, Topic},
};

/// What clients ask their name server.
const OF_NAME_SERVERS: [i32; 7] = [
    request::GET_ROUTEINFO_BY_TOPIC,
    request::GET_BROKER_CLUSTER_INFO,
    request::GET_ALL_TOPIC_LIST_FROM_NAMESERVER,
    request::GET_TOPICS_BY_CLUSTER,
    request::GET_KV_CONFIG,
    request::GET_KVLIST_BY_NAMESPACE,
    request::DELETE_TOPIC_IN_NAMESRV,
];
/// Topics that are created at the same time.
const JOBS: usize = 8;

/// Where requests go.
pub(super) struct Target {
    name_server: String,
    broker: String,
    /// Where topics and groups are created.
    administrator: String,
    broker_name: String,
    cluster: String,
}

impl Target {
    /// A name server and the broker that it names.
    pub(super) async fn apaches(name_server: &str) -> Result<Self> {
        Self::new(name_server, None).await
    }

    /// Apache's proxy in front of this name server's broker.
    pub(super) async fn apaches_proxy(name_server: &str, proxy: &str) -> Result<Self> {
        let behind = Self::apaches(name_server).await?;
        Ok(Self { name_server: proxy.to_owned(), broker: proxy.to_owned(), ..behind })
    }

    /// A proxy that is everything at once.
    pub(super) async fn proxy(address: &str) -> Result<Self> {
        Self::new(address, Some(address)).await
    }

    async fn new(name_server: &str, broker: Option<&str>) -> Result<Self> {
        let answer = call(name_server, RemotingCommand::request(request::GET_BROKER_CLUSTER_INFO)).await?;
        let info: Value = lenient::from_slice(&answer.body).context("the brokers of the name server")?;
        let brokers = info["brokerAddrTable"].as_object();
        let (name, data) = brokers.and_then(|brokers| brokers.iter().next()).context("no broker")?;
        let address = data["brokerAddrs"]["0"].as_str().context("a broker without a master")?;
        let broker = broker.unwrap_or(address).to_owned();
        Ok(Self {
            name_server: name_server.to_owned(),
            administrator: broker.clone(),
            broker,
            broker_name: name.clone(),
            cluster: data["cluster"].as_str().context("a broker without a cluster")?.to_owned(),
        })
    }

    /// Where a request of this code goes.
    pub(super) fn address(&self, code: i32) -> &str {
        if OF_NAME_SERVERS.contains(&code) { &self.name_server } else { &self.broker }
    }

    /// What names stand for in the requests of a case.
    pub(super) fn values(&self, case: &Case, run: &str) -> BTreeMap<String, String> {
        let own = |name: &str| format!("{run}-{}-{name}", case.name.replace('/', "-"));
        let mut values: BTreeMap<_, _> =
            case.topics.keys().chain(case.groups.keys()).map(|name| (name.clone(), own(name))).collect();
        for name in ["client", "id", "missing"] {
            values.insert(name.to_owned(), own(name));
        }
        values.insert("broker".to_owned(), self.broker_name.clone());
        values.insert("cluster".to_owned(), self.cluster.clone());
        values
    }

    /// Creates the topics and groups of all cases.
    pub(super) async fn prepare(&self, cases: &[Case], run: &str) -> Result<()> {
        let topics = cases.iter().flat_map(|case| {
            let values = self.values(case, run);
            case.topics.iter().map(move |(name, topic)| (values[name].clone(), topic))
        });
        let create = async |(name, topic): (String, &Topic)| self.create_topic(&name, topic).await;
        stream::iter(topics).map(create).buffer_unordered(JOBS).try_collect::<()>().await?;
        let groups = cases.iter().flat_map(|case| {
            let values = self.values(case, run);
            case.groups.iter().map(move |(name, group)| (values[name].clone(), group))
        });
        let create = async |(name, group): (String, &Group)| self.create_group(&name, group).await;
        stream::iter(groups).map(create).buffer_unordered(JOBS).try_collect().await
    }

    async fn create_topic(&self, name: &str, topic: &Topic) -> Result<()> {
        let create = RemotingCommand::request(request::UPDATE_AND_CREATE_TOPIC)
            .field("topic", name)
            .field("defaultTopic", "TBW102")
            .field("readQueueNums", topic.queues)
            .field("writeQueueNums", topic.queues)
            .field("perm", topic.perm)
            .field("topicFilterType", "SINGLE_TAG")
            .field("topicSysFlag", 0)
            .field("order", false)
            .field("attributes", format!("+message.type={}", topic.r#type));
        let answer = call(&self.administrator, create).await?;
        ensure!(answer.code == 0, "topic {name} can't be created: {:?}", answer.remark);
        loop {
            let route = RemotingCommand::request(request::GET_ROUTEINFO_BY_TOPIC).field("topic", name);
            let answer = call(&self.name_server, route).await?;
            if answer.code == 0 {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    async fn create_group(&self, name: &str, group: &Group) -> Result<()> {
        let body = json!({"groupName": name, "consumeEnable": group.consume, "retryMaxTimes": 16});
        let create =
            RemotingCommand::request(request::UPDATE_AND_CREATE_SUBSCRIPTION_GROUP).body(body.to_string());
        let answer = call(&self.administrator, create).await?;
        ensure!(answer.code == 0, "group {name} can't be created: {:?}", answer.remark);
        Ok(())
    }
}
