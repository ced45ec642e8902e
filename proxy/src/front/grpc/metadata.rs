//! Reads the HTTP headers of a call.

use std::time::{Duration, Instant};

use h2::Reason;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use rocketmq_thin_proto::BODY_DIGEST;
use tonic::Code;

use super::message::BodyDigest;
use super::reader::Compression;
use super::wire::Refusal;
use crate::context::{Context, Credentials, Origin, Signed, WireProtocol};

const CLIENT_ID: HeaderName = HeaderName::from_static("x-mq-client-id");
const CLIENT_VERSION: HeaderName = HeaderName::from_static("x-mq-client-version");
const CLIENT_LANGUAGE: HeaderName = HeaderName::from_static("x-mq-language");
const NAMESPACE: HeaderName = HeaderName::from_static("x-mq-namespace");
pub(super) const DATE_TIME: HeaderName = HeaderName::from_static("x-mq-date-time");
const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-mq-session-token");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const DIGEST: HeaderName = HeaderName::from_static(BODY_DIGEST);
/// The beginning of the content type of a gRPC call.
const GRPC: &str = "application/grpc";

/// The values of the headers that gRPC defines.
#[derive(Debug)]
pub(super) struct CallMetadata {
    pub(super) compression: Compression,
    pub(super) received: Instant,
    pub(super) deadline: Option<Instant>,
}

/// Whether a request is a gRPC call.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    text(headers, &CONTENT_TYPE).starts_with(GRPC)
}

/// Reads the headers that gRPC defines.
///
/// # Errors
/// A refusal if the request violates the gRPC protocol.
pub(super) fn call(method: &Method, headers: &HeaderMap) -> Result<CallMetadata, Refusal> {
    if method != Method::POST {
        let message = format!("Method '{method}' is not supported");
        return Err(Refusal::Http(StatusCode::METHOD_NOT_ALLOWED, message));
    }
    let content_type = text(headers, &CONTENT_TYPE);
    if !content_type.starts_with(GRPC) {
        let message = if content_type.is_empty() {
            "Content-Type is missing from the request".to_owned()
        } else {
            format!("Content-Type '{content_type}' is not supported")
        };
        return Err(Refusal::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let received = Instant::now();
    let deadline = match headers.get(TIMEOUT) {
        None => None,
        Some(value) => {
            let timeout =
                value.to_str().ok().and_then(timeout).ok_or(Refusal::Reset(Reason::INTERNAL_ERROR))?;
            if timeout.is_zero() {
                return Err(Refusal::Reset(Reason::CANCEL));
            }
            received.checked_add(timeout)
        }
    };
    let compression = match text(headers, &ENCODING) {
        "" | "identity" => Compression::Identity,
        "gzip" => Compression::Gzip,
        other => {
            return Err(Refusal::status(Code::Unimplemented, format!("Can't find decompressor for {other}")));
        }
    };
    Ok(CallMetadata { compression, received, deadline })
}

/// The context of a call, from the client's headers. Headers that only a server may set, such as `rpc-remote-address`,
/// are ignored.
pub(super) fn context(headers: &HeaderMap, call: &CallMetadata, origin: &Origin) -> Context {
    Context {
        protocol: WireProtocol::Grpc,
        client_id: text(headers, &CLIENT_ID).to_owned(),
        client_version: text(headers, &CLIENT_VERSION).to_owned(),
        client_language: text(headers, &CLIENT_LANGUAGE).to_owned(),
        namespace: text(headers, &NAMESPACE).to_owned(),
        credentials: credentials(headers).map(Box::new),
        certificate: origin.certificate.clone(),
        is_admitted: false,
        entry: Some(origin.entry.clone()),
        is_continued: false,
        peer: origin.peer.clone(),
        received: call.received,
        deadline: call.deadline,
    }
}

/// The context of a call of administration, which needs no client id.
pub(super) fn administrator(headers: &HeaderMap, origin: &Origin) -> Context {
    let credentials = credentials(headers).map(Box::new);
    Context {
        credentials,
        is_admitted: false,
        entry: Some(origin.entry.clone()),
        certificate: origin.certificate.clone(),
        ..Context::of_connection(WireProtocol::Grpc, text(headers, &CLIENT_ID), &origin.peer)
    }
}

/// The client's credentials. `None` if it has sent none. The signature in `authorization` covers the date.
fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    if !headers.contains_key(AUTHORIZATION) && !headers.contains_key(SESSION_TOKEN) {
        return None;
    }
    Some(Credentials {
        authorization: text(headers, &AUTHORIZATION).to_owned(),
        signed: Signed::Time(text(headers, &DATE_TIME).to_owned()),
        session_token: text(headers, &SESSION_TOKEN).to_owned(),
    })
}

/// The kind of digest that the client requests.
pub(super) fn body_digest(headers: &HeaderMap) -> BodyDigest {
    match text(headers, &DIGEST) {
        "CRC32" => BodyDigest::Crc32,
        _ => BodyDigest::Md5,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

// A timeout has up to eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        for (text, parsed) in [
            ("3S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("0S", Some(Duration::ZERO)),
            ("123456789S", None),
            ("abc", None),
            ("S", None),
            ("", None),
            ("1ü", None),
        ] {
            assert_eq!(timeout(text), parsed, "{text}");
        }
    }
}
