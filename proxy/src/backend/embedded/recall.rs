//! Recalls delayed messages. A recall handle is base64 of `v1 DUE SEQUENCE ID`: the timer in hexadecimal, and the
//! message id.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::broker::Broker;
use super::commit::Commit;
use super::timer::{self, TimerKey};
use super::writer_state::WriterState;
use crate::service::{ServiceError, ServiceErrorKind};

/// Encodes the recall handle of a delayed message.
pub(super) fn handle(timer: TimerKey, message_id: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("v1 {:x} {:x} {message_id}", timer.due, timer.sequence))
}

/// The content of a recall handle.
#[derive(Debug, PartialEq)]
struct RecallHandle {
    timer: TimerKey,
    message_id: String,
}

/// Decodes a recall handle, which may be forged.
fn parse(handle: &str) -> Option<RecallHandle> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(handle).ok()?).ok()?;
    let mut parts = text.strip_prefix("v1 ")?.splitn(3, ' ');
    let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
    let timer = TimerKey { due: number()?, sequence: number()? };
    Some(RecallHandle { timer, message_id: parts.next()?.to_owned() })
}

impl Broker {
    /// See [`crate::service::Messages::recall`].
    pub(super) async fn recall_message(
        &self,
        topic: &str,
        handle: &str,
        deadline: Instant,
    ) -> Result<String, ServiceError> {
        let RecallHandle { timer, message_id } =
            parse(handle).ok_or_else(|| rejected("recall handle is invalid"))?;
        let topic = self.known_topic(topic)?;
        let message_id: Arc<str> = message_id.into();
        let wanted = message_id.clone();
        // The writer thread also delivers due messages, so a message is either recalled or delivered.
        let recall = move |_: &mut WriterState, commit: &mut Commit| {
            topic.check_alive()?;
            timer::recall(timer, topic.id(), &wanted, commit)
        };
        match self.change(deadline, recall).await? {
            true => Ok(message_id.as_ref().to_owned()),
            false => Err(rejected("there is no such delayed message: it may have been delivered")),
        }
    }
}

fn rejected(text: &str) -> ServiceError {
    ServiceError::new(ServiceErrorKind::Rejected, text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn handles_are_decoded_as_they_were_encoded(due: u64, sequence: u64, message_id in ".{0,40}") {
            let timer = TimerKey { due, sequence };
            prop_assert_eq!(parse(&handle(timer, &message_id)), Some(RecallHandle { timer, message_id }));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&text);
            let _ = parse(&URL_SAFE_NO_PAD.encode(bytes));
        }
    }
}
