//! Sets up message trace and the topic that it writes to.

use std::sync::{Arc, Weak};

use tokio::sync::mpsc;

use super::error::AppError;
use crate::layer::{MessageTrace, MessageTraceConfig};
use crate::processor::ClusterRouter;
use crate::service::names::TRACE_TOPIC;
use crate::service::{DeadLetter, ServiceErrorKind, TopicConfig, TopicKind};

/// The number of queues of the trace topic, as Apache's brokers create it.
const QUEUES: i32 = 1;

/// Opens message trace if it is configured. Creates the trace topic in the embedded broker; Apache's brokers create it
/// themselves if `traceTopicEnable` is set there.
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

/// Records the dead letters that a broker creates on its own, until the broker or the trace is closed. The trace is held
/// weakly, because it holds the broker that it writes to and must be able to close first.
async fn record(mut letters: mpsc::Receiver<DeadLetter>, trace: Weak<MessageTrace>) {
    while let Some(DeadLetter { topic, group, message }) = letters.recv().await {
        let Some(trace) = trace.upgrade() else { return };
        trace.record_dead_letter(&topic, &group, &message);
    }
}
