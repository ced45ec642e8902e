//! The right that each request of administration needs, by its code.

use crate::layer::{Action, Right};
use crate::remoting::request;

/// The right to list all topics, which clients ask of name servers.
pub(super) const LIST_TOPICS: Right = Right::Cluster(&[Action::List]);

/// The right that a request with this code needs. `None` if it is not a request of administration.
pub(super) fn right_for(code: i32) -> Option<Right> {
    Some(Right::Cluster(match code {
        request::GET_ALL_TOPIC_CONFIG
        | request::GET_ALL_SUBSCRIPTION_GROUP_CONFIG
        | request::GET_CONSUMER_CONNECTION_LIST
        | request::GET_PRODUCER_CONNECTION_LIST
        | request::GET_ALL_PRODUCER_INFO => &[Action::List],
        request::GET_TOPIC_CONFIG
        | request::GET_SUBSCRIPTION_GROUP_CONFIG
        | request::GET_TOPIC_STATS_INFO
        | request::GET_CONSUME_STATS
        | request::GET_BROKER_CONFIG
        | request::QUERY_TOPIC_CONSUME_BY_WHO
        | request::QUERY_TOPICS_BY_CONSUMER
        | request::GET_EARLIEST_MSG_STORE_TIME
        | request::GET_CONSUMER_RUNNING_INFO
        | request::INVOKE_BROKER_TO_GET_CONSUMER_STATUS
        | request::GET_BROKER_RUNTIME_INFO
        | request::VIEW_BROKER_STATS_DATA
        | request::VIEW_MESSAGE_BY_ID
        | request::QUERY_MESSAGE => &[Action::Get],
        // These also change a topic or group that exists.
        request::UPDATE_AND_CREATE_TOPIC
        | request::UPDATE_AND_CREATE_TOPIC_LIST
        | request::UPDATE_AND_CREATE_SUBSCRIPTION_GROUP
        | request::UPDATE_AND_CREATE_SUBSCRIPTION_GROUP_LIST => &[Action::Create, Action::Update],
        request::INVOKE_BROKER_TO_RESET_OFFSET
        | request::SET_MESSAGE_REQUEST_MODE
        | request::UPDATE_BROKER_CONFIG
        | request::CONSUME_MESSAGE_DIRECTLY => &[Action::Update],
        request::DELETE_TOPIC_IN_BROKER
        | request::DELETE_TOPIC_IN_NAMESRV
        | request::DELETE_SUBSCRIPTION_GROUP
        | request::DELETE_KV_CONFIG => &[Action::Delete],
        // Reading the rights of all users needs more than the right to list.
        request::AUTH_GET_USER | request::AUTH_LIST_USER | request::AUTH_GET_ACL | request::AUTH_LIST_ACL => {
            &[Action::Create, Action::Update, Action::Delete, Action::Get, Action::List]
        }
        // A user who may change users could create a super user.
        request::AUTH_CREATE_USER
        | request::AUTH_UPDATE_USER
        | request::AUTH_DELETE_USER
        | request::AUTH_CREATE_ACL
        | request::AUTH_UPDATE_ACL
        | request::AUTH_DELETE_ACL => return Some(Right::SuperUser),
        _ => return None,
    }))
}
