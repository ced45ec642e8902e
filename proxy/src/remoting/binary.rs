//! Encodes and decodes headers in RocketMQ's binary form.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::command::{Fields, HeaderType, Language, RemotingCommand};
use super::frame_error::FrameError;

pub(super) fn decode(mut header: Bytes) -> Result<RemotingCommand, FrameError> {
    let short = |_| FrameError::malformed("the binary header ends too early");
    let code = header.try_get_i16().map_err(short)?;
    let language = header.try_get_u8().map_err(short)?;
    let version = header.try_get_i16().map_err(short)?;
    let opaque = header.try_get_i32().map_err(short)?;
    let flag = header.try_get_i32().map_err(short)?;
    let remark_length = header.try_get_i32().map_err(short)?;
    let remark = text(&mut header, remark_length)?;
    let fields_length = header.try_get_i32().map_err(short)?;
    let mut block = take(&mut header, fields_length)?;
    let mut fields = Fields::new();
    while !block.is_empty() {
        let key_length = block.try_get_i16().map_err(short)?;
        let key = text(&mut block, key_length.into())?;
        let value_length = block.try_get_i32().map_err(short)?;
        let value = text(&mut block, value_length)?;
        if let (Some(key), Some(value)) = (key, value) {
            fields.insert(key.into(), value); // Apache's "fast" headers contain fields twice; the later one counts.
        }
    }
    Ok(RemotingCommand {
        code: code.into(),
        language: Language(language),
        version: version.into(),
        opaque,
        flag,
        remark,
        fields,
        body: Bytes::new(),
        header_type: HeaderType::Binary,
    })
}

fn take(bytes: &mut Bytes, length: i32) -> Result<Bytes, FrameError> {
    match usize::try_from(length) {
        Ok(length) if length <= bytes.len() => Ok(bytes.split_to(length)),
        _ => Err(FrameError::malformed(format!("the binary header contains the invalid length {length}"))),
    }
}

/// Reads a text of this length; `None` for the length 0.
fn text(bytes: &mut Bytes, length: i32) -> Result<Option<String>, FrameError> {
    if length == 0 {
        return Ok(None);
    }
    let raw = take(bytes, length)?;
    let malformed = |_| FrameError::malformed("a text in the binary header is not UTF-8");
    String::from_utf8(raw.into()).map(Some).map_err(malformed)
}

pub(super) fn encode(command: &RemotingCommand, header: &mut BytesMut) -> Result<(), FrameError> {
    let code = i16::try_from(command.code)
        .map_err(|_| FrameError::malformed(format!("code {} does not fit a binary header", command.code)))?;
    let remark = command.remark.as_deref().unwrap_or_default();
    header.put_i16(code);
    header.put_u8(command.language.0);
    header.put_i16(command.version as i16);
    header.put_i32(command.opaque);
    header.put_i32(command.flag);
    header.put_i32(remark.len() as i32);
    header.put_slice(remark.as_bytes());
    let fields_length = header.len();
    header.put_i32(0);
    for (key, value) in &command.fields {
        let key_length = i16::try_from(key.len())
            .map_err(|_| FrameError::malformed("a header field's name is too long"))?;
        header.put_i16(key_length);
        header.put_slice(key.as_bytes());
        header.put_i32(value.len() as i32);
        header.put_slice(value.as_bytes());
    }
    let fields = fields_length + size_of::<i32>();
    let length = (header.len() - fields) as i32;
    header[fields_length..fields].copy_from_slice(&length.to_be_bytes());
    Ok(())
}
