//! Decompresses messages and bodies, within limits of memory.

use std::io::Read;

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// How much memory decompressing uses at most, in bytes, in addition to its result.
pub(crate) const WORKING_BYTES: usize = 8 << 20;
/// How many bytes [`Inflating::step`] decompresses, about.
const STEP: usize = 64 << 10;

/// How a classic client compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// The default.
    Zlib,
    /// In the frame format.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// A body that is decompressed step by step, so that an async task can yield in between.
pub(crate) struct Inflating<'a> {
    decoder: Decoder<'a>,
    limit: usize,
    /// The capacity that the result begins with.
    first: usize,
    inflated: Vec<u8>,
}

enum Decoder<'a> {
    Stream(Box<dyn Read + Send + 'a>),
    /// Its reader would decode a whole window before it returned the first byte.
    Zstd(Box<FrameDecoder>, &'a [u8]),
}

/// Why a body is not decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InflateError {
    /// It is not compressed in this way, or needs more memory than [`WORKING_BYTES`].
    Malformed,
    /// It is longer than the limit.
    TooLong,
}

impl<'a> Inflating<'a> {
    /// Begins with a body, which may have `limit` bytes when it is decompressed.
    ///
    /// # Errors
    /// `Malformed`.
    pub(crate) fn new(compression: Compression, body: &'a [u8], limit: usize) -> Result<Self, InflateError> {
        let decoder = match compression {
            Compression::Zlib => Decoder::Stream(Box::new(flate2::read::ZlibDecoder::new(body))),
            Compression::Lz4 => Decoder::Stream(Box::new(lz4_flex::frame::FrameDecoder::new(body))),
            Compression::Zstd => {
                let small = zstd_window(body).filter(|window| *window <= WORKING_BYTES as u64);
                small.ok_or(InflateError::Malformed)?;
                let (mut decoder, mut source) = (FrameDecoder::new(), body);
                decoder.init(&mut source).map_err(|_| InflateError::Malformed)?;
                Decoder::Zstd(Box::new(decoder), source)
            }
        };
        Ok(Self::with(decoder, body, limit))
    }

    /// Begins with what a client of `apache.rocketmq.v2` compressed, which may have `limit` bytes when it is decompressed.
    #[must_use]
    pub(crate) fn gzip(body: &'a [u8], limit: usize) -> Self {
        Self::with(Decoder::Stream(Box::new(flate2::read::GzDecoder::new(body))), body, limit)
    }

    fn with(decoder: Decoder<'a>, body: &[u8], limit: usize) -> Self {
        // Small bodies are not charged for a whole step.
        let first = body.len().saturating_mul(4).clamp(1 << 10, STEP);
        Self { decoder, limit, first, inflated: Vec::new() }
    }

    /// Decompresses the next bytes, about 64 KiB. Returns the body once it is complete.
    ///
    /// # Errors
    /// [`InflateError`].
    pub(crate) fn step(&mut self) -> Result<Option<Vec<u8>>, InflateError> {
        let malformed = |_| InflateError::Malformed;
        let room = self.reserve();
        let finished = match &mut self.decoder {
            Decoder::Stream(reader) => {
                reader.take(room as u64).read_to_end(&mut self.inflated).map_err(malformed)? < room
            }
            Decoder::Zstd(decoder, source) => {
                if decoder.can_collect() == 0 && !decoder.is_finished() {
                    let block = BlockDecodingStrategy::UptoBlocks(1);
                    decoder.decode_blocks(&mut *source, block).map_err(|_| InflateError::Malformed)?;
                }
                decoder.by_ref().take(room as u64).read_to_end(&mut self.inflated).map_err(malformed)?;
                decoder.is_finished() && decoder.can_collect() == 0
            }
        };
        if self.inflated.len() > self.limit {
            return Err(InflateError::TooLong);
        }
        Ok(finished.then(|| std::mem::take(&mut self.inflated)))
    }

