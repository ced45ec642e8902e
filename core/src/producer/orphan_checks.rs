//! Questions of servers about half messages whose transaction was not decided.

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

use super::{Decision, Inner, Producer, transaction::end_transaction};
use crate::{
    error::{Error, ErrorKind, Result},
    message::{Message, Orphan},
    options::{Endpoints, ORPHAN_CHECK_TIMEOUT},
    wire::{End, HalfMessage},
};

/// The maximum number of checks that are under way at the same time. Those older than a minute do not count.
const MAX_OPEN: usize = 16;
/// The maximum number of checks that are neither decided nor dropped, however old they are. A checker that never answers
/// holds what it needs for each of them, such as a thread.
const MAX_HELD: usize = 256;

impl Producer {
    /// The orphan checks from now on, for those who want to fetch them, such as language bindings. In Rust,
    /// [`check_orphans`](Self::check_orphans) is simpler.
    ///
    /// There is one receiver: an earlier one, or an earlier checker, gets no more checks.
    #[must_use]
    pub fn orphan_checks(&self) -> OrphanChecks {
        let session = self.0.member.session();
        OrphanChecks(Arc::new(Receiver {
            orphans: tokio::sync::Mutex::new(session.orphan_checks()),
            open: Arc::default(),
            producer: Arc::downgrade(&self.0),
            stop: session.stop().clone(),
        }))
    }

    /// Answers the servers' questions about half messages whose [`Transaction`](super::Transaction) was not decided
    /// in time, with what `checker` returns.
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
    /// Up to 16 checks run at the same time, one for each message. A check that panics, or takes longer than a
    /// minute, counts as [`Decision::Unknown`]: the server asks again later, and other checks are not affected.
    ///
    /// It runs until the producer is closed or dropped, or another checker replaces this one. It does not keep the
    /// producer alive.
    pub fn check_orphans<C, F>(&self, checker: C)
    where
        C: Fn(OrphanCheck) -> F + Send + Sync + 'static,
        F: Future<Output = Decision> + Send + 'static,
    {
        let checks = self.orphan_checks();
        let checker = Arc::new(checker);
        self.0.member.session().spawn(async move {
            while let Some(check) = checks.next().await {
                let (checker, stop) = (checker.clone(), checks.0.stop.clone());
                tokio::spawn(async move { stop.run_until_cancelled(answer(&*checker, check)).await });
            }
        });
    }
}

/// Answers one check.
async fn answer<F>(checker: impl Fn(OrphanCheck) -> F, check: OrphanCheck)
where
    F: Future<Output = Decision>,
{
    let transaction_id = &check.transaction_id;
    let decision = AssertUnwindSafe(async { checker(check.clone()).await }).catch_unwind();
    let decision = match tokio::time::timeout(ORPHAN_CHECK_TIMEOUT, decision).await {
        Ok(Ok(decision)) => decision,
        Ok(Err(_)) => {
            tracing::warn!(transaction_id, "a checker of orphaned transactions panicked");
            Decision::Unknown
        }
        Err(_) => {
            tracing::warn!(transaction_id, "a checker of orphaned transactions took too long");
            Decision::Unknown
        }
    };
    if let Err(error) = check.decide(decision).await {
        tracing::warn!(transaction_id, %error, "the decision about an orphaned transaction failed");
    }
}

/// The orphan checks of a producer, from [`Producer::orphan_checks`]. Cheap to clone; each check goes to one clone.
#[derive(Clone)]
pub struct OrphanChecks(Arc<Receiver>);

struct Receiver {
    orphans: tokio::sync::Mutex<mpsc::Receiver<Orphan>>,
    open: Arc<OpenChecks>,
    producer: Weak<Inner>,
    stop: CancellationToken,
}

impl OrphanChecks {
    /// Waits for the next check; `None` once the producer is closed or dropped, or another receiver has replaced
    /// this one.
    ///
    /// Waits also while 16 checks are neither decided nor dropped. One that is older than a minute does not count, unless
    /// there are 256 of them. A question about a message whose check is under way is not returned again. Cancelling the
    /// future loses no check.
    pub async fn next(&self) -> Option<OrphanCheck> {
        let Receiver { orphans, open, producer, stop } = &*self.0;
        let next = async {
            let mut orphans = orphans.lock().await;
            loop {
                open.wait_for_place().await;
                let orphan = orphans.recv().await?;
                if let Some(place) = open.enter(&orphan) {
                    return Some(OrphanCheck::new(orphan, place, producer.clone()));
                }
            }
        };
        stop.run_until_cancelled(next).await?
    }
}

impl fmt::Debug for OrphanChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrphanChecks").field("held", &self.0.open.state.lock().held).finish_non_exhaustive()
    }
}

/// A server's question what becomes of a half message. Cheap to clone; clones are the same check.
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
    answer: Arc<Answer>,
}

/// What it takes to answer a check.
struct Answer {
    server: Endpoints,
    producer: Weak<Inner>,
    decided: AtomicBool,
    /// `None` once it is decided. Languages may keep the check for long after that.
    place: Mutex<Option<Place>>,
}

impl Answer {
    fn leave(&self) {
        let place = self.place.lock().take();
        drop(place);
    }
}

impl OrphanCheck {
    fn new(orphan: Orphan, place: Place, producer: Weak<Inner>) -> Self {
        let Orphan { transaction_id, message_id, message, endpoints } = orphan;
        let answer = Answer {
            server: endpoints,
            producer,
            decided: AtomicBool::new(false),
            place: Mutex::new(Some(place)),
        };
        Self { message, message_id, transaction_id, answer: Arc::new(answer) }
    }

