//! Encodes and decodes messages in the brokers' stored form (Apache's `MessageDecoder`), and the batches of sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};

const MAGIC_V1: u32 = 0xDAA3_20A7;
const MAGIC_V2: u32 = 0xDAA3_20AB;

/// Bits of a message's `sysFlag` (Apache's `MessageSysFlag`).
pub mod flags {
    /// The body is compressed.
    pub const COMPRESSED: i32 = 0x1;
    /// The half message of a transaction.
    pub const TRANSACTION_PREPARED: i32 = 0x4;
    /// The sender's address is IPv6.
    pub const BORN_HOST_V6: i32 = 0x10;
    /// The broker's address is IPv6.
    pub const STORE_HOST_V6: i32 = 0x20;
    /// The position of the bits for the compression method.
    pub const COMPRESSION_SHIFT: i32 = 8;
}

/// A message as a broker stored it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// The topic in which the message is stored.
    pub topic: String,
    /// The queue.
    pub queue_id: i32,
    /// The offset in the queue.
    pub queue_offset: i64,
    /// The offset in the broker's commit log.
    pub commit_log_offset: i64,
    /// A number whose meaning the sender defines.
    pub flag: i32,
    /// A combination of [`flags`].
    pub system_flags: i32,
    /// When the sender created the message, in milliseconds since 1970.
    pub born_at: i64,
    /// The sender's address as seen by the broker.
    pub born_host: SocketAddr,
    /// When the broker stored the message, in milliseconds since 1970.
    pub stored_at: i64,
    /// The broker's address.
    pub store_host: SocketAddr,
    /// The number of previous deliveries.
    pub reconsume_times: i32,
    /// The properties as text ([`super::properties`]).
    pub properties: String,
    /// The body, as the sender encoded it.
    pub body: Bytes,
}

/// The error for an unreadable record.
#[derive(Debug, thiserror::Error)]
#[error("malformed message record: {0}")]
pub struct RecordError(String);

impl From<TryGetError> for RecordError {
    fn from(_: TryGetError) -> Self {
        Self("the record ends too early".to_owned())
    }
}

/// Decodes the records of a body. Skips unreadable records, so that the other messages are delivered.
pub fn decode_all(mut body: Bytes) -> Vec<StoredMessage> {
    let mut messages = Vec::new();
    while !body.is_empty() {
        match next_record(&mut body).and_then(decode) {
            Ok(message) => messages.push(message),
            Err(error) => tracing::warn!(%error, "skipped an unreadable message"),
        }
    }
    messages
}

/// Splits off the next record. If its size is invalid, the rest of the body is dropped, because the beginning of the next
/// record is unknown.
fn next_record(body: &mut Bytes) -> Result<Bytes, RecordError> {
    let size = body.first_chunk::<4>().map_or(0, |raw| u32::from_be_bytes(*raw) as usize);
    if size < 4 || size > body.len() {
        let dropped = std::mem::take(body);
        return Err(RecordError(format!("the size is {size}, but {} bytes are left", dropped.len())));
    }
    Ok(body.split_to(size))
}

fn decode(mut record: Bytes) -> Result<StoredMessage, RecordError> {
    record.try_get_u32()?; // size
    let magic = record.try_get_u32()?;
    if magic != MAGIC_V1 && magic != MAGIC_V2 {
        return Err(RecordError(format!("unknown magic number {magic:#x}")));
    }
    record.try_get_u32()?; // The body's checksum. It is not checked: TCP has checksums, and clients get a digest.
    let queue_id = record.try_get_i32()?;
    let flag = record.try_get_i32()?;
    let queue_offset = record.try_get_i64()?;
    let commit_log_offset = record.try_get_i64()?;
    let system_flags = record.try_get_i32()?;
    let born_at = record.try_get_i64()?;
    let born_host = address(&mut record, system_flags & flags::BORN_HOST_V6 != 0)?;
    let stored_at = record.try_get_i64()?;
    let store_host = address(&mut record, system_flags & flags::STORE_HOST_V6 != 0)?;
    let reconsume_times = record.try_get_i32()?;
    record.try_get_i64()?; // prepared transaction offset
    let body_length = record.try_get_i32()?;
    let body = take(&mut record, body_length)?;
    let topic_length =
        if magic == MAGIC_V2 { record.try_get_u16()?.into() } else { i32::from(record.try_get_u8()?) };
    let topic = text(take(&mut record, topic_length)?);
    let properties_length = record.try_get_u16()?;
    let properties = text(take(&mut record, properties_length.into())?);
    Ok(StoredMessage {
        topic,
        queue_id,
        queue_offset,
        commit_log_offset,
        flag,
        system_flags,
        born_at,
        born_host,
        stored_at,
        store_host,
        reconsume_times,
        properties,
        body,
    })
}

