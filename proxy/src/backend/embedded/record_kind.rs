//! The kinds of records in the database `log`, and the consequences of their loss.

use super::keys;

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    Chunk { topic: u32, queue: u32, first: u64 },
    Half { topic: u32 },
    Check { topic: u32 },
    Timer,
    Decision,
    Unknown,
}

impl RecordKind {
    /// Returns the kind of the record with this key.
    pub(super) fn of(key: &[u8]) -> Self {
        if keys::timer_parts(key).is_some() {
            return Self::Timer;
        }
        if keys::decision_parts(key).is_some() {
            return Self::Decision;
        }
        let (topic, queue) = (id(key), key.get(4..).map_or(0, id));
        match keys::chunk_first(key) {
            Some(_) if key.starts_with(&keys::half_messages(topic)) => Self::Half { topic },
            Some(first) => Self::Chunk { topic, queue, first },
            None if key.len() == keys::check(0, 0, 0).len() => Self::Check { topic },
            None => Self::Unknown,
        }
    }

    /// The topic's id, if the record belongs to a topic.
    pub(super) fn topic(self) -> Option<u32> {
        match self {
            Self::Chunk { topic, .. } | Self::Half { topic } | Self::Check { topic } => Some(topic),
            Self::Timer | Self::Decision | Self::Unknown => None,
        }
    }

    /// A description of the record.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Timer => "a delayed message",
            Self::Half { .. } => "a half message",
            Self::Check { .. } => "a check of a half message",
            Self::Decision => "a decision about a half message",
            Self::Chunk { .. } => "messages",
            Self::Unknown => "a record of an unknown kind",
        }
    }

    /// The consequences of its loss.
    pub(super) fn cost(self) -> &'static str {
        match self {
            Self::Timer => "the message is lost",
            Self::Half { .. } => "its transaction can't be committed",
            Self::Check { .. } => "no producer is asked about the half message",
            Self::Decision => "if the decision is repeated, the answer is an error",
            Self::Chunk { .. } => "they are lost",
            Self::Unknown => "this version does not use it",
        }
    }

    /// The consequences of a damaged block of such records. `None` for messages in queues, whose offsets are reported.
    pub(super) fn cost_of_gap(self) -> Option<&'static str> {
        match self {
            Self::Timer => Some("delayed messages are lost"),
            Self::Half { .. } => Some("transactions can't be committed"),
            Self::Check { .. } => Some("no producer is asked about some half messages"),
            Self::Decision => Some("if some decisions are repeated, the answer is an error"),
            Self::Chunk { .. } | Self::Unknown => None,
        }
    }
}

/// The id in the first four bytes of a key.
pub(super) fn id(key: &[u8]) -> u32 {
    key.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
