//! A bounded queue in front of a thread that takes all items at once.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::clock;
use crate::service::{ServiceError, ServiceErrorKind};

/// Waiting for more items may pay if the last take had at least this many.
const MANY: usize = 8;
/// After waits without success, at most this many opportunities to wait are left out.
const MAX_LEFT_OUT: u32 = 255;
/// The thread is awake, or somebody is about to wake it.
const AWAKE: usize = usize::MAX;

/// The waiting items.
pub(super) struct Inbox<T> {
    waiting: Mutex<Waiting<T>>,
    arrived: Condvar,
    max_bytes: usize,
}

struct Waiting<T> {
    items: Vec<T>,
    bytes: usize,
    /// The thread sleeps until there are this many items.
    wake_at: usize,
    closed: bool,
    last_taken: usize,
    company: Company,
}

/// Whether recent waits for more items have succeeded.
#[derive(Default)]
struct Company {
    left_out: u32,
    to_leave_out: u32,
}

/// Wakes the thread when it is dropped.
#[must_use = "the thread is woken when this is dropped"]
pub(super) struct WakeUp<T>(Option<Arc<Inbox<T>>>);

/// A thread that handles the items of an inbox.
pub(super) struct InboxThread<T> {
    inbox: Arc<Inbox<T>>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl<T: Send + 'static> InboxThread<T> {
    /// Starts the thread. It should end once [`Inbox::take`] returns `None`.
    pub(super) fn start(
        name: &str,
        inbox: Inbox<T>,
        run: impl FnOnce(&Inbox<T>) + Send + 'static,
    ) -> io::Result<Self> {
        let inbox = Arc::new(inbox);
        let abandoned = Abandoned(inbox.clone());
        let run = clock::inherited(move || run(&abandoned.0));
        let handle = std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { inbox, handle: Mutex::new(Some(handle)) })
    }
}

impl<T> InboxThread<T> {
    /// Adds an item, as [`Inbox::put`].
    pub(super) fn put(&self, item: T, bytes: usize) -> Result<WakeUp<T>, ServiceError> {
        let wake = self.inbox.put(item, bytes)?;
        Ok(WakeUp(wake.then(|| self.inbox.clone())))
    }

    /// Whether the waiting items take at least this many bytes.
    pub(super) fn holds(&self, bytes: usize) -> bool {
        let holds = self.inbox.waiting.lock().bytes >= bytes;
        if holds {
            // As in `put`.
            self.inbox.arrived.notify_one();
        }
        holds
    }

    /// Handles what was added, and ends the thread. Blocks until then.
    pub(super) fn stop(&self) {
        self.inbox.close();
        if let Some(handle) = self.handle.lock().take() {
            // A panic of the thread has been reported by the panic hook.
            let _ = handle.join();
        }
    }
}

impl<T> Drop for InboxThread<T> {
    fn drop(&mut self) {
        // Without a stop nobody waits for the thread. It ends by itself and releases the directory.
        self.inbox.close();
    }
}

/// Drops the remaining items if the thread ends by a panic.
struct Abandoned<T>(Arc<Inbox<T>>);

impl<T> Drop for Abandoned<T> {
    fn drop(&mut self) {
        self.0.close();
        let items = std::mem::take(&mut self.0.waiting.lock().items);
        drop(items);
    }
}

impl<T> WakeUp<T> {
    /// Wakes the thread once the tasks that are ready now have run. They may add items, too, and waking a thread costs as
    /// much as the rest of a request.
    pub(super) async fn after_ready_tasks(self) {
        if self.0.is_some() {
            tokio::task::yield_now().await;
        }
    }
}

impl<T> Drop for WakeUp<T> {
    fn drop(&mut self) {
        if let Some(inbox) = &self.0 {
            inbox.arrived.notify_one();
        }
    }
}

impl<T> Inbox<T> {
    /// An inbox whose items may take `max_bytes` together.
    pub(super) fn new(max_bytes: usize) -> Self {
        let waiting = Waiting {
            items: Vec::new(),
            bytes: 0,
            wake_at: AWAKE,
            closed: false,
            last_taken: 0,
            company: Company::default(),
        };
        Self { waiting: Mutex::new(waiting), arrived: Condvar::new(), max_bytes }
    }

