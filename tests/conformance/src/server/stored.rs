//! The messages that a script's ReceiveMessage hands out, in the form of the wire.

use std::{io::Write, time::SystemTime};

use anyhow::Result;
use flate2::write::{GzEncoder, ZlibEncoder};
use lz4_flex::frame::FrameEncoder;
use md5::{Digest as _, Md5};
use rocketmq_thin_proto::v2::{
    Digest, DigestType, Encoding, Message, MessageType, Resource, SystemProperties,
};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::json::Json;
use crate::script::{Compression, StoredMessage};

/// The wire messages of a script, copies included, in order.
///
/// `first` is the place of the first one among all messages of the script, counted from 1.
pub(super) fn messages(json: &Json, script: &[StoredMessage], first: usize) -> Result<Vec<Message>> {
    let mut out = Vec::new();
    for stored in script {
        for _ in 0..stored.copies.max(1) {
            let mut message = message(stored, first + out.len())?;
            if let (Some(system), false) = (&mut message.system_properties, stored.system.is_null()) {
                *system = json.patched("SystemProperties", system, &stored.system)?;
            }
            out.push(message);
        }
    }
    Ok(out)
}

fn message(stored: &StoredMessage, place: usize) -> Result<Message> {
    let mut body = compress(stored.body.as_bytes(), stored.encoding)?;
    if stored.broken {
        // The head says how to decompress; what follows is no such data.
        let head = body.len().min(4);
        body.truncate(head);
        body.extend_from_slice(b"not compressed data");
    }
    let digested: &[u8] = if stored.corrupt { b"another body" } else { &body };
    let checksum = Md5::digest(digested).iter().map(|byte| format!("{byte:02X}")).collect();
    let now = SystemTime::now();
    Ok(Message {
        topic: Some(Resource { resource_namespace: String::new(), name: stored.topic.clone() }),
        user_properties: stored.properties.clone().into_iter().collect(),
        system_properties: Some(SystemProperties {
            tag: stored.tag.clone(),
            keys: stored.keys.clone(),
            message_id: or_place(&stored.id, "id", place),
            body_digest: Some(Digest { r#type: DigestType::Md5.into(), checksum }),
            body_encoding: if stored.encoding.is_some() { Encoding::Gzip } else { Encoding::Identity }.into(),
            message_type: MessageType::Normal.into(),
            born_timestamp: Some(now.into()),
            born_host: "127.0.0.1".to_owned(),
            store_timestamp: Some(now.into()),
            store_host: "127.0.0.1".to_owned(),
            receipt_handle: Some(or_place(&stored.handle, "h", place)),
            queue_offset: Some(i64::try_from(place)?),
            delivery_attempt: Some(stored.attempt.max(1)),
            ..SystemProperties::default()
        }),
        body: body.into(),
    })
}

fn or_place(given: &str, prefix: &str, place: usize) -> String {
    if given.is_empty() { format!("{prefix}{place}") } else { given.to_owned() }
}

fn compress(body: &[u8], compression: Option<Compression>) -> Result<Vec<u8>> {
    Ok(match compression {
        None => body.to_vec(),
        Some(Compression::Gzip) => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(body)?;
            encoder.finish()?
        }
        Some(Compression::Zlib) => {
            let mut encoder = ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(body)?;
            encoder.finish()?
        }
        Some(Compression::Lz4) => {
            let mut encoder = FrameEncoder::new(Vec::new());
            encoder.write_all(body)?;
            encoder.finish()?
        }
        Some(Compression::Zstd) => compress_to_vec(body, CompressionLevel::Fastest),
    })
}
