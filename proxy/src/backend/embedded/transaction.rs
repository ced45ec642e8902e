//! Ends transactions. A commit moves the half message to its queue atomically. The first decision about a half message
//! counts, and is remembered for a while ([`super::decisions`]).

use std::sync::Arc;

use super::broker::Broker;
use super::clock;
use super::commit::{Commit, TransactionDecision};
use super::half_message::{HalfMessage, HalfMessageId};
use super::topic::Topic;
use super::writer_state::WriterState;
use crate::service::{EndTransaction, Resolution, ServiceError, ServiceErrorKind};

impl Broker {
    /// See [`crate::service::Transactions::end`].
    pub(super) async fn end_transaction(&self, end: EndTransaction) -> Result<(), ServiceError> {
        let half: HalfMessageId = end.coordinates.parse().map_err(|_| {
            ServiceError::new(ServiceErrorKind::InvalidHandle, "not the coordinates of a half message")
        })?;
        let topic = self.known_topic(&end.topic)?;
        if topic.id() != half.topic {
            return Err(no_half_message());
        }
        let ending = Ending { topic, half, resolution: end.resolution };
        self.change(end.deadline, move |state, commit| ending.add_to(state, commit)).await
    }
}

/// A request to end a transaction.
struct Ending {
    topic: Arc<Topic>,
    half: HalfMessageId,
    resolution: Resolution,
}

impl Ending {
    fn add_to(&self, state: &mut WriterState, commit: &mut Commit) -> Result<(), ServiceError> {
        let Self { topic, half, resolution } = self;
        topic.check_alive()?;
        let Some(record) = commit.get(&half.key())? else {
            let under_way = commit.decided.get(&half.sequence).map(|decision| decision.resolution);
            let before =
                under_way.or_else(|| state.decisions.get(half.sequence)).ok_or_else(no_half_message)?;
            if before != *resolution {
                tracing::debug!(?before, ?resolution, "ignored a decision that contradicts an earlier one");
            }
            return Ok(());
        };
        let record = HalfMessage::decode(record)?;
        if *resolution == Resolution::Commit {
            state.release_half_message(topic, record, commit)?;
        }
        half.remove(commit);
        commit
            .decided
            .insert(half.sequence, TransactionDecision { at: clock::now(), resolution: *resolution });
        Ok(())
    }
}

fn no_half_message() -> ServiceError {
    let text = "there is no such half message: it was discarded after its last check, or decided long ago";
    ServiceError::new(ServiceErrorKind::Rejected, text)
}
