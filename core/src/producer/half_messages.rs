//! The half messages of a transaction, and the decision about them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    error::{Error, ErrorKind, Result},
    message::Receipt,
    options::Endpoints,
    rpc::{EndTransaction, Retry},
    session::Session,
    wire::{HalfMessage, TransactionEnd, build_end_transaction, process_end_transaction},
};

const COMMIT: &str = "commit";
const ROLLBACK: &str = "rollback";

/// The half messages of a transaction.
#[derive(Debug, Default)]
pub(super) struct HalfMessages {
    pub(super) state: Mutex<TransactionState>,
    /// Notified when a send has ended.
    send_ended: Notify,
}

#[derive(Debug, Default)]
pub(super) struct TransactionState {
    pub(super) decision: Stage,
    /// How many sends are in flight.
    sending: usize,
    /// The messages that are stored and wait for the decision.
    stored: Vec<HalfMessage>,
}

/// How far the decision of a transaction has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not decided. Messages may be added.
    #[default]
    Open,
    /// The decision is being sent to the servers.
    UnderWay {
        commit: bool,
    },
    /// The decision did not reach all servers.
    Failed {
        commit: bool,
    },
    Done {
        commit: bool,
    },
}

/// The slot of a message that is being sent within a transaction.
#[derive(Debug)]
pub(super) struct HalfSlot(Arc<HalfMessages>);

impl HalfSlot {
    /// Records that `server` has stored the message.
    pub(super) fn record_stored(&self, receipt: &Receipt, server: Endpoints) {
        let half = HalfMessage {
            topic: receipt.topic.clone(),
            message_id: receipt.message_id.clone(),
            transaction_id: receipt.transaction_id.clone(),
            server,
        };
        self.0.state.lock().stored.push(half);
    }
}

impl Drop for HalfSlot {
    fn drop(&mut self) {
        self.0.state.lock().sending -= 1;
        self.0.send_ended.notify_waiters();
    }
}

impl HalfMessages {
    /// Begins to send a message.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if there is a decision.
    pub(super) fn begin_send(self: &Arc<Self>) -> Result<HalfSlot> {
        let mut state = self.state.lock();
        if state.decision != Stage::Open {
            return Err(already_decided("send", state.decision));
        }
        state.sending += 1;
        Ok(HalfSlot(self.clone()))
    }

    /// Sends the decision for all stored messages.
    pub(super) async fn decide(&self, session: &Session, commit: bool) -> Result<()> {
        let options = session.options();
        let deadline = crate::options::deadline(Instant::now(), options.operation_timeout);
        self.state.lock().begin_decision(commit)?;
        let result = match self.wait_for_sends(commit, deadline).await {
            Ok(()) => self.end_all(session, commit, deadline).await,
            Err(error) => Err(error),
        };
        self.state.lock().decision =
            if result.is_ok() { Stage::Done { commit } } else { Stage::Failed { commit } };
        result
    }

    /// Waits until no send of the transaction is in flight.
    async fn wait_for_sends(&self, commit: bool, deadline: Instant) -> Result<()> {
        let all = async {
            loop {
                let ended = self.send_ended.notified();
                if self.state.lock().sending == 0 {
                    return;
                }
                ended.await;
            }
        };
        tokio::time::timeout_at(deadline.into(), all).await.map_err(|_| {
            let message = "deadline expired while messages of the transaction were being sent";
            Error::new(ErrorKind::Timeout, operation(commit), message).with_retryable(true)
        })
    }

    async fn end_all(&self, session: &Session, commit: bool, deadline: Instant) -> Result<()> {
        let stored = self.state.lock().stored.clone();
        let end = TransactionEnd { commit, by_server_check: false };
        let ends = stored.iter().map(|half| end_transaction(session, half, end, deadline));
        let results = join_all(ends).await;
        let mut failed = Vec::new();
        let mut error = None;
        for (half, result) in stored.into_iter().zip(results) {
            if let Err(reason) = result {
                failed.push(half);
                error.get_or_insert(reason);
            }
        }
        let mut state = self.state.lock();
        let (all, left) = (state.stored.len(), failed.len());
        state.stored = failed;
        let Some(error) = error.filter(|_| left > 0) else { return Ok(()) };
        if left == all {
            return Err(error);
        }
        Err(error
            .explained(&format!("{left} of {all} messages; the others are decided"))
            .with_maybe_delivered())
    }
}

