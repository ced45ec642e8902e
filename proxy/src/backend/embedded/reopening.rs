//! Opens the storage again after a failed write.
//!
//! fjall refuses all writes to a database once one has failed, for example because the disk was full. As soon as the
//! disk can be written again, the database is closed and opened. A write that was answered with an error may or may not
//! be on the disk. So the catalog in memory is written to it, and the progress of groups that could not be written is read
//! from it ([`super::progress_writer`]).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::blocking::blocking;
use super::catalog::Catalog;
use super::store::{ROOM_TO_OPEN, ReopenError, Store};
use crate::service::ServiceError;

/// How often the storage is checked.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// A file that is written to find out whether there is room.
const PROBE_FILE: &str = "PROBE";

/// Checks the storage until it is told to stop.
pub(super) async fn run(store: Arc<Store>, catalog: Arc<Catalog>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let (store, catalog) = (store.clone(), catalog.clone());
        if let Err(error) = blocking(move || check(&store, &catalog)).await {
            tracing::warn!(%error, "the storage was opened again and failed again");
        }
        stop.run_until_cancelled(tokio::time::sleep(CHECK_EVERY)).await;
    }
}

/// Opens the storage again if a write has failed and there is room again.
pub(super) fn check(store: &Store, catalog: &Catalog) -> Result<(), ServiceError> {
    if !store.needs_reopening() {
        return Ok(());
    }
    if let Err(error) = write_probe(store.path()) {
        fail(store, &error.to_string());
        return Ok(());
    }
    if store.failure().is_none() {
        fail(store, "a write failed");
    }
    match store.reopen() {
        Ok(()) => {}
        Err(ReopenError::Open(error)) => {
            fail(store, &error.to_string());
            return Ok(());
        }
        Err(error @ ReopenError::InUse) => {
            // fjall holds up a write for ever if its background threads fail meanwhile. Only a new process helps.
            tracing::error!(%error, "the storage can't be opened again: the process ends, to be started again");
            std::process::exit(1);
        }
    }
    catalog.rewrite()?;
    store.set_failure(None);
    tracing::info!("the storage can be written again");
    Ok(())
}

/// Notes why nothing can be stored, and logs it if it is new.
fn fail(store: &Store, reason: &str) {
    if store.failure().as_deref() != Some(reason) {
        tracing::error!(reason, "nothing can be stored now: trying again every {CHECK_EVERY:?}");
        store.set_failure(Some(reason.to_owned()));
    }
}

/// Finds out whether there is room for what a database writes when it is opened.
fn write_probe(directory: &Path) -> io::Result<()> {
    let path = directory.join(PROBE_FILE);
    let written = File::create(&path).and_then(|mut file| {
        let piece = [0; 64 << 10];
        for _ in 0..ROOM_TO_OPEN / piece.len() as u64 {
            file.write_all(&piece)?;
        }
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::backend::embedded::config::EmbeddedConfig;
    use crate::backend::embedded::testing::open;
    use crate::service::ServiceErrorKind;

    #[tokio::test]
    async fn a_failed_sync_of_the_catalog_has_the_database_opened_again() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = EmbeddedConfig { data_dir: directory.path().to_owned(), ..EmbeddedConfig::default() };
        let broker = open(config).await;
        let unreadable = directory.path().join("state/9999.jnl");
        symlink(&unreadable, &unreadable).expect("a link to itself");
        let refused = broker.topic("topic").await.err().map(|error| error.kind);
        assert_eq!(refused, Some(ServiceErrorKind::Unavailable));
        fs::remove_file(&unreadable).expect("removed");
        assert!(broker.store.needs_reopening());
        check(&broker.store, &broker.catalog).expect("opened again");
        assert!(!broker.store.needs_reopening());
        assert!(broker.catalog.topic("topic").is_none());
        broker.topic("topic").await.expect("a topic");
    }
}
