//! The extractors of handlers: the caller of a request, its parameters, and its body.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::headers::{media_type, text};
use super::problem::Problem;
use super::shared::Shared;
use super::{credentials, origin};
use crate::context::{Context, WireProtocol};
use crate::front::port::{Charge, WebPeer};
use crate::front::{grpc, json_values};
use crate::processor::is_blank;

const CLIENT_ID: HeaderName = HeaderName::from_static("x-rocketmq-client-id");
const NAMESPACE: HeaderName = HeaderName::from_static("x-rocketmq-namespace");
/// The maximum number of bytes of a body with JSON that is not a message.
const MAX_JSON_BYTES: usize = 4 << 20;

/// The transport's information about a request. It is an extension of the request, which the extractors read.
#[derive(Clone)]
pub(super) struct RequestInfo {
    pub(super) peer: WebPeer,
    pub(super) received: Instant,
    /// The memory that the request and its answer hold.
    pub(super) charge: Arc<Mutex<Charge>>,
}

/// The sender of a request.
pub(super) struct Caller {
    pub(super) context: Context,
    /// The `accept` header in lower case.
    accept: String,
    pub(super) charge: Arc<Mutex<Charge>>,
}

impl Caller {
    /// Whether the `accept` header contains this media type.
    pub(super) fn accepts(&self, media_type: &str) -> bool {
        self.accept.contains(media_type)
    }

    /// Checks that the caller may make an administrative call. `call` is the name of the call in gRPC.
    pub(super) fn authorize(&self, shared: &Shared, call: &str) -> Result<(), Problem> {
        Ok(shared.processor.administer(&self.context, grpc::right_for(call))?)
    }
}

fn request_info(parts: &Parts) -> RequestInfo {
    parts.extensions.get::<RequestInfo>().expect("every request has one, see Entry::answer").clone()
}

impl FromRequestParts<Arc<Shared>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let RequestInfo { peer, received, charge } = request_info(parts);
        origin::check(&parts.headers, &parts.uri, &shared.config)?;
        let credentials = credentials::read(&parts.headers, &peer, &shared.config)?;
        let client_id = text(&parts.headers, &CLIENT_ID)?.filter(|id| !is_blank(id));
        let context = Context {
            protocol: WireProtocol::Http,
            client_id: client_id.map_or_else(|| format!("http@{}", peer.address.ip()), str::to_owned),
            client_version: String::new(),
            client_language: "HTTP".to_owned(),
            namespace: text(&parts.headers, &NAMESPACE)?.unwrap_or_default().to_owned(),
            credentials: credentials.map(Box::new),
            certificate: peer.certificate,
            is_admitted: false,
            entry: Some(shared.entry.clone()),
            is_continued: false,
            peer: peer.address.to_string().into(),
            received,
            deadline: None,
        };
        let accept = text(&parts.headers, &ACCEPT)?.unwrap_or_default().to_ascii_lowercase();
        Ok(Self { context, accept, charge })
    }
}

/// The parameters in the path.
pub(super) struct PathParams<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Shared>> for PathParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let path = Path::from_request_parts(parts, shared).await;
        path.map(|Path(names)| Self(names)).map_err(|refused| Problem::bad_request(refused.body_text()))
    }
}

/// The parameters in the query.
pub(super) struct QueryParams<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Shared>> for QueryParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let query = Query::from_request_parts(parts, shared).await;
        query.map(|Query(query)| Self(query)).map_err(|refused| Problem::bad_request(refused.body_text()))
    }
}

/// A raw body with the headers that describe it.
pub(super) struct Payload {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl FromRequest<Arc<Shared>> for Payload {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let body = read_body(body, request_info(&parts), shared, shared.transport.request_bytes).await?;
        Ok(Self { headers: parts.headers, body })
    }
}

/// A body with a JSON object.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Shared>> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let content_type = text(&parts.headers, &CONTENT_TYPE)?.unwrap_or_default();
        if media_type(content_type) != "application/json" {
            let detail = format!("the body must be application/json, not {content_type:?}");
            return Err(Problem::http(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let limit = shared.transport.request_bytes.min(MAX_JSON_BYTES);
        let body = read_body(body, request_info(&parts), shared, limit).await?;
        parse(&body, shared).map(|Object(value)| Self(value))
    }
}

/// A value that is a JSON object. serde would also accept an array with the values of the fields.
#[derive(Clone, Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
    }
}

/// Parses JSON. Checks the number of values first, which bounds the size in memory.
pub(super) fn parse<'a, T: Deserialize<'a>>(json: &'a [u8], shared: &Shared) -> Result<T, Problem> {
    let max = shared.transport.request_fields;
    if json_values::count(json) > max {
        let detail = format!("the body has more than {max} values (transport.request_fields)");
        return Err(Problem::http(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    serde_json::from_slice(json)
        .map_err(|error| Problem::bad_request(format!("the body is not valid: {error}")))
}

/// Reads a body within the limits of size, memory and time.
async fn read_body(
    mut body: Body,
    info: RequestInfo,
    shared: &Shared,
    limit: usize,
) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body is longer than {limit} bytes");
        Problem::http(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let evicted = info.charge.lock().incomplete();
    let until = info.received + shared.transport.request_timeout;
    let mut read = BytesMut::new();
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = evicted.cancelled() => None,
            () = tokio::time::sleep_until(until.into()) => {
                let detail = "the request did not arrive in time (transport.request_timeout)";
                return Err(Problem::http(StatusCode::REQUEST_TIMEOUT, detail));
            }
        };
        let Some(frame) = frame else { break };
        let frame =
            frame.map_err(|error| Problem::bad_request(format!("the body can't be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > limit {
            return Err(too_large());
        }
        info.charge.lock().set(read.len() + data.len())?;
        read.extend_from_slice(&data);
    }
    info.charge.lock().completed()?;
    Ok(read.freeze())
}