fn take(bytes: &mut Bytes, length: i32) -> Result<Bytes, RecordError> {
    match usize::try_from(length) {
        Ok(length) if length <= bytes.len() => Ok(bytes.split_to(length)),
        _ => Err(RecordError(format!("a length is {length}, but {} bytes are left", bytes.len()))),
    }
}

/// Decodes a text. Brokers store any bytes that senders give them, so invalid UTF-8 is replaced as in Java.
fn text(bytes: Bytes) -> String {
    String::from_utf8(bytes.into())
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn address(bytes: &mut Bytes, v6: bool) -> Result<SocketAddr, RecordError> {
    let ip: IpAddr = if v6 {
        Ipv6Addr::from(bytes.try_get_u128()?).into()
    } else {
        Ipv4Addr::from(bytes.try_get_u32()?).into()
    };
    Ok(SocketAddr::new(ip, bytes.try_get_i32()? as u16))
}

impl StoredMessage {
    /// The id that brokers derive from the message's position: the broker's address and port and the commit log offset, in
    /// upper-case hexadecimal digits.
    #[must_use]
    pub fn offset_id(&self) -> String {
        message_id(self.store_host, self.commit_log_offset)
    }

    /// Encodes the message as brokers do.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut record = BytesMut::new();
        record.put_u32(0);
        let wide = self.topic.len() > 127;
        record.put_u32(if wide { MAGIC_V2 } else { MAGIC_V1 });
        record.put_u32(0);
        record.put_i32(self.queue_id);
        record.put_i32(self.flag);
        record.put_i64(self.queue_offset);
        record.put_i64(self.commit_log_offset);
        record.put_i32(self.system_flags);
        record.put_i64(self.born_at);
        put_address(&mut record, self.born_host);
        record.put_i64(self.stored_at);
        put_address(&mut record, self.store_host);
        record.put_i32(self.reconsume_times);
        record.put_i64(0);
        record.put_i32(self.body.len() as i32);
        record.put_slice(&self.body);
        if wide {
            record.put_u16(self.topic.len() as u16);
        } else {
            record.put_u8(self.topic.len() as u8);
        }
        record.put_slice(self.topic.as_bytes());
        record.put_u16(self.properties.len() as u16);
        record.put_slice(self.properties.as_bytes());
        let size = record.len() as u32;
        record[..4].copy_from_slice(&size.to_be_bytes());
        record.freeze()
    }
}

fn put_address(record: &mut BytesMut, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => record.put_slice(&ip.octets()),
        IpAddr::V6(ip) => record.put_slice(&ip.octets()),
    }
    record.put_i32(address.port().into());
}

/// The id of the message at a position in a broker's commit log: the broker's address and port and the position, in
/// upper-case hexadecimal digits.
#[must_use]
pub fn message_id(host: SocketAddr, position: i64) -> String {
    let mut raw = BytesMut::new();
    put_address(&mut raw, host);
    raw.put_i64(position);
    raw.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// A message of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchEntry {
    /// A number whose meaning the sender defines.
    pub flag: i32,
    /// The properties as text.
    pub properties: String,
    /// The body.
    pub body: Bytes,
}

