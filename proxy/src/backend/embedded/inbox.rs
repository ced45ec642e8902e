//! A bounded queue of work for a thread, which takes all waiting items at once.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::clock;
use crate::service::{ServiceError, ServiceErrorKind};

/// Waiting for more items may pay if the thread took at least this many the last time.
const MIN_TAKEN_TO_WAIT: usize = 8;
/// After futile waits, at most this many opportunities to wait are skipped.
const MAX_SKIPPED_WAITS: u32 = 255;
/// The value of `wake_at` while the thread is awake or about to be woken.
const AWAKE: usize = usize::MAX;

/// The waiting items.
pub(super) struct Inbox<T> {
    waiting: Mutex<WaitingItems<T>>,
    arrived: Condvar,
    max_bytes: usize,
}

struct WaitingItems<T> {
    items: Vec<T>,
    bytes: usize,
    /// The thread sleeps until there are this many items.
    wake_at: usize,
    closed: bool,
    /// How many items the thread took the last time.
    last_taken: usize,
    backoff: WaitBackoff,
}

/// Decides whether to wait for more items: less and less often after futile waits.
#[derive(Default)]
struct WaitBackoff {
    /// How many opportunities to wait were skipped since the last wait.
    skipped: u32,
    /// How many to skip before the next wait.
    to_skip: u32,
}

/// A pending wake-up. The thread is woken when this is dropped.
#[must_use = "the thread is woken when this is dropped"]
pub(super) struct WakeUp<T>(Option<Arc<Inbox<T>>>);

/// A thread that handles the items of an inbox.
pub(super) struct InboxThread<T> {
    inbox: Arc<Inbox<T>>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl<T: Send + 'static> InboxThread<T> {
    /// Starts the thread. It should end once the inbox is closed and empty.
    pub(super) fn start(
        name: &str,
        inbox: Inbox<T>,
        run: impl FnOnce(&Inbox<T>) + Send + 'static,
    ) -> io::Result<Self> {
        let inbox = Arc::new(inbox);
        let close_on_exit = CloseOnExit(inbox.clone());
        let run = clock::inherited(move || run(&close_on_exit.0));
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

    /// Whether the waiting items take at least this many bytes. If so, wakes the thread.
    pub(super) fn holds(&self, bytes: usize) -> bool {
        let holds = self.inbox.waiting.lock().bytes >= bytes;
        if holds {
            // The task with the pending wake-up may not run before there is room.
            self.inbox.arrived.notify_one();
        }
        holds
    }

    /// Ends the thread once it has handled all waiting items. Blocks until then.
    pub(super) fn stop(&self) {
        self.inbox.close();
        if let Some(handle) = self.handle.lock().take() {
            // The panic hook has reported a panic of the thread.
            let _ = handle.join();
        }
    }
}

impl<T> Drop for InboxThread<T> {
    fn drop(&mut self) {
        // Without `stop` nobody waits for the thread. It ends by itself and releases the directory.
        self.inbox.close();
    }
}

/// Closes the inbox and drops the remaining items when the thread ends, also by a panic.
struct CloseOnExit<T>(Arc<Inbox<T>>);

impl<T> Drop for CloseOnExit<T> {
    fn drop(&mut self) {
        self.0.close();
        let items = std::mem::take(&mut self.0.waiting.lock().items);
        drop(items);
    }
}

impl<T> WakeUp<T> {
    /// Returns after the tasks that are ready now have run. They may add items, too, and waking a thread costs as much
    /// as the rest of a request.
    pub(super) async fn after_ready_tasks(self) -> Self {
        if self.0.is_some() {
            tokio::task::yield_now().await;
        }
        self
    }

    /// Whether the thread must be woken.
    pub(super) fn is_needed(&self) -> bool {
        self.0.is_some()
    }

