//! EndTransaction.

use rocketmq_thin_proto::v2 as pb;

use super::shared::Shared;
use super::{convert, status};
use crate::context::Context;
use crate::error::Error;
use crate::processor::EndTransactionCommand;
use crate::service::Resolution;

pub(super) async fn end(
    shared: &Shared,
    context: &Context,
    request: pb::EndTransactionRequest,
) -> Result<pb::EndTransactionResponse, Error> {
    let command = EndTransactionCommand {
        resolution: match request.resolution() {
            pb::TransactionResolution::Commit => Some(Resolution::Commit),
            pb::TransactionResolution::Rollback => Some(Resolution::Rollback),
            pb::TransactionResolution::Unspecified => None,
        },
        answers_check: request.source() == pb::TransactionSource::SourceServerCheck,
        topic: convert::name(request.topic),
        message_id: request.message_id,
        transaction_id: request.transaction_id,
    };
    shared.processor.run(context, command).await?;
    Ok(pb::EndTransactionResponse { status: Some(status::ok()) })
}