/// Decodes the entries in the body of SEND_BATCH_MESSAGE. An entry may have only a few bytes, so the caller bounds
/// their number.
pub fn read_batch(mut batch: Bytes) -> impl Iterator<Item = Result<BatchEntry, RecordError>> {
    std::iter::from_fn(move || (!batch.is_empty()).then(|| next_record(&mut batch).and_then(batch_entry)))
}

fn batch_entry(mut entry: Bytes) -> Result<BatchEntry, RecordError> {
    entry.try_get_u32()?; // size
    entry.try_get_u32()?; // magic
    entry.try_get_u32()?; // checksum
    let flag = entry.try_get_i32()?;
    let body_length = entry.try_get_i32()?;
    let body = take(&mut entry, body_length)?;
    let properties_length = entry.try_get_u16()?;
    let properties = text(take(&mut entry, properties_length.into())?);
    Ok(BatchEntry { flag, properties, body })
}

/// Appends a message to the body of SEND_BATCH_MESSAGE. Its `properties` must not have more than 32,767 bytes.
pub fn put_batch_entry(batch: &mut BytesMut, BatchEntry { flag, properties, body }: &BatchEntry) {
    const FIXED: usize = 4 + 4 + 4 + 4 + 4 + 2;
    batch.put_u32((FIXED + body.len() + properties.len()) as u32);
    batch.put_u32(0); // magic
    batch.put_u32(0); // checksum
    batch.put_i32(*flag);
    batch.put_u32(body.len() as u32);
    batch.put_slice(body);
    batch.put_u16(properties.len() as u16);
    batch.put_slice(properties.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn messages()(
            topic in "[a-zA-Z0-9_%-]{1,200}", properties in "[^\\x00]{0,40}",
            body in vec(any::<u8>(), 0..200), numbers: (i32, i64, i64, i64, i64, i32, i32),
            born_v6: bool, store_v6: bool, port: u16,
        ) -> StoredMessage {
            let host = |v6| SocketAddr::new(
                if v6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) }, port);
            StoredMessage {
                topic, properties, body: body.into(),
                queue_id: numbers.0, queue_offset: numbers.1, commit_log_offset: numbers.2,
                born_at: numbers.3, stored_at: numbers.4, reconsume_times: numbers.5, flag: numbers.6,
                system_flags: (i32::from(born_v6) * flags::BORN_HOST_V6) | (i32::from(store_v6) * flags::STORE_HOST_V6),
                born_host: host(born_v6), store_host: host(store_v6),
            }
        }
    }

    fn message(properties: &str) -> StoredMessage {
        let host = SocketAddr::from(([127, 0, 0, 1], 10911));
        StoredMessage {
            topic: "t".to_owned(),
            queue_id: 0,
            queue_offset: 0,
            commit_log_offset: 0,
            flag: 0,
            system_flags: 0,
            born_at: 0,
            born_host: host,
            stored_at: 0,
            store_host: host,
            reconsume_times: 0,
            properties: properties.to_owned(),
            body: "b".into(),
        }
    }

    #[test]
    fn an_unreadable_record_does_not_affect_the_others() {
        let good = message("a\u{1}1\u{2}");
        let mut latin = message("a\u{1}x").encode().to_vec();
        *latin.last_mut().unwrap() = 0xFC;
        let mut senseless = good.encode().to_vec();
        senseless[4] = 0;
        let cut_off = &good.encode()[..20];
        let body = [&good.encode(), latin.as_slice(), &senseless, &good.encode(), cut_off].concat();
        assert_eq!(decode_all(body.into()), [good.clone(), message("a\u{1}\u{FFFD}"), good]);
    }

    proptest! {
        #[test]
        fn messages_are_read_as_they_are_written(sent in vec(messages(), 0..4)) {
            let body: Vec<u8> = sent.iter().flat_map(StoredMessage::encode).collect();
            prop_assert_eq!(decode_all(body.into()), sent);
        }

        #[test]
        fn no_input_panics(bytes in vec(any::<u8>(), 0..300), message in messages(), at in 0..300usize) {
            decode_all(bytes.into());
            let mut broken = message.encode().to_vec();
            let at = at % broken.len();
            broken[at] ^= 0xFF;
            decode_all(broken.into());
        }
    }
}