    /// Decompresses the rest of the body.
    ///
    /// # Errors
    /// [`InflateError`].
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, InflateError> {
        loop {
            if let Some(inflated) = self.step()? {
                return Ok(inflated);
            }
        }
    }

    /// How many bytes the body takes during the next step, at most one more than its limit.
    #[must_use]
    pub(crate) fn next_capacity(&self) -> usize {
        let length = self.inflated.len();
        match self.inflated.capacity() > length {
            true => self.inflated.capacity(),
            false => (2 * length).max(self.first).min(self.limit.saturating_add(1)),
        }
    }

    /// Makes room for the next step. Returns how many bytes it may decompress.
    fn reserve(&mut self) -> usize {
        let (length, capacity) = (self.inflated.len(), self.next_capacity());
        self.inflated.reserve_exact(capacity - length);
        (capacity - length).min(STEP)
    }
}

/// Whether a body begins as zlib data does (RFC 1950, 2.2), which is what clients expect of a compressed body by
/// default.
#[must_use]
pub(crate) fn is_zlib(body: &[u8]) -> bool {
    const DEFLATE: u8 = 8;
    body.first_chunk::<2>()
        .is_some_and(|header| header[0] & 0xF == DEFLATE && u16::from_be_bytes(*header).is_multiple_of(31))
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

#[cfg(test)]
mod tests {
    use std::io::Write;

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
        let inflate = |body: &[u8]| Inflating::new(Compression::Zstd, body, 1 << 20)?.finish();
        // One block of 128 KiB, by three bytes and the byte that is repeated.
        let repeated = [&MAGIC[..], &[0x00, 7 << 3], &[0x03, 0x00, 0x10], b"x"].concat();
        assert_eq!(inflate(&repeated).map(|body| body.len()), Ok(128 << 10));
        let wide = [&MAGIC[..], &[0x00, 16 << 3], &[0x03, 0x00, 0x10], b"x"].concat();
        assert_eq!(inflate(&wide), Err(InflateError::Malformed));
    }

    /// Ten blocks of 128 KiB, in a window of 1 MiB.
    fn zstd() -> Vec<u8> {
        let block = |last: u8| [0x02 | last, 0x00, 0x10, b'x'];
        let blocks = (1..=10).flat_map(|number| block(u8::from(number == 10)));
        [0x28, 0xB5, 0x2F, 0xFD, 0x00, 10 << 3].into_iter().chain(blocks).collect()
    }

    #[test]
    fn a_body_is_decompressed_in_small_steps_up_to_its_limit() {
        let plain = vec![b'x'; 10 * (128 << 10)];
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&plain).expect("memory");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).expect("memory");
        let (zlib, gzip, zstd) = (zlib.finish().expect("memory"), gzip.finish().expect("memory"), zstd());
        check_steps(&plain, |limit| Inflating::new(Compression::Zlib, &zlib, limit).expect("zlib"));
        check_steps(&plain, |limit| Inflating::gzip(&gzip, limit));
        check_steps(&plain, |limit| Inflating::new(Compression::Zstd, &zstd, limit).expect("zstd"));
        assert_eq!(Inflating::gzip(b"junk", 9).step(), Err(InflateError::Malformed));
        assert!(is_zlib(&zlib) && !is_zlib(&gzip) && !is_zlib(&zstd) && !is_zlib(b"junk"));
    }

    fn check_steps<'a>(plain: &[u8], begin: impl Fn(usize) -> Inflating<'a>) {
        let mut inflating = begin(plain.len());
        let mut steps = 0;
        let inflated = loop {
            let before = inflating.inflated.len();
            match inflating.step().expect("a body") {
                Some(inflated) => break inflated,
                None => assert!(inflating.inflated.len() - before <= STEP),
            }
            steps += 1;
        };
        assert!(inflated == plain && steps >= 19, "{steps} steps");
        let mut inflating = begin(plain.len() - 1);
        let failed = std::iter::repeat_with(|| inflating.step()).find_map(Result::err);
        assert_eq!(failed, Some(InflateError::TooLong));
        assert!(inflating.inflated.capacity() <= plain.len());
    }
}
