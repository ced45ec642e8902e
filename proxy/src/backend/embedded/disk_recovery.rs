//! Recovers from a failed write, such as on a full disk, by reopening the databases.
//!
//! After a failed write, fjall refuses all further writes to the database. As soon as the disk can be written again,
//! the database is closed and opened. A write that was answered with an error may or may not be on the disk. So the
//! catalog in memory is written to the disk, and the progress of groups that could not be written is read from it
//! ([`super::progress_writer`]).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::blocking::blocking;
use super::catalog::Catalog;
use super::store::{MIN_FREE_BYTES_TO_OPEN, ReopenError, Store};
use crate::service::ServiceError;

/// How often the storage is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A file that is written to find out whether there is enough free space.
const PROBE_FILE: &str = "PROBE";

/// Checks the storage until `stop` is cancelled.
pub(super) async fn run(store: Arc<Store>, catalog: Arc<Catalog>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let (store, catalog) = (store.clone(), catalog.clone());
        if let Err(error) = blocking(move || reopen_if_failed(&store, &catalog)).await {
            tracing::warn!(%error, "failed to write the catalog to the reopened storage");
        }
        stop.run_until_cancelled(tokio::time::sleep(CHECK_INTERVAL)).await;
    }
}

/// Opens the storage again if a write has failed and there is enough free space.
pub(super) fn reopen_if_failed(store: &Store, catalog: &Catalog) -> Result<(), ServiceError> {
    if !store.needs_reopening() {
        return Ok(());
    }
    if let Err(error) = write_probe(store.path()) {
        set_failure(store, &error.to_string());
        return Ok(());
    }
    if store.failure().is_none() {
        set_failure(store, "a write failed");
    }
    match store.reopen() {
        Ok(()) => {}
        Err(ReopenError::Open(error)) => {
            set_failure(store, &error.to_string());
            return Ok(());
        }
        Err(error @ ReopenError::InUse) => {
            // fjall blocks a write for ever if its background threads fail during it. Only a new process helps.
            tracing::error!(%error, "failed to reopen the storage: exiting, so that the process can be restarted");
            std::process::exit(1);
        }
    }
    catalog.rewrite()?;
    store.set_failure(None);
    tracing::info!("reopened the storage, which can be written again");
    Ok(())
}

/// Sets why the storage can't be written, and logs the reason if it is a new one.
fn set_failure(store: &Store, reason: &str) {
    if store.failure().as_deref() != Some(reason) {
        tracing::error!(reason, "the storage can't be written: trying again every {CHECK_INTERVAL:?}");
        store.set_failure(Some(reason.to_owned()));
    }
}

/// Writes and removes a file, to find out whether there is enough free space to open the databases.
fn write_probe(directory: &Path) -> io::Result<()> {
    let path = directory.join(PROBE_FILE);
    let written = File::create(&path).and_then(|mut file| {
        let block = [0; 64 << 10];
        for _ in 0..MIN_FREE_BYTES_TO_OPEN / block.len() as u64 {
            file.write_all(&block)?;
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
    async fn a_failed_sync_of_the_catalog_reopens_the_database() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = EmbeddedConfig { data_dir: directory.path().to_owned(), ..EmbeddedConfig::default() };
        let broker = open(config).await;
        let unreadable = directory.path().join("state/9999.jnl");
        symlink(&unreadable, &unreadable).expect("a link to itself");
        let refused = broker.topic("topic").await.err().map(|error| error.kind);
        assert_eq!(refused, Some(ServiceErrorKind::Unavailable));
        fs::remove_file(&unreadable).expect("removed");
        assert!(broker.store.needs_reopening());
        reopen_if_failed(&broker.store, &broker.catalog).expect("opened again");
        assert!(!broker.store.needs_reopening());
        assert!(broker.catalog.topic("topic").is_none());
        broker.topic("topic").await.expect("a topic");
    }
}
