//! Orphan checks: servers ask what to do with half messages whose transaction was not decided.

use std::{
    collections::HashMap,
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc},
    time::timeout_at,
};
use tokio_util::sync::CancellationToken;

use super::{Decision, Inner, Producer, half_messages::end_transaction};
use crate::{
    error::{Error, ErrorKind, Result},
    message::{Message, Orphan},
    options::{Endpoints, ORPHAN_CHECK_TIMEOUT},
    wire::{HalfMessage, TransactionEnd},
};

/// How many checks may be open before no more are returned. Checks older than [`ORPHAN_CHECK_TIMEOUT`] do not count.
const MAX_ACTIVE: usize = 16;
/// How many checks may be open, however old they are. A checker that never answers uses resources for each of them, such
/// as a thread.
const MAX_UNFINISHED: usize = 256;

impl Producer {
    /// Returns a receiver of the orphan checks from now on. This is for libraries that fetch them, such as language
    /// bindings. In Rust, [`check_orphans`](Self::check_orphans) is simpler.
    ///
    /// Replaces an earlier receiver or checker, which gets no more checks.
    #[must_use]
    pub fn orphan_checks(&self) -> OrphanChecks {
        let session = self.0.base.session();
        OrphanChecks(Arc::new(CheckReceiver {
            orphans: tokio::sync::Mutex::new(session.orphan_checks()),
            open: Arc::default(),
            producer: Arc::downgrade(&self.0),
            stop: session.stop().clone(),
        }))
    }

    /// Calls `checker` when a server asks about a half message whose [`Transaction`](super::Transaction) was not decided
    /// in time, and sends its decision to the server.
    ///
    /// ```no_run
    /// # use rocketmq_thin::{Decision, OrphanCheck, Producer};
    /// # async fn order_exists(_: &str) -> Option<bool> { None }
    /// # fn run(producer: &Producer) {
    /// producer.check_orphans(async |check: OrphanCheck| match order_exists(&check.message.keys[0]).await {
    ///     Some(true) => Decision::Commit,
    ///     Some(false) => Decision::Rollback,
    ///     None => Decision::Unknown,
    /// });
    /// # }
    /// ```
    ///
    /// Up to 16 checks run at the same time, one for each message. If a check panics, or takes longer than a minute, the
    /// decision is [`Decision::Unknown`]: the server asks again later. Other checks are not affected.
    ///
    /// The checker is called until the producer is closed or dropped, or another checker replaces it. It does not keep
    /// the producer alive.
    pub fn check_orphans<C, F>(&self, checker: C)
    where
        C: Fn(OrphanCheck) -> F + Send + Sync + 'static,
        F: Future<Output = Decision> + Send + 'static,
    {
        let checks = self.orphan_checks();
        let checker = Arc::new(checker);
        self.0.base.session().spawn(async move {
            while let Some(check) = checks.next().await {
                let (checker, stop) = (checker.clone(), checks.0.stop.clone());
                tokio::spawn(async move { stop.run_until_cancelled(answer(&*checker, check)).await });
            }
        });
    }
}

/// Runs one check, and sends its decision.
async fn answer<F>(checker: impl Fn(OrphanCheck) -> F, check: OrphanCheck)
where
    F: Future<Output = Decision>,
{
    let transaction_id = &check.transaction_id;
    let decision = AssertUnwindSafe(async { checker(check.clone()).await }).catch_unwind();
    let decision = match tokio::time::timeout(ORPHAN_CHECK_TIMEOUT, decision).await {
        Ok(Ok(decision)) => decision,
        Ok(Err(_)) => {
            tracing::warn!(transaction_id, "an orphan check panicked");
            Decision::Unknown
        }
        Err(_) => {
            tracing::warn!(transaction_id, "an orphan check timed out");
            Decision::Unknown
        }
    };
    if let Err(error) = check.decide(decision).await {
        tracing::warn!(transaction_id, %error, "failed to send the decision of an orphan check");
    }
}

/// The orphan checks of a producer, from [`Producer::orphan_checks`]. Cheap to clone; each check goes to one clone.
#[derive(Clone)]
pub struct OrphanChecks(Arc<CheckReceiver>);

struct CheckReceiver {
    orphans: tokio::sync::Mutex<mpsc::Receiver<Orphan>>,
    open: Arc<OpenChecks>,
    producer: Weak<Inner>,
    stop: CancellationToken,
}

