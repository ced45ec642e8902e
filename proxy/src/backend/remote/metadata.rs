//! Reads, writes and deletes the brokers' topics and groups.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answer::success;
use super::cluster::Cluster;
use super::config::{self, BrokerGroup, BrokerTopic, BrokerTopicRest};
use crate::remoting::{RemotingCommand, lenient, request, response};
use crate::service::names::{self, RETRY_PREFIX};
use crate::service::{
    GroupConfig, GroupStart, RetryPolicy, ServiceError, ServiceErrorKind, TopicConfig, TopicKind,
};

/// UPDATE_AND_CREATE_TOPIC requires the name of a template topic, but ignores it.
const TEMPLATE_TOPIC: &str = "TBW102";
/// The timeout of calls to masters about configuration. For each change a master writes all its topics or groups to disk.
pub(super) const MASTER_TIMEOUT: Duration = Duration::from_secs(15);

impl Cluster {
    /// Fetches a topic's configuration from the first broker of its route that answers. `None` only if a
    /// broker or name server says that it does not exist.
    pub(super) async fn fetch_topic(&self, name: &str) -> Result<Option<TopicConfig>, ServiceError> {
        let Some(route) = self.find_route(name).await? else { return Ok(None) };
        let addresses =
            route.brokers.iter().filter_map(|broker| broker.master().or(broker.readable_address()));
        read_topic(self.first_answer(addresses, &get_topic_config(name)).await?)
    }

    /// Fetches a group's configuration. `None` only if a broker says that it does not exist. Brokers with
    /// auto-creation of groups create a missing group on this request.
    pub(super) async fn fetch_group(&self, name: &str) -> Result<Option<GroupConfig>, ServiceError> {
        let command = RemotingCommand::request(request::GET_SUBSCRIPTION_GROUP_CONFIG).field("group", name);
        let masters = self.masters().await?;
        let answer = self.first_answer(masters.iter().map(String::as_str), &command).await?;
        match answer.code {
            response::SUBSCRIPTION_GROUP_NOT_EXIST => Ok(None),
            _ => Ok(Some(parse::<BrokerGroup>(&success(answer)?)?.into())),
        }
    }

