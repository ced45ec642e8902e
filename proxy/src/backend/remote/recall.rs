//! Recalls delayed messages (Apache's `RecallMessageProcessor`).

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;

use super::answer::success;
use super::cluster::Cluster;
use crate::remoting::{RemotingCommand, request};
use crate::service::{ServiceError, ServiceErrorKind};

impl Cluster {
    /// Recalls a delayed message on the broker that its handle names. Returns the message's id.
    pub(super) async fn recall(
        &self,
        topic: &str,
        handle: &str,
        deadline: Instant,
    ) -> Result<String, ServiceError> {
        let broker = broker_of(handle).ok_or_else(|| rejected("recall handle is invalid".to_owned()))?;
        // The handle comes from the client, so an unknown broker is an invalid request and not a failure of the cluster.
        if self.find_route(&broker).await?.is_none() {
            return Err(rejected(format!("cannot find broker {broker}")));
        }
        let command = RemotingCommand::request(request::RECALL_MESSAGE)
            .field("producerGroup", topic)
            .field("topic", topic)
            .field("recallHandle", handle)
            .field("bname", &broker);
        let answer = success(self.call_master(&broker, command, deadline).await?)?;
        Ok(answer.text("msgId").unwrap_or_default().to_owned())
    }
}

/// The broker in a recall handle, which is base64 of `v1 topic broker time id` (Apache's `RecallMessageHandle`).
fn broker_of(handle: &str) -> Option<String> {
    let text = String::from_utf8(URL_SAFE.decode(handle).ok()?).ok()?;
    let words: Vec<_> = text.split(' ').collect();
    match words[..] {
        ["v1", _, broker, _, _] if is_broker_name(broker) => Some(broker.to_owned()),
        _ => None,
    }
}

/// Whether a text from a client can be a broker's name.
fn is_broker_name(name: &str) -> bool {
    const MAX_LENGTH: usize = 255;
    (1..=MAX_LENGTH).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn rejected(message: String) -> ServiceError {
    ServiceError::new(ServiceErrorKind::Rejected, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handle_names_its_broker() {
        let handle = URL_SAFE.encode("v1 orders broker-a 1700000000000 ID1");
        assert_eq!(broker_of(&handle).as_deref(), Some("broker-a"));
        let long = format!("v1 a {} c d", "b".repeat(256));
        for text in ["", "v1 a b c", "v2 a b c d", "v1 a  c d", "v1 a b\n c d", &long] {
            assert_eq!(broker_of(&URL_SAFE.encode(text)), None, "{text}");
        }
        assert_eq!(broker_of("%%%"), None);
    }
}