impl OrphanChecks {
    /// Waits for the next check. Returns `None` once the producer is closed or dropped, or another receiver has replaced
    /// this one.
    ///
    /// A check is open until it is decided or dropped. While 16 checks are open, this waits. Checks older than a minute
    /// do not count, unless 256 are open. A further question about a message whose check is open is ignored. Cancelling
    /// the future loses no check.
    pub async fn next(&self) -> Option<OrphanCheck> {
        let CheckReceiver { orphans, open, producer, stop } = &*self.0;
        let next = async {
            let mut orphans = orphans.lock().await;
            loop {
                open.wait_for_capacity().await;
                let orphan = orphans.recv().await?;
                if let Some(open_check) = open.begin(&orphan) {
                    return Some(OrphanCheck::new(orphan, open_check, producer.clone()));
                }
            }
        };
        stop.run_until_cancelled(next).await?
    }
}

impl fmt::Debug for OrphanChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrphanChecks")
            .field("unfinished", &self.0.open.state.lock().unfinished)
            .finish_non_exhaustive()
    }
}

/// A server's question whether to commit or roll back a half message. Cheap to clone; clones are the same check.
///
/// Dropping it without a decision is the same as [`Decision::Unknown`].
#[derive(Clone)]
#[non_exhaustive]
pub struct OrphanCheck {
    /// The half message, with its topic, body, tag, keys and properties.
    pub message: Message,
    /// The id of the half message, as in its [`Receipt`](crate::Receipt).
    pub message_id: String,
    /// The server's id of the transaction, as in the [`Receipt`](crate::Receipt).
    pub transaction_id: String,
    responder: Arc<Responder>,
}

/// Where the decision of a check goes, and whether it was made.
struct Responder {
    server: Endpoints,
    producer: Weak<Inner>,
    decided: AtomicBool,
    /// `None` once the check is decided. A language binding may keep the [`OrphanCheck`] long after that.
    open_check: Mutex<Option<OpenCheck>>,
}

impl Responder {
    fn close(&self) {
        let open_check = self.open_check.lock().take();
        drop(open_check);
    }
}

impl OrphanCheck {
    fn new(orphan: Orphan, open_check: OpenCheck, producer: Weak<Inner>) -> Self {
        let Orphan { transaction_id, message_id, message, endpoints } = orphan;
        let responder = Responder {
            server: endpoints,
            producer,
            decided: AtomicBool::new(false),
            open_check: Mutex::new(Some(open_check)),
        };
        Self { message, message_id, transaction_id, responder: Arc::new(responder) }
    }

    /// Sends the decision to the server. [`Decision::Unknown`] sends nothing.
    ///
    /// Cancelling the future stops waiting, but does not cancel the decision.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the check is decided already; `Closed` if the producer is closed or dropped. Otherwise the
    /// last failure, if no attempt succeeded within [`operation_timeout`](crate::ClientOptions::operation_timeout).
    /// After a failure, `decide` may be called again, and the server also asks again.
    pub async fn decide(&self, decision: Decision) -> Result<()> {
        let (commit, operation) = match decision {
            Decision::Commit => (true, "commit"),
            Decision::Rollback => (false, "rollback"),
            Decision::Unknown => {
                self.responder.close();
                return Ok(());
            }
        };
        let Some(producer) = self.responder.producer.upgrade() else { return Err(Error::closed(operation)) };
        if self.responder.decided.swap(true, Ordering::SeqCst) {
            let message = "the orphan check is already decided";
            return Err(Error::new(ErrorKind::InvalidArgument, operation, message));
        }
        let (responder, session) = (self.responder.clone(), producer.base.session().clone());
        let half = HalfMessage {
            topic: self.message.topic.clone(),
            message_id: self.message_id.clone(),
            transaction_id: self.transaction_id.clone(),
            server: self.responder.server.clone(),
        };
        let work = async move {
            let deadline = crate::options::deadline(Instant::now(), session.options().operation_timeout);
            let end = TransactionEnd { commit, by_server_check: true };
            let result = end_transaction(&session, &half, end, deadline).await;
            responder.decided.store(result.is_ok(), Ordering::SeqCst);
            if result.is_ok() {
                responder.close();
            }
            result
        };
        producer.base.run(operation, work).await
    }
}

impl fmt::Debug for OrphanCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrphanCheck")
            .field("message", &self.message)
            .field("message_id", &self.message_id)
            .field("transaction_id", &self.transaction_id)
            .finish_non_exhaustive()
    }
}

