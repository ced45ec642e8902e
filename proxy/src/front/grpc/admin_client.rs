//! The client of the administration service, which the proxy's subcommands use.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rocketmq_thin_proto::thin as pb;
use rocketmq_thin_proto::thin::admin_client::AdminClient;
use rocketmq_thin_proto::v2;
use thiserror::Error;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error as TransportError};
use tonic::{Code, Status};

use super::admin_config::{group, group_config, topic, topic_config};
use super::signer::Signer;
use super::{
    admin_dead_letters, admin_messages, admin_quotas, admin_stats, admin_summaries, admin_trace,
    admin_updates, admin_users,
};
use crate::error::causes;
use crate::layer::{
    AccessQuery, Explanation, ListedUser, NewUser, PolicyEntry, Quota, QuotaStatus, UserUpdate,
};
use crate::log_level::LogLevel;
use crate::processor::{
    ClientFilter, ClientList, FoundTrace, GroupSummary, Page, ResendSelection, ResentPage, TopicSummary,
    TraceSearch,
};
use crate::service::{
    GroupConfig, GroupStats, GroupUpdate, LiteTopicPage, QueueReset, ReadPage, ReadQueue, ResetGroup,
    StoreStats, TopicConfig, TopicStats, TopicUpdate,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer in bytes. One message may have 4 MiB, and a list of clients 10,000 entries.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A connection to a running proxy.
pub struct RemoteAdmin {
    client: AdminClient<SignedChannel>,
    server: v2::admin_client::AdminClient<SignedChannel>,
}

type SignedChannel = InterceptedService<Channel, Signer>;

/// Why a call failed.
#[derive(Debug, Error)]
pub enum RemoteError {
    /// No proxy can be reached at this address.
    #[error(
        "cannot reach a proxy at {0} ({1}); is it running there? --server HOST:PORT names another address, and \
         https://HOST:PORT one with TLS"
    )]
    Unreachable(String, String),
    /// The file of trusted certificates can't be read.
    #[error("cannot read the certificates in {}: {reason}", file.display())]
    Certificates {
        /// The path of the file.
        file: PathBuf,
        /// Why it can't be read.
        reason: io::Error,
    },
    /// The proxy has refused the call.
    #[error("{}{}", .0.message(), hint(.0))]
    Refused(#[from] Status),
}

/// What the user can do about a refusal whose text does not say it. May be empty.
fn hint(status: &Status) -> &'static str {
    match status.code() {
        Code::NotFound if status.message().contains("dead letter") => "",
        Code::NotFound
            if ["user ", "there are no users"].iter().any(|start| status.message().starts_with(start)) =>
        {
            ""
        }
        Code::NotFound if status.message().contains("quota") => "; `quota list` shows which there are",
        Code::PermissionDenied => {
            "; --access-key and --secret-key, or ROCKETMQ_THIN_PROXY_ACCESS_KEY and ROCKETMQ_THIN_PROXY_SECRET_KEY, name \
             a user who may do this"
        }
        Code::NotFound => "; `topic list` and `group list` show what exists",
        // A generated service answers like this if it does not know the method.
        Code::Unimplemented if status.message().is_empty() => {
            "the proxy does not know this command; is it as new as this program?"
        }
        Code::Unimplemented if status.message().starts_with("Method not found") => {
            "; is --server the address of administration (admin_listen), and the proxy as new as this program?"
        }
        _ => "",
    }
}

impl RemoteError {
    /// Whether the topic, group or other object that the call names does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code() == Code::NotFound)
    }
}

