//! Message trace, and the topic that it needs.

use std::sync::Arc;

use super::AppError;
use crate::layer::{MessageTrace, MessageTraceConfig};
use crate::processor::ClusterRouter;
use crate::service::names::TRACE_TOPIC;
use crate::service::{ServiceErrorKind, TopicConfig, TopicKind};

/// Queues of the trace topic, as Apache's brokers create it.
const QUEUES: i32 = 1;

/// Message trace, if it is configured. The embedded broker gets the topic; Apache's brokers have it, or are to be given it by
/// their operator.
///
/// # Errors
/// The topic can't be created.
pub(super) async fn open(
    config: &MessageTraceConfig,
    router: &ClusterRouter,
    is_merged: bool,
) -> Result<Option<Arc<MessageTrace>>, AppError> {
    if !config.is_enabled() {
        return Ok(None);
    }
    let services = router.services_of(TRACE_TOPIC);
    if is_merged {
        let topic = TopicConfig::new(TRACE_TOPIC.to_owned(), TopicKind::Normal, QUEUES);
        match services.metadata.create_topic(topic, false).await {
            Err(error) if error.kind != ServiceErrorKind::AlreadyExists => {
                return Err(AppError::Catalog(error.into()));
            }
            _ => {}
        }
    }
    Ok(Some(Arc::new(MessageTrace::new(config, services.messages.clone()))))
}
