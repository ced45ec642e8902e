//! Decompresses message bodies, within limits of memory.

use std::io::Read;

use super::message::flags;

/// The most bytes that decompressing uses in addition to its result.
pub const WORKING_BYTES: usize = 8 << 20;

/// Decompresses a body with the method in its message's flags. `None` if the body is malformed, becomes longer than `limit`
/// bytes, or needs more than [`WORKING_BYTES`] to decompress.
#[must_use]
pub fn inflate(system_flags: i32, body: &[u8], limit: u64) -> Option<Vec<u8>> {
    match system_flags >> flags::COMPRESSION_SHIFT & 0x7 {
        1 => read(lz4_flex::frame::FrameDecoder::new(body), limit),
        2 => {
            zstd_window(body).filter(|window| *window <= WORKING_BYTES as u64)?;
            ruzstd::decoding::StreamingDecoder::new(body).ok().and_then(|decoder| read(decoder, limit))
        }
        _ => read(flate2::read::ZlibDecoder::new(body), limit),
    }
}

/// The window size in the header of a zstd frame (RFC 8878, 3.1.1.1). A decoder keeps this many bytes, and decodes them
/// before it returns the first one.
fn zstd_window(frame: &[u8]) -> Option<u64> {
    const MAGIC: usize = 4;
    let descriptor = *frame.get(MAGIC)?;
    let rest = frame.get(MAGIC + 1..)?;
    if descriptor & 0x20 == 0 {
        let window = *rest.first()?;
        let base = 1u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // A single segment: its window is the whole content.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content = rest.get(dictionary..)?;
    let number = |length: usize| {
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(content.get(..length)?);
        Some(u64::from_le_bytes(bytes))
    };
    match descriptor >> 6 {
        0 => number(1),
        1 => number(2).map(|size| size + 256),
        2 => number(4),
        _ => number(8),
    }
}

/// Decompresses a gzip body, as clients of `apache.rocketmq.v2` send them. `None` if the body is malformed, or becomes longer
/// than `limit` bytes.
#[must_use]
pub fn gunzip(body: &[u8], limit: u64) -> Option<Vec<u8>> {
    read(flate2::read::GzDecoder::new(body), limit)
}

fn read(reader: impl Read, limit: u64) -> Option<Vec<u8>> {
    let mut inflated = Vec::new();
    let length = reader.take(limit + 1).read_to_end(&mut inflated).ok()?;
    (length as u64 <= limit).then_some(inflated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_needs_much_memory_is_not_decoded() {
        const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
        let window = |header: &[u8]| zstd_window(&[&MAGIC, header].concat());
        // 2^(10 + 13) and an eighth of it.
        assert_eq!(window(&[0x00, 13 << 3 | 1]), Some((8 << 20) + (1 << 20)));
        assert_eq!(window(&[0x20, 7]), Some(7));
        assert_eq!(window(&[0x60, 1, 1]), Some(257 + 256));
        assert_eq!(window(&[0xE3, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]), Some(1 | 1 << 56));
        assert_eq!(window(&[0xE0, 1]), None);
        let zstd = 2 << flags::COMPRESSION_SHIFT;
        // One block of 128 KiB, by three bytes and the byte that is repeated.
        let repeated = [&MAGIC[..], &[0x00, 7 << 3], &[0x03, 0x00, 0x10], b"x"].concat();
        assert_eq!(inflate(zstd, &repeated, 1 << 20).map(|body| body.len()), Some(128 << 10));
        let wide = [&MAGIC[..], &[0x00, 16 << 3], &[0x03, 0x00, 0x10], b"x"].concat();
        assert_eq!(inflate(zstd, &wide, 1 << 20), None);
    }
}
