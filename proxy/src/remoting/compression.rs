//! Compressed bodies.

use std::io::Read;

use super::message::flags;

/// Decompresses a body by the flags of its message. `None` for what can't be decompressed, or grows beyond the limit.
#[must_use]
pub fn inflate(system_flags: i32, body: &[u8], limit: u64) -> Option<Vec<u8>> {
    match system_flags >> flags::COMPRESSION_SHIFT & 0x7 {
        1 => read(lz4_flex::frame::FrameDecoder::new(body), limit),
        2 => ruzstd::decoding::StreamingDecoder::new(body).ok().and_then(|decoder| read(decoder, limit)),
        _ => read(flate2::read::ZlibDecoder::new(body), limit),
    }
}

/// Decompresses a body that a client of `apache.rocketmq.v2` compressed.
#[must_use]
pub fn gunzip(body: &[u8], limit: u64) -> Option<Vec<u8>> {
    read(flate2::read::GzDecoder::new(body), limit)
}

fn read(reader: impl Read, limit: u64) -> Option<Vec<u8>> {
    let mut inflated = Vec::new();
    let length = reader.take(limit + 1).read_to_end(&mut inflated).ok()?;
    (length as u64 <= limit).then_some(inflated)
}
