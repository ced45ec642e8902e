//! The space that Apache's brokers want on the disk.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// The percentage above which a broker refuses to store messages. No setting raises it
/// (`DefaultMessageStore.CleanCommitLogService`).
const REFUSED_ABOVE: u64 = 90;

/// Fails early where a broker would start and then refuse every message.
pub(crate) fn check(folder: &Path) -> Result<()> {
    let space = rustix::fs::statvfs(folder).context("looking at the disk")?;
    let used = space.f_blocks.saturating_sub(space.f_bfree);
    let percent = (used * 100).div_ceil((used + space.f_bavail).max(1));
    ensure!(
        percent <= REFUSED_ABOVE,
        "the disk of {} is {percent} % full, and Apache's broker stores nothing above {REFUSED_ABOVE} %: free some space",
        folder.display()
    );
    Ok(())
}
