//! Durations that operators set: `30s`, `1h 30m`, `7d`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest duration that can be set: 100 years. Sums of such durations and times of the clock don't overflow.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Parses a duration of at most [`LONGEST`].
///
/// # Errors
/// The text is not such a duration. The error says why.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    check(duration).map_or(Ok(duration), |problem| Err(format!("{text} {problem}")))
}

/// What is wrong with a duration: it is longer than [`LONGEST`].
pub(crate) fn check(duration: Duration) -> Option<&'static str> {
    (duration > LONGEST).then_some("is too long: the longest duration is 100 years")
}

/// A duration that is text in configuration files and JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text(pub(crate) Duration);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl de::Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
        let duration = humantime::parse_duration(text)
            .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
        check(duration).map_or(Ok(Text(duration)), |problem| Err(E::custom(format!("{text} {problem}"))))
    }
}

pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    Text(*duration).serialize(to)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    Text::deserialize(from).map(|Text(duration)| duration)
}

/// A duration that may be missing.
pub(crate) mod optional {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        duration.map(Text).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Text>::deserialize(from)?.map(|Text(duration)| duration))
    }
}

/// A list of durations.
pub(crate) mod list {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(durations: &[Duration], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(durations.iter().copied().map(Text))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Duration>, D::Error> {
        let durations = Vec::<Text>::deserialize(from)?;
        Ok(durations.into_iter().map(|Text(duration)| duration).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use super::*;

    #[test]
    fn a_duration_that_could_overflow_a_time_is_refused() {
        for text in ["18446744073709551615s", "200000years", "36501days"] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(text) && error.ends_with("100 years"), "{error}");
        }
        assert_eq!(parse("36500days"), Ok(LONGEST));
        assert!(Instant::now().checked_add(LONGEST).is_some());
        assert!(SystemTime::now().checked_add(LONGEST).is_some());
    }

    #[test]
    fn text_is_read_as_it_is_written() {
        for text in ["\"0s\"", "\"1h 30m\"", "\"2500ms\""] {
            let Text(duration) = serde_json::from_str(text).expect("a duration");
            let written = serde_json::to_string(&Text(duration)).expect("JSON");
            let Text(again) = serde_json::from_str(&written).expect("a duration");
            assert_eq!(duration, again);
        }
        assert!(
            serde_json::from_str::<Text>("\"soon\"").is_err() && serde_json::from_str::<Text>("5").is_err()
        );
    }
}
