//! The remoting protocol: whatever is accepted must be the same after it is written and read again.

use bytes::{BufMut, Bytes, BytesMut};
use rocketmq_thin_proxy::front::remoting::fuzz_frames;
use rocketmq_thin_proxy::remoting::{CommandCodec, RemotingCommand, lenient, message, properties};
use tokio_util::codec::{Decoder, Encoder};

/// Reads the input; its first byte says as what.
///
/// # Panics
/// If something that was read changes when it is written.
pub(crate) fn run(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    match choice % 6 {
        0 => stream(bytes),
        1 => frame(0, bytes),
        2 => frame(1, bytes),
        3 => records(bytes),
        4 => {
            // It may be refused.
            let _ = lenient::from_slice::<serde_json::Value>(bytes);
        }
        _ => fields(bytes),
    }
}

/// A connection's bytes, as they come.
fn stream(bytes: &[u8]) {
    fuzz_frames(bytes);
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(command)) = CommandCodec.decode(&mut buffer) {
        again(&command);
    }
}

/// One frame with a header of this type, its lengths right: the first two bytes say how long the header is.
fn frame(header_type: u8, bytes: &[u8]) {
    let Some((lengths, content)) = bytes.split_first_chunk::<2>() else { return };
    let header_length = u32::from(u16::from_be_bytes(*lengths));
    let mut buffer = BytesMut::new();
    buffer.put_u32(u32::try_from(content.len()).unwrap_or(u32::MAX).saturating_add(4));
    buffer.put_u32(u32::from(header_type) << 24 | header_length);
    buffer.put_slice(content);
    fuzz_frames(&buffer);
    if let Ok(Some(command)) = CommandCodec.decode(&mut buffer) {
        again(&command);
    }
}

fn again(command: &RemotingCommand) {
    let mut frame = BytesMut::new();
    // Not every code fits every kind of header.
    if CommandCodec.encode(command, &mut frame).is_err() {
        return;
    }
    let read = CommandCodec.decode(&mut frame).ok().flatten();
    assert_eq!(read.as_ref(), Some(command), "a command changed on its way");
}

/// Messages, as brokers hand them out.
fn records(bytes: &[u8]) {
    for message in message::decode_all(Bytes::copy_from_slice(bytes)) {
        fields(message.properties.as_bytes());
        // Replacement characters are longer than what they stand for.
        if message.topic.len().max(message.properties.len()) <= usize::from(u16::MAX) {
            assert_eq!(message::decode_all(message.encode()), [message], "a message changed on its way");
        }
    }
}

/// A message's properties.
fn fields(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let fields: Vec<_> = properties::decode(text).collect();
    let written = properties::encode(fields.iter().copied());
    assert_eq!(properties::decode(&written).collect::<Vec<_>>(), fields, "properties changed on their way");
}
