//! Encodes and decodes the frames of commands.

use bytes::{Buf, BufMut, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::command::{HeaderType, RemotingCommand};
use super::frame_error::FrameError;
use super::{binary, json};

/// The longest frame that brokers accept, including the length field (Apache's `frameMaxLength`).
pub const MAX_FRAME: usize = 16 * 1024 * 1024;
/// The longest frame that is read. One frame may answer a pop of 32 messages of the maximum size (4 MiB each).
const MAX_READ: usize = 9 * MAX_FRAME;

/// The bytes of a length field.
const LENGTH: usize = 4;

/// The maximum lengths of a frame and of its header, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct FrameLimits {
    /// Of the whole frame.
    pub frame: usize,
    /// Of the header.
    pub header: usize,
}

/// The limits of [`CommandCodec`].
const READ_LIMITS: FrameLimits = FrameLimits { frame: MAX_READ, header: 0x00FF_FFFF };

/// The first bytes of a frame: its lengths, and the encoding of its header.
#[derive(Clone, Copy, Debug)]
pub struct FramePrefix {
    /// The length of the whole frame in bytes.
    pub length: usize,
    header_length: usize,
    header_type: HeaderType,
}

impl FramePrefix {
    /// Reads the prefix at the beginning of the buffer. Returns `None` if more bytes are needed.
    ///
    /// # Errors
    /// If a length exceeds its limit, the lengths contradict each other, or the encoding is unknown.
    pub fn read(buffer: &[u8], limits: FrameLimits) -> Result<Option<Self>, FrameError> {
        let Some((length, rest)) = buffer.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let length = (u32::from_be_bytes(*length) as usize).saturating_add(LENGTH);
        if length > limits.frame {
            return Err(FrameError::TooLong(length));
        }
        if length < 2 * LENGTH {
            return Err(FrameError::malformed(format!(
                "a frame of {length} bytes has no room for its lengths"
            )));
        }
        let Some(&[header_type, a, b, c]) = rest.first_chunk::<LENGTH>() else { return Ok(None) };
        let header_length = u32::from_be_bytes([0, a, b, c]) as usize;
        if header_length > limits.header {
            let text = format!("the header has {header_length} bytes, at most {} are allowed", limits.header);
            return Err(FrameError::malformed(text));
        }
        if 2 * LENGTH + header_length > length {
            let text = format!("a header of {header_length} bytes in a frame of {length}");
            return Err(FrameError::malformed(text));
        }
        let header_type = match header_type {
            0 => HeaderType::Json,
            1 => HeaderType::Binary,
            other => return Err(FrameError::malformed(format!("unknown header type {other}"))),
        };
        Ok(Some(Self { length, header_length, header_type }))
    }
}

/// Decodes and encodes commands.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommandCodec;

impl Decoder for CommandCodec {
    type Item = RemotingCommand;
    type Error = FrameError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<RemotingCommand>, FrameError> {
        let Some(prefix) = FramePrefix::read(buffer, READ_LIMITS)? else { return Ok(None) };
        let FramePrefix { length, header_length, header_type } = prefix;
        if buffer.len() < length {
            buffer.reserve(length - buffer.len());
            return Ok(None);
        }
        let mut frame = buffer.split_to(length).freeze();
        frame.advance(2 * LENGTH);
        let header = frame.split_to(header_length);
        let mut command = match header_type {
            HeaderType::Json => json::decode(&header)?,
            HeaderType::Binary => binary::decode(header)?,
        };
        command.body = frame;
        Ok(Some(command))
    }
}

impl Encoder<&RemotingCommand> for CommandCodec {
    type Error = FrameError;

    fn encode(&mut self, command: &RemotingCommand, buffer: &mut BytesMut) -> Result<(), FrameError> {
        let begin = buffer.len();
        let encoded = encode_frame(command, buffer);
        if encoded.is_err() {
            // The incomplete frame would corrupt the other frames in the buffer.
            buffer.truncate(begin);
        }
        encoded
    }
}

