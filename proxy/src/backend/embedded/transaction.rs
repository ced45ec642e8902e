//! Ends transactions. A commit moves the half message to its queue atomically. The first decision about a half message
//! counts, and is remembered for a while ([`super::decisions`]).

use std::sync::Arc;

use super::broker::Broker;
use super::clock;
use super::commit::{Commit, StoredRecord, TransactionDecision};
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
        let record = match commit.get(&half.key())? {
            StoredRecord::Sound(record) => Some(HalfMessage::decode(record)?),
            StoredRecord::Damaged => None,
            StoredRecord::Absent => return self.repeated(state, commit),
        };
        if *resolution == Resolution::Commit {
            state.release_half_message(topic, record.ok_or_else(damaged_half_message)?, commit)?;
        }
        half.remove(commit);
        commit
            .decided
            .insert(half.sequence, TransactionDecision { at: clock::now(), resolution: *resolution });
        Ok(())
    }

    /// Answers a request about a half message that is gone, as an earlier decision may be repeated.
    fn repeated(&self, state: &WriterState, commit: &Commit) -> Result<(), ServiceError> {
        let Self { half, resolution, .. } = self;
        let under_way = commit.decided.get(&half.sequence).map(|decision| decision.resolution);
        let before = under_way.or_else(|| state.decisions.get(half.sequence)).ok_or_else(no_half_message)?;
        if before != *resolution {
            tracing::debug!(?before, ?resolution, "ignored a decision that contradicts an earlier one");
        }
        Ok(())
    }
}

fn damaged_half_message() -> ServiceError {
    ServiceError::new(ServiceErrorKind::Rejected, "the half message is lost because stored data is corrupt")
}

fn no_half_message() -> ServiceError {
    let text = "there is no such half message: it was discarded after its last check, or decided long ago";
    ServiceError::new(ServiceErrorKind::Rejected, text)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::backend::embedded::testing::{open, uncached};
    use crate::service::Message;

    #[tokio::test]
    async fn a_commit_can_be_repeated_after_the_wall_clock_was_set_forward() {
        let clock = clock::controlled::begin(1_700_000_000_000);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(uncached(&directory)).await;
        let deadline = Instant::now() + Duration::from_secs(30);
        let commit_new = || async {
            let half = Message { half: true, ..Message::default() };
            let sent = broker.store_messages("topic", vec![half], deadline).await.expect("a send").remove(0);
            let coordinates = sent.transaction.expect("a half message");
            broker.end_transaction(commit(&coordinates, deadline)).await.expect("a commit");
            coordinates
        };
        let first = commit_new().await;
        clock.step(2 * 3_600_000);
        // Outdated decisions are removed with a later decision.
        commit_new().await;
        broker.end_transaction(commit(&first, deadline)).await.expect("the same decision");
        clock.advance(3_600_001);
        commit_new().await;
        broker.end_transaction(commit(&first, deadline)).await.expect_err("forgotten after an hour");
    }

    fn commit(coordinates: &str, deadline: Instant) -> EndTransaction {
        EndTransaction {
            topic: "topic".to_owned(),
            message_id: String::new(),
            coordinates: coordinates.to_owned(),
            resolution: Resolution::Commit,
            answers_check: false,
            deadline,
        }
    }
}
