//! The client of administration, for the subcommands.

use std::time::Duration;

use rocketmq_thin_proto::thin as pb;
use rocketmq_thin_proto::thin::admin_client::AdminClient;
use thiserror::Error;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::admin::{group, group_config, topic, topic_config};
use crate::service::{GroupConfig, TopicConfig};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a running proxy.
pub struct RemoteAdmin {
    client: AdminClient<Channel>,
}

/// Why a call failed.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// No proxy can be reached at this address.
    #[error("cannot reach a proxy at {0}; is it running? (--server HOST:PORT says where)")]
    Unreachable(String),
    /// The proxy refused.
    #[error("{}", .0.message())]
    Refused(#[from] Status),
}

impl RemoteAdmin {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// `Unreachable`.
    pub async fn connect(server: &str) -> Result<Self, RemoteError> {
        let unreachable = |_| RemoteError::Unreachable(server.to_owned());
        let endpoint = Endpoint::from_shared(format!("http://{server}")).map_err(unreachable)?;
        let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await.map_err(unreachable)?;
        Ok(Self { client: AdminClient::new(channel) })
    }

    /// Creates topics and groups; with `replace` those that exist are changed.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn apply(
        &mut self,
        topics: Vec<TopicConfig>,
        groups: Vec<GroupConfig>,
        replace: bool,
    ) -> Result<(), RemoteError> {
        let topics = topics.into_iter().map(topic).collect();
        let groups = groups.into_iter().map(group).collect();
        self.client.apply(pb::ApplyRequest { topics, groups, replace }).await?;
        Ok(())
    }

    /// All topics, by name.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn topics(&mut self) -> Result<Vec<TopicConfig>, RemoteError> {
        let answer = self.client.list_topics(pb::ListTopicsRequest {}).await?.into_inner();
        Ok(answer.topics.into_iter().map(topic_config).collect::<Result<_, Status>>()?)
    }

    /// All groups, by name.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn groups(&mut self) -> Result<Vec<GroupConfig>, RemoteError> {
        let answer = self.client.list_groups(pb::ListGroupsRequest {}).await?.into_inner();
        Ok(answer.groups.into_iter().map(group_config).collect::<Result<_, Status>>()?)
    }

    /// Deletes a topic and its messages.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn delete_topic(&mut self, name: String) -> Result<(), RemoteError> {
        self.client.delete_topic(pb::DeleteTopicRequest { name }).await?;
        Ok(())
    }

    /// Deletes a group and its progress.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn delete_group(&mut self, name: String) -> Result<(), RemoteError> {
        self.client.delete_group(pb::DeleteGroupRequest { name }).await?;
        Ok(())
    }
}