    /// All topics of the cluster, except for retry topics and the internal topics that are named after brokers or the
    /// cluster.
    pub(super) async fn list_topics(&self) -> Result<Vec<TopicConfig>, ServiceError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Table {
            topic_config_table: BTreeMap<String, BrokerTopic>,
        }
        let command = RemotingCommand::request(request::GET_ALL_TOPIC_CONFIG);
        let tables = self.every_master(&command, |answer| parse::<Table>(&success(answer)?)).await?;
        let mut topics: BTreeMap<_, _> =
            tables.into_iter().flat_map(|table| table.topic_config_table).collect();
        let cluster = &self.options.name;
        let route = self.find_route(cluster).await?;
        let brokers = route.iter().flat_map(|route| &route.brokers).map(|broker| &broker.name);
        for own in brokers.chain([cluster, &format!("{cluster}_REPLY_TOPIC")]) {
            topics.remove(own);
        }
        topics.retain(|name, _| !name.starts_with(RETRY_PREFIX));
        Ok(topics.into_values().map(Into::into).collect())
    }

    /// All groups of the cluster.
    pub(super) async fn list_groups(&self) -> Result<Vec<GroupConfig>, ServiceError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Table {
            subscription_group_table: BTreeMap<String, BrokerGroup>,
        }
        let command = RemotingCommand::request(request::GET_ALL_SUBSCRIPTION_GROUP_CONFIG);
        let tables = self.every_master(&command, |answer| parse::<Table>(&success(answer)?)).await?;
        let groups: BTreeMap<_, _> =
            tables.into_iter().flat_map(|table| table.subscription_group_table).collect();
        Ok(groups.into_values().map(Into::into).collect())
    }

    /// Creates or changes a topic on every master.
    pub(super) async fn write_topic(&self, topic: &TopicConfig) -> Result<(), ServiceError> {
        self.every_master(&topic_command(topic, &BrokerTopicRest::default())?, check_success).await?;
        self.forget_route(&topic.name);
        Ok(())
    }

    /// Creates a topic that a client has named and no name server knows, and waits until the topic has a route. If a broker
    /// has the topic already, only waits: the broker will register it with the name servers.
    pub(super) async fn create_missing_topic(&self, name: &str, queues: i32) -> Result<(), ServiceError> {
        const POLL_INTERVAL: Duration = Duration::from_millis(20);
        let existing = self.every_master(&get_topic_config(name), read_topic).await?;
        if existing.iter().all(Option::is_none) {
            self.write_topic(&TopicConfig::new(name, TopicKind::Undeclared, queues)).await?;
        }
        // Brokers register the topic with the name servers by themselves.
        let has_route = async {
            while self.find_route(name).await?.is_none() {
                self.forget_route(name);
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            Ok(())
        };
        tokio::time::timeout(self.options.lookup_timeout, has_route).await.unwrap_or_else(|_| {
            let message = format!("topic {name} exists on a broker, but no name server has its route yet");
            Err(ServiceError::new(ServiceErrorKind::Unavailable, message))
        })
    }

    /// Creates or changes a group on every master.
    pub(super) async fn write_group(&self, group: &GroupConfig) -> Result<(), ServiceError> {
        check_group(group)?;
        let body = config::group_body(group).to_string();
        let command = RemotingCommand::request(request::UPDATE_AND_CREATE_SUBSCRIPTION_GROUP).body(body);
        self.every_master(&command, check_success).await.map(drop)
    }

    /// Deletes a topic on every master and in every name server.
    pub(super) async fn remove_topic(&self, name: &str) -> Result<(), ServiceError> {
        let command = RemotingCommand::request(request::DELETE_TOPIC_IN_BROKER).field("topic", name);
        self.every_master(&command, check_success).await?;
        self.forget_topic(name).await?;
        self.forget_route(name);
        Ok(())
    }

    /// Deletes a group and its progress on every master.
    pub(super) async fn remove_group(&self, name: &str) -> Result<(), ServiceError> {
        let command = RemotingCommand::request(request::DELETE_SUBSCRIPTION_GROUP)
            .field("groupName", name)
            .field("cleanOffset", true);
        self.every_master(&command, check_success).await.map(drop)
    }

    /// Calls peers one after the other until one answers. Returns its answer.
    pub(super) async fn first_answer<'a>(
        &self,
        addresses: impl Iterator<Item = &'a str>,
        command: &RemotingCommand,
    ) -> Result<RemotingCommand, ServiceError> {
        self.first_of(addresses, command, Ok).await
    }

    /// Calls peers one after the other until `read` accepts an answer. Returns what `read` returned.
    pub(super) async fn first_of<'a, T>(
        &self,
        addresses: impl Iterator<Item = &'a str>,
        command: &RemotingCommand,
        read: impl Fn(RemotingCommand) -> Result<T, ServiceError>,
    ) -> Result<T, ServiceError> {
        let mut failed = ServiceError::new(ServiceErrorKind::Unavailable, "there is no broker to call");
        for address in addresses {
            let answer = self.peers.call(address, command.clone(), self.options.lookup_timeout).await;
            match answer.map_err(ServiceError::from).and_then(&read) {
                Ok(read) => return Ok(read),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Calls all masters one after the other. Fails at the first call that fails, or whose answer `read` refuses.
    pub(super) async fn every_master<T>(
        &self,
        command: &RemotingCommand,
        read: impl Fn(RemotingCommand) -> Result<T, ServiceError>,
    ) -> Result<Vec<T>, ServiceError> {
        let mut answers = Vec::new();
        for address in self.masters().await? {
            let answer = self.peers.call(&address, command.clone(), MASTER_TIMEOUT).await?;
            answers.push(read(answer)?);
        }
        Ok(answers)
    }
}

/// The command that creates or changes a topic.
///
/// # Errors
/// `Rejected` for settings that brokers don't support.
pub(super) fn topic_command(
    topic: &TopicConfig,
    rest: &BrokerTopicRest,
) -> Result<RemotingCommand, ServiceError> {
    if topic.read_queues < 0 || topic.write_queues < 0 {
        // Brokers would accept a negative number.
        return Err(rejected(format!("topic {} can't have a negative number of queues", topic.name)));
    }
    if topic.retention.is_some() || topic.retention_bytes.is_some() {
        return Err(rejected(
            "Apache's brokers have no retention per topic, only `fileReservedTime` in their configuration"
                .to_owned(),
        ));
    }
    let attributes = config::topic_attributes(topic).map_err(rejected)?;
    Ok(RemotingCommand::request(request::UPDATE_AND_CREATE_TOPIC)
        .field("topic", &topic.name)
        .field("defaultTopic", TEMPLATE_TOPIC)
        .field("readQueueNums", topic.read_queues)
        .field("writeQueueNums", topic.write_queues)
        .field("perm", names::permission_bits(topic.permission))
        .field("topicFilterType", &rest.topic_filter_type)
        .field("topicSysFlag", rest.topic_sys_flag)
        .field("order", rest.order)
        .field("attributes", attributes))
}

/// Checks that brokers support the settings of a group.
///
/// # Errors
/// `Rejected` if brokers do not support a setting.
pub(super) fn check_group(group: &GroupConfig) -> Result<(), ServiceError> {
    if group.start != GroupStart::Default {
        return Err(rejected(
            "Apache's brokers don't support a start position of a group: let it receive once, then use `group reset`"
                .to_owned(),
        ));
    }
    if let RetryPolicy::Exponential { multiplier, .. } = group.retry
        && multiplier.fract() != 0.0
    {
        return Err(rejected(format!("the multiplier must be a whole number on brokers, not {multiplier}")));
    }
    Ok(())
}

pub(super) fn get_topic_config(name: &str) -> RemotingCommand {
    RemotingCommand::request(request::GET_TOPIC_CONFIG).field("topic", name).field("lo", true)
}

fn read_topic(answer: RemotingCommand) -> Result<Option<TopicConfig>, ServiceError> {
    match answer.code {
        response::TOPIC_NOT_EXIST => Ok(None),
        _ => Ok(Some(parse::<BrokerTopic>(&success(answer)?)?.into())),
    }
}

/// Fails unless the answer's code is SUCCESS.
pub(super) fn check_success(answer: RemotingCommand) -> Result<(), ServiceError> {
    success(answer).map(drop)
}

fn rejected(message: String) -> ServiceError {
    ServiceError::new(ServiceErrorKind::Rejected, message)
}

/// Parses the JSON body of an answer.
pub(super) fn parse<T: DeserializeOwned>(answer: &RemotingCommand) -> Result<T, ServiceError> {
    lenient::from_slice(&answer.body).map_err(|error| {
        ServiceError::new(ServiceErrorKind::Internal, format!("the broker's answer can't be read: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::backend::remote::scripted;

    /// Creates topic `t` on two brokers, the first of which may have it already. Returns the requests that they got.
    async fn requests_to_create(first_has_it: bool) -> Vec<(&'static str, i32)> {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let broker = |name: &'static str, has_it| {
            let requests = requests.clone();
            scripted::peer(move |command| {
                requests.lock().push((name, command.code));
                match command.code {
                    request::GET_TOPIC_CONFIG if has_it => {
                        let config = r#"{"topicName":"t","attributes":{"message.type":"FIFO"},"perm":6}"#;
                        RemotingCommand::request(response::SUCCESS).body(config)
                    }
                    request::GET_TOPIC_CONFIG => RemotingCommand::request(response::TOPIC_NOT_EXIST),
                    _ => RemotingCommand::request(response::SUCCESS),
                }
            })
        };
        let (a, b) = (broker("a", first_has_it).await, broker("b", false).await);
        let route = format!(
            r#"{{"brokerDatas":[{{"brokerName":"a","brokerAddrs":{{0:"{a}"}}}},{{"brokerName":"b","brokerAddrs":{{0:"{b}"}}}}],
                "queueDatas":[{{"brokerName":"a","perm":6,"readQueueNums":1,"writeQueueNums":1}}]}}"#
        );
        let name_server =
            scripted::peer(move |_| RemotingCommand::request(response::SUCCESS).body(route.clone()));
        scripted::cluster(&[name_server.await]).create_missing_topic("t", 8).await.unwrap();
        requests.lock().clone()
    }

    #[tokio::test]
    async fn a_topic_is_created_only_if_no_broker_has_it() {
        const GET: i32 = request::GET_TOPIC_CONFIG;
        const CREATE: i32 = request::UPDATE_AND_CREATE_TOPIC;
        assert_eq!(requests_to_create(true).await, [("a", GET), ("b", GET)]);
        assert_eq!(requests_to_create(false).await, [("a", GET), ("b", GET), ("a", CREATE), ("b", CREATE)]);
    }

    #[tokio::test]
    async fn an_unknown_cluster_does_not_mean_that_a_group_is_absent() {
        let name_server = scripted::peer(|command| match command.code {
            request::GET_BROKER_CLUSTER_INFO => {
                RemotingCommand::request(response::SUCCESS).body(r#"{"brokerAddrTable":{"b":{}}}"#)
            }
            _ => RemotingCommand::request(response::TOPIC_NOT_EXIST),
        });
        let answer = scripted::cluster(&[name_server.await]).fetch_group("g").await;
        assert_eq!(answer.unwrap_err().kind, ServiceErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn internal_topics_of_brokers_are_not_listed() {
        let broker = scripted::peer(|_| {
            let names = ["c", "b", "c_REPLY_TOPIC", "%RETRY%g", "%DLQ%g", "orders"];
            let table: BTreeMap<_, _> =
                names.into_iter().map(|name| (name, serde_json::json!({"topicName": name}))).collect();
            let body = serde_json::json!({"topicConfigTable": table}).to_string();
            RemotingCommand::request(response::SUCCESS).body(body)
        });
        let route = format!(
            r#"{{"brokerDatas":[{{"brokerName":"b","brokerAddrs":{{0:"{}"}}}}],"queueDatas":[{{"brokerName":"b"}}]}}"#,
            broker.await
        );
        let name_server =
            scripted::peer(move |_| RemotingCommand::request(response::SUCCESS).body(route.clone()));
        let listed = scripted::cluster(&[name_server.await]).list_topics().await.unwrap();
        let names: Vec<_> = listed.iter().map(|topic| topic.name.as_str()).collect();
        assert_eq!(names, ["%DLQ%g", "orders"]);
    }
}
