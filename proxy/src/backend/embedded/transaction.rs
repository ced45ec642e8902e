//! Ending transactions: a commit puts the message into its queue and removes the half message at once. The first decision
//! counts, and is remembered for a while ([`super::decisions`]).

use std::sync::Arc;

use super::broker::Broker;
use super::clock;
use super::commit::Commit;
use super::decisions::Decision;
use super::half_message::{HalfMessage, Record};
use super::tables::Tables;
use super::topic::Topic;
use crate::service::{EndTransaction, Resolution, ServiceError, ServiceErrorKind};

impl Broker {
    /// See [`crate::service::Transactions::end`].
    pub(super) async fn end_transaction(&self, end: EndTransaction) -> Result<(), ServiceError> {
        let half: HalfMessage = end.coordinates.parse().map_err(|_| {
            ServiceError::new(ServiceErrorKind::InvalidHandle, "not the coordinates of a half message")
        })?;
        let topic = self.known_topic(&end.topic)?;
        if topic.id() != half.topic {
            return Err(no_half_message());
        }
        let ending = Ending { topic, half, resolution: end.resolution };
        self.change(end.deadline, move |tables, commit| ending.add_to(tables, commit)).await
    }
}

/// A transaction that is to be ended.
struct Ending {
    topic: Arc<Topic>,
    half: HalfMessage,
    resolution: Resolution,
}

impl Ending {
    fn add_to(&self, tables: &mut Tables, commit: &mut Commit) -> Result<(), ServiceError> {
        let Self { topic, half, resolution } = self;
        topic.check_alive()?;
        let Some(record) = commit.get(&half.key())? else {
            let under_way = commit.decided.get(&half.sequence).map(|decision| decision.resolution);
            let before =
                under_way.or_else(|| tables.decisions.get(half.sequence)).ok_or_else(no_half_message)?;
            if before != *resolution {
                tracing::debug!(
                    ?before,
                    ?resolution,
                    "a decision that contradicts an earlier one has no effect"
                );
            }
            return Ok(());
        };
        let record = Record::decode(record)?;
        if *resolution == Resolution::Commit {
            tables.release(topic, record, commit)?;
        }
        half.remove(commit);
        commit.decided.insert(half.sequence, Decision { at: clock::now(), resolution: *resolution });
        Ok(())
    }
}

fn no_half_message() -> ServiceError {
    let text =
        "the broker has no such half message: it was discarded after its last check, or decided long ago";
    ServiceError::new(ServiceErrorKind::Rejected, text)
}
