//! Which types of messages a topic takes, and which the backend can store.

use crate::error::{Error, ErrorKind};
use crate::service::names::kind_name;
use crate::service::{Capabilities, ServiceErrorKind, Services, TopicKind};

/// What a topic takes. A topic that surely does not exist has no type. If the backend could not be asked, that is an
/// error, and the client should try again.
pub(super) async fn of_topic(services: &Services, topic: &str) -> Result<TopicKind, Error> {
    match services.metadata.topic(topic).await {
        Ok(config) => Ok(config.kind),
        Err(error) if error.kind == ServiceErrorKind::TopicNotFound => Ok(TopicKind::Unspecified),
        Err(error) => Err(error.into()),
    }
}

/// Checks that a topic takes messages of a type.
///
/// # Errors
/// `TypeMismatch`.
pub(super) fn accepts(expected: TopicKind, actual: TopicKind) -> Result<(), Error> {
    if expected == actual || expected == TopicKind::Mixed {
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
pub(super) fn supported(capabilities: Capabilities, kind: TopicKind) -> Result<(), Error> {
    let supported = match kind {
        TopicKind::Fifo => capabilities.fifo,
        TopicKind::Delay => capabilities.delay,
        TopicKind::Transaction => capabilities.transaction,
        TopicKind::Priority => capabilities.priority,
        TopicKind::Lite => capabilities.lite,
        TopicKind::Normal | TopicKind::Mixed | TopicKind::Unspecified => true,
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
    fn a_topic_takes_its_own_type_and_a_mixed_one_any() {
        assert!(accepts(TopicKind::Normal, TopicKind::Normal).is_ok());
        assert!(accepts(TopicKind::Mixed, TopicKind::Fifo).is_ok());
        assert!(accepts(TopicKind::Unspecified, TopicKind::Normal).is_err());
        assert!(accepts(TopicKind::Priority, TopicKind::Normal).is_err());
    }
}
