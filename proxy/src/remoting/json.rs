//! Encodes and decodes headers in JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};

use super::command::{Fields, HeaderType, Language, RemotingCommand};
use super::frame_error::FrameError;

/// A header for decoding. Missing and unknown keys are accepted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header<'a> {
    #[serde(default)]
    code: i32,
    #[serde(default)]
    ext_fields: Option<BTreeMap<String, Option<Scalar>>>,
    #[serde(default)]
    flag: i32,
    #[serde(default, borrow)]
    language: Option<Cow<'a, str>>,
    #[serde(default)]
    opaque: i32,
    #[serde(default)]
    remark: Option<String>,
    #[serde(default)]
    version: i32,
}

/// The value of a field. The protocol requires a text, but some implementations write numbers or booleans.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(serde_json::Number),
    Bool(bool),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
            Self::Bool(truth) => truth.to_string(),
        }
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<RemotingCommand, FrameError> {
    let header: Header<'_> = serde_json::from_slice(bytes)
        .map_err(|error| FrameError::malformed(format!("the JSON header is unreadable: {error}")))?;
    let fields = header
        .ext_fields
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(key, value)| Some((key.into(), value?.into_text())))
        .collect();
    Ok(RemotingCommand {
        code: header.code,
        language: Language::of(header.language.as_deref().unwrap_or("OTHER")),
        version: header.version,
        opaque: header.opaque,
        flag: header.flag,
        remark: header.remark,
        fields,
        header_type: HeaderType::Json,
        ..RemotingCommand::default()
    })
}

pub(super) fn encode(command: &RemotingCommand, buffer: &mut BytesMut) -> Result<(), FrameError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct EncodedHeader<'a> {
        code: i32,
        // Apache's send and pop handlers fail without this object, so it is written even if it is empty.
        ext_fields: &'a Fields,
        flag: i32,
        language: &'a str,
        opaque: i32,
        #[serde(skip_serializing_if = "Option::is_none")]
        remark: Option<&'a str>,
        #[serde(rename = "serializeTypeCurrentRPC")]
        serialize_type: &'a str,
        version: i32,
    }
    let header = EncodedHeader {
        code: command.code,
        ext_fields: &command.fields,
        flag: command.flag,
        language: command.language.name(),
        opaque: command.opaque,
        remark: command.remark.as_deref(),
        serialize_type: "JSON",
        version: command.version,
    };
    serde_json::to_writer(buffer.writer(), &header).map_err(|error| FrameError::malformed(error.to_string()))
}
