//! Writes the progress of groups. Async threads write only if that is unlikely to block. fjall writes under a lock that it
//! also holds during the fsync of a flushed memtable, and it makes writers sleep while its background work is behind.
//!
//! Changes take effect in memory when they are committed. They are written in that order, all waiting changes at once. A
//! request is answered after its own change is written, and all changes that its answer depends on. After a failed write
//! the progress in memory is dropped. It is loaded again once the database was reopened.
//!
//! While the disk answers at once, one waiting request writes all waiting changes to the page cache. Waking a thread for it
//! would cost a quarter more CPU per message. A thread writes the changes while the disk is slow, while fjall is flushing or
//! compacting, while another request is writing, and if there is much to write. No more than one async thread writes at a
//! time. If that blocks in spite of all this, the tasks of that thread wait.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::inbox::{Inbox, InboxThread, WakeUp};
use super::progress::{Progress, earlier_write_failed};
use super::progress_write_batch::{self, RecordChange};
use super::store::Store;
use crate::service::{ServiceError, ServiceErrorKind};

/// Requests are refused while this much waits to be written. A change counts as its records plus one. Each takes about
/// 150 bytes.
const MAX_PENDING: usize = 200_000;

/// A request writes at most this much at once, counted as for `MAX_PENDING`.
const MAX_WRITTEN_BY_REQUEST: usize = 1_000;

/// Writes the progress of groups, on its own thread or on that of a waiting request.
pub(super) struct ProgressWriter {
    thread: InboxThread<WriteJob>,
    disk: Arc<Disk>,
}

/// The place to which changes are written.
struct Disk {
    store: Arc<Store>,
    /// Held while changes are taken from the inbox and written, so that they are written in order.
    writing: Mutex<()>,
    /// The number of changes that requests have written.
    #[cfg(test)]
    written_by_requests: AtomicUsize,
}

/// A change to be written.
struct WriteJob {
    progress: Arc<Progress>,
    /// The generation of the progress at the change.
    generation: u64,
    records: Vec<RecordChange>,
    reply: oneshot::Sender<Result<(), ServiceError>>,
}

/// A change that is being written.
#[must_use = "a request is answered after its change is written"]
pub(super) struct Written(Result<Option<PendingWrite>, ServiceError>);

struct PendingWrite {
    disk: Arc<Disk>,
    wake_up: WakeUp<WriteJob>,
    reply: oneshot::Receiver<Result<(), ServiceError>>,
}

impl ProgressWriter {
    /// Starts the thread.
    pub(super) fn start(store: Arc<Store>) -> io::Result<Self> {
        let disk = Arc::new(Disk {
            store,
            writing: Mutex::new(()),
            #[cfg(test)]
            written_by_requests: AtomicUsize::new(0),
        });
        let run = {
            let disk = disk.clone();
            move |inbox: &Inbox<WriteJob>| {
                while inbox.wait() {
                    disk.store.wait_for_background_work();
                    let _writing = disk.writing.lock();
                    let start = Instant::now();
                    disk.write(inbox.take_now());
                    disk.store.disk_latency.thread_wrote(start.elapsed());
                }
            }
        };
        // The inbox is unbounded because changes in memory must be written. `check_capacity` refuses requests before they
        // change anything.
        Ok(Self { thread: InboxThread::start("embedded-progress", Inbox::new(usize::MAX), run)?, disk })
    }

    /// Fails if too many records wait to be written.
    ///
    /// # Errors
    /// `Busy`.
    pub(super) fn check_capacity(&self) -> Result<(), ServiceError> {
        if !self.thread.holds(MAX_PENDING) {
            return Ok(());
        }
        Err(ServiceError::new(
            ServiceErrorKind::Busy,
            "too many changes are waiting to be written to the disk",
        ))
    }

    /// Submits the records of a change. Called with the progress's state locked, so that changes are written in order.
    pub(super) fn submit(&self, progress: &Arc<Progress>, records: Vec<RecordChange>) -> Written {
        // An empty change waits only if earlier changes are not written yet.
        if records.is_empty() && progress.unwritten.load(Ordering::SeqCst) == 0 {
            return Written(Ok(None));
        }
        let (sender, reply) = oneshot::channel();
        progress.unwritten.fetch_add(1, Ordering::SeqCst);
        let size = records.len() + 1;
        let (progress, generation) = (progress.clone(), progress.generation());
        let job = WriteJob { progress, generation, records, reply: sender };
        let disk = self.disk.clone();
        Written(self.thread.put(job, size).map(|wake_up| Some(PendingWrite { disk, wake_up, reply })))
    }

