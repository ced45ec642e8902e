//! Converts between fields of [`Message`] and the properties in which brokers and classic clients keep them.

use std::borrow::Cow;

use super::Message;
use super::names::properties as names;

/// The fields of [`Message`] that brokers and classic clients keep as properties.
#[derive(Debug, Default)]
pub struct KnownProperties {
    /// The sender's id of the message; empty if there is none.
    pub id: String,
    /// The tag.
    pub tag: Option<String>,
    /// Business keys.
    pub keys: Vec<String>,
    /// The message group.
    pub group: Option<String>,
    /// The priority.
    pub priority: Option<i32>,
    /// The lite topic.
    pub lite_topic: Option<String>,
    /// Whether it is a half message.
    pub half: bool,
    /// The seconds before the producer of a half message is first asked for its decision.
    pub recovery_secs: Option<i64>,
    /// W3C trace context.
    pub trace_context: Option<String>,
}

impl KnownProperties {
    /// Sets the field for a property. Returns false if there is no such field.
    pub fn take(&mut self, key: &str, value: &str) -> bool {
        let text = || Some(value.to_owned());
        match key {
            names::UNIQUE_KEY => value.clone_into(&mut self.id),
            names::TAGS => self.tag = text(),
            names::KEYS => self.keys = value.split(' ').map(str::to_owned).collect(),
            names::SHARDING_KEY => self.group = text(),
            // Unreadable numbers count as absent, as at Apache's brokers.
            names::PRIORITY => self.priority = value.parse().ok(),
            names::LITE_TOPIC => self.lite_topic = text(),
            names::TRANSACTION_PREPARED => self.half = value.eq_ignore_ascii_case("true"),
            names::CHECK_IMMUNITY_SECONDS => self.recovery_secs = value.parse().ok(),
            names::TRACE_CONTEXT => self.trace_context = text(),
            _ => return false,
        }
        true
    }

    /// The properties for the fields that are set in a message.
    pub fn of(message: &Message) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
        fn text(value: &Option<String>) -> Option<Cow<'_, str>> {
            value.as_deref().map(Cow::from)
        }
        let seconds = message.recovery.map(|recovery| Cow::from(recovery.as_secs().to_string()));
        let keys = Some(message.keys.join(" ")).filter(|keys| !keys.is_empty()).map(Cow::from);
        let pairs = [
            (names::UNIQUE_KEY, Some(Cow::from(&message.id))),
            (names::TAGS, text(&message.tag)),
            (names::KEYS, keys),
            (names::SHARDING_KEY, text(&message.group)),
            (names::PRIORITY, message.priority.map(|priority| priority.to_string().into())),
            (names::LITE_TOPIC, text(&message.lite_topic)),
            (names::TRANSACTION_PREPARED, message.half.then_some("true".into())),
            (names::CHECK_IMMUNITY_SECONDS, seconds),
            (names::TRACE_CONTEXT, text(&message.trace_context)),
        ];
        pairs.into_iter().filter_map(|(key, value)| Some((key, value?)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn properties_are_read_as_they_are_written() {
        let text = |text: &str| Some(text.to_owned());
        let message = Message {
            id: "id".to_owned(),
            tag: text("a"),
            keys: vec!["k1".to_owned(), "k2".to_owned()],
            group: text("g"),
            priority: Some(3),
            lite_topic: text("l"),
            half: true,
            recovery: Some(Duration::from_secs(9)),
            trace_context: text("00-x"),
            ..Message::default()
        };
        let mut known = KnownProperties::default();
        assert!(KnownProperties::of(&message).all(|(key, value)| known.take(key, &value)));
        let KnownProperties {
            id,
            tag,
            keys,
            group,
            priority,
            lite_topic,
            half,
            recovery_secs,
            trace_context,
        } = known;
        assert_eq!((id, tag, keys, group), (message.id, message.tag, message.keys, message.group));
        assert_eq!((priority, lite_topic, half), (message.priority, message.lite_topic, message.half));
        assert_eq!((recovery_secs, trace_context), (Some(9), message.trace_context));
        assert_eq!(KnownProperties::of(&Message::default()).count(), 1);
        assert!(!KnownProperties::default().take("own", "x"));
    }
}
