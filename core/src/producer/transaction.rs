//! Transactions: their half messages are delivered together, or not at all.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Producer;
use crate::{
    error::{Error, ErrorKind, Result},
    message::{Message, Receipt},
    options::Endpoints,
    rpc::{EndTransaction, Retry},
    session::Session,
    wire::{HalfMessage, TransactionEnd, build_end_transaction, process_end_transaction},
};

const COMMIT: &str = "commit";
const ROLLBACK: &str = "rollback";

/// The decision about a half message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// The message is delivered.
    Commit,
    /// The message is dropped.
    Rollback,
    /// The outcome is not known yet. The server asks again later.
    Unknown,
}

/// A transaction: its messages are delivered if it is committed, and dropped if it is rolled back. Created by
/// [`Producer::begin`]. Cheap to clone; clones are the same transaction.
///
/// ```no_run
/// # use rocketmq_thin::{Message, Producer, Result};
/// # async fn store_order() -> bool { true }
/// # async fn run(producer: Producer) -> Result<()> {
/// let transaction = producer.begin()?;
/// transaction.send(Message::new("orders", "order 42")).await?;
/// if store_order().await {
///     transaction.commit().await?;
/// } else {
///     transaction.rollback().await?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Transactions without a decision
///
/// The server hides the messages of a transaction until it is committed. There may be no decision, because the
/// transaction was dropped, the process died, or the commit did not arrive. Then the server asks a connected producer of
/// the topic, possibly of another process, until it gets a decision: see [`Producer::check_orphans`]. Apache's servers ask
/// for the first time after 6 seconds, then about every 30 seconds, and drop the message after 15 checks.
///
/// A program that sends transactions should therefore always check orphans, and decide from durable state. Its producer
/// should name the topics in its options, so that the servers know it as soon as it has started.
///
/// Dropping the last clone of a transaction that has messages but no decision logs a warning.
#[derive(Clone)]
pub struct Transaction {
    producer: Producer,
    half_messages: Arc<HalfMessages>,
}

impl Producer {
    /// Begins a transaction. Sends no request.
    ///
    /// # Errors
    ///
    /// `Closed` if the producer is closed.
    pub fn begin(&self) -> Result<Transaction> {
        drop(self.0.member.begin("begin")?);
        Ok(Transaction { producer: self.clone(), half_messages: Arc::default() })
    }
}

impl Transaction {
    /// Sends a message that is delivered once the transaction is committed. A transaction may have several messages,
    /// also of several topics.
    ///
    /// Cancelling the future stops waiting. If the message is stored all the same, it is part of the transaction.
    ///
    /// # Errors
    ///
    /// As for [`Producer::send`]. `InvalidArgument` also if the message has fields of another type, or the transaction
    /// is decided. A message whose send failed is not part of the transaction. If it
    /// [may have been stored](Error::maybe_delivered), the server asks about it later.
    pub async fn send(&self, message: Message) -> Result<Receipt> {
        let slot = self.half_messages.begin_send()?;
        self.producer.submit(message, Some(slot)).await?.wait().await
    }

    /// Commits: the messages are delivered. Waits first for sends of the transaction that are in flight.
    ///
    /// Cancelling the future stops waiting, but does not cancel the commit.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if there is a decision already. Otherwise the failure of one of the messages, if not all were
    /// committed within [`operation_timeout`](crate::ClientOptions::operation_timeout). If the commit
    /// [may have been carried out](Error::maybe_delivered), some or all of the messages may be delivered. After a
    /// failed commit only another commit is possible, which covers the remaining messages. The server also asks about
    /// them.
    pub async fn commit(&self) -> Result<()> {
        self.decide(true).await
    }

    /// Rolls back: the messages are dropped. Otherwise like [`commit`](Self::commit).
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    pub async fn rollback(&self) -> Result<()> {
        self.decide(false).await
    }

    async fn decide(&self, commit: bool) -> Result<()> {
        let member = &self.producer.0.member;
        let (half_messages, session) = (self.half_messages.clone(), member.session().clone());
        member.run(operation(commit), async move { half_messages.decide(&session, commit).await }).await
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("state", &*self.half_messages.state.lock())
            .finish_non_exhaustive()
    }
}

/// The half messages of a transaction.
#[derive(Debug, Default)]
struct HalfMessages {
    state: Mutex<State>,
    /// Notified when a send has ended.
    send_ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    decision: Stage,
    /// How many sends are in flight.
    sending: usize,
    /// The messages that are stored and wait for the decision.
    stored: Vec<HalfMessage>,
}

/// How far the decision of a transaction has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
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
    fn begin_send(self: &Arc<Self>) -> Result<HalfSlot> {
        let mut state = self.state.lock();
        if state.decision != Stage::Open {
            return Err(already_decided("send", state.decision));
        }
        state.sending += 1;
        Ok(HalfSlot(self.clone()))
    }

    async fn decide(&self, session: &Session, commit: bool) -> Result<()> {
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

impl State {
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
        let State { stored, .. } = self.state.get_mut();
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

fn operation(commit: bool) -> &'static str {
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
        let link = session.pool().pick(&half.server)?;
        let rpc = session.rpc();
        let request = build_end_transaction(rpc.resource(&*half.topic), half, end);
        let answer = rpc.unary::<EndTransaction>(&link, request, limit).await;
        let (origin, response) = answer.map_err(|error| session.explain(&link, error))?;
        process_end_transaction(&origin, &response)
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
                let mut state = State { decision: before, ..State::default() };
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
