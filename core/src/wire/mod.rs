//! Converts between the client's types and those of the protocol. `build_*` functions build requests, `process_*` functions
//! read responses and commands. None does I/O.

mod ack;
mod body;
mod change_invisible;
mod consumer_settings;
mod end_transaction;
mod forward;
mod lite;
mod message_id;
mod orphan;
mod otlp;
mod recall;
mod receive;
mod route;
mod send;
mod settings;
mod verification;

pub(crate) use ack::{build_ack, process_ack};
pub(crate) use body::compress;
pub(crate) use change_invisible::{ChangeInvisibleRequest, build_change_invisible, process_change_invisible};
pub(crate) use consumer_settings::{ConsumerSettings, Redelivery};
pub(crate) use end_transaction::{
    HalfMessage, TransactionEnd, build_end_transaction, process_end_transaction,
};
pub(crate) use forward::{Forward, build_forward};
pub(crate) use lite::{ILLEGAL_LITE_TOPIC, LITE_QUOTA_EXCEEDED, LiteChange, build_sync_lite};
pub(crate) use message_id::MessageIds;
pub(crate) use orphan::process_orphan;
pub(crate) use otlp::{build_export, process_metric};
pub(crate) use recall::{build_recall, process_recall};
pub(crate) use receive::{Attempt, Poll, Source, build_receive, decompress_body, process_receive};
pub(crate) use route::{build_query_route, process_query_route};
pub(crate) use send::{OutgoingMessage, build_send, process_send};
pub(crate) use settings::{ConsumerKind, Role, Settings, build_settings, process_settings};
pub(crate) use verification::{build_verified, process_verification};

/// Converts a duration for the wire. A duration that is too long becomes the longest that the protocol can express, which
/// the server may refuse. A missing duration would mean something else.
fn duration(duration: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn the_longest_duration_is_cut() {
        assert_eq!(super::duration(Duration::from_millis(1500)).nanos, 500_000_000);
        assert_eq!(super::duration(Duration::MAX).seconds, i64::MAX);
    }
}
