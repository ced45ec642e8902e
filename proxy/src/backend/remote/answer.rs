//! Turns brokers' answers and failed calls into results and [`ServiceError`]s.

use super::error::CallError;
use super::name_servers::LookupError;
use crate::remoting::{RemotingCommand, response};
use crate::service::{ServiceError, ServiceErrorKind};

/// Converts a broker's refusal to an error, as the processors of Apache's brokers 5.5.0 use the codes.
pub(super) fn refusal(answer: &RemotingCommand) -> ServiceError {
    use ServiceErrorKind::*;
    let kind = match answer.code {
        response::SYSTEM_BUSY | response::POLLING_FULL | response::FLOW_CONTROL => Busy,
        response::REQUEST_CODE_NOT_SUPPORTED => Unsupported,
        response::MESSAGE_ILLEGAL | response::INVALID_PARAMETER | response::ILLEGAL_OPERATION => Rejected,
        response::SERVICE_NOT_AVAILABLE => Unavailable,
        response::NO_PERMISSION => Forbidden,
        response::TOPIC_NOT_EXIST => TopicNotFound,
        response::SUBSCRIPTION_PARSE_FAILED => IllegalFilter,
        response::SUBSCRIPTION_GROUP_NOT_EXIST => GroupNotFound,
        response::NO_MESSAGE => InvalidHandle,
        response::LMQ_QUOTA_EXCEEDED => LiteTopicQuota,
        response::LITE_SUBSCRIPTION_QUOTA_EXCEEDED => LiteSubscriptionQuota,
        _ => Internal,
    };
    let text = answer.remark.clone().unwrap_or_else(|| format!("the broker answered code {}", answer.code));
    ServiceError::new(kind, text)
}

/// Returns the answer if its code is `SUCCESS`, else its [`refusal`].
pub(super) fn success(answer: RemotingCommand) -> Result<RemotingCommand, ServiceError> {
    if answer.code == response::SUCCESS { Ok(answer) } else { Err(refusal(&answer)) }
}

/// Reads a header field that must be present, and fails if it is missing or malformed.
pub(super) fn required<T: std::str::FromStr>(
    answer: &RemotingCommand,
    field: &str,
) -> Result<T, ServiceError> {
    answer.number(field).ok_or_else(|| {
        ServiceError::new(ServiceErrorKind::Internal, format!("the broker's answer has no usable {field}"))
    })
}

impl From<CallError> for ServiceError {
    fn from(error: CallError) -> Self {
        let kind = match &error {
            CallError::Lost { sent: true, .. } => ServiceErrorKind::Unanswered,
            CallError::Connect { .. }
            | CallError::NotConnected { .. }
            | CallError::Backlog { .. }
            | CallError::Lost { .. }
            | CallError::ShuttingDown { .. } => ServiceErrorKind::Unavailable,
            CallError::Unsendable { .. } => ServiceErrorKind::Rejected,
            CallError::Timeout { .. } => ServiceErrorKind::Timeout,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<LookupError> for ServiceError {
    fn from(error: LookupError) -> Self {
        Self::new(ServiceErrorKind::Unavailable, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_conversion_keeps_maybe_done() {
        let address = || "b:1".to_owned();
        for error in [
            CallError::Connect { address: address(), reason: String::new() },
            CallError::NotConnected { address: address(), within: Duration::from_secs(3) },
            CallError::Backlog { address: address() },
            CallError::Unsendable { reason: String::new() },
            CallError::Lost { address: address(), answered: true, sent: false },
            CallError::Lost { address: address(), answered: true, sent: true },
            CallError::ShuttingDown { address: address() },
            CallError::Timeout { address: address(), within: Duration::from_secs(3) },
        ] {
            let maybe_done = error.maybe_done();
            assert_eq!(ServiceError::from(error.clone()).kind.maybe_done(), maybe_done, "{error}");
        }
    }
}