    /// Writes all submitted changes, and ends the thread. Blocks until then.
    pub(super) fn stop(&self) {
        self.thread.stop();
        // A request may still be writing.
        drop(self.disk.writing.lock());
    }
}

impl Written {
    /// Waits until the change is written.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) async fn done(self) -> Result<(), ServiceError> {
        let Some(PendingWrite { disk, wake_up, reply }) = self.0? else { return Ok(()) };
        let wake_up = wake_up.after_ready_tasks().await;
        disk.write_at_once(wake_up);
        reply.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// As [`Written::done`]. Blocks.
    pub(super) fn wait(self) -> Result<(), ServiceError> {
        let Some(PendingWrite { wake_up, reply, .. }) = self.0? else { return Ok(()) };
        drop(wake_up);
        reply.blocking_recv().unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> ServiceError {
    ServiceError::new(ServiceErrorKind::Unavailable, "the broker has stopped")
}

impl Disk {
    /// Writes the waiting changes if that is unlikely to block. Otherwise, or if another thread is writing, wakes the thread.
    fn write_at_once(&self, wake_up: WakeUp<WriteJob>) {
        if wake_up.is_needed()
            && let Some(_writing) = self.writing.try_lock()
            && self.store.can_commit_progress_at_once()
        {
            let jobs = wake_up.take_items(MAX_WRITTEN_BY_REQUEST);
            #[cfg(test)]
            self.written_by_requests.fetch_add(jobs.len(), Ordering::SeqCst);
            let start = Instant::now();
            self.write(jobs);
            self.store.disk_latency.request_wrote(start.elapsed());
        }
    }

    /// Writes all changes together. `writing` must be held.
    fn write(&self, mut jobs: Vec<WriteJob>) {
        let mut records = Vec::with_capacity(jobs.iter().map(|job| job.records.len()).sum());
        for job in jobs.iter_mut().filter(|job| job.generation == job.progress.generation()) {
            records.append(&mut job.records);
        }
        // After a panic, too, memory and disk may differ.
        let commit = || progress_write_batch::commit(&self.store, records);
        let written = catch_unwind(AssertUnwindSafe(commit)).unwrap_or_else(|_| {
            self.store.set_state_failed();
            Err(ServiceError::new(ServiceErrorKind::Internal, "the storage engine panicked"))
        });
        for WriteJob { progress, generation, reply, .. } in jobs {
            let outcome = match &written {
                // The change depends on one that was not written.
                _ if generation != progress.generation() => Err(earlier_write_failed()),
                Ok(()) => Ok(()),
                Err(error) => {
                    progress.drop_state();
                    Err(error.clone())
                }
            };
            progress.unwritten.fetch_sub(1, Ordering::SeqCst);
            // Dropped before the answer, as progress with references can't be unloaded.
            drop(progress);
            // The caller may have been cancelled.
            let _ = reply.send(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use futures::poll;

    use super::*;
    use crate::backend::embedded::broker::Broker;
    use crate::backend::embedded::config::EmbeddedConfig;
    use crate::backend::embedded::testing::{deliveries, open, receive, send};
    use crate::service::{AckOutcome, Acknowledge, Delivery, Messages, Settle};

    async fn broker(directory: &tempfile::TempDir) -> Broker {
        let data_dir = directory.path().to_owned();
        open(EmbeddedConfig { data_dir, default_queues: 1, ..EmbeddedConfig::default() }).await
    }

    fn acknowledgement(delivery: &Delivery) -> Acknowledge {
        Acknowledge {
            topic: "topic".to_owned(),
            group: "group".to_owned(),
            entries: vec![Settle::from(delivery)],
            deadline: Instant::now() + Duration::from_secs(30),
        }
    }

    // A test without `multi_thread` has one async thread. It would hang if that waited for the disk.
    #[tokio::test]
    async fn an_unresponsive_disk_blocks_no_async_thread() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = broker(&directory).await;
        send(&broker, ["a", "b"]).await;
        let request = acknowledgement(&deliveries(&broker, 1).await[0]);

        let disk = broker.store.hold_up_state();
        let mut acknowledged = pin!(broker.acknowledge(request.clone()));
        assert!(poll!(acknowledged.as_mut()).is_pending());
        let mut again = pin!(broker.acknowledge(request));
        assert!(poll!(again.as_mut()).is_pending(), "it depends on the first change");
        let mut received = pin!(receive(&broker, 1));
        assert!(poll!(received.as_mut()).is_pending());
        for _ in 0..10 {
            send(&broker, ["c"]).await;
            broker.known_topic("topic").expect("a topic");
            assert!(poll!(acknowledged.as_mut()).is_pending() && poll!(received.as_mut()).is_pending());
        }

        drop(disk);
        assert_eq!(acknowledged.await.expect("an answer"), [AckOutcome::Done]);
        assert_eq!(again.await.expect("an answer"), [AckOutcome::Done]);
        assert_eq!(received.await, ["b"]);
    }

    #[tokio::test]
    async fn messages_of_a_cancelled_receive_are_given_back_uncounted() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = broker(&directory).await;
        send(&broker, ["a", "b"]).await;
        assert_eq!(receive(&broker, 1).await, ["a"]);

        let disk = broker.store.hold_up_state();
        let mut cancelled = Box::pin(deliveries(&broker, 1));
        assert!(poll!(cancelled.as_mut()).is_pending());
        drop(cancelled);
        drop(disk);

        let again = deliveries(&broker, 32).await;
        let seen: Vec<_> = again.iter().map(|d| (d.message.id.as_str(), d.attempt)).collect();
        assert_eq!(seen, [("b", 1)]);
    }

    #[tokio::test]
    async fn memory_and_disk_agree_after_a_failed_write() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = broker(&directory).await;
        send(&broker, ["a"]).await;
        let request = acknowledgement(&deliveries(&broker, 1).await[0]);
        let group = broker.catalog.group("group").expect("a group").id;
        let progress = broker.known_topic("topic").expect("a topic").consumer(group);
        let disk = broker.store.hold_up_state();
        let mut first = pin!(broker.acknowledge(request.clone()));
        let mut second = pin!(broker.acknowledge(request.clone()));
        assert!(poll!(first.as_mut()).is_pending() && poll!(second.as_mut()).is_pending());
        // As if the first write had failed.
        progress.drop_state();
        drop(disk);
        for refused in [first.await, second.await] {
            assert_eq!(refused.expect_err("not written").kind, ServiceErrorKind::Unavailable);
        }
        assert_eq!(broker.acknowledge(request).await.expect("the lease is running"), [AckOutcome::Done]);
        assert_eq!(progress.unwritten.load(Ordering::SeqCst), 0);
    }

    // Some changes are written by requests, and others by the thread.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn concurrent_changes_are_on_the_disk_once_they_are_answered() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let first = Arc::new(broker(&directory).await);
        let ids: Vec<_> = (0..200).map(|id| id.to_string()).collect();
        send(&first, ids.iter().map(String::as_str)).await;
        let consumers = (0..8).map(|_| {
            let broker = first.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    let request = acknowledgement(&deliveries(&broker, 1).await[0]);
                    assert_eq!(broker.acknowledge(request).await.expect("an answer"), [AckOutcome::Done]);
                }
            })
        });
        futures::future::try_join_all(consumers).await.expect("no panic");
        let left = deliveries(&first, 10).await.len();
        assert_eq!(left, 10);
        drop(first);

        let second = broker(&directory).await;
        let unsettled = deliveries(&second, 200).await;
        assert_eq!(unsettled.len(), 30, "all but those that are acknowledged or leased");
    }

    #[tokio::test]
    async fn requests_write_unless_the_disk_is_slow() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = broker(&directory).await;
        let written_by_requests = || broker.progress_writer.disk.written_by_requests.load(Ordering::SeqCst);
        let receive_one = async || {
            send(&broker, ["a"]).await;
            assert_eq!(receive(&broker, 1).await, ["a"]);
        };
        // The thread writes until it has gone to sleep for the first time.
        while written_by_requests() == 0 {
            receive_one().await;
        }
        let before = written_by_requests();
        broker.store.disk_latency.request_wrote(Duration::from_secs(1));
        receive_one().await;
        assert_eq!(written_by_requests(), before);
    }
}
