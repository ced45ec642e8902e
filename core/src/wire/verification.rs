//! Reads VerifyMessageCommand, and builds its reply.

use std::{sync::Arc, time::Instant};

use rocketmq_thin_proto::v2::{self, telemetry_command::Command};

use super::receive::{self, LeaseTime, Source};
use crate::{
    message::{Delivery, Group},
    options::{DecodeOptions, Endpoints, Filter, LONGEST_WAIT},
};

/// Returns the message to verify; `None` if the command lacks it.
pub(crate) fn process_verification(
    command: v2::VerifyMessageCommand,
    group: Group,
    endpoints: &Endpoints,
) -> Option<Delivery> {
    let message = command.message?;
    let source = Source {
        group: Arc::new(group),
        topic: message.topic.as_ref().map(|topic| topic.name.as_str()).unwrap_or_default().into(),
        filter: Filter::All,
        max_body_size: DecodeOptions::default().max_body_size,
    };
    let lease = LeaseTime { since: Instant::now(), length: LONGEST_WAIT };
    let mut delivery = receive::delivery(message, &source, endpoints, lease);
    receive::decompress_body(&mut delivery);
    Some(delivery)
}

/// Builds the reply to a command, with the codes that Apache's Java client uses.
pub(crate) fn build_verified(nonce: String, consumed: bool) -> v2::TelemetryCommand {
    let (code, message) = match consumed {
        true => (v2::Code::Ok, "OK"),
        false => (v2::Code::FailedToConsumeMessage, "the handler did not acknowledge the message"),
    };
    v2::TelemetryCommand {
        status: Some(v2::Status { code: code.into(), message: message.to_owned() }),
        command: Some(Command::VerifyMessageResult(v2::VerifyMessageResult { nonce })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_needs_a_message() {
        let group = || Group { namespace: "ns".into(), name: "g".into() };
        let endpoints = Endpoints::from_iter([]);
        let message = v2::Message {
            topic: Some(v2::Resource { resource_namespace: "ns".into(), name: "t".into() }),
            body: "x".into(),
            ..Default::default()
        };
        let command = |message| v2::VerifyMessageCommand { nonce: "1".into(), message };
        let delivery = process_verification(command(Some(message)), group(), &endpoints).unwrap();
        assert_eq!((delivery.topic.as_str(), &delivery.body[..]), ("t", &b"x"[..]));
        assert!(!delivery.is_lease_lost());
        assert!(process_verification(command(None), group(), &endpoints).is_none());
    }
}
