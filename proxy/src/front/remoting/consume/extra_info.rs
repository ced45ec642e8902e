//! Encodes receipt handles in the format of classic pop clients (Apache's `ExtraInfoUtil`): fields separated by blanks.
//! The client reads some fields, and returns all of them.
//!
//! The proxy sends this text as a property of the message, and appends the sealed handle to the fields that the client
//! knows. After a change of the invisible time, the client builds the text itself, without a sealed handle. So the
//! sealed handle of the new lease is stored for the connection ([`super::handle_cache`]). If it is lost, the message is
//! delivered again.

/// The number of fields before the sealed handle.
const FIELDS: usize = 8;

/// The id of the queue in which a broker would store the lease.
pub(super) const REVIVE_QUEUE: i32 = 0;
/// The same for a pop in order.
pub(super) const REVIVE_QUEUE_IN_ORDER: i32 = 999;

/// The fields of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExtraInfo {
    /// When the lease began, in milliseconds since 1970.
    pub(super) popped_at: i64,
    /// The length of the lease, in milliseconds.
    pub(super) invisible: i64,
    /// [`REVIVE_QUEUE`], or [`REVIVE_QUEUE_IN_ORDER`].
    pub(super) revive_queue: i32,
    /// The broker that the client sends its acknowledgement to.
    pub(super) broker: String,
    /// The id of the queue.
    pub(super) queue_id: i32,
    /// The offset in the queue.
    pub(super) offset: i64,
    /// The sealed handle. `None` if the client has built the text itself.
    pub(super) handle: Option<String>,
}

impl ExtraInfo {
    /// Encodes the text.
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

    /// Decodes the text. `None` if it is invalid.
    pub(super) fn decode(text: &str) -> Option<Self> {
        let mut fields = text.splitn(FIELDS + 1, ' ');
        fields.next()?.parse::<i64>().ok()?;
        Some(Self {
            popped_at: fields.next()?.parse().ok()?,
            invisible: fields.next()?.parse().ok()?,
            revive_queue: fields.next()?.parse().ok()?,
            broker: {
                fields.next()?;
                fields.next()?.to_owned()
            },
            queue_id: fields.next()?.parse().ok()?,
            offset: fields.next()?.parse().ok()?,
            handle: fields.next().filter(|handle| !handle.is_empty()).map(str::to_owned),
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
    fn the_handle_follows_the_fields_that_clients_know() {
        let text = info(Some("1mac.scope.1.2..q 1 2")).encode();
        assert_eq!(text, "7 1700000000000 60000 0 0 broker-a 3 7 1mac.scope.1.2..q 1 2");
        assert_eq!(ExtraInfo::decode(&text), Some(info(Some("1mac.scope.1.2..q 1 2"))));
    }

    #[test]
    fn a_text_that_a_client_built_has_no_handle() {
        assert_eq!(ExtraInfo::decode(&info(None).encode()), Some(info(None)));
        for text in ["", "1", "a 1 2 0 0 b 3 7", "7 1 2 0 0 b 3", "7 1 2 0 0 b x 7 h"] {
            assert_eq!(ExtraInfo::decode(text), None, "{text}");
        }
    }
}
