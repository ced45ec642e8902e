//! Receipt handles in the form that classic pop clients expect (Apache's `ExtraInfoUtil`): words with blanks between, of
//! which the client reads some and returns all.
//!
//! A client makes this text itself unless the message has it as a property, in which our sealed handle stands behind the
//! words that the client knows. After a change of the invisible time the client always makes it itself, from numbers
//! alone. The sealed handle of the new lease is kept for this connection ([`super::kept_handles`]): if it is lost, the
//! message is delivered again.

/// How many words stand before the sealed handle.
const WORDS: usize = 8;

/// The property of a message that carries its handle.
pub(super) const PROPERTY: &str = "POP_CK";
/// Stands for the queue in which a broker would keep the lease.
pub(super) const REVIVE_QUEUE: i32 = 0;
/// The same for a group that consumes in order.
pub(super) const REVIVE_QUEUE_IN_ORDER: i32 = 999;

/// What a client knows of a popped message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExtraInfo {
    /// When the lease began, in milliseconds since 1970.
    pub(super) popped_at: i64,
    /// How long it lasts, in milliseconds.
    pub(super) invisible: i64,
    /// [`REVIVE_QUEUE`], or [`REVIVE_QUEUE_IN_ORDER`].
    pub(super) revive_queue: i32,
    /// The broker that the client sends its acknowledgement to.
    pub(super) broker: String,
    /// The queue.
    pub(super) queue_id: i32,
    /// The position in it.
    pub(super) offset: i64,
    /// The sealed handle, unless the client has made the text itself.
    pub(super) handle: Option<String>,
}

impl ExtraInfo {
    /// The text for a client.
    pub(super) fn encode(&self) -> String {
        let Self { popped_at, invisible, revive_queue, broker, queue_id, offset, handle } = self;
        let mut text =
            format!("{offset} {popped_at} {invisible} {revive_queue} 0 {broker} {queue_id} {offset}");
        if let Some(handle) = handle {
            text.push(' ');
            text.push_str(handle);
        }
        text
    }

    /// Reads what a client returns. `None` if it is not of this form.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let mut words = text.splitn(WORDS + 1, ' ');
        words.next()?.parse::<i64>().ok()?;
        Some(Self {
            popped_at: words.next()?.parse().ok()?,
            invisible: words.next()?.parse().ok()?,
            revive_queue: words.next()?.parse().ok()?,
            broker: {
                words.next()?;
                words.next()?.to_owned()
            },
            queue_id: words.next()?.parse().ok()?,
            offset: words.next()?.parse().ok()?,
            handle: words.next().filter(|handle| !handle.is_empty()).map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(handle: Option<&str>) -> ExtraInfo {
        ExtraInfo {
            popped_at: 1_700_000_000_000,
            invisible: 60_000,
            revive_queue: REVIVE_QUEUE,
            broker: "broker-a".to_owned(),
            queue_id: 3,
            offset: 7,
            handle: handle.map(str::to_owned),
        }
    }

    #[test]
    fn clients_find_their_words_and_return_the_handle() {
        let text = info(Some("1mac.scope.1.2..q 1 2")).encode();
        assert_eq!(text, "7 1700000000000 60000 0 0 broker-a 3 7 1mac.scope.1.2..q 1 2");
        assert_eq!(ExtraInfo::decode(&text), Some(info(Some("1mac.scope.1.2..q 1 2"))));
    }

    #[test]
    fn a_text_that_a_client_made_has_no_handle() {
        assert_eq!(ExtraInfo::decode(&info(None).encode()), Some(info(None)));
        for text in ["", "1", "a 1 2 0 0 b 3 7", "7 1 2 0 0 b 3", "7 1 2 0 0 b x 7 h"] {
            assert_eq!(ExtraInfo::decode(text), None, "{text}");
        }
    }
}
