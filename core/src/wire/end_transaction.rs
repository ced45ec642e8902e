//! Builds EndTransaction requests, and reads their results.

use rocketmq_thin_proto::v2;

use crate::{error::Error, options::Endpoints, rpc::CallContext};

/// A message that is stored, but not delivered until its transaction is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HalfMessage {
    pub(crate) topic: String,
    pub(crate) message_id: String,
    pub(crate) transaction_id: String,
    /// The server that stored the message, and gets the decision.
    pub(crate) server: Endpoints,
}

/// The decision about a half message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransactionEnd {
    /// Whether to deliver the message. Otherwise it is dropped.
    pub(crate) commit: bool,
    /// Whether the decision is the reply to an orphan check of the server.
    pub(crate) by_server_check: bool,
}

pub(crate) fn build_end_transaction(
    topic: v2::Resource,
    half: &HalfMessage,
    end: TransactionEnd,
) -> v2::EndTransactionRequest {
    let resolution =
        if end.commit { v2::TransactionResolution::Commit } else { v2::TransactionResolution::Rollback };
    let source = if end.by_server_check {
        v2::TransactionSource::SourceServerCheck
    } else {
        v2::TransactionSource::SourceClient
    };
    v2::EndTransactionRequest {
        topic: Some(topic),
        message_id: half.message_id.clone(),
        transaction_id: half.transaction_id.clone(),
        resolution: resolution.into(),
        source: source.into(),
        trace_context: String::new(),
    }
}

pub(crate) fn process_end_transaction(
    call: &CallContext,
    response: &v2::EndTransactionResponse,
) -> Result<(), Error> {
    call.check(response.status.as_ref()).map(drop)
}
