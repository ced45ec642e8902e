use std::fmt;

use crate::v2::Code;

/// What went wrong, in the words of every language's API.
///
/// The first kinds stand for codes of servers (see [`classify`]); the client itself makes the last ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server refused the request as malformed or out of range (codes 400xx).
    InvalidArgument,
    /// The credentials are missing, wrong, or lack a right (40100).
    Unauthenticated,
    /// The server forbids this operation, as on a topic without a writable queue (40300).
    PermissionDenied,
    /// The topic does not exist (40402).
    TopicNotFound,
    /// The consumer group does not exist (40403).
    GroupNotFound,
    /// Something else does not exist (40400, 40401, 40404).
    NotFound,
    /// The topic does not take messages of this type (40014).
    TypeMismatch,
    /// The receipt handle is expired, already used up, or not the server's (40013).
    InvalidReceipt,
    /// Body, properties or headers exceed a limit (413xx, 431xx).
    TooLarge,
    /// The server asks to slow down, or a quota is used up (429xx).
    Throttled,
    /// The server failed or could not be reached (500xx, connection refused or lost).
    Unavailable,
    /// The server does not offer this operation (50100, 505xx).
    Unsupported,
    /// No answer within the time allowed (40800, 504xx, or the caller's own deadline).
    Timeout,
    /// The answer is not valid: no status, an unknown code, or another protocol.
    Protocol,
    /// The options given to the client cannot work.
    InvalidOptions,
    /// The TLS handshake failed, as with a certificate that is not trusted.
    Tls,
    /// The client, producer or consumer is closed.
    Closed,
    /// A defect of the client itself: its code panicked.
    Internal,
}

impl ErrorKind {
    /// The kind's name as every language spells it.
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

/// What a wire code means to a client.
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

/// What a wire code means: its kind, and whether it may be retried.
///
/// A code that the contract does not contain is treated like its family, so that refusals of a newer server are not
/// retried and its temporary failures are.
#[must_use]
pub fn classify(code: i32) -> Class {
    use ErrorKind::*;
    let Ok(known) = Code::try_from(code) else {
        return match code {
            40000..42900 | 43000..50000 => fatal(InvalidArgument),
            42900..43000 => again(Throttled),
            50000..50100 => again(Unavailable),
            50100..50400 | 50500..60000 => fatal(Unsupported),
            50400..50500 => again(Timeout),
            _ => fatal(Protocol),
        };
    };
    match known {
        Code::Ok => Class::Success,
        Code::MultipleResults => Class::PerEntry,
        Code::Unspecified => fatal(Protocol),

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
        | Code::PreconditionFailed => fatal(InvalidArgument),
        Code::InvalidReceiptHandle => fatal(InvalidReceipt),
        Code::MessagePropertyConflictWithType => fatal(TypeMismatch),
        // The server has lost the settings of the client. They are sent again, and then the request.
        Code::UnrecognizedClientType => again(Unavailable),

        Code::Unauthorized => fatal(Unauthenticated),
        Code::PaymentRequired | Code::Forbidden => fatal(PermissionDenied),
        Code::NotFound | Code::MessageNotFound | Code::OffsetNotFound => fatal(NotFound),
        Code::TopicNotFound => fatal(TopicNotFound),
        Code::ConsumerGroupNotFound => fatal(GroupNotFound),

        Code::PayloadTooLarge
        | Code::MessageBodyTooLarge
        | Code::RequestHeaderFieldsTooLarge
        | Code::MessagePropertiesTooLarge => fatal(TooLarge),
        Code::TooManyRequests => again(Throttled),
        Code::LiteTopicQuotaExceeded | Code::LiteSubscriptionQuotaExceeded => fatal(Throttled),

        Code::InternalError | Code::InternalServerError | Code::HaNotAvailable => again(Unavailable),
        Code::RequestTimeout
        | Code::ProxyTimeout
        | Code::MasterPersistenceTimeout
        | Code::SlavePersistenceTimeout => again(Timeout),
        Code::NotImplemented
        | Code::Unsupported
        | Code::VersionUnsupported
        | Code::VerifyFifoMessageUnsupported => fatal(Unsupported),
        Code::FailedToConsumeMessage => fatal(Protocol),
    }
}

const fn again(kind: ErrorKind) -> Class {
    Class::Failure { kind, retryable: true }
}

const fn fatal(kind: ErrorKind) -> Class {
    Class::Failure { kind, retryable: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_codes_are_treated_like_their_family() {
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
