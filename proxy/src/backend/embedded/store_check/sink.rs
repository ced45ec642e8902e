//! The receiver of the records that a check reads.

use super::names::StoredNames;

/// Receives all readable records.
pub(super) trait Sink {
    /// Receives a record of the database `state`.
    fn state(&mut self, key: &[u8], value: &[u8]) -> fjall::Result<()>;
    /// Receives the names of topics and groups, before the first record of `log`.
    fn names(&mut self, names: &StoredNames);
    /// Receives a record of the database `log`.
    fn log(&mut self, key: &[u8], value: &[u8]) -> fjall::Result<()>;
}
