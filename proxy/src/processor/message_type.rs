//! Checks the types of messages: whether a topic accepts a type, and whether the backend can store it.

use crate::error::{Error, ErrorKind};
use crate::service::names::kind_name;
use crate::service::{Capabilities, ServiceErrorKind, Services, TopicKind};

/// The type of messages that a topic accepts; `Unspecified` if the topic does not exist.
///
/// # Errors
/// The backend's failure. The client should try again.
pub(super) async fn of_topic(services: &Services, topic: &str) -> Result<TopicKind, Error> {
    match services.metadata.topic(topic).await {
        Ok(config) => Ok(config.kind),
        Err(error) if error.kind == ServiceErrorKind::TopicNotFound => Ok(TopicKind::Unspecified),
        Err(error) => Err(error.into()),
    }
}

/// Checks that a topic accepts messages of a type. `types_unknown` if the client's protocol has no types.
///
/// # Errors
/// `TypeMismatch`.
pub(super) fn check_accepted(
    expected: TopicKind,
    actual: TopicKind,
    types_unknown: bool,
) -> Result<(), Error> {
    let accepted = match expected {
        TopicKind::Mixed => true,
        TopicKind::Undeclared => types_unknown || actual == TopicKind::Normal,
        expected => expected == actual,
    };
    if accepted {
        return Ok(());
    }
    let message = format!(
        "TopicMessageType validate failed, the expected type is {}, but actual type is {}",
        kind_name(expected),
        kind_name(actual)
    );
    Err(Error::new(ErrorKind::TypeMismatch, message))
}

/// Checks that the backend can store messages of a type.
///
/// # Errors
/// `NotImplemented`.
pub(super) fn check_supported(capabilities: Capabilities, kind: TopicKind) -> Result<(), Error> {
    let supported = match kind {
        TopicKind::Fifo => capabilities.fifo,
        TopicKind::Delay => capabilities.delay,
        TopicKind::Transaction => capabilities.transaction,
        TopicKind::Priority => capabilities.priority,
        TopicKind::Lite => capabilities.lite,
        TopicKind::Normal | TopicKind::Mixed | TopicKind::Unspecified | TopicKind::Undeclared => true,
    };
    if supported {
        return Ok(());
    }
    let message = format!("messages of type {} are not supported by this server yet", kind_name(kind));
    Err(Error::new(ErrorKind::NotImplemented, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_accepts_its_own_type_and_a_mixed_one_any() {
        for types_unknown in [false, true] {
            let accepts = |expected, actual| check_accepted(expected, actual, types_unknown).is_ok();
            assert!(accepts(TopicKind::Normal, TopicKind::Normal));
            assert!(accepts(TopicKind::Mixed, TopicKind::Fifo));
            assert!(!accepts(TopicKind::Unspecified, TopicKind::Normal));
            assert!(!accepts(TopicKind::Priority, TopicKind::Normal));
            assert!(accepts(TopicKind::Undeclared, TopicKind::Normal));
        }
    }

    #[test]
    fn a_topic_without_a_type_accepts_any_type_if_the_protocol_has_no_types() {
        for kind in [TopicKind::Delay, TopicKind::Transaction, TopicKind::Fifo] {
            assert!(check_accepted(TopicKind::Undeclared, kind, true).is_ok());
            assert!(check_accepted(TopicKind::Undeclared, kind, false).is_err());
            assert!(check_accepted(TopicKind::Normal, kind, true).is_err());
        }
    }
}
