//! Dispatches requests to their handlers by their codes, and sends the answers.

use std::ops::ControlFlow;

use super::answer::{Answered, Refusal};
use super::request::Request;
use super::{
    admin_broker, admin_catalog, admin_reset, admin_rights, admin_stats, admin_users, client, consume,
    members_list, name_server, relay, reply, send, topic_route, transaction,
};
use crate::remoting::{HeaderType, RemotingCommand, request, response};

/// The header fields that an answer repeats from its request.
#[derive(Clone, Copy)]
struct Envelope {
    opaque: i32,
    header_type: HeaderType,
}

impl Envelope {
    /// `None` for a one-way request, which gets no answer.
    fn of(request: &RemotingCommand) -> Option<Self> {
        let RemotingCommand { opaque, header_type, .. } = *request;
        (!request.is_one_way()).then_some(Self { opaque, header_type })
    }

    fn apply_to(self, answer: RemotingCommand) -> RemotingCommand {
        RemotingCommand { opaque: self.opaque, header_type: self.header_type, ..answer }
    }
}

/// Runs the handler of a request, and sends the answer.
pub(super) async fn serve(request: Request) {
    let envelope = Envelope::of(&request.command);
    let charge = request.charge.clone();
    let connection = request.connection.clone();
    let code = request.command.code;
    let answered = dispatch(request).await;
    let Some(envelope) = envelope else {
        if let Err(Refusal { code: refused, remark, .. }) = answered {
            tracing::debug!(peer = %connection.peer(), code, refused, remark, "refused a one-way request");
        }
        return;
    };
    let answer = envelope.apply_to(answered.unwrap_or_else(Refusal::into_command));
    let Some(charge) = charge.into_inner() else {
        connection.writer().refuse(&answer);
        return;
    };
    if let Err(reason) = connection.writer().answer(&answer, charge) {
        let busy = Refusal::new(response::SYSTEM_BUSY, format!("[OVERLOAD]{reason}"));
        connection.writer().refuse(&envelope.apply_to(busy.into_command()));
    }
}

/// The answer to a request that is refused because of too much load. `None` for a one-way request.
pub(super) fn refuse_busy(request: &RemotingCommand, reason: &str) -> Option<RemotingCommand> {
    // Clients try again after this code.
    refuse(request, || Refusal::new(response::SYSTEM_BUSY, format!("[OVERLOAD]{reason}")))
}

/// The answer to a request that is refused. `None` for a one-way request.
pub(super) fn refuse(
    request: &RemotingCommand,
    refusal: impl FnOnce() -> Refusal,
) -> Option<RemotingCommand> {
    let envelope = Envelope::of(request)?;
    Some(envelope.apply_to(refusal().into_command()))
}

// Each handler's future is boxed by itself: otherwise the future of `dispatch` would be as large as the largest of
// them.
async fn dispatch(request: Request) -> Answered {
    match request.command.code {
        request::GET_ROUTEINFO_BY_TOPIC => Box::pin(topic_route::route(request)).await,
        request::GET_BROKER_CLUSTER_INFO => Box::pin(name_server::cluster_info(request)).await,
        request::GET_ALL_TOPIC_LIST_FROM_NAMESERVER => Box::pin(name_server::topics(request)).await,
        request::GET_TOPICS_BY_CLUSTER => Box::pin(name_server::topics_of_cluster(request)).await,
        request::GET_SYSTEM_TOPIC_LIST_FROM_NAMESERVER => Box::pin(name_server::system_topics(request)).await,
        request::GET_KV_CONFIG => name_server::key_value(&request),
        request::GET_KVLIST_BY_NAMESPACE => name_server::key_values(&request),
        request::SEND_MESSAGE | request::SEND_MESSAGE_V2 | request::SEND_BATCH_MESSAGE => {
            Box::pin(send::send(request)).await
        }
        request::SEND_REPLY_MESSAGE | request::SEND_REPLY_MESSAGE_V2 => Box::pin(reply::send(request)).await,
        request::END_TRANSACTION => Box::pin(transaction::end(request)).await,
        request::RECALL_MESSAGE => Box::pin(send::recall(request)).await,
        request::HEART_BEAT => Box::pin(client::heartbeat(request)).await,
        request::UNREGISTER_CLIENT => Box::pin(client::unregister(request)).await,
        request::CHECK_CLIENT_CONFIG => Box::pin(client::check(request)).await,
        request::GET_CONSUMER_LIST_BY_GROUP => members_list::consumer_ids(&request),
        _ => match consume::dispatch(request) {
            ControlFlow::Break(answer) => answer.await,
            ControlFlow::Continue(request) if request.connection.served_entry().administration => {
                administer(request).await
            }
            ControlFlow::Continue(request) => unsupported(&request),
        },
    }
}

