//! Changes of single settings of topics and groups. Brokers accept only complete configurations, so each master's own
//! values are sent back for settings that a change leaves alone.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::answer::success;
use super::cluster::{Cluster, no_route};
use super::config::{self, BrokerGroup, BrokerTopic, BrokerTopicRest};
use super::metadata::{MASTER_TIMEOUT, check_group, check_success, get_topic_config, parse, topic_command};
use crate::remoting::{RemotingCommand, request, response};
use crate::service::{Change, GroupConfig, ServiceError, ServiceErrorKind, TopicConfig};

impl Cluster {
    /// Changes a topic on each master that has it.
    ///
    /// # Errors
    /// `TopicNotFound` if no master has it, any error of `change`, and the brokers' refusals. If `change` returns an error,
    /// no master is changed.
    pub(super) async fn change_topic(
        &self,
        name: &str,
        change: &Change<TopicConfig>,
    ) -> Result<(), ServiceError> {
        let mut changes = Vec::new();
        for address in self.masters().await? {
            let answer = self.peers.call(&address, get_topic_config(name), MASTER_TIMEOUT).await?;
            if answer.code == response::TOPIC_NOT_EXIST {
                continue;
            }
            let answer = success(answer)?;
            let changed = change(&parse::<BrokerTopic>(&answer)?.into())?;
            changes.push((address, topic_command(&changed, &parse::<BrokerTopicRest>(&answer)?)?));
        }
        if changes.is_empty() {
            return Err(no_route(name));
        }
        self.write(changes).await?;
        self.forget_route(name);
        Ok(())
    }

    /// Changes a group on each master that has it.
    ///
    /// # Errors
    /// As [`Cluster::change_topic`], with `GroupNotFound`.
    pub(super) async fn change_group(
        &self,
        name: &str,
        change: &Change<GroupConfig>,
    ) -> Result<(), ServiceError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Table {
            subscription_group_table: Map<String, Value>,
        }
        let mut changes = Vec::new();
        for address in self.masters().await? {
            // Brokers with auto-creation of groups would create a group that is fetched alone, so all groups are listed.
            let list = RemotingCommand::request(request::GET_ALL_SUBSCRIPTION_GROUP_CONFIG);
            let answer = success(self.peers.call(&address, list, MASTER_TIMEOUT).await?)?;
            let Some(present) = parse::<Table>(&answer)?.subscription_group_table.remove(name) else {
                continue;
            };
            let known = BrokerGroup::deserialize(&present).map_err(|error| {
                let text = format!("the broker's configuration of group {name} can't be read: {error}");
                ServiceError::new(ServiceErrorKind::Internal, text)
            })?;
            let changed = change(&known.into())?;
            check_group(&changed)?;
            let body = config::changed_group_body(present, &changed).to_string();
            changes.push((
                address,
                RemotingCommand::request(request::UPDATE_AND_CREATE_SUBSCRIPTION_GROUP).body(body),
            ));
        }
        if changes.is_empty() {
            let text = format!("group not found: {name}");
            return Err(ServiceError::new(ServiceErrorKind::GroupNotFound, text));
        }
        self.write(changes).await
    }

    async fn write(&self, changes: Vec<(String, RemotingCommand)>) -> Result<(), ServiceError> {
        for (address, command) in changes {
            check_success(self.peers.call(&address, command, MASTER_TIMEOUT).await?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use serde_json::json;

    use super::*;
    use crate::backend::remote::scripted;

    /// A cluster of one broker with the topic `t` and the group `g`, and the commands that change them.
    async fn cluster() -> (Cluster, Arc<Mutex<Vec<RemotingCommand>>>) {
        let written = Arc::new(Mutex::new(Vec::new()));
        let log = written.clone();
        let broker = scripted::peer(move |command| {
            let answer = RemotingCommand::request(response::SUCCESS);
            match command.code {
                request::GET_TOPIC_CONFIG if command.text("topic") == Some("t") => answer.body(
                    r#"{"topicName":"t","readQueueNums":3,"writeQueueNums":5,"perm":6,"order":true,"topicSysFlag":2}"#,
                ),
                request::GET_TOPIC_CONFIG => RemotingCommand::request(response::TOPIC_NOT_EXIST),
                request::GET_ALL_SUBSCRIPTION_GROUP_CONFIG => answer.body(
                    r#"{"subscriptionGroupTable":{"g":{"groupName":"g","retryMaxTimes":3,"consumeTimeoutMinute":99,
                        "attributes":{"other":"kept"}}}}"#,
                ),
                _ => {
                    log.lock().push(command.clone());
                    answer
                }
            }
        });
        let route = format!(
            r#"{{"brokerDatas":[{{"brokerName":"a","brokerAddrs":{{0:"{}"}}}}],"queueDatas":[{{"brokerName":"a"}}]}}"#,
            broker.await
        );
        let name_server =
            scripted::peer(move |_| RemotingCommand::request(response::SUCCESS).body(route.clone()));
        (scripted::cluster(&[name_server.await]), written)
    }

    #[tokio::test]
    async fn a_change_of_a_topic_keeps_the_other_settings() {
        let (cluster, written) = cluster().await;
        let wider: Change<TopicConfig> =
            Arc::new(|topic| Ok(TopicConfig { read_queues: 9, ..topic.clone() }));
        cluster.change_topic("t", &wider).await.unwrap();
        let command = written.lock().remove(0);
        let fields = ["readQueueNums", "writeQueueNums", "perm", "order", "topicSysFlag"];
        assert_eq!(fields.map(|name| command.text(name).unwrap()), ["9", "5", "6", "true", "2"]);
        let absent = cluster.change_topic("absent", &wider).await.unwrap_err();
        assert_eq!(absent.kind, ServiceErrorKind::TopicNotFound);
        assert!(written.lock().is_empty());
    }

    #[tokio::test]
    async fn a_change_of_a_group_keeps_the_other_settings() {
        let (cluster, written) = cluster().await;
        let change: Change<GroupConfig> = Arc::new(|group| Ok(GroupConfig { fifo: true, ..group.clone() }));
        cluster.change_group("g", &change).await.unwrap();
        let body: Value = serde_json::from_slice(&written.lock().remove(0).body).unwrap();
        assert_eq!(
            [&body["consumeMessageOrderly"], &body["retryMaxTimes"], &body["consumeTimeoutMinute"]],
            [&json!(true), &json!(3), &json!(99)]
        );
        assert_eq!(body["attributes"], json!({}), "attributes that are not named stay");
        let absent = cluster.change_group("absent", &change).await.unwrap_err();
        assert_eq!(absent.kind, ServiceErrorKind::GroupNotFound);
    }
}