fn encode_frame(command: &RemotingCommand, buffer: &mut BytesMut) -> Result<(), FrameError> {
    let begin = buffer.len();
    buffer.reserve(2 * LENGTH + command.header_size_hint() + command.body.len());
    buffer.put_bytes(0, 2 * LENGTH);
    let mark = match command.header_type {
        HeaderType::Json => {
            json::encode(command, buffer)?;
            0
        }
        HeaderType::Binary => {
            binary::encode(command, buffer)?;
            1
        }
    };
    let header_length = buffer.len() - begin - 2 * LENGTH;
    let length = LENGTH + header_length + command.body.len();
    if length > MAX_FRAME - LENGTH || header_length > 0x00FF_FFFF {
        return Err(FrameError::TooLong(length + LENGTH));
    }
    buffer.put_slice(&command.body);
    let mut lengths = &mut buffer[begin..];
    lengths.put_u32(length as u32);
    lengths.put_u32(mark << 24 | header_length as u32);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;
    use crate::remoting::command::Language;

    fn decode_all(bytes: &[u8]) -> Result<Vec<RemotingCommand>, FrameError> {
        let mut buffer = BytesMut::from(bytes);
        let mut commands = Vec::new();
        while let Some(command) = CommandCodec.decode(&mut buffer)? {
            commands.push(command);
        }
        Ok(commands)
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn reads_a_binary_frame_of_apaches_java() {
        let frame = hex(
            "00000025 01000021 0069 00 01df 00000001 00000000 00000000 0000000c 0005 746f706963 00000001 54",
        );
        let command = decode_all(&frame).unwrap().remove(0);
        assert_eq!((command.code, command.version, command.opaque), (105, 479, 1));
        assert_eq!(command.text("topic"), Some("T"));
        assert_eq!(command.language, Language::of("JAVA"));
        let mut written = BytesMut::new();
        CommandCodec.encode(&command, &mut written).unwrap();
        assert_eq!(written, frame);
    }

    #[test]
    fn reads_a_json_frame_of_apaches_java() {
        let header = r#"{"code":105,"extFields":{"topic":"T"},"flag":0,"language":"JAVA","opaque":1,"serializeTypeCurrentRPC":"JSON","version":479}"#;
        let mut frame = hex("0000007f 0000007b");
        frame.extend_from_slice(header.as_bytes());
        let command = decode_all(&frame).unwrap().remove(0);
        assert_eq!((command.code, command.version, command.opaque), (105, 479, 1));
        assert_eq!(command.text("topic"), Some("T"));
    }

    #[test]
    fn refuses_impossible_lengths() {
        for frame in ["ffffffff 00000000", "00000003 000000", "00000004 000000ff", "00000004 07000000"] {
            assert!(decode_all(&hex(frame)).is_err(), "{frame}");
        }
    }

    #[test]
    fn a_binary_header_can_not_have_a_code_above_32767() {
        let command =
            RemotingCommand { header_type: HeaderType::Binary, ..RemotingCommand::request(200_050) };
        let mut buffer = BytesMut::from("before");
        assert!(CommandCodec.encode(&command, &mut buffer).is_err());
        assert_eq!(buffer, "before");
    }

    prop_compose! {
        fn commands()(
            code in 0..32767i32, opaque: i32, flag in 0..4i32, version in 0..600i32,
            language in 0..14u8, remark in proptest::option::of("\\PC{1,20}"),
            fields in btree_map("[a-zA-Z]{1,9}".prop_map(Cow::from), "\\PC{1,20}", 0..6),
            body in vec(any::<u8>(), 0..200), binary: bool,
        ) -> RemotingCommand {
            RemotingCommand {
                code, version, opaque, flag, remark, fields,
                language: Language(language),
                body: body.into(),
                header_type: if binary { HeaderType::Binary } else { HeaderType::Json },
            }
        }
    }

    proptest! {
        #[test]
        fn commands_are_read_as_written_from_parts_of_any_size(sent in vec(commands(), 1..4), cut in 1..40usize) {
            let mut bytes = BytesMut::new();
            for command in &sent {
                CommandCodec.encode(command, &mut bytes).unwrap();
            }
            let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
            for part in bytes.chunks(cut) {
                buffer.extend_from_slice(part);
                while let Some(command) = CommandCodec.decode(&mut buffer).unwrap() {
                    read.push(command);
                }
            }
            prop_assert_eq!(read, sent);
        }

        #[test]
        fn no_input_panics(bytes in vec(any::<u8>(), 0..300), header_type in 0..3u8) {
            let _ = decode_all(&bytes);
            let mut framed = ((bytes.len() + 4) as u32).to_be_bytes().to_vec();
            framed.extend(((u32::from(header_type) << 24) | (bytes.len() as u32 / 2)).to_be_bytes());
            framed.extend(&bytes);
            let _ = decode_all(&framed);
        }
    }
}