    /// Tells the server the decision; [`Decision::Unknown`] tells it nothing.
    ///
    /// Cancelling the future stops waiting, but does not cancel the decision.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the check is decided already; `Closed` if the producer is closed or dropped. Otherwise the
    /// last failure, if there was no success within
    /// [`operation_timeout`](crate::ClientOptions::operation_timeout). After a failure it may be decided again, and
    /// the server asks again, too.
    pub async fn decide(&self, decision: Decision) -> Result<()> {
        let (commit, operation) = match decision {
            Decision::Commit => (true, "commit"),
            Decision::Rollback => (false, "rollback"),
            Decision::Unknown => {
                self.answer.leave();
                return Ok(());
            }
        };
        let Some(producer) = self.answer.producer.upgrade() else { return Err(Error::closed(operation)) };
        if self.answer.decided.swap(true, Ordering::SeqCst) {
            let message = "the orphan check is already decided";
            return Err(Error::new(ErrorKind::InvalidArgument, operation, message));
        }
        let (answer, session) = (self.answer.clone(), producer.member.session().clone());
        let half = HalfMessage {
            topic: self.message.topic.clone(),
            message_id: self.message_id.clone(),
            transaction_id: self.transaction_id.clone(),
            server: self.answer.server.clone(),
        };
        let work = async move {
            let deadline = crate::options::deadline(Instant::now(), session.options().operation_timeout);
            let end = End { commit, asked: true };
            let result = end_transaction(&session, &half, end, deadline).await;
            answer.decided.store(result.is_ok(), Ordering::SeqCst);
            if result.is_ok() {
                answer.leave();
            }
            result
        };
        producer.member.run(operation, work).await
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

/// A half message, by the ids of its transaction and of itself: Apache's servers keep several half messages apart only
/// by both.
type Key = (String, String);

/// The checks that are handed out, and neither decided nor dropped.
#[derive(Debug, Default)]
struct OpenChecks {
    state: Mutex<OpenState>,
    left: Notify,
}

#[derive(Debug, Default)]
struct OpenState {
    /// When the checks began that are not too old.
    since: HashMap<Key, Instant>,
    /// How many there are, with those that are too old.
    held: usize,
}

/// One of the open checks, until it is decided or dropped.
struct Place {
    open: Arc<OpenChecks>,
    key: Key,
    since: Instant,
}

impl OpenChecks {
    async fn wait_for_place(&self) {
        let mut warned = false;
        loop {
            let first_timeout = {
                let OpenState { since, held } = &mut *self.state.lock();
                since.retain(|_, since| since.elapsed() < ORPHAN_CHECK_TIMEOUT);
                match since.values().min() {
                    _ if *held >= MAX_HELD => None,
                    Some(first) if since.len() >= MAX_OPEN => Some(*first + ORPHAN_CHECK_TIMEOUT),
                    _ => return,
                }
            };
            if let Some(first_timeout) = first_timeout {
                let _ = timeout_at(first_timeout.into(), self.left.notified()).await;
                continue;
            }
            if !warned {
                tracing::warn!(
                    held = MAX_HELD,
                    "checks of orphaned transactions do not end; no more are begun"
                );
                warned = true;
            }
            self.left.notified().await;
        }
    }

    /// A place for the check; `None` if the same message is being checked.
    fn enter(self: &Arc<Self>, orphan: &Orphan) -> Option<Place> {
        let key = (orphan.transaction_id.clone(), orphan.message_id.clone());
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.since.contains_key(&key) {
            return None;
        }
        state.since.insert(key.clone(), now);
        state.held += 1;
        Some(Place { open: self.clone(), key, since: now })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.open.state.lock();
        state.held -= 1;
        // After a timeout, the place may belong to a later check of the same message.
        if state.since.get(&self.key) == Some(&self.since) {
            state.since.remove(&self.key);
        }
        drop(state);
        self.open.left.notify_one();
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
    async fn only_so_many_checks_are_open_and_each_message_once() {
        let open = Arc::<OpenChecks>::default();
        let mut places: Vec<_> = (0..MAX_OPEN).map(|id| open.enter(&orphan(id)).unwrap()).collect();
        assert!(open.enter(&orphan(3)).is_none());
        let mut wait = Box::pin(open.wait_for_place());
        assert!(futures::poll!(&mut wait).is_pending());
        places.pop();
        wait.await;
        assert!(open.enter(&orphan(MAX_OPEN)).is_some());
    }

    #[test]
    fn a_late_end_does_not_take_the_place_of_a_later_check() {
        let open = Arc::<OpenChecks>::default();
        let first = open.enter(&orphan(1)).unwrap();
        open.state.lock().since.clear();
        let _second = open.enter(&orphan(1)).unwrap();
        drop(first);
        assert!(open.enter(&orphan(1)).is_none());
    }

    #[tokio::test]
    async fn checks_that_never_end_hold_only_so_many_places() {
        let open = Arc::<OpenChecks>::default();
        let mut places: Vec<_> = (0..MAX_HELD)
            .map(|id| {
                // Those before are too old to count as under way.
                open.state.lock().since.clear();
                open.enter(&orphan(id)).unwrap()
            })
            .collect();
        open.state.lock().since.clear();
        let mut wait = Box::pin(open.wait_for_place());
        assert!(futures::poll!(&mut wait).is_pending());
        places.pop();
        wait.await;
    }
}
