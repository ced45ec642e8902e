//! The unit of storage: consecutive messages of one queue that were committed together.
//!
//! Layout, little-endian: time of storage (8 bytes, ms since 1970), count (4 bytes), end of each message (4 bytes each,
//! counted from the start of the first message), messages ([`super::codec`]). The cost of the storage engine is per
//! value, so a value holds many messages.

use bytes::Bytes;

use super::binary::Malformed;
use super::codec::Encoded;

const HEADER: usize = 12;
/// A chunk has fewer messages: it is closed at 128 KiB, and each takes more than two bytes.
pub(super) const MAX_COUNT: u64 = 1 << 16;
/// The bytes of memory that a chunk takes in addition to its data.
const OVERHEAD: usize = 128;

/// Consecutive messages of a queue.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    first: u64,
    count: u32,
    data: Bytes,
}

impl Chunk {
    /// Encodes messages as a chunk. The first message gets the offset `first`. The writer closes chunks at 128 KiB, so
    /// counts and lengths fit in 32 bits.
    pub(super) fn build<'a, I>(first: u64, stored_at: u64, messages: I) -> Self
    where
        I: ExactSizeIterator<Item = &'a Encoded> + Clone,
    {
        let count = u32::try_from(messages.len()).expect("a chunk holds 128 KiB and one message");
        let content: usize = messages.clone().map(Encoded::len).sum();
        let mut data = Vec::with_capacity(HEADER + 4 * messages.len() + content);
        data.extend_from_slice(&stored_at.to_le_bytes());
        data.extend_from_slice(&count.to_le_bytes());
        let mut end = 0u32;
        for message in messages.clone() {
            let length = u32::try_from(message.len()).expect("a message is shorter than 4 GiB");
            end = end.checked_add(length).expect("a chunk holds 128 KiB and one message");
            data.extend_from_slice(&end.to_le_bytes());
        }
        for message in messages {
            data.extend_from_slice(&message.head);
            data.extend_from_slice(&message.body);
        }
        Self { first, count, data: data.into() }
    }

    /// Reads a stored chunk whose first message has the offset `first`.
    pub(super) fn parse(first: u64, data: Bytes) -> Result<Self, Malformed> {
        let count = data.get(8..HEADER).and_then(|c| c.try_into().ok()).map(u32::from_le_bytes);
        let chunk = Self { first, count: count.ok_or(Malformed)?, data };
        // The data must end with the last message. The ends of the other messages are checked when they are read.
        let last = chunk.count.checked_sub(1).ok_or(Malformed)?;
        let is_whole = chunk.end_of(last)?.checked_add(chunk.content()).ok_or(Malformed)? == chunk.data.len();
        if is_whole { Ok(chunk) } else { Err(Malformed) }
    }

    /// The value to store.
    pub(super) fn data(&self) -> &Bytes {
        &self.data
    }

    /// The first message's offset.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The offset after the last message.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// When its messages were stored, in ms.
    pub(super) fn stored_at(&self) -> u64 {
        let bytes = self.data.first_chunk().expect("a chunk that was built or parsed has a header");
        u64::from_le_bytes(*bytes)
    }

    /// The approximate size in memory, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.data.len() + OVERHEAD
    }

    /// Returns the encoded message with this offset.
    ///
    /// # Errors
    /// `Malformed` if the chunk does not hold the offset or is damaged.
    pub(super) fn message(&self, offset: u64) -> Result<Bytes, Malformed> {
        let index = offset.checked_sub(self.first).and_then(|i| u32::try_from(i).ok()).ok_or(Malformed)?;
        if index >= self.count {
            return Err(Malformed);
        }
        let start = if index == 0 { 0 } else { self.end_of(index - 1)? };
        let (start, end) = (self.content() + start, self.content() + self.end_of(index)?);
        if start > end || end > self.data.len() {
            return Err(Malformed);
        }
        Ok(self.data.slice(start..end))
    }

    /// Where the first message begins in the data.
    fn content(&self) -> usize {
        HEADER + 4 * self.count as usize
    }

    /// Where a message ends, counted from the start of the first message.
    fn end_of(&self, index: u32) -> Result<usize, Malformed> {
        let at = HEADER + 4 * index as usize;
        let bytes = self.data.get(at..at + 4).and_then(|end| end.try_into().ok()).ok_or(Malformed)?;
        Ok(u32::from_le_bytes(bytes) as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_come_back_by_offset(
            first in 0u64..1 << 40,
            bodies in prop::collection::vec((prop::collection::vec(any::<u8>(), 2..9), ".*"), 1..20),
        ) {
            let encode = |(head, body): &(Vec<u8>, String)| Encoded { head: head.clone(), body: body.clone().into() };
            let encoded: Vec<Encoded> = bodies.iter().map(encode).collect();
            let built = Chunk::build(first, 77, encoded.iter());
            let chunk = Chunk::parse(first, built.data().clone()).expect("a chunk that was built");
            prop_assert_eq!(chunk.stored_at(), 77);
            prop_assert_eq!(chunk.end(), first + encoded.len() as u64);
            for (offset, message) in (first..).zip(&encoded) {
                let whole = [message.head.as_slice(), message.body.as_ref()].concat();
                prop_assert_eq!(chunk.message(offset).expect("in range"), whole);
            }
            prop_assert!(chunk.message(chunk.end()).is_err());
        }

        #[test]
        fn junk_is_refused_without_a_panic(junk in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(chunk) = Chunk::parse(5, junk.into()) {
                for offset in 0..20 {
                    let _ = chunk.message(offset);
                }
            }
        }
    }
}
