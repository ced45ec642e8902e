//! Limits the frames that clients may send. They are checked by their first bytes, before memory is allocated for them or
//! anything is decoded.

use bytes::BytesMut;

use crate::remoting::{FrameError, FrameLimits, FramePrefix, MAX_FRAME};

/// The longest header in bytes. One of its fields may contain the properties of a message (32 KiB at most), and JSON
/// may encode one byte as six.
const MAX_HEADER: usize = 512 << 10;
const LIMITS: FrameLimits = FrameLimits { frame: MAX_FRAME, header: MAX_HEADER };

/// The length in bytes of the frame at the beginning of the buffer. `None` if the buffer is too short to know it.
///
/// # Errors
/// See [`FramePrefix::read`].
pub(super) fn length(buffer: &BytesMut) -> Result<Option<usize>, FrameError> {
    Ok(FramePrefix::read(buffer, LIMITS)?.map(|prefix| prefix.length))
}

/// The buffer capacity in bytes for the next read of a frame of this length. It is bounded, so that a frame that never
/// arrives takes little memory, and a large frame takes few reads.
pub(super) fn capacity(length: Option<usize>, received: usize) -> usize {
    const MAX: usize = 1 << 20;
    const MIN: usize = 4 << 10;
    length.map_or(MIN, |length| length.saturating_sub(received)).clamp(MIN, MAX)
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
    fn the_buffer_of_a_long_frame_grows_in_steps() {
        assert_eq!(capacity(None, 3), 4 << 10);
        assert_eq!(capacity(Some(100), 8), 4 << 10);
        assert_eq!(capacity(Some(100_000), 8), 99_992);
        assert_eq!(capacity(Some(MAX_FRAME), 8), 1 << 20);
    }
}
