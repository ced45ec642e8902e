//! The progress of a check.

use super::sink::Sink;

/// The progress of a check.
pub(super) struct CheckProgress<'a> {
    /// The bytes that were read.
    pub(super) read: u64,
    /// About how many bytes there are.
    pub(super) expected: u64,
    pub(super) tell: &'a mut dyn FnMut(u64, u64),
    pub(super) sink: &'a mut dyn Sink,
}

impl CheckProgress<'_> {
    /// Notes that this many bytes were read.
    pub(super) fn add(&mut self, bytes: usize) {
        self.read += bytes as u64;
        (self.tell)(self.read, self.expected.max(self.read));
    }
}
