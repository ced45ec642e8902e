//! How much a background writer has written and dropped.

/// The numbers of written and of dropped lines or records since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteCounts {
    /// Those that were written.
    pub written: u64,
    /// Those that were dropped because too many waited, or because writing failed.
    pub dropped: u64,
}
