//! The service `apache.rocketmq.v2.Admin`: the only call of administration in Apache's contract.

use std::sync::Arc;

use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proto::v2::admin_server::Admin;
use rocketmq_thin_proto::v2::change_log_level_request::Level;
use tonic::{Request, Response, Status};

use crate::log_level::{LogControl, LogLevel};

/// Implements the service.
pub(super) struct LogAdministration(pub(super) Arc<LogControl>);

#[tonic::async_trait]
impl Admin for LogAdministration {
    async fn change_log_level(
        &self,
        request: Request<pb::ChangeLogLevelRequest>,
    ) -> Result<Response<pb::ChangeLogLevelResponse>, Status> {
        let level = match request.into_inner().level() {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        };
        match self.0.set(level) {
            Some(Ok(())) => {
                let remark = format!("the log level is {} until the next start", level.name());
                Ok(Response::new(pb::ChangeLogLevelResponse { remark }))
            }
            Some(Err(error)) => Err(Status::internal(format!("the log level can't be changed: {error}"))),
            None => Err(Status::unimplemented("this process can't change its log level at run time")),
        }
    }
}
