//! Derives the type of a message from its fields, and checks that they agree.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Message;
use crate::error::{Error, ErrorKind};

/// The latest time that the protocol can express: the end of the year 9999, as the duration since 1970.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

/// The type of a message. A topic accepts one type or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageType {
    Normal,
    Fifo,
    Delay,
    Priority,
    Lite,
    Transaction,
}

impl Message {
    /// The type of the message, according to its fields.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if fields of several types are set, or a field has a value that servers refuse or drop.
    pub(crate) fn message_type(&self, in_transaction: bool) -> Result<MessageType, Error> {
        if let Some((name, value)) =
            self.properties.iter().find(|(name, value)| name.is_empty() || value.is_empty())
        {
            // Brokers silently drop such a property.
            return invalid(format!("the property {name:?} has the value {value:?}; neither may be empty"));
        }
        let types = [
            (in_transaction, "is in a transaction", MessageType::Transaction),
            (self.message_group.is_some(), "has a message group", MessageType::Fifo),
            (self.deliver_at.is_some(), "has a time of delivery", MessageType::Delay),
            (self.delay.is_some(), "has a delay", MessageType::Delay),
            (self.priority.is_some(), "has a priority", MessageType::Priority),
            (self.lite_topic.is_some(), "has a lite topic", MessageType::Lite),
        ];
        let mut set = types.into_iter().filter(|(is_set, ..)| *is_set);
        let Some((_, first, message_type)) = set.next() else { return Ok(MessageType::Normal) };
        if let Some((_, second, _)) = set.next() {
            return invalid(format!("the message {first} and {second}; only one of these is possible"));
        }
        let blank = |text: &Option<String>| text.as_ref().is_some_and(|text| text.trim().is_empty());
        if blank(&self.message_group) {
            return invalid("the message group is empty");
        }
        if blank(&self.lite_topic) {
            return invalid("the lite topic is empty");
        }
        if let Some(priority) = self.priority.filter(|priority| *priority < 0) {
            return invalid(format!("the priority is {priority}; it must not be negative"));
        }
        Ok(message_type)
    }

    /// When to deliver the message, if it is sent at `now`; `None` means at once.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` before 1970 and after 9999.
    pub(crate) fn delivery_time(&self, now: SystemTime) -> Result<Option<SystemTime>, Error> {
        let (time, field) = match (self.deliver_at, self.delay) {
            (Some(time), _) => (Some(time), "deliver_at"),
            (None, Some(delay)) => (now.checked_add(delay), "delay"),
            (None, None) => return Ok(None),
        };
        match time.map(|time| time.duration_since(UNIX_EPOCH)) {
            Some(Ok(since)) if since <= LATEST => Ok(time),
            Some(Err(_)) => invalid(format!("the {field} is before 1970")),
            Some(Ok(_)) | None => invalid(format!("the {field} is after the year 9999")),
        }
    }
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::new(ErrorKind::InvalidArgument, "send", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_say_the_type_or_contradict_each_other() {
        use MessageType::{Delay, Fifo, Lite, Normal, Priority, Transaction};
        let message = || Message::new("t", "x");
        let now = SystemTime::now();
        let second = Duration::from_secs(1);
        for (message, in_transaction, expected) in [
            (message(), false, Ok(Normal)),
            (message(), true, Ok(Transaction)),
            (message().message_group("g"), false, Ok(Fifo)),
            (message().deliver_at(now), false, Ok(Delay)),
            (message().delay(Duration::ZERO), false, Ok(Delay)),
            (message().priority(0), false, Ok(Priority)),
            (message().priority(i32::MAX), false, Ok(Priority)),
            (message().lite_topic("l"), false, Ok(Lite)),
            (message().message_group("g"), true, Err("is in a transaction and has a message group")),
            (message().priority(1), true, Err("is in a transaction and has a priority")),
            (message().message_group("g").delay(second), false, Err("has a message group and has a delay")),
            (message().deliver_at(now).delay(second), false, Err("has a time of delivery and has a delay")),
            (message().lite_topic("l").message_group("g"), false, Err("message group and has a lite topic")),
            (message().priority(1).lite_topic("l"), false, Err("has a priority and has a lite topic")),
            (message().message_group(" "), false, Err("the message group is empty")),
            (message().lite_topic(""), false, Err("the lite topic is empty")),
            (message().priority(-1), false, Err("the priority is -1")),
            (message().property("a", ""), false, Err("the property \"a\" has the value \"\"")),
            (message().property("", "a"), false, Err("the property \"\" has")),
        ] {
            match (message.message_type(in_transaction), expected) {
                (Ok(found), expected) => assert_eq!(Ok(found), expected, "{message:?}"),
                (Err(error), Err(text)) => {
                    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
                    assert!(error.message().contains(text), "{error}");
                }
                (Err(error), Ok(_)) => panic!("{message:?}: {error}"),
            }
        }
    }

    #[test]
    fn a_delay_counts_from_now() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let message = || Message::new("t", "x");
        for (message, expected) in [
            (message(), Ok(None)),
            (message().delay(Duration::from_millis(1_500)), Ok(Some(1_001_500))),
            (message().deliver_at(UNIX_EPOCH + Duration::from_millis(7)), Ok(Some(7))),
            (message().deliver_at(UNIX_EPOCH - Duration::from_secs(1)), Err("before 1970")),
            (message().deliver_at(UNIX_EPOCH + LATEST + Duration::from_secs(1)), Err("after the year 9999")),
            (message().delay(Duration::MAX), Err("after the year 9999")),
        ] {
            let millis = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_millis();
            match (message.delivery_time(now), expected) {
                (Ok(time), expected) => assert_eq!(Ok(time.map(millis)), expected, "{message:?}"),
                (Err(error), Err(text)) => assert!(error.message().contains(text), "{error}"),
                (Err(error), Ok(_)) => panic!("{message:?}: {error}"),
            }
        }
    }
}
