//! Converts errors to problem details (RFC 9457) and HTTP statuses.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use rocketmq_thin_proto::{Class, classify};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, ErrorKind};
use crate::front::grpc;
use crate::front::port::Exhausted;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"rocketmq\", charset=\"UTF-8\"");
/// The default of `retry-after`, in seconds.
const RETRY_SECONDS: u64 = 1;

/// Why a request, or a part of it, is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Problem {
    /// Always `about:blank`: `title` and `status` identify the kind of problem.
    r#type: &'static str,
    /// The reason phrase of the status.
    title: &'static str,
    /// The HTTP status.
    #[serde(serialize_with = "status_number")]
    #[schema(value_type = u16, minimum = 400, maximum = 599)]
    status: StatusCode,
    /// What is wrong with the request.
    detail: String,
    /// The kind of error, with the name that RocketMQ thin clients use, such as `TopicNotFound`.
    kind: &'static str,
    /// The code of `apache.rocketmq.v2`, such as 40402.
    code: i32,
    /// Whether the same request may succeed if it is repeated.
    retryable: bool,
    /// The value of the header `retry-after`, in seconds.
    #[serde(skip)]
    #[schema(ignore)]
    retry_after: u64,
}

fn status_number<S: serde::Serializer>(status: &StatusCode, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u16(status.as_u16())
}

/// The HTTP status of each kind of error.
fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::BadRequest
        | ErrorKind::IllegalTopic
        | ErrorKind::IllegalGroup
        | ErrorKind::IllegalTag
        | ErrorKind::IllegalKey
        | ErrorKind::IllegalMessageGroup
        | ErrorKind::IllegalPropertyKey
        | ErrorKind::IllegalMessageId
        | ErrorKind::IllegalFilter
        | ErrorKind::IllegalInvisibleTime
        | ErrorKind::IllegalDeliveryTime
        | ErrorKind::IllegalPollingTime
        | ErrorKind::IllegalLiteTopic
        | ErrorKind::InvalidHandle
        | ErrorKind::InvalidTransactionId
        | ErrorKind::IllegalOffset
        | ErrorKind::TypeMismatch
        | ErrorKind::UnknownClient
        | ErrorKind::NotAConsumer
        | ErrorKind::Corrupted
        | ErrorKind::ClientIdRequired
        | ErrorKind::BodyEmpty => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthorized | ErrorKind::TooManyFailures => StatusCode::UNAUTHORIZED,
        ErrorKind::AccessDenied | ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::TopicNotFound
        | ErrorKind::GroupNotFound
        | ErrorKind::UserNotFound
        | ErrorKind::PolicyNotFound
        | ErrorKind::OffsetNotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists => StatusCode::CONFLICT,
        ErrorKind::BodyTooLarge | ErrorKind::PropertiesTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::LiteTopicQuota | ErrorKind::LiteSubscriptionQuota | ErrorKind::Busy => {
            StatusCode::TOO_MANY_REQUESTS
        }
        ErrorKind::Internal => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

impl Problem {
    fn new(status: StatusCode, code: i32, detail: String) -> Self {
        let (kind, retryable) = match classify(code) {
            Class::Failure { kind, retryable } => (kind.name(), retryable),
            // These classes are not codes of errors.
            Class::Success | Class::PerEntry => ("Protocol", false),
        };
        let title = status.canonical_reason().unwrap_or_default();
        let retry_after = RETRY_SECONDS;
        Self { r#type: "about:blank", title, status, detail, kind, code, retryable, retry_after }
    }

    /// A request that is invalid as HTTP. The code is derived from the status.
    pub(super) fn http(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::new(status, i32::from(status.as_u16()) * 100, detail.into())
    }

    /// A request with invalid content.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::from(Error::new(ErrorKind::BadRequest, detail))
    }

    /// The whole HTTP/1.1 answer as bytes, for a connection that is not served.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let body = serde_json::to_string(self).unwrap_or_default();
        format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\nretry-after: {}\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            self.status.as_u16(),
            self.title,
            self.retry_after,
            body.len()
        )
        .into_bytes()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let code = grpc::wire_code(error.kind);
        // Rounded up to seconds: a client that retries too early is refused again.
        let wait = error.retry_after.map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        let retry_after = wait.unwrap_or_default().max(RETRY_SECONDS);
        Self { retry_after, ..Self::new(status(error.kind), code, error.message) }
    }
}

impl From<Exhausted> for Problem {
    fn from(exhausted: Exhausted) -> Self {
        match exhausted {
            // The request has arrived too slowly.
            Exhausted::Evicted => Self::http(StatusCode::REQUEST_TIMEOUT, exhausted.reason()),
            _ => Self::from(Error::new(ErrorKind::Busy, exhausted.reason())),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_JSON);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self.status {
            StatusCode::UNAUTHORIZED => drop(headers.insert(WWW_AUTHENTICATE, BASIC)),
            StatusCode::TOO_MANY_REQUESTS => drop(headers.insert(RETRY_AFTER, self.retry_after.into())),
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_problem_has_the_status_code_and_kind_of_its_error() {
        for (kind, expected) in [
            (ErrorKind::TopicNotFound, (404, 40402, "TopicNotFound", false)),
            (ErrorKind::InvalidHandle, (400, 40013, "InvalidReceipt", false)),
            (ErrorKind::Unauthorized, (401, 40100, "Unauthenticated", false)),
            (ErrorKind::TooManyFailures, (401, 40100, "Unauthenticated", false)),
            (ErrorKind::AccessDenied, (403, 40100, "Unauthenticated", false)),
            (ErrorKind::Busy, (429, 42900, "Throttled", true)),
            (ErrorKind::Internal, (503, 50001, "Unavailable", true)),
            (ErrorKind::Timeout, (504, 50400, "Timeout", true)),
        ] {
            let Problem { status, code, kind, retryable, .. } = Problem::from(Error::new(kind, "x"));
            assert_eq!((status.as_u16(), code, kind, retryable), expected);
        }
        for (wait, seconds) in [(1, 1), (1_000, 1), (1_001, 2), (59_500, 60)] {
            let retry_after = Some(Duration::from_millis(wait));
            let response =
                Problem::from(Error { retry_after, ..Error::new(ErrorKind::Busy, "x") }).into_response();
            assert_eq!(response.headers()[RETRY_AFTER], seconds.to_string());
        }
        let Problem { code, kind, .. } = Problem::http(StatusCode::METHOD_NOT_ALLOWED, "x");
        assert_eq!((code, kind), (40500, "InvalidArgument"));
    }
}
