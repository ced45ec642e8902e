//! Reads RecoverOrphanedTransactionCommand, the orphan check of a server.

use rocketmq_thin_proto::v2;

use crate::{
    message::{Message, Orphan},
    options::{DecodeOptions, Endpoints},
};

use super::body;

/// Returns the half message that the server at `endpoints` asks about; `None` if the command lacks the message or the
/// transaction id, or if the body can't be decoded, because a checker must not decide on a body that was not sent.
pub(crate) fn process_orphan(
    command: v2::RecoverOrphanedTransactionCommand,
    endpoints: Endpoints,
) -> Option<Orphan> {
    let half = command.message.filter(|_| !command.transaction_id.is_empty())?;
    let system = half.system_properties.unwrap_or_default();
    let mut properties: Vec<_> = half.user_properties.into_iter().collect();
    properties.sort_unstable();
    let Some(body) = body::decode(&half.body, &system, DecodeOptions::default().max_body_size) else {
        let transaction_id = &*command.transaction_id;
        tracing::warn!(transaction_id, "a check is not answered: the body of its message can't be decoded");
        return None;
    };
    let message = Message {
        topic: half.topic.map(|topic| topic.name).unwrap_or_default(),
        body,
        tag: system.tag,
        keys: system.keys,
        properties,
        ..Message::default()
    };
    Some(Orphan { transaction_id: command.transaction_id, message_id: system.message_id, message, endpoints })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_needs_a_message_and_a_transaction() {
        let endpoints = || Endpoints::from_iter([]);
        let half = v2::Message {
            topic: Some(v2::Resource { resource_namespace: String::new(), name: "t".into() }),
            body: "x".into(),
            ..Default::default()
        };
        let command = |transaction_id: &str, message| v2::RecoverOrphanedTransactionCommand {
            transaction_id: transaction_id.into(),
            message,
        };
        let check = process_orphan(command("7", Some(half.clone())), endpoints()).unwrap();
        assert_eq!((check.transaction_id.as_str(), check.message), ("7", Message::new("t", "x")));
        assert!(process_orphan(command("", Some(half)), endpoints()).is_none());
        assert!(process_orphan(command("7", None), endpoints()).is_none());
        let gzip = v2::SystemProperties { body_encoding: v2::Encoding::Gzip.into(), ..Default::default() };
        let corrupt = v2::Message { system_properties: Some(gzip), body: "x".into(), ..Default::default() };
        assert!(process_orphan(command("7", Some(corrupt)), endpoints()).is_none());
    }
}
