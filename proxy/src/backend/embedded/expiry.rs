//! The one timer of all leases: wakes a group's waiting receives when messages become visible again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::clock;
use super::progress::{Progress, State};

/// The wake-ups to come. A progress has few of them: only one that is earlier than all before is added.
#[derive(Default)]
pub(super) struct Expiry {
    wakeups: Mutex<Wakeups>,
    earlier: Notify,
}

#[derive(Default)]
struct Wakeups {
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    // By the number in the heap, which keeps the heap's entries comparable.
    who: std::collections::HashMap<u64, Weak<Progress>>,
    next_number: u64,
}

impl Expiry {
    /// Says that a lease of this progress runs out then. Called with its state locked.
    pub(super) fn schedule(&self, progress: &Arc<Progress>, state: &mut State, visible_at: u64) {
        if state.scheduled.is_some_and(|scheduled| scheduled <= visible_at) {
            return;
        }
        state.scheduled = Some(visible_at);
        let mut wakeups = self.wakeups.lock();
        let number = wakeups.next_number;
        wakeups.next_number += 1;
        wakeups.who.insert(number, Arc::downgrade(progress));
        let first = wakeups.heap.peek().is_none_or(|Reverse((at, _))| visible_at < *at);
        wakeups.heap.push(Reverse((visible_at, number)));
        drop(wakeups);
        if first {
            self.earlier.notify_one();
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(&self) {
        loop {
            let next = self.wakeups.lock().heap.peek().map(|Reverse((at, _))| *at);
            match next {
                None => self.earlier.notified().await,
                Some(at) => match at.checked_sub(clock::now()) {
                    None | Some(0) => self.fire(),
                    Some(ahead) => {
                        let sleep = tokio::time::sleep(Duration::from_millis(ahead));
                        tokio::select! { () = sleep => {}, () = self.earlier.notified() => {} }
                    }
                },
            }
        }
    }

    fn fire(&self) {
        let now = clock::now();
        let mut due = Vec::new();
        let mut wakeups = self.wakeups.lock();
        while let Some(Reverse((at, number))) = wakeups.heap.peek().copied() {
            if at > now {
                break;
            }
            wakeups.heap.pop();
            due.extend(wakeups.who.remove(&number).and_then(|who| who.upgrade()));
        }
        drop(wakeups);
        for progress in due {
            self.review(&progress, now);
        }
    }

    /// Wakes receives for the leases that are over, and schedules the next one.
    pub(super) fn review(&self, progress: &Arc<Progress>, now: u64) {
        let mut slot = progress.lock();
        let Some(state) = slot.as_mut() else { return };
        state.scheduled = None;
        let over: usize = state.queues.iter().map(|queue| queue.leases.count_over(now, MOST_AT_ONCE)).sum();
        let next = state.queues.iter().filter_map(|queue| queue.leases.next_after(now)).min();
        if let Some(next) = next {
            self.schedule(progress, state, next);
        }
        drop(slot);
        progress.wake(over);
    }
}

/// More receives than this are not woken for one queue at one time; those that were take what there is.
const MOST_AT_ONCE: usize = 1024;