/// Identifies a half message: the id of its transaction, and its message id. Neither is unique at Apache's servers.
type CheckKey = (String, String);

/// The checks that were returned to the application, and are neither decided nor dropped.
#[derive(Debug, Default)]
struct OpenChecks {
    state: Mutex<OpenState>,
    closed: Notify,
}

#[derive(Debug, Default)]
struct OpenState {
    /// When each check began, without those that have timed out.
    since: HashMap<CheckKey, Instant>,
    /// How many checks are open, including those that have timed out.
    unfinished: usize,
}

/// Counts a check as open until it is dropped.
struct OpenCheck {
    open: Arc<OpenChecks>,
    key: CheckKey,
    since: Instant,
}

impl OpenChecks {
    async fn wait_for_capacity(&self) {
        let mut warned = false;
        loop {
            let first_timeout = {
                let OpenState { since, unfinished } = &mut *self.state.lock();
                since.retain(|_, since| since.elapsed() < ORPHAN_CHECK_TIMEOUT);
                match since.values().min() {
                    _ if *unfinished >= MAX_UNFINISHED => None,
                    Some(first) if since.len() >= MAX_ACTIVE => Some(*first + ORPHAN_CHECK_TIMEOUT),
                    _ => return,
                }
            };
            if let Some(first_timeout) = first_timeout {
                let _ = timeout_at(first_timeout.into(), self.closed.notified()).await;
                continue;
            }
            if !warned {
                tracing::warn!(
                    unfinished = MAX_UNFINISHED,
                    "too many orphan checks are undecided; no further checks start"
                );
                warned = true;
            }
            self.closed.notified().await;
        }
    }

    /// Opens a check; `None` if a check of the same message is open.
    fn begin(self: &Arc<Self>, orphan: &Orphan) -> Option<OpenCheck> {
        let key = (orphan.transaction_id.clone(), orphan.message_id.clone());
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.since.contains_key(&key) {
            return None;
        }
        state.since.insert(key.clone(), now);
        state.unfinished += 1;
        Some(OpenCheck { open: self.clone(), key, since: now })
    }
}

impl Drop for OpenCheck {
    fn drop(&mut self) {
        let mut state = self.open.state.lock();
        state.unfinished -= 1;
        // After a timeout, the entry may belong to a later check of the same message.
        if state.since.get(&self.key) == Some(&self.since) {
            state.since.remove(&self.key);
        }
        drop(state);
        self.open.closed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orphan(id: usize) -> Orphan {
        Orphan {
            transaction_id: id.to_string(),
            message_id: String::new(),
            message: Message::new("t", "x"),
            endpoints: Endpoints::from_iter([]),
        }
    }

    #[tokio::test]
    async fn the_number_of_active_checks_is_limited_and_each_message_is_checked_once() {
        let open = Arc::<OpenChecks>::default();
        let mut open_checks: Vec<_> = (0..MAX_ACTIVE).map(|id| open.begin(&orphan(id)).unwrap()).collect();
        assert!(open.begin(&orphan(3)).is_none());
        let mut wait = Box::pin(open.wait_for_capacity());
        assert!(futures::poll!(&mut wait).is_pending());
        open_checks.pop();
        wait.await;
        assert!(open.begin(&orphan(MAX_ACTIVE)).is_some());
    }

    #[test]
    fn a_check_that_ends_after_its_timeout_does_not_close_a_later_one() {
        let open = Arc::<OpenChecks>::default();
        let first = open.begin(&orphan(1)).unwrap();
        open.state.lock().since.clear();
        let _second = open.begin(&orphan(1)).unwrap();
        drop(first);
        assert!(open.begin(&orphan(1)).is_none());
    }

    #[tokio::test]
    async fn the_number_of_checks_that_never_end_is_limited() {
        let open = Arc::<OpenChecks>::default();
        let mut open_checks: Vec<_> = (0..MAX_UNFINISHED)
            .map(|id| {
                // Makes all earlier checks count as timed out.
                open.state.lock().since.clear();
                open.begin(&orphan(id)).unwrap()
            })
            .collect();
        open.state.lock().since.clear();
        let mut wait = Box::pin(open.wait_for_capacity());
        assert!(futures::poll!(&mut wait).is_pending());
        open_checks.pop();
        wait.await;
    }
}
