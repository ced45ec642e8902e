//! Decodes received bodies (checks the digest and decompresses), and compresses bodies to send.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::{
    Compression,
    read::{MultiGzDecoder, ZlibDecoder},
    write::GzEncoder,
};
use lz4_flex::frame::FrameDecoder;
use md5::{Digest, Md5};
use rocketmq_thin_proto::v2;
use ruzstd::decoding::{FrameDecoder as ZstdDecoder, StreamingDecoder};
use sha1::Sha1;

/// The largest window that every decoder of zstd accepts, so that encoders may use it for small bodies as well.
const ZSTD_WINDOW: usize = 8 << 20;

/// Returns the decompressed body; `None` if it doesn't match its digest, can't be decompressed, or exceeds `max_size`
/// bytes.
pub(super) fn decode(body: &Bytes, properties: &v2::SystemProperties, max_size: usize) -> Option<Bytes> {
    if is_compressed(body, properties)? { decompress(body, max_size) } else { Some(body.clone()) }
}

/// Whether a body is compressed; `None` if it doesn't match its digest, or its encoding is unknown.
pub(super) fn is_compressed(body: &[u8], properties: &v2::SystemProperties) -> Option<bool> {
    if !matches_digest(body, properties.body_digest.as_ref()) {
        return None;
    }
    match properties.body_encoding() {
        v2::Encoding::Identity => Some(false),
        v2::Encoding::Unspecified if properties.body_encoding == 0 => Some(false),
        v2::Encoding::Unspecified => None,
        v2::Encoding::Gzip => Some(true),
    }
}

/// Compresses a body with gzip; `None` if that does not make it smaller.
///
/// Gzip is the only compression that the protocol has a name for, and other clients may rely on the name.
pub(crate) fn compress(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).ok()?;
    let packed = encoder.finish().ok()?;
    (packed.len() < body.len()).then(|| packed.into())
}

fn matches_digest(body: &[u8], digest: Option<&v2::Digest>) -> bool {
    let Some(digest) = digest.filter(|digest| !digest.checksum.is_empty()) else { return true };
    let mut text = [0; 40];
    let mut hex = |bytes: &[u8]| {
        hex::encode_to_slice(bytes, &mut text[..2 * bytes.len()]).expect("no digest has more than 20 bytes");
        2 * bytes.len()
    };
    let length = match digest.r#type() {
        v2::DigestType::Unspecified => return true,
        v2::DigestType::Crc32 => hex(&crc32fast::hash(body).to_be_bytes()),
        v2::DigestType::Md5 => hex(&Md5::digest(body)),
        v2::DigestType::Sha1 => hex(&Sha1::digest(body)),
    };
    // Some senders omit the leading zeros of a CRC.
    without_zeros(&text[..length]).eq_ignore_ascii_case(without_zeros(digest.checksum.as_bytes()))
}

fn without_zeros(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|byte| **byte == b'0').count()..]
}

/// Returns the decompressed body; `None` if it can't be decompressed, or exceeds `max_size` bytes.
pub(super) fn decompress(body: &[u8], max_size: usize) -> Option<Bytes> {
    // Servers label every compression as gzip, so the format is detected by the first bytes.
    let plain = match body {
        [0x1f, 0x8b, ..] => read(MultiGzDecoder::new(body), max_size),
        [0x78, ..] => read(ZlibDecoder::new(body), max_size),
        [0x04, 0x22, 0x4d, 0x18, ..] => read(FrameDecoder::new(body), max_size),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => read_zstd(body, max_size),
        _ => None,
    };
    plain.map(Bytes::from)
}

/// Reads to the end; `None` if that fails, or is more than `max_size` bytes.
fn read(decoder: impl Read, max_size: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    decoder.take(max_size as u64 + 1).read_to_end(&mut plain).ok()?;
    (plain.len() <= max_size).then_some(plain)
}

