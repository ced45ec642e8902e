//! The administration service `rocketmq.thin.v1.Admin`. Unlike the messaging service, it refuses calls by gRPC
//! statuses.

use std::sync::Arc;

use rocketmq_thin_proto::thin as pb;
use rocketmq_thin_proto::thin::admin_server::Admin;
use tonic::{Code, Request, Response, Status};

use super::admin_config::{group, group_config, topic, topic_config};
use super::{
    admin_dead_letters, admin_messages, admin_quotas, admin_stats, admin_summaries, admin_trace,
    admin_updates, admin_users,
};
use crate::error::{Error, ErrorKind};
use crate::layer::Secret;
use crate::processor::{ClientFilter, ClientList, Processor};

/// Implements the service.
pub(super) struct Administration {
    processor: Arc<Processor>,
}

impl Administration {
    pub(super) fn new(processor: Arc<Processor>) -> Self {
        Self { processor }
    }
}

#[tonic::async_trait]
impl Admin for Administration {
    async fn apply(&self, request: Request<pb::ApplyRequest>) -> Result<Response<pb::ApplyResponse>, Status> {
        let pb::ApplyRequest { topics, groups, replace } = request.into_inner();
        let topics = topics.into_iter().map(topic_config).collect::<Result<_, Status>>()?;
        let groups = groups.into_iter().map(group_config).collect::<Result<_, Status>>()?;
        self.processor.apply(topics, groups, replace).await.map_err(refused)?;
        Ok(Response::new(pb::ApplyResponse {}))
    }

    async fn update_topic(
        &self,
        request: Request<pb::UpdateTopicRequest>,
    ) -> Result<Response<pb::UpdateTopicResponse>, Status> {
        let update = admin_updates::topic(request.into_inner())?;
        self.processor.update_topic(update).await.map_err(refused)?;
        Ok(Response::new(pb::UpdateTopicResponse {}))
    }

    async fn update_group(
        &self,
        request: Request<pb::UpdateGroupRequest>,
    ) -> Result<Response<pb::UpdateGroupResponse>, Status> {
        let update = admin_updates::group(request.into_inner())?;
        self.processor.update_group(update).await.map_err(refused)?;
        Ok(Response::new(pb::UpdateGroupResponse {}))
    }

    async fn list_topics(
        &self,
        _: Request<pb::ListTopicsRequest>,
    ) -> Result<Response<pb::ListTopicsResponse>, Status> {
        let topics = self.processor.topics().await.map_err(refused)?;
        Ok(Response::new(pb::ListTopicsResponse { topics: topics.into_iter().map(topic).collect() }))
    }

    async fn list_groups(
        &self,
        _: Request<pb::ListGroupsRequest>,
    ) -> Result<Response<pb::ListGroupsResponse>, Status> {
        let groups = self.processor.groups().await.map_err(refused)?;
        Ok(Response::new(pb::ListGroupsResponse { groups: groups.into_iter().map(group).collect() }))
    }

    async fn delete_topic(
        &self,
        request: Request<pb::DeleteTopicRequest>,
    ) -> Result<Response<pb::DeleteTopicResponse>, Status> {
        self.processor.delete_topic(&request.into_inner().name).await.map_err(refused)?;
        Ok(Response::new(pb::DeleteTopicResponse {}))
    }

    async fn delete_group(
        &self,
        request: Request<pb::DeleteGroupRequest>,
    ) -> Result<Response<pb::DeleteGroupResponse>, Status> {
        self.processor.delete_group(&request.into_inner().name).await.map_err(refused)?;
        Ok(Response::new(pb::DeleteGroupResponse {}))
    }

    async fn topic_stats(
        &self,
        request: Request<pb::TopicStatsRequest>,
    ) -> Result<Response<pb::TopicStatsResponse>, Status> {
        let pb::TopicStatsRequest { name, lite_topic } = request.into_inner();
        let stats = self.processor.topic_stats(&name, lite_topic.as_deref()).await.map_err(refused)?;
        Ok(Response::new(admin_stats::topic_stats_to_wire(stats)))
    }

    async fn list_topic_stats(
        &self,
        request: Request<pb::ListTopicStatsRequest>,
    ) -> Result<Response<pb::ListTopicStatsResponse>, Status> {
        let after = request.into_inner().after;
        let page = self.processor.topic_summaries(after.as_deref()).await.map_err(refused)?;
        Ok(Response::new(admin_summaries::topics_to_wire(page)))
    }

