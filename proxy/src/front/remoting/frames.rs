//! The bounds of the frames that strangers send, checked before anything is kept or decoded.

use bytes::BytesMut;

use crate::remoting::{FrameError, MAX_FRAME};

/// The longest header. The properties of a message (32 KiB at most) are one of its fields, and JSON may write one byte as
/// six.
const MAX_HEADER: usize = 512 << 10;
/// The length and the mark of a header.
const PREFIX: usize = 8;

/// How many bytes the frame at the beginning of the buffer has, as soon as that is known.
///
/// # Errors
/// If there can't be such a frame.
pub(super) fn length(buffer: &BytesMut) -> Result<Option<usize>, FrameError> {
    let Some(prefix) = buffer.first_chunk::<PREFIX>() else { return Ok(None) };
    let [a, b, c, d, mark, e, f, g] = *prefix;
    let length = u32::from_be_bytes([a, b, c, d]) as usize + size_of::<u32>();
    let header = u32::from_be_bytes([0, e, f, g]) as usize;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    if header > MAX_HEADER {
        return Err(FrameError::Malformed(format!("its header has {header} bytes")));
    }
    if PREFIX + header > length {
        return Err(FrameError::Malformed(format!("a header of {header} bytes in a frame of {length}")));
    }
    if mark > 1 {
        return Err(FrameError::Malformed(format!("header type {mark}")));
    }
    Ok(Some(length))
}

/// What to read next of a frame of this length, so that a large frame takes few reads, and a frame that never comes takes
/// little memory.
pub(super) fn room(length: Option<usize>, received: usize) -> usize {
    const MOST: usize = 1 << 20;
    const LEAST: usize = 4 << 10;
    length.map_or(LEAST, |length| length.saturating_sub(received)).clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length_of(bytes: &[u8]) -> Result<Option<usize>, String> {
        length(&BytesMut::from(bytes)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_prefix_bounds_a_frame() {
        assert_eq!(length_of(&[0, 0, 0, 9, 0, 0, 0]), Ok(None));
        assert_eq!(length_of(&[0, 0, 0, 9, 0, 0, 0, 5]), Ok(Some(13)));
        assert_eq!(length_of(&[0, 0xFF, 0xFF, 0xFC, 1, 0, 0, 5]), Ok(Some(MAX_FRAME)));
        for refused in [
            [0, 0xFF, 0xFF, 0xFD, 0, 0, 0, 5],
            [0, 0, 0, 3, 0, 0, 0, 0],
            [0, 0, 0, 9, 0, 0, 0, 6],
            [0, 0, 0, 9, 2, 0, 0, 5],
            [0, 0xFF, 0, 0, 0, 9, 0, 0],
        ] {
            assert!(length_of(&refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_long_frame_gets_its_memory_in_parts() {
        assert_eq!(room(None, 3), 4 << 10);
        assert_eq!(room(Some(100), 8), 4 << 10);
        assert_eq!(room(Some(100_000), 8), 99_992);
        assert_eq!(room(Some(MAX_FRAME), 8), 1 << 20);
    }
}
