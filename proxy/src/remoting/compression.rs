//! The compression of message bodies, as their flags name it.

use super::message::flags;
use crate::decompression::{Compression, Inflating};

/// The compression that the flags of a message name.
#[must_use]
pub(crate) fn of_flags(system_flags: i32) -> Compression {
    match system_flags >> flags::COMPRESSION_SHIFT & 0x7 {
        1 => Compression::Lz4,
        2 => Compression::Zstd,
        _ => Compression::Zlib,
    }
}

/// Decompresses a body as the flags of its message say. `None` if the body is malformed, becomes longer than `limit` bytes, or
/// needs more than [`WORKING_BYTES`](crate::decompression::WORKING_BYTES) to decompress.
#[must_use]
pub fn inflate(system_flags: i32, body: &[u8], limit: u64) -> Option<Vec<u8>> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Inflating::new(of_flags(system_flags), body, limit).and_then(Inflating::finish).ok()
}