    async fn list_group_stats(
        &self,
        request: Request<pb::ListGroupStatsRequest>,
    ) -> Result<Response<pb::ListGroupStatsResponse>, Status> {
        let after = request.into_inner().after;
        let page = self.processor.group_summaries(after.as_deref()).await.map_err(refused)?;
        Ok(Response::new(admin_summaries::groups_to_wire(page)))
    }

    async fn list_lite_topics(
        &self,
        request: Request<pb::ListLiteTopicsRequest>,
    ) -> Result<Response<pb::ListLiteTopicsResponse>, Status> {
        let pb::ListLiteTopicsRequest { topic, after, max } = request.into_inner();
        let max = usize::try_from(max).ok().filter(|max| *max > 0);
        let max = max.ok_or_else(|| Status::invalid_argument("max must be positive"))?;
        let page = self.processor.lite_topics(&topic, after.as_deref(), max).await.map_err(refused)?;
        Ok(Response::new(admin_summaries::lite_topics_to_wire(page)))
    }

    async fn group_stats(
        &self,
        request: Request<pb::GroupStatsRequest>,
    ) -> Result<Response<pb::GroupStatsResponse>, Status> {
        let pb::GroupStatsRequest { name, topic } = request.into_inner();
        let stats = self.processor.group_stats(&name, topic.as_deref()).await.map_err(refused)?;
        Ok(Response::new(admin_stats::group_stats_to_wire(stats)))
    }

    async fn read_messages(
        &self,
        request: Request<pb::ReadMessagesRequest>,
    ) -> Result<Response<pb::ReadMessagesResponse>, Status> {
        let read = admin_messages::read(request.into_inner())?;
        let page = self.processor.read(read).await.map_err(refused)?;
        Ok(Response::new(admin_messages::page_to_wire(page)))
    }

    async fn trace_message(
        &self,
        request: Request<pb::TraceMessageRequest>,
    ) -> Result<Response<pb::TraceMessageResponse>, Status> {
        let search = admin_trace::search(request.into_inner())?;
        let found = self.processor.message_trace(search).await.map_err(refused)?;
        Ok(Response::new(admin_trace::found_to_wire(found)))
    }

    async fn reset_group(
        &self,
        request: Request<pb::ResetGroupRequest>,
    ) -> Result<Response<pb::ResetGroupResponse>, Status> {
        let reset = admin_stats::reset(request.into_inner())?;
        let queues = self.processor.reset_group(reset).await.map_err(refused)?;
        Ok(Response::new(admin_stats::resets_to_wire(queues)))
    }

    async fn resend_dead_letters(
        &self,
        request: Request<pb::ResendDeadLettersRequest>,
    ) -> Result<Response<pb::ResendDeadLettersResponse>, Status> {
        let (group, selection) = admin_dead_letters::resend(request.into_inner())?;
        let page = self.processor.resend_dead_letters(&group, selection).await.map_err(refused)?;
        Ok(Response::new(admin_dead_letters::resent_to_wire(page)))
    }

    async fn list_clients(
        &self,
        request: Request<pb::ListClientsRequest>,
    ) -> Result<Response<pb::ListClientsResponse>, Status> {
        let pb::ListClientsRequest { group, topic } = request.into_inner();
        let ClientList { clients, truncated } =
            self.processor.connected_clients(&ClientFilter { group, topic });
        let clients = clients.into_iter().map(admin_stats::client_to_wire).collect();
        Ok(Response::new(pb::ListClientsResponse { clients, truncated }))
    }

    async fn store_stats(
        &self,
        _: Request<pb::StoreStatsRequest>,
    ) -> Result<Response<pb::StoreStatsResponse>, Status> {
        let stats = self.processor.store_stats().await.map_err(refused)?;
        Ok(Response::new(admin_stats::store_stats_to_wire(stats)))
    }

    async fn set_quota(
        &self,
        request: Request<pb::SetQuotaRequest>,
    ) -> Result<Response<pb::SetQuotaResponse>, Status> {
        let quota = admin_quotas::quota(request.into_inner().quota)?;
        self.processor.quotas().set(quota).map_err(Status::invalid_argument)?;
        Ok(Response::new(pb::SetQuotaResponse {}))
    }

