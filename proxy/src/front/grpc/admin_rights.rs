//! The rights that calls of administration need, by their names.

use crate::layer::Action;

/// What somebody must be allowed to do for this call. A call that is not listed needs everything.
pub(in crate::front) fn of(method: &str) -> &'static [Action] {
    match method {
        "ListTopics" | "ListGroups" | "ListTopicStats" | "ListGroupStats" | "ListLiteTopics"
        | "ListClients" | "ListQuotas" => &[Action::List],
        "TopicStats" | "GroupStats" | "StoreStats" | "ReadMessages" | "TraceMessage" => &[Action::Get],
        "UpdateTopic" | "UpdateGroup" | "ResetGroup" | "ResendDeadLetters" | "ChangeLogLevel" => {
            &[Action::Update]
        }
        "DeleteTopic" | "DeleteGroup" | "RemoveQuota" => &[Action::Delete],
        // They also change what exists.
        "Apply" | "SetQuota" => &[Action::Create, Action::Update],
        _ => &[Action::Create, Action::Update, Action::Delete, Action::Get, Action::List],
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;
    use rocketmq_thin_proto::DESCRIPTORS;

    use super::*;

    #[test]
    fn every_call_of_administration_is_listed() {
        let files = FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors").file;
        let services =
            files.iter().flat_map(|file| &file.service).filter(|service| service.name() == "Admin");
        let calls: Vec<_> = services.flat_map(|service| &service.method).map(|call| call.name()).collect();
        assert!(calls.contains(&"ListTopics") && calls.contains(&"ChangeLogLevel"), "{calls:?}");
        for call in calls {
            assert!(of(call).len() < of("unknown").len(), "{call}");
        }
    }
}
