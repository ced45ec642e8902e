//! Transactions: half messages that are delivered together, or not at all.

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
    wire::{End, HalfMessage, build_end_transaction, process_end_transaction},
};

const COMMIT: &str = "commit";
const ROLLBACK: &str = "rollback";

/// What becomes of a half message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It is delivered.
    Commit,
    /// It is dropped.
    Rollback,
    /// It is not known yet. The server asks again later.
    Unknown,
}

/// Messages that are delivered together with a local change, or not at all. Made by [`Producer::begin`]. Cheap to
/// clone; clones are the same transaction.
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
/// The server hides the messages of a transaction until it is committed. If there is no decision, because the
/// transaction was dropped, the process died, or a commit did not arrive, the server asks the producers of the topic:
/// see [`Producer::check_orphans`]. It asks any producer of the topic that is connected, also one of another
/// process, and it asks again until there is a decision. Apache's servers ask for the first time after 6 seconds, then
/// about every 30 seconds, and drop the message after 15 questions. A program that sends transactions
/// should therefore always answer them from durable state, and have its producer name the topics in its options, so
/// that the servers know it as soon as it has started.
///
/// Dropping the last clone of a transaction that has messages and no decision emits a `tracing` event of level WARN.
#[derive(Clone)]
pub struct Transaction {
    producer: Producer,
    halves: Arc<Halves>,
}

impl Producer {
    /// Begins a transaction. Nothing is sent before its first message.
    ///
    /// # Errors
    ///
    /// `Closed` if the producer is closed.
    pub fn begin(&self) -> Result<Transaction> {
        drop(self.0.member.begin("begin")?);
        Ok(Transaction { producer: self.clone(), halves: Arc::default() })
    }
}

impl Transaction {
    /// Sends a message that is delivered once the transaction is committed. A transaction may have several messages,
    /// also of several topics.
    ///
    /// Cancelling the future stops waiting; the message is a part of the transaction nevertheless if it arrives.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`]. `InvalidArgument` also if the message has fields of another type, and once the
    /// transaction is decided. A message whose send failed is not a part of the transaction. If it
    /// [may have been delivered](Error::maybe_delivered), the server asks about it later.
    pub async fn send(&self, message: Message) -> Result<Receipt> {
        let slot = self.halves.join()?;
        self.producer.submit(message, Some(slot)).await?.wait().await
    }

    /// Commits: the messages are delivered. Waits first for sends of the transaction that are under way.
    ///
    /// Cancelling the future stops waiting, but does not cancel the commit.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if there is a decision already. Otherwise the failure of one of the messages, if there was no
    /// success within [`operation_timeout`](crate::ClientOptions::operation_timeout). If it
    /// [may have been carried out](Error::maybe_delivered), some or all of the messages may be delivered. After a
    /// failed commit only another commit is possible; it concerns the messages that are left. The server also asks
    /// about those.
    pub async fn commit(&self) -> Result<()> {
        self.decide(true).await
    }

    /// Rolls back: the messages are dropped. Otherwise as [`commit`](Self::commit).
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub async fn rollback(&self) -> Result<()> {
        self.decide(false).await
    }

    async fn decide(&self, commit: bool) -> Result<()> {
        let member = &self.producer.0.member;
        let (halves, session) = (self.halves.clone(), member.session().clone());
        member.run(operation(commit), async move { halves.decide(&session, commit).await }).await
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("state", &*self.halves.state.lock()).finish_non_exhaustive()
    }
}

/// The half messages of a transaction.
#[derive(Debug, Default)]
struct Halves {
    state: Mutex<State>,
    /// Told when a send ends.
    send_ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    decision: Stage,
    sending: usize,
    /// The messages that are stored and wait for the decision.
    stored: Vec<HalfMessage>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// The servers are being told.
    UnderWay {
        commit: bool,
    },
    /// Some servers could not be told.
    Failed {
        commit: bool,
    },
    Done {
        commit: bool,
    },
}

/// A place in a transaction for a message that is being sent.
#[derive(Debug)]
pub(super) struct HalfSlot(Arc<Halves>);

impl HalfSlot {
    /// Notes that the server stored the message.
    pub(super) fn stored(&self, receipt: &Receipt, server: Endpoints) {
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

impl Halves {
    fn join(self: &Arc<Self>) -> Result<HalfSlot> {
        let mut state = self.state.lock();
        if state.decision != Stage::Open {
            return Err(decided("send", state.decision));
        }
        state.sending += 1;
        Ok(HalfSlot(self.clone()))
    }

    async fn decide(&self, session: &Session, commit: bool) -> Result<()> {
        let options = session.options();
        let deadline = crate::options::deadline(Instant::now(), options.operation_timeout);
        self.state.lock().start(commit)?;
        let result = match self.all_sent(commit, deadline).await {
            Ok(()) => self.end_all(session, commit, deadline).await,
            Err(error) => Err(error),
        };
        self.state.lock().decision =
            if result.is_ok() { Stage::Done { commit } } else { Stage::Failed { commit } };
        result
    }

    /// Waits until no message is being sent.
    async fn all_sent(&self, commit: bool, deadline: Instant) -> Result<()> {
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
        let end = End { commit, asked: false };
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
        Err(error.explained(&format!("{left} of {all} messages; the others are decided")).maybe())
    }
}

impl State {
    /// # Errors
    ///
    /// `InvalidArgument` if the transaction has a decision, except one that failed and is repeated.
    fn start(&mut self, commit: bool) -> Result<()> {
        if self.decision != Stage::Open && self.decision != (Stage::Failed { commit }) {
            return Err(decided(operation(commit), self.decision));
        }
        self.decision = Stage::UnderWay { commit };
        Ok(())
    }
}

impl Drop for Halves {
    fn drop(&mut self) {
        let State { stored, .. } = self.state.get_mut();
        if let Some(half) = stored.first() {
            tracing::warn!(
                messages = stored.len(),
                topic = half.topic,
                transaction_id = half.transaction_id,
                "a transaction ended without a decision that reached the server; the server keeps its messages hidden \
                 and asks the producers of the topic about them"
            );
        }
    }
}

fn operation(commit: bool) -> &'static str {
    if commit { COMMIT } else { ROLLBACK }
}

fn decided(operation: &'static str, stage: Stage) -> Error {
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

/// Tells the server that stored a half message, or asked about it, what becomes of the message.
pub(super) async fn end_transaction(
    session: &Session,
    half: &HalfMessage,
    end: End,
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
            drop(Halves::default());
            assert_eq!(warnings.0.load(Ordering::SeqCst), 0);
            let halves = Halves::default();
            halves.state.lock().stored.push(half());
            drop(halves);
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
                match state.start(next) {
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