impl RemoteAdmin {
    /// Connects to `host:port` or `https://host:port`. `user` is a name and a secret; with `None`, calls are not
    /// signed. TLS is used for `https`, and if there is a `ca_file`: certificates (PEM) that are trusted instead of
    /// those that the machine trusts.
    ///
    /// # Errors
    /// `Unreachable`, `Certificates`.
    pub async fn connect(
        server: &str,
        ca_file: Option<&Path>,
        user: Option<(String, String)>,
    ) -> Result<Self, RemoteError> {
        let unreachable = |error: TransportError| RemoteError::Unreachable(server.to_owned(), causes(&error));
        let address = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://"));
        let is_secure = ca_file.is_some() || server.starts_with("https://");
        let scheme = if is_secure { "https" } else { "http" };
        let uri = format!("{scheme}://{}", address.unwrap_or(server));
        let mut endpoint = Endpoint::from_shared(uri).map_err(unreachable)?;
        if is_secure {
            let tls = match ca_file {
                Some(file) => {
                    let pem = std::fs::read(file)
                        .map_err(|reason| RemoteError::Certificates { file: file.to_owned(), reason })?;
                    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
                }
                None => ClientTlsConfig::new().with_native_roots(),
            };
            endpoint = endpoint.tls_config(tls).map_err(unreachable)?;
        }
        let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).connect().await.map_err(unreachable)?;
        let channel = InterceptedService::new(channel, Signer::new(user));
        let server = v2::admin_client::AdminClient::new(channel.clone());
        Ok(Self { client: AdminClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES), server })
    }

    /// Creates topics and groups. With `replace`, existing ones are changed.
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

    /// Changes the settings of a topic that the update names.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn update_topic(&mut self, update: TopicUpdate) -> Result<(), RemoteError> {
        self.client.update_topic(admin_updates::topic_to_wire(update)).await?;
        Ok(())
    }

    /// Changes the settings of a group that the update names.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn update_group(&mut self, update: GroupUpdate) -> Result<(), RemoteError> {
        self.client.update_group(admin_updates::group_to_wire(update)).await?;
        Ok(())
    }

    /// Lists all topics, sorted by name.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn topics(&mut self) -> Result<Vec<TopicConfig>, RemoteError> {
        let answer = self.client.list_topics(pb::ListTopicsRequest {}).await?.into_inner();
        Ok(answer.topics.into_iter().map(topic_config).collect::<Result<_, Status>>()?)
    }

    /// Lists all groups, sorted by name.
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

    /// Deletes a group and its offsets.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn delete_group(&mut self, name: String) -> Result<(), RemoteError> {
        self.client.delete_group(pb::DeleteGroupRequest { name }).await?;
        Ok(())
    }

    /// The statistics of a topic, or of one of its lite topics.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn topic_stats(
        &mut self,
        name: &str,
        lite_topic: Option<String>,
    ) -> Result<TopicStats, RemoteError> {
        let request = pb::TopicStatsRequest { name: name.to_owned(), lite_topic };
        Ok(admin_stats::topic_stats(self.client.topic_stats(request).await?.into_inner()))
    }

    /// Lists up to `max` lite topics of a LITE topic, sorted by name, beginning after the name `after`.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn lite_topics(
        &mut self,
        topic: &str,
        after: Option<String>,
        max: i32,
    ) -> Result<LiteTopicPage, RemoteError> {
        let request = pb::ListLiteTopicsRequest { topic: topic.to_owned(), after, max };
        Ok(admin_summaries::lite_topics(self.client.list_lite_topics(request).await?.into_inner()))
    }

    /// Summarises a page of topics, sorted by name, beginning after the name `after`.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn topic_summaries(
        &mut self,
        after: Option<String>,
    ) -> Result<Page<TopicSummary>, RemoteError> {
        let answer = self.client.list_topic_stats(pb::ListTopicStatsRequest { after }).await?;
        Ok(admin_summaries::topics(answer.into_inner()))
    }

    /// Summarises a page of groups, sorted by name, beginning after the name `after`.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn group_summaries(
        &mut self,
        after: Option<String>,
    ) -> Result<Page<GroupSummary>, RemoteError> {
        let answer = self.client.list_group_stats(pb::ListGroupStatsRequest { after }).await?;
        Ok(admin_summaries::groups(answer.into_inner()))
    }

    /// The statistics of a group in one topic, or in all topics from which it has received.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn group_stats(
        &mut self,
        name: &str,
        topic: Option<String>,
    ) -> Result<GroupStats, RemoteError> {
        let answer = self.client.group_stats(pb::GroupStatsRequest { name: name.to_owned(), topic }).await?;
        Ok(admin_stats::group_stats(answer.into_inner()))
    }

    /// Reads stored messages of a queue.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn read(&mut self, read: ReadQueue) -> Result<ReadPage, RemoteError> {
        let answer = self.client.read_messages(admin_messages::read_to_wire(read)).await?;
        Ok(admin_messages::page(answer.into_inner()))
    }

    /// The recorded trace of a message.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn message_trace(&mut self, search: TraceSearch) -> Result<FoundTrace, RemoteError> {
        let message_id = search.message_id.clone();
        let answer = self.client.trace_message(admin_trace::search_to_wire(search)).await?;
        Ok(admin_trace::found(&message_id, answer.into_inner()))
    }

    /// Moves a group to another position in a topic.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn reset_group(&mut self, reset: ResetGroup) -> Result<Vec<QueueReset>, RemoteError> {
        let answer = self.client.reset_group(admin_stats::reset_to_wire(reset)).await?;
        Ok(admin_stats::resets(answer.into_inner()))
    }

    /// Sends dead letters of a group to their original topics again.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn resend_dead_letters(
        &mut self,
        group: &str,
        selection: ResendSelection,
    ) -> Result<ResentPage, RemoteError> {
        let request = admin_dead_letters::resend_to_wire(group.to_owned(), selection);
        Ok(admin_dead_letters::resent(self.client.resend_dead_letters(request).await?.into_inner()))
    }

    /// Changes the log level of the proxy. Returns the remark in its answer.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn change_log_level(&mut self, level: LogLevel) -> Result<String, RemoteError> {
        use v2::change_log_level_request::Level;
        let level = match level {
            LogLevel::Error => Level::Error,
            LogLevel::Warn => Level::Warn,
            LogLevel::Info => Level::Info,
            LogLevel::Debug => Level::Debug,
            LogLevel::Trace => Level::Trace,
        };
        let request = v2::ChangeLogLevelRequest { level: level.into() };
        Ok(self.server.change_log_level(request).await?.into_inner().remark)
    }

    /// Lists the clients of this proxy.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn clients(&mut self, filter: ClientFilter) -> Result<ClientList, RemoteError> {
        let ClientFilter { group, topic } = filter;
        let answer = self.client.list_clients(pb::ListClientsRequest { group, topic }).await?.into_inner();
        let clients = answer.clients.into_iter().map(admin_stats::client).collect();
        Ok(ClientList { clients, truncated: answer.truncated })
    }

    /// Adds a quota, or replaces the quota of the same name. Lost when the proxy restarts.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn set_quota(&mut self, quota: Quota) -> Result<(), RemoteError> {
        self.client.set_quota(pb::SetQuotaRequest { quota: Some(admin_quotas::to_wire(quota)) }).await?;
        Ok(())
    }

    /// Removes a quota. A configured quota is back when the proxy restarts.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn remove_quota(&mut self, name: String) -> Result<(), RemoteError> {
        self.client.remove_quota(pb::RemoveQuotaRequest { name }).await?;
        Ok(())
    }

    /// Lists the quotas in force, with the numbers of requests that they have refused and delayed.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn quotas(&mut self) -> Result<Vec<QuotaStatus>, RemoteError> {
        let answer = self.client.list_quotas(pb::ListQuotasRequest {}).await?.into_inner();
        Ok(admin_quotas::list(answer)?)
    }

    /// Lists the users of access control with their policies, sorted by name.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn users(&mut self) -> Result<Vec<ListedUser>, RemoteError> {
        let answer = self.client.list_users(pb::ListUsersRequest {}).await?.into_inner();
        Ok(admin_users::list(answer)?)
    }

    /// Adds a user with this secret. With `None`, the proxy generates a secret, which is returned.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn add_user(
        &mut self,
        user: NewUser,
        secret: Option<String>,
    ) -> Result<Option<String>, RemoteError> {
        let answer = self.client.add_user(admin_users::new_user_to_wire(user, secret)).await?;
        Ok(answer.into_inner().secret)
    }

    /// Changes the settings of a user that the update names.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn update_user(&mut self, name: String, update: UserUpdate) -> Result<(), RemoteError> {
        self.client.update_user(admin_users::update_to_wire(name, update)).await?;
        Ok(())
    }

    /// Replaces the secret of a user. With `None`, the proxy generates a secret, which is returned.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn set_user_secret(
        &mut self,
        name: String,
        secret: Option<String>,
    ) -> Result<Option<String>, RemoteError> {
        let request = pb::SetUserSecretRequest { name, secret };
        Ok(self.client.set_user_secret(request).await?.into_inner().secret)
    }

    /// Removes a user and their policies.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn remove_user(&mut self, name: String) -> Result<(), RemoteError> {
        self.client.remove_user(pb::RemoveUserRequest { name }).await?;
        Ok(())
    }

    /// Adds a policy. Returns the policy with its number.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn add_policy(&mut self, policy: PolicyEntry) -> Result<PolicyEntry, RemoteError> {
        let request = pb::AddPolicyRequest { policy: Some(admin_users::policy_to_wire(policy)) };
        let answer = self.client.add_policy(request).await?.into_inner();
        Ok(admin_users::policy(answer.policy.unwrap_or_default())?)
    }

    /// Removes a policy by its number.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn remove_policy(&mut self, number: u32) -> Result<(), RemoteError> {
        self.client.remove_policy(pb::RemovePolicyRequest { number }).await?;
        Ok(())
    }

    /// Explains how access control would decide about a request of this user.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn explain_access(
        &mut self,
        user: String,
        query: &AccessQuery,
    ) -> Result<Explanation, RemoteError> {
        let answer = self.client.explain_access(admin_users::asked_to_wire(user, query)).await?;
        Ok(admin_users::explanation(answer.into_inner())?)
    }

    /// The disk usage of the store.
    ///
    /// # Errors
    /// The proxy's refusal.
    pub async fn store_stats(&mut self) -> Result<StoreStats, RemoteError> {
        Ok(admin_stats::store_stats(self.client.store_stats(pb::StoreStatsRequest {}).await?.into_inner()))
    }
}