impl TransactionState {
    /// Starts to send the decision.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if there is a decision already, unless it failed and this one is the same.
    fn begin_decision(&mut self, commit: bool) -> Result<()> {
        if self.decision != Stage::Open && self.decision != (Stage::Failed { commit }) {
            return Err(already_decided(operation(commit), self.decision));
        }
        self.decision = Stage::UnderWay { commit };
        Ok(())
    }
}

impl Drop for HalfMessages {
    fn drop(&mut self) {
        let TransactionState { stored, .. } = self.state.get_mut();
        if let Some(half) = stored.first() {
            tracing::warn!(
                messages = stored.len(),
                topic = half.topic,
                transaction_id = half.transaction_id,
                "a transaction was dropped before a decision reached the server; the server keeps its messages hidden \
                 and asks the producers of the topic about them"
            );
        }
    }
}

/// The name of the operation in errors.
pub(super) fn operation(commit: bool) -> &'static str {
    if commit { COMMIT } else { ROLLBACK }
}

fn already_decided(operation: &'static str, stage: Stage) -> Error {
    let message = match stage {
        Stage::Open => "the transaction is open",
        Stage::UnderWay { commit: true } => "the transaction is being committed",
        Stage::UnderWay { commit: false } => "the transaction is being rolled back",
        Stage::Failed { commit: true } => {
            "the transaction can only be committed, because that was tried before"
        }
        Stage::Failed { commit: false } => {
            "the transaction can only be rolled back, because that was tried before"
        }
        Stage::Done { commit: true } => "the transaction is already committed",
        Stage::Done { commit: false } => "the transaction is already rolled back",
    };
    Error::new(ErrorKind::InvalidArgument, operation, message)
}

/// Sends the decision about a half message to the server that stored it, or asked about it.
pub(super) async fn end_transaction(
    session: &Session,
    half: &HalfMessage,
    end: TransactionEnd,
    deadline: Instant,
) -> Result<()> {
    let operation = operation(end.commit);
    let attempt = async |limit: Duration| {
        let channel = session.pool().pick(&half.server)?;
        let rpc = session.rpc();
        let request = build_end_transaction(rpc.resource(&*half.topic), half, end);
        let answer = rpc.unary::<EndTransaction>(&channel, request, limit).await;
        let (call, response) = answer.map_err(|error| session.explain(&channel, error))?;
        process_end_transaction(&call, &response)
    };
    let retry = Retry::new(operation, &session.retry(), session.options().request_timeout, deadline);
    retry.run(session, attempt).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing::{Event, Level, Metadata, Subscriber, span};

    use super::*;

    /// Counts the warnings of a thread.
    #[derive(Clone, Default)]
    struct Warnings(Arc<AtomicUsize>);

    impl Subscriber for Warnings {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::WARN
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    fn half() -> HalfMessage {
        let text = String::new;
        let server = Endpoints::from_iter([]);
        HalfMessage { topic: text(), message_id: text(), transaction_id: text(), server }
    }

    #[test]
    fn a_transaction_that_is_dropped_with_messages_is_a_warning() {
        let warnings = Warnings::default();
        tracing::subscriber::with_default(warnings.clone(), || {
            drop(HalfMessages::default());
            assert_eq!(warnings.0.load(Ordering::SeqCst), 0);
            let half_messages = HalfMessages::default();
            half_messages.state.lock().stored.push(half());
            drop(half_messages);
        });
        assert_eq!(warnings.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_decision_is_final_unless_it_failed() {
        let (commit, rollback) = (true, false);
        for (before, allowed) in [
            (Stage::Open, [true, true]),
            (Stage::UnderWay { commit }, [false, false]),
            (Stage::Failed { commit }, [true, false]),
            (Stage::Failed { commit: rollback }, [false, true]),
            (Stage::Done { commit }, [false, false]),
            (Stage::Done { commit: rollback }, [false, false]),
        ] {
            for (next, allowed) in [commit, rollback].into_iter().zip(allowed) {
                let mut state = TransactionState { decision: before, ..TransactionState::default() };
                match state.begin_decision(next) {
                    Ok(()) => assert!(allowed && state.decision == Stage::UnderWay { commit: next }),
                    Err(error) => {
                        assert!(!allowed, "{before:?}: {error}");
                        assert_eq!((error.kind(), state.decision), (ErrorKind::InvalidArgument, before));
                    }
                }
            }
        }
    }
}