    /// Adds an item that takes this many bytes of memory. Returns whether the thread must be woken.
    ///
    /// # Errors
    /// `Busy` if there is no room, unless the inbox is empty; `Unavailable` if it is closed.
    fn put(&self, item: T, bytes: usize) -> Result<bool, ServiceError> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(ServiceError::new(ServiceErrorKind::Unavailable, "the broker is shutting down"));
        }
        if waiting.bytes > 0 && waiting.bytes.saturating_add(bytes) > self.max_bytes {
            // The task that is to wake it may not run before there is room.
            self.arrived.notify_one();
            return Err(ServiceError::new(ServiceErrorKind::Busy, "too many messages wait for the disk"));
        }
        waiting.bytes += bytes;
        waiting.items.push(item);
        let wake = waiting.items.len() >= waiting.wake_at;
        if wake {
            waiting.wake_at = AWAKE;
        }
        Ok(wake)
    }

    /// Refuses new items. Those that wait can still be taken.
    fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Waits for items, up to `timeout`, and takes all there are. Returns `None` once the inbox is closed and empty.
    ///
    /// Senders that were answered together send again almost together. If the last take was a large one and this one
    /// would be small, it waits for them for `pause`, which saves an fsync. It does so less and less often if they do not
    /// come.
    pub(super) fn take(&self, timeout: Option<Duration>, pause: Duration) -> Option<Vec<T>> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut waiting = self.waiting.lock();
        while waiting.items.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting.wake_at = 1;
            match deadline {
                Some(deadline) => {
                    if self.arrived.wait_until(&mut waiting, deadline).timed_out() {
                        break;
                    }
                }
                None => self.arrived.wait(&mut waiting),
            }
        }
        let expected = waiting.last_taken;
        let has_half = |items: &[T]| items.len() * 2 >= expected;
        if expected >= MANY && !has_half(&waiting.items) && !pause.is_zero() && waiting.company.may_wait() {
            let until = Instant::now() + pause;
            waiting.wake_at = expected;
            while waiting.items.len() < expected
                && !waiting.closed
                && !self.arrived.wait_until(&mut waiting, until).timed_out()
            {}
            let came = has_half(&waiting.items);
            waiting.company.waited(came);
        }
        waiting.wake_at = AWAKE;
        waiting.bytes = 0;
        waiting.last_taken = waiting.items.len();
        Some(std::mem::take(&mut waiting.items))
    }
}

impl Company {
    fn may_wait(&mut self) -> bool {
        let may = self.left_out >= self.to_leave_out;
        self.left_out = if may { 0 } else { self.left_out + 1 };
        may
    }

    fn waited(&mut self, came: bool) {
        self.to_leave_out = if came { 0 } else { (self.to_leave_out * 2 + 1).min(MAX_LEFT_OUT) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_bounded_by_bytes_and_taken_together() {
        let inbox = Inbox::new(10);
        inbox.put("larger than the inbox", 12).expect("an empty inbox takes any item");
        assert_eq!(inbox.put("b", 1).expect_err("full").kind, ServiceErrorKind::Busy);
        assert_eq!(inbox.take(None, Duration::ZERO).expect("open"), ["larger than the inbox"]);
        inbox.put("b", 5).expect("room");
        inbox.put("c", 5).expect("room");
        inbox.close();
        assert_eq!(inbox.put("d", 1).expect_err("closed").kind, ServiceErrorKind::Unavailable);
        assert_eq!(inbox.take(None, Duration::ZERO).expect("not empty"), ["b", "c"]);
        assert!(inbox.take(None, Duration::ZERO).is_none());
    }

    #[test]
    fn a_take_ends_in_time() {
        let inbox = Inbox::<()>::new(1);
        assert_eq!(inbox.take(Some(Duration::ZERO), Duration::ZERO), Some(Vec::new()));
    }

    #[test]
    fn the_first_item_wakes_the_thread_and_those_that_follow_do_not() {
        let inbox = Inbox::new(usize::MAX);
        assert!(!inbox.put(1, 0).expect("open"), "the thread is awake");
        inbox.take(None, Duration::ZERO);
        inbox.take(Some(Duration::ZERO), Duration::ZERO);
        inbox.waiting.lock().wake_at = 1;
        let woken: Vec<_> = (0..3).map(|item| inbox.put(item, 0).expect("open")).collect();
        assert_eq!(woken, [true, false, false]);
    }

    #[test]
    fn it_waits_less_and_less_often_for_company_that_does_not_come() {
        let mut company = Company::default();
        let mut waits = 0;
        for _ in 0..1000 {
            if company.may_wait() {
                company.waited(false);
                waits += 1;
            }
        }
        assert!(waits < 12, "{waits}");
        while !company.may_wait() {}
        company.waited(true);
        assert!(company.may_wait() && company.may_wait());
    }

    #[tokio::test]
    async fn a_thread_that_panics_leaves_no_item_unanswered() {
        let run = |inbox: &Inbox<_>| {
            inbox.take(None, Duration::ZERO);
            panic!("on purpose");
        };
        let thread = InboxThread::start("panics", Inbox::new(1), run).expect("a thread");
        let mut answers = Vec::new();
        loop {
            let (reply, answer) = tokio::sync::oneshot::channel::<()>();
            match thread.put(reply, 0) {
                Ok(wake_up) => wake_up.after_ready_tasks().await,
                Err(closed) => {
                    assert_eq!(closed.kind, ServiceErrorKind::Unavailable);
                    break;
                }
            }
            answers.push(answer);
        }
        for answer in answers {
            answer.await.expect_err("nobody answers");
        }
    }
}