/// Reads all frames, except for skippable ones; `None` if that fails, or is more than `max_size` bytes.
fn read_zstd(mut body: &[u8], max_size: usize) -> Option<Vec<u8>> {
    let mut decoder = ZstdDecoder::new();
    // The decoder holds a whole window before it returns the first byte.
    decoder.set_max_window_size(max_size.max(ZSTD_WINDOW) as u64);
    let mut plain = Vec::new();
    while !body.is_empty() {
        // RFC 8878, 3.1.2: a magic number and a length.
        if let [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, rest @ ..] = body {
            body = rest.get(u32::from_le_bytes([*a, *b, *c, *d]) as usize..)?;
            continue;
        }
        let frame = StreamingDecoder::new_with_decoder(&mut body, &mut decoder).ok()?;
        plain.append(&mut read(frame, max_size - plain.len())?);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use flate2::write::ZlibEncoder;
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1 << 20;

    fn properties(encoding: v2::Encoding, digest: Option<(v2::DigestType, &str)>) -> v2::SystemProperties {
        let body_digest =
            digest.map(|(kind, checksum)| v2::Digest { r#type: kind.into(), checksum: checksum.into() });
        v2::SystemProperties { body_encoding: encoding.into(), body_digest, ..Default::default() }
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(plain: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn lz4(plain: &[u8]) -> Vec<u8> {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn each_digest_is_checked() {
        // printf hello | md5sum; sha1sum; crc32
        for (kind, checksum) in [
            (v2::DigestType::Md5, "5D41402ABC4B2A76B9719D911017C592"),
            (v2::DigestType::Md5, "5d41402abc4b2a76b9719d911017c592"),
            (v2::DigestType::Sha1, "AAF4C61DDCC5E8A2DABEDE0F3B482CD9AEA9434D"),
            (v2::DigestType::Crc32, "3610A686"),
            (v2::DigestType::Unspecified, "anything"),
            (v2::DigestType::Md5, ""),
        ] {
            let properties = properties(v2::Encoding::Identity, Some((kind, checksum)));
            assert_eq!(decode(&"hello".into(), &properties, MAX).unwrap(), "hello", "{checksum}");
            if kind != v2::DigestType::Unspecified && !checksum.is_empty() {
                assert_eq!(decode(&"hellO".into(), &properties, MAX), None, "{checksum}");
            }
        }
    }

    #[test]
    fn leading_zeros_of_a_crc_may_be_missing() {
        let body = Bytes::from_static(b"");
        let properties = properties(v2::Encoding::Identity, Some((v2::DigestType::Crc32, "0")));
        assert!(decode(&body, &properties, MAX).is_some());
    }

    #[test]
    fn the_compression_is_detected_by_the_first_bytes() {
        let properties = properties(v2::Encoding::Gzip, None);
        for packed in [gzip(b"hello"), zlib(b"hello"), lz4(b"hello"), zstd(b"hello")] {
            assert_eq!(decode(&packed.into(), &properties, MAX).unwrap(), "hello");
        }
    }

    #[test]
    fn a_compressed_body_is_smaller_and_can_be_decompressed() {
        let plain = Bytes::from(vec![7; 10_000]);
        let packed = compress(&plain).unwrap();
        assert!(packed.len() < 1_000);
        assert_eq!(decode(&packed, &properties(v2::Encoding::Gzip, None), MAX).unwrap(), plain);
        assert_eq!(compress(b"no pattern"), None);
        assert_eq!(compress(b""), None);
    }

    #[test]
    fn a_body_without_an_encoding_is_not_decompressed() {
        let packed = Bytes::from(gzip(b"hello"));
        for encoding in [v2::Encoding::Identity, v2::Encoding::Unspecified] {
            assert_eq!(decode(&packed, &properties(encoding, None), MAX).unwrap(), packed);
        }
    }

    #[test]
    fn a_body_that_cannot_be_decompressed_is_none() {
        let labelled = properties(v2::Encoding::Gzip, None);
        let mut cut = gzip(b"hello");
        cut.truncate(12);
        for bad in [cut, b"plain".to_vec(), vec![], vec![0x28, 0xb5, 0x2f, 0xfd, 0xff]] {
            assert_eq!(decode(&bad.into(), &labelled, MAX), None);
        }
        let unknown = v2::SystemProperties { body_encoding: 77, ..Default::default() };
        assert_eq!(decode(&"x".into(), &unknown, MAX), None);
    }

    #[test]
    fn all_frames_of_zstd_are_read() {
        let properties = properties(v2::Encoding::Gzip, None);
        let packed = [zstd(b"hello "), zstd(b"world")].concat();
        assert_eq!(decode(&packed.clone().into(), &properties, 11).unwrap(), "hello world");
        assert_eq!(decode(&packed.clone().into(), &properties, 10), None);
        assert_eq!(decode(&[&packed, &b"rest"[..]].concat().into(), &properties, MAX), None);
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2];
        let with_skippable = [&packed[..], &skippable].concat();
        assert_eq!(decode(&with_skippable.clone().into(), &properties, 11).unwrap(), "hello world");
        let cut_off = with_skippable[..with_skippable.len() - 1].to_vec();
        assert_eq!(decode(&cut_off.into(), &properties, MAX), None);
    }

    #[test]
    fn a_window_of_zstd_is_limited() {
        // One frame with a window of 2 to the power of 10 + `exponent` bytes, and an empty last block.
        let frame = |exponent: u8| Bytes::from(vec![0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, 1, 0, 0]);
        let properties = properties(v2::Encoding::Gzip, None);
        assert_eq!(decode(&frame(13), &properties, MAX).unwrap(), "");
        assert_eq!(decode(&frame(14), &properties, MAX), None);
        assert_eq!(decode(&frame(14), &properties, 16 << 20).unwrap(), "");
    }

    #[test]
    fn decompression_stops_at_the_limit() {
        let properties = properties(v2::Encoding::Gzip, None);
        let plain = vec![0; 10_000];
        for packed in [gzip(&plain), zlib(&plain), lz4(&plain), zstd(&plain)] {
            assert_eq!(decode(&packed.clone().into(), &properties, 9_999), None);
            assert_eq!(decode(&packed.into(), &properties, 10_000).unwrap().len(), 10_000);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200), magic in 0usize..5) {
            let magics: [&[u8]; 5] = [&[], &[0x1f, 0x8b], &[0x78, 0x9c], &[4, 0x22, 0x4d, 0x18], &[0x28, 0xb5, 0x2f, 0xfd]];
            let bytes = Bytes::from([magics[magic], &body].concat());
            let _ = decode(&bytes, &properties(v2::Encoding::Gzip, None), 1000);
        }
    }
}
