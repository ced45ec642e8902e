//! The kinds of errors, and what each code of a server means to a client.

use std::fmt;

use crate::v2::Code;

/// The kind of a failure, with the same name in every language's API.
///
/// Most kinds stand for codes of servers (see [`classify`]). The last four come from the client itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server refused the request as malformed or out of range (codes 400xx).
    InvalidArgument,
    /// The credentials are missing, wrong, or lack a right (40100).
    Unauthenticated,
    /// The server forbids this operation, such as a send to a topic without a writable queue (40300).
    PermissionDenied,
    /// The topic does not exist (40402).
    TopicNotFound,
    /// The consumer group does not exist (40403).
    GroupNotFound,
    /// Something else does not exist (40400, 40401, 40404).
    NotFound,
    /// The topic does not accept messages of this type (40014).
    TypeMismatch,
    /// The receipt handle has expired, was used before, or is not from this server (40013).
    InvalidReceipt,
    /// Body, properties or headers exceed a limit (413xx, 431xx).
    TooLarge,
    /// The client sends too many requests, or a quota is used up (429xx).
    Throttled,
    /// The server failed or could not be reached (500xx, connection refused or lost).
    Unavailable,
    /// The server does not offer this operation (50100, 505xx).
    Unsupported,
    /// There was no response in time (40800, 504xx, or the caller's own deadline).
    Timeout,
    /// The response is not valid: it has no status or an unknown code, or the server speaks another protocol.
    Protocol,
    /// The options of the client are invalid.
    InvalidOptions,
    /// The TLS handshake failed, for instance because a certificate is not trusted.
    Tls,
    /// The client, producer or consumer is closed.
    Closed,
    /// A bug in the client: its code panicked.
    Internal,
}

impl ErrorKind {
    /// The name of the kind, the same in every language.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "InvalidArgument",
            Self::Unauthenticated => "Unauthenticated",
            Self::PermissionDenied => "PermissionDenied",
            Self::TopicNotFound => "TopicNotFound",
            Self::GroupNotFound => "GroupNotFound",
            Self::NotFound => "NotFound",
            Self::TypeMismatch => "TypeMismatch",
            Self::InvalidReceipt => "InvalidReceipt",
            Self::TooLarge => "TooLarge",
            Self::Throttled => "Throttled",
            Self::Unavailable => "Unavailable",
            Self::Unsupported => "Unsupported",
            Self::Timeout => "Timeout",
            Self::Protocol => "Protocol",
            Self::InvalidOptions => "InvalidOptions",
            Self::Tls => "Tls",
            Self::Closed => "Closed",
            Self::Internal => "Internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The meaning of a server's code to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The request was carried out.
    Success,
    /// The results of the entries differ; each has a status of its own.
    PerEntry,
    /// The request failed.
    Failure {
        /// The kind of error the code stands for.
        kind: ErrorKind,
        /// Whether the same request may succeed when it is sent again.
        retryable: bool,
    },
}

/// Returns the meaning of a server's code.
///
/// A code that the contract does not contain is treated like other codes of its range. So the refusals of a newer server
/// are not retried, and its temporary failures are.
#[must_use]
pub fn classify(code: i32) -> Class {
    use ErrorKind::*;
    let Ok(known) = Code::try_from(code) else {
        return match code {
            40000..42900 | 43000..50000 => permanent(InvalidArgument),
            42900..43000 => temporary(Throttled),
            50000..50100 => temporary(Unavailable),
            50100..50400 | 50500..60000 => permanent(Unsupported),
            50400..50500 => temporary(Timeout),
            _ => permanent(Protocol),
        };
    };
    match known {
        Code::Ok => Class::Success,
        Code::MultipleResults => Class::PerEntry,
        Code::Unspecified => permanent(Protocol),

        Code::BadRequest
        | Code::IllegalAccessPoint
        | Code::IllegalTopic
        | Code::IllegalConsumerGroup
        | Code::IllegalMessageTag
        | Code::IllegalMessageKey
        | Code::IllegalMessageGroup
        | Code::IllegalMessagePropertyKey
        | Code::InvalidTransactionId
        | Code::IllegalMessageId
        | Code::IllegalFilterExpression
        | Code::IllegalInvisibleTime
        | Code::IllegalDeliveryTime
        | Code::MessageCorrupted
        | Code::ClientIdRequired
        | Code::IllegalPollingTime
        | Code::IllegalOffset
        | Code::IllegalLiteTopic
        | Code::MessageBodyEmpty
        | Code::PreconditionFailed => permanent(InvalidArgument),
        Code::InvalidReceiptHandle => permanent(InvalidReceipt),
        Code::MessagePropertyConflictWithType => permanent(TypeMismatch),
        // The server has lost the settings of the client. The client sends them again, and then the request.
        Code::UnrecognizedClientType => temporary(Unavailable),

        Code::Unauthorized => permanent(Unauthenticated),
        Code::PaymentRequired | Code::Forbidden => permanent(PermissionDenied),
        Code::NotFound | Code::MessageNotFound | Code::OffsetNotFound => permanent(NotFound),
        Code::TopicNotFound => permanent(TopicNotFound),
        Code::ConsumerGroupNotFound => permanent(GroupNotFound),

        Code::PayloadTooLarge
        | Code::MessageBodyTooLarge
        | Code::RequestHeaderFieldsTooLarge
        | Code::MessagePropertiesTooLarge => permanent(TooLarge),
        Code::TooManyRequests => temporary(Throttled),
        Code::LiteTopicQuotaExceeded | Code::LiteSubscriptionQuotaExceeded => permanent(Throttled),

        Code::InternalError | Code::InternalServerError | Code::HaNotAvailable => temporary(Unavailable),
        Code::RequestTimeout
        | Code::ProxyTimeout
        | Code::MasterPersistenceTimeout
        | Code::SlavePersistenceTimeout => temporary(Timeout),
        Code::NotImplemented
        | Code::Unsupported
        | Code::VersionUnsupported
        | Code::VerifyFifoMessageUnsupported => permanent(Unsupported),
        Code::FailedToConsumeMessage => permanent(Protocol),
    }
}

const fn temporary(kind: ErrorKind) -> Class {
    Class::Failure { kind, retryable: true }
}

const fn permanent(kind: ErrorKind) -> Class {
    Class::Failure { kind, retryable: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_codes_are_treated_like_their_range() {
        for (code, kind, retryable) in [
            (40021, ErrorKind::InvalidArgument, false),
            (42999, ErrorKind::Throttled, true),
            (50077, ErrorKind::Unavailable, true),
            (50499, ErrorKind::Timeout, true),
            (50599, ErrorKind::Unsupported, false),
            (7, ErrorKind::Protocol, false),
        ] {
            assert_eq!(classify(code), Class::Failure { kind, retryable }, "{code}");
        }
    }

    #[test]
    fn only_ok_is_success() {
        for code in 0..70_000 {
            assert_eq!(classify(code) == Class::Success, code == Code::Ok as i32, "{code}");
        }
    }
}