    /// Takes the waiting items instead of waking the thread. Wakes it and takes none if they have more than `max_bytes`.
    pub(super) fn take_items(mut self, max_bytes: usize) -> Vec<T> {
        // The thread still sleeps: the next item needs a wake-up again.
        let taken = self.0.as_ref().and_then(|inbox| inbox.take_waiting(1, max_bytes));
        if taken.is_some() {
            self.0 = None;
        }
        taken.unwrap_or_default()
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
    /// Creates an inbox whose waiting items may take `max_bytes` in total.
    pub(super) fn new(max_bytes: usize) -> Self {
        let waiting = WaitingItems {
            items: Vec::new(),
            bytes: 0,
            wake_at: AWAKE,
            closed: false,
            last_taken: 0,
            backoff: WaitBackoff::default(),
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
            // The task with the pending wake-up may not run before there is room.
            self.arrived.notify_one();
            return Err(ServiceError::new(
                ServiceErrorKind::Busy,
                "too many messages are waiting to be written to the disk",
            ));
        }
        waiting.bytes += bytes;
        waiting.items.push(item);
        let wake = waiting.items.len() >= waiting.wake_at;
        if wake {
            waiting.wake_at = AWAKE;
        }
        Ok(wake)
    }

    /// Refuses new items. Waiting items can still be taken.
    fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Waits for items. Returns false once the inbox is closed and empty.
    pub(super) fn wait(&self) -> bool {
        self.wait_until(&mut self.waiting.lock(), None)
    }

    /// As [`Inbox::wait`], but at most until the deadline. Returns true then, too.
    fn wait_until(&self, waiting: &mut MutexGuard<'_, WaitingItems<T>>, deadline: Option<Instant>) -> bool {
        while waiting.items.is_empty() {
            if waiting.closed {
                return false;
            }
            waiting.wake_at = 1;
            match deadline {
                Some(deadline) => {
                    if self.arrived.wait_until(waiting, deadline).timed_out() {
                        break;
                    }
                }
                None => self.arrived.wait(waiting),
            }
        }
        waiting.wake_at = AWAKE;
        true
    }

    /// Takes the waiting items. To be called by the thread.
    pub(super) fn take_now(&self) -> Vec<T> {
        self.take_waiting(AWAKE, usize::MAX).unwrap_or_default()
    }

    fn take_waiting(&self, wake_at: usize, max_bytes: usize) -> Option<Vec<T>> {
        let mut waiting = self.waiting.lock();
        if waiting.bytes > max_bytes {
            return None;
        }
        Some(waiting.take_all(wake_at))
    }

    /// Waits for items, up to `timeout`, and takes all of them. Returns `None` once the inbox is closed and empty.
    ///
    /// Senders that are answered together often send again together. If the thread took many items the last time and
    /// would take few now, it waits up to `pause` for more, which saves an fsync. It waits less and less often if that
    /// is futile.
    pub(super) fn take(&self, timeout: Option<Duration>, pause: Duration) -> Option<Vec<T>> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut waiting = self.waiting.lock();
        if !self.wait_until(&mut waiting, deadline) {
            return None;
        }
        let expected = waiting.last_taken;
        let has_half = |items: &[T]| items.len() * 2 >= expected;
        if expected >= MIN_TAKEN_TO_WAIT
            && !has_half(&waiting.items)
            && !pause.is_zero()
            && waiting.backoff.may_wait()
        {
            let until = Instant::now() + pause;
            waiting.wake_at = expected;
            while waiting.items.len() < expected
                && !waiting.closed
                && !self.arrived.wait_until(&mut waiting, until).timed_out()
            {}
            let succeeded = has_half(&waiting.items);
            waiting.backoff.waited(succeeded);
        }
        Some(waiting.take_all(AWAKE))
    }
}

impl<T> WaitingItems<T> {
    fn take_all(&mut self, wake_at: usize) -> Vec<T> {
        self.wake_at = wake_at;
        self.bytes = 0;
        self.last_taken = self.items.len();
        std::mem::take(&mut self.items)
    }
}

impl WaitBackoff {
    fn may_wait(&mut self) -> bool {
        let may = self.skipped >= self.to_skip;
        self.skipped = if may { 0 } else { self.skipped + 1 };
        may
    }

    fn waited(&mut self, succeeded: bool) {
        self.to_skip = if succeeded { 0 } else { (self.to_skip * 2 + 1).min(MAX_SKIPPED_WAITS) };
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
    fn only_the_first_item_wakes_the_thread() {
        let inbox = Inbox::new(usize::MAX);
        assert!(!inbox.put(1, 0).expect("open"), "the thread is awake");
        inbox.take(None, Duration::ZERO);
        inbox.take(Some(Duration::ZERO), Duration::ZERO);
        inbox.waiting.lock().wake_at = 1;
        let woken: Vec<_> = (0..3).map(|item| inbox.put(item, 0).expect("open")).collect();
        assert_eq!(woken, [true, false, false]);
    }

    #[test]
    fn items_can_be_taken_instead_of_a_wake_up() {
        let thread = InboxThread { inbox: Arc::new(Inbox::new(usize::MAX)), handle: Mutex::new(None) };
        thread.inbox.waiting.lock().wake_at = 1;
        let wake_up = thread.put(1, 1).expect("open");
        let second = thread.put(2, 1).expect("open");
        assert!(wake_up.is_needed() && !second.is_needed());
        assert_eq!(wake_up.take_items(2), [1, 2]);
        assert!(thread.put(3, 0).expect("open").is_needed(), "the thread still sleeps");
        assert_eq!(thread.inbox.take_now(), [3], "it was woken for it");
        thread.inbox.waiting.lock().wake_at = 1;
        let large = thread.put(4, 9).expect("open");
        assert!(large.take_items(8).is_empty(), "the thread takes it");
        assert_eq!(thread.inbox.take_now(), [4]);
    }

    #[test]
    fn the_thread_waits_less_often_after_futile_waits() {
        let mut backoff = WaitBackoff::default();
        let mut waits = 0;
        for _ in 0..1000 {
            if backoff.may_wait() {
                backoff.waited(false);
                waits += 1;
            }
        }
        assert!(waits < 12, "{waits}");
        while !backoff.may_wait() {}
        backoff.waited(true);
        assert!(backoff.may_wait() && backoff.may_wait());
    }

    #[tokio::test]
    async fn a_panic_of_the_thread_drops_all_items() {
        let run = |inbox: &Inbox<_>| {
            inbox.take(None, Duration::ZERO);
            panic!("on purpose");
        };
        let thread = InboxThread::start("panics", Inbox::new(1), run).expect("a thread");
        let mut answers = Vec::new();
        loop {
            let (reply, answer) = tokio::sync::oneshot::channel::<()>();
            match thread.put(reply, 0) {
                Ok(wake_up) => drop(wake_up.after_ready_tasks().await),
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
