//! The right that each call of administration needs, by its name.

use crate::layer::{Action, Right};

/// The right that a call of this method needs. A method that is not listed needs a super user.
pub(in crate::front) fn right_for(method: &str) -> Right {
    Right::Cluster(match method {
        "ListTopics" | "ListGroups" | "ListTopicStats" | "ListGroupStats" | "ListLiteTopics"
        | "ListClients" | "ListQuotas" => &[Action::List],
        "TopicStats" | "GroupStats" | "StoreStats" | "ReadMessages" | "TraceMessage" => &[Action::Get],
        "UpdateTopic" | "UpdateGroup" | "ResetGroup" | "ResendDeadLetters" | "ChangeLogLevel" => {
            &[Action::Update]
        }
        "DeleteTopic" | "DeleteGroup" | "RemoveQuota" => &[Action::Delete],
        // These also change what exists.
        "Apply" | "SetQuota" => &[Action::Create, Action::Update],
        // Reading the rights of all users needs more than the right to list.
        "ListUsers" | "ExplainAccess" => {
            &[Action::Create, Action::Update, Action::Delete, Action::Get, Action::List]
        }
        _ => return Right::SuperUser,
    })
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;
    use rocketmq_thin_proto::DESCRIPTORS;

    use super::*;

    #[test]
    fn only_changes_of_users_need_a_super_user() {
        let files = FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors").file;
        let services =
            files.iter().flat_map(|file| &file.service).filter(|service| service.name() == "Admin");
        let calls: Vec<_> = services.flat_map(|service| &service.method).map(|call| call.name()).collect();
        assert!(calls.contains(&"ListTopics") && calls.contains(&"ChangeLogLevel"), "{calls:?}");
        let users = ["AddUser", "UpdateUser", "SetUserSecret", "RemoveUser", "AddPolicy", "RemovePolicy"];
        for call in calls {
            assert_eq!(right_for(call) == Right::SuperUser, users.contains(&call), "{call}");
        }
    }
}