/// Dispatches requests of administration, after a check of the sender's rights. Clients rely on the refusal of other codes
/// when they try what the server supports, so that it needs no right.
async fn administer(request: Request) -> Answered {
    let Some(right) = admin_rights::right_for(request.command.code) else { return unsupported(&request) };
    request.check_admin_right(right)?;
    match request.command.code {
        request::GET_CONSUMER_CONNECTION_LIST => members_list::consumers(&request),
        request::GET_PRODUCER_CONNECTION_LIST => members_list::producers(&request),
        request::GET_ALL_PRODUCER_INFO => members_list::all_producers(&request),
        request::GET_CONSUMER_RUNNING_INFO => Box::pin(relay::running_info(request)).await,
        request::CONSUME_MESSAGE_DIRECTLY => Box::pin(relay::consume_directly(request)).await,
        request::UPDATE_AND_CREATE_TOPIC => Box::pin(admin_catalog::put_topic(request)).await,
        request::UPDATE_AND_CREATE_TOPIC_LIST => Box::pin(admin_catalog::put_topics(request)).await,
        request::DELETE_TOPIC_IN_BROKER => Box::pin(admin_catalog::delete_topic(request)).await,
        request::DELETE_TOPIC_IN_NAMESRV => name_server::forget_topic(),
        request::DELETE_KV_CONFIG => name_server::forget_key_value(),
        request::GET_TOPIC_CONFIG => Box::pin(admin_catalog::topic(request)).await,
        request::GET_ALL_TOPIC_CONFIG => Box::pin(admin_catalog::topics(request)).await,
        request::UPDATE_AND_CREATE_SUBSCRIPTION_GROUP => Box::pin(admin_catalog::put_group(request)).await,
        request::UPDATE_AND_CREATE_SUBSCRIPTION_GROUP_LIST => {
            Box::pin(admin_catalog::put_groups(request)).await
        }
        request::DELETE_SUBSCRIPTION_GROUP => Box::pin(admin_catalog::delete_group(request)).await,
        request::GET_SUBSCRIPTION_GROUP_CONFIG => Box::pin(admin_catalog::group(request)).await,
        request::GET_ALL_SUBSCRIPTION_GROUP_CONFIG => Box::pin(admin_catalog::groups(request)).await,
        request::GET_TOPIC_STATS_INFO => Box::pin(admin_stats::topic_stats(request)).await,
        request::GET_CONSUME_STATS => Box::pin(admin_stats::consume_stats(request)).await,
        request::INVOKE_BROKER_TO_RESET_OFFSET => Box::pin(admin_reset::reset(request)).await,
        request::INVOKE_BROKER_TO_GET_CONSUMER_STATUS => Box::pin(relay::positions(request)).await,
        request::UPDATE_BROKER_CONFIG => admin_broker::configure(),
        request::GET_BROKER_CONFIG => Box::pin(admin_broker::configuration(request)).await,
        request::QUERY_TOPIC_CONSUME_BY_WHO => Box::pin(admin_broker::groups_of_topic(request)).await,
        request::QUERY_TOPICS_BY_CONSUMER => Box::pin(admin_broker::topics_of_group(request)).await,
        request::GET_EARLIEST_MSG_STORE_TIME => Box::pin(admin_broker::earliest(request)).await,
        request::SET_MESSAGE_REQUEST_MODE => consume::set_request_mode(&request),
        request::GET_BROKER_RUNTIME_INFO => Box::pin(admin_stats::runtime_info(request)).await,
        request::VIEW_BROKER_STATS_DATA => Box::pin(admin_stats::broker_stats(request)).await,
        request::VIEW_MESSAGE_BY_ID => Box::pin(admin_stats::view(request)).await,
        request::QUERY_MESSAGE => Box::pin(admin_stats::query(request)).await,
        request::AUTH_CREATE_USER => Box::pin(admin_users::create_user(request)).await,
        request::AUTH_UPDATE_USER => Box::pin(admin_users::update_user(request)).await,
        request::AUTH_DELETE_USER => Box::pin(admin_users::delete_user(request)).await,
        request::AUTH_GET_USER => Box::pin(admin_users::user(request)).await,
        request::AUTH_LIST_USER => Box::pin(admin_users::users(request)).await,
        request::AUTH_CREATE_ACL | request::AUTH_UPDATE_ACL => Box::pin(admin_users::put_acl(request)).await,
        request::AUTH_DELETE_ACL => Box::pin(admin_users::delete_acl(request)).await,
        request::AUTH_GET_ACL => Box::pin(admin_users::acl(request)).await,
        request::AUTH_LIST_ACL => Box::pin(admin_users::acls(request)).await,
        _ => unsupported(&request),
    }
}

/// Refuses a request whose code has no handler.
fn unsupported(request: &Request) -> Answered {
    let text = format!(" request type {} not supported", request.command.code);
    Err(Refusal::new(response::REQUEST_CODE_NOT_SUPPORTED, text))
}
