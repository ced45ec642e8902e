//! Message trace, and the topic that it needs.

use std::sync::{Arc, Weak};

use tokio::sync::mpsc;

use super::AppError;
use crate::layer::{MessageTrace, MessageTraceConfig};
use crate::processor::ClusterRouter;
use crate::service::names::TRACE_TOPIC;
use crate::service::{DeadLetter, ServiceErrorKind, TopicConfig, TopicKind};

/// Queues of the trace topic, as Apache's brokers create it.
const QUEUES: i32 = 1;

/// Message trace, if it is configured. The embedded broker gets the topic; Apache's brokers make it themselves, if their operator
/// wants it (`traceTopicEnable`).
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
    let trace = Arc::new(MessageTrace::new(config, services.messages.clone()));
    for services in router.all_services() {
        if let Some(letters) = services.messages.dead_letters() {
            tokio::spawn(record(letters, Arc::downgrade(&trace)));
        }
    }
    Ok(Some(trace))
}

/// Records dead letters that a broker makes without being asked, until it is gone. What is recorded is written to that
/// broker: the trace must be able to end first.
async fn record(mut letters: mpsc::Receiver<DeadLetter>, trace: Weak<MessageTrace>) {
    while let Some(DeadLetter { topic, group, message }) = letters.recv().await {
        let Some(trace) = trace.upgrade() else { return };
        trace.dead_lettered(&topic, &group, &message);
    }
}