    async fn remove_quota(
        &self,
        request: Request<pb::RemoveQuotaRequest>,
    ) -> Result<Response<pb::RemoveQuotaResponse>, Status> {
        if !self.processor.quotas().remove(&request.into_inner().name) {
            return Err(Status::not_found("there is no such quota"));
        }
        Ok(Response::new(pb::RemoveQuotaResponse {}))
    }

    async fn list_users(
        &self,
        _: Request<pb::ListUsersRequest>,
    ) -> Result<Response<pb::ListUsersResponse>, Status> {
        let users = self.processor.users().await.map_err(refused)?;
        Ok(Response::new(admin_users::list_to_wire(users)))
    }

    async fn add_user(
        &self,
        request: Request<pb::AddUserRequest>,
    ) -> Result<Response<pb::AddUserResponse>, Status> {
        let secret = self.processor.add_user(admin_users::new_user(request.into_inner())).await;
        Ok(Response::new(pb::AddUserResponse { secret: secret.map_err(refused)? }))
    }

    async fn update_user(
        &self,
        request: Request<pb::UpdateUserRequest>,
    ) -> Result<Response<pb::UpdateUserResponse>, Status> {
        let (name, update) = admin_users::update(request.into_inner());
        self.processor.update_user(name, update).await.map_err(refused)?;
        Ok(Response::new(pb::UpdateUserResponse {}))
    }

    async fn set_user_secret(
        &self,
        request: Request<pb::SetUserSecretRequest>,
    ) -> Result<Response<pb::SetUserSecretResponse>, Status> {
        let pb::SetUserSecretRequest { name, secret } = request.into_inner();
        let secret = self.processor.set_user_secret(name, secret.as_deref().map(Secret::new)).await;
        Ok(Response::new(pb::SetUserSecretResponse { secret: secret.map_err(refused)? }))
    }

    async fn remove_user(
        &self,
        request: Request<pb::RemoveUserRequest>,
    ) -> Result<Response<pb::RemoveUserResponse>, Status> {
        self.processor.remove_user(request.into_inner().name).await.map_err(refused)?;
        Ok(Response::new(pb::RemoveUserResponse {}))
    }

    async fn add_policy(
        &self,
        request: Request<pb::AddPolicyRequest>,
    ) -> Result<Response<pb::AddPolicyResponse>, Status> {
        let policy = admin_users::policy(request.into_inner().policy.unwrap_or_default())?;
        let added = self.processor.add_policy(policy).await.map_err(refused)?;
        Ok(Response::new(pb::AddPolicyResponse { policy: Some(admin_users::policy_to_wire(added)) }))
    }

    async fn remove_policy(
        &self,
        request: Request<pb::RemovePolicyRequest>,
    ) -> Result<Response<pb::RemovePolicyResponse>, Status> {
        self.processor.remove_policy(request.into_inner().number).await.map_err(refused)?;
        Ok(Response::new(pb::RemovePolicyResponse {}))
    }

    async fn explain_access(
        &self,
        request: Request<pb::ExplainAccessRequest>,
    ) -> Result<Response<pb::ExplainAccessResponse>, Status> {
        let (user, asked) = admin_users::asked(request.into_inner())?;
        let explained = self.processor.explain_access(&user, asked).await.map_err(refused)?;
        Ok(Response::new(admin_users::explanation_to_wire(explained)))
    }

    async fn list_quotas(
        &self,
        _: Request<pb::ListQuotasRequest>,
    ) -> Result<Response<pb::ListQuotasResponse>, Status> {
        Ok(Response::new(admin_quotas::list_to_wire(self.processor.quotas().list())))
    }
}

/// The gRPC status of a refusal.
pub(super) fn refused(error: Error) -> Status {
    let code = match error.kind {
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::TopicNotFound
        | ErrorKind::GroupNotFound
        | ErrorKind::UserNotFound
        | ErrorKind::PolicyNotFound => Code::NotFound,
        ErrorKind::Forbidden
        | ErrorKind::Unauthorized
        | ErrorKind::TooManyFailures
        | ErrorKind::AccessDenied => Code::PermissionDenied,
        ErrorKind::Busy => Code::ResourceExhausted,
        ErrorKind::Timeout => Code::DeadlineExceeded,
        ErrorKind::NotImplemented => Code::Unimplemented,
        ErrorKind::Internal => Code::Unavailable,
        _ => Code::InvalidArgument,
    };
    Status::new(code, error.message)
}
