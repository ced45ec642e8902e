//! The embedded broker: a durable broker inside the proxy process, for one machine.
//!
//! ```text
//! send ──> queue_choice ──> codec ──> inbox ──> writer thread ──> store (fjall, one fsync for all waiting sends)
//!                                                    └──> queue (recent chunks in memory) ──> wakes receives
//! receive ──> take (cursor and leases, under the group's lock) ──> progress writer ──> delivery
//! settle ──> lease changed ──> progress writer          lease_expiry: wakes receives when leases end
//!                                                              last_attempts: makes dead letters after the last attempt
//! end transaction, recall ──> a change by the writer thread   orphan_checks: asks producers about undecided half messages
//! ```
//!
//! A lite topic (`lite_topics`) is a topic of its own with one queue. Receives from lite topics (`lite_receive`) wait
//! for all lite topics of a client at once (`lite_subscriptions`).
//!
//! `store.rs` describes the storage layout and its invariants, `lease.rs` the coordinates of a delivery.

mod administration;
mod background_tasks;
mod binary;
mod blocking;
mod broker;
mod catalog;
mod catalog_ids;
mod catalog_keys;
mod catalog_record;
mod catalog_users;
mod chunk;
mod clock;
mod codec;
mod commit;
mod config;
mod damage;
mod damage_reports;
mod dead_letter;
mod decisions;
mod deleted_data;
mod directory;
mod disk_latency;
mod disk_recovery;
mod disk_usage;
mod exhausted_messages;
#[cfg(test)]
mod fifo_model;
mod filter;
mod half_message;
mod idle;
mod inbox;
mod journal;
mod keys;
mod last_attempts;
mod lease;
mod lease_expiry;
mod leased_batch;
mod lite_member;
mod lite_notifier;
mod lite_progress;
mod lite_ranges;
mod lite_receive;
mod lite_retention;
mod lite_send;
mod lite_settle;
mod lite_subscriptions;
mod lite_sync;
mod lite_topics;
mod message_groups;
mod meter;
#[cfg(test)]
mod model;
mod new_message;
mod offsets;
mod orphan_check_reads;
mod orphan_checks;
mod progress;
mod progress_beyond_end;
mod progress_transaction;
mod progress_write_batch;
mod progress_writer;
mod queue;
mod queue_locks;
mod queue_progress;
mod queue_sizes;
mod queue_stats;
mod read_cache;
mod recall;
mod receive;
mod reclaim;
mod record_kind;
mod reset;
mod retention;
mod retention_bytes;
mod retention_clock;
mod retry_topic;
mod scan;
mod search;
mod send;
mod services;
mod settle;
mod sql;
mod store;
mod store_check;
mod take;
#[cfg(test)]
mod testing;
mod timer;
mod topic;
mod transaction;
mod waiting_limits;
mod writer;
mod writer_state;

use std::io;
use std::sync::Arc;

pub use config::{EmbeddedConfig, Flush};
pub use directory::OpenError;
pub use store_check::{CheckReport, CopyReport, Finding, check as check_store, copy as copy_store};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::service::{Message, Services};

/// An open embedded broker.
pub struct Embedded {
    broker: Arc<broker::Broker>,
    tasks: Vec<JoinHandle<()>>,
    stop: DropGuard,
}

/// Compiles and evaluates a filter, for the fuzzer.
#[doc(hidden)]
pub fn fuzz_sql(text: &str) {
    if let Ok(expression) = sql::SqlExpression::parse(text) {
        let properties = ["a", "n", "region"].map(|name| (name.to_owned(), "1".to_owned())).into();
        let message = Message { tag: Some("tag".to_owned()), properties, ..Message::default() };
        let _ = expression.is_true_for(&message);
    }
}

/// Opens the data directory, which is created if it is missing, and starts the broker on the current runtime.
///
/// # Errors
/// See [`OpenError`].
pub async fn open(config: EmbeddedConfig) -> Result<Embedded, OpenError> {
    let data_dir = config.data_dir.clone();
    let opened = spawn_blocking(move || broker::Broker::open(config)).await;
    let broker = Arc::new(opened.map_err(|panic| OpenError::Io(data_dir, io::Error::other(panic)))??);
    let stop = CancellationToken::new();
    let tasks = broker.start_tasks(&stop);
    Ok(Embedded { broker, tasks, stop: stop.drop_guard() })
}

impl Embedded {
    /// Returns the services that the processor calls.
    pub fn services(&self) -> Services {
        Services::of(self.broker.clone())
    }

    /// Stores all accepted messages, syncs the databases to the disk, and stops the broker. Later requests fail with
    /// `Unavailable`. The directory can be opened again once all [`Services`] are dropped, too.
    pub async fn close(self) {
        let Self { broker, tasks, stop } = self;
        drop(stop);
        for task in tasks {
            // The panic hook has reported a panic of the task.
            let _ = task.await;
        }
        match spawn_blocking(move || broker.stop()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "failed to sync the last changes to the disk"),
            Err(error) => tracing::error!(%error, "the broker did not stop cleanly"),
        }
    }
}
