//! Decodes bytes as a connection would, without a processor: the entry point of the fuzzer.

use bytes::{Bytes, BytesMut};
use tokio_util::codec::Decoder;

use super::frames;
use super::heartbeat::{Consumer, Heartbeat};
use super::message::{self, SendHeader};
use crate::remoting::message::{BatchEntry, read_batch};
use crate::remoting::{CommandCodec, RemotingCommand, compression, lenient};

/// Decodes bytes as the frames of a connection, and each body both as a heartbeat and as a send.
pub fn decode_frames(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(length)) = frames::length(&buffer) {
        if length > buffer.len() {
            return;
        }
        let Ok(Some(command)) = CommandCodec.decode(&mut buffer) else { return };
        heartbeat(&command.body);
        send(&command);
    }
}

fn heartbeat(body: &[u8]) {
    let Ok(heartbeat) = lenient::from_slice::<Heartbeat>(body) else { return };
    for consumer in heartbeat.consumers.into_iter().map(Consumer::from) {
        consumer.subscriptions.values().for_each(|subscription| drop(subscription.expression()));
    }
}

fn send(command: &RemotingCommand) {
    const MAX_BODY: u64 = 1 << 20;
    let header = SendHeader {
        topic: command.text("b").unwrap_or_default().to_owned(),
        producer_group: command.text("a").unwrap_or_default().to_owned(),
        system_flags: command.number("f").unwrap_or_default(),
        born_at: command.number("g").unwrap_or_default(),
        queue: None,
        flag: 0,
        sent_back: None,
    };
    let draft = |properties: &str, body: Bytes| {
        let body = match header.is_compressed() {
            true => compression::inflate(header.system_flags, &body, MAX_BODY).unwrap_or_default().into(),
            false => body,
        };
        drop(message::draft(&header, properties, body));
    };
    draft(command.text("i").unwrap_or_default(), command.body.clone());
    for BatchEntry { properties, body, .. } in read_batch(command.body.clone()).map_while(Result::ok) {
        draft(&properties, body);
    }
}
