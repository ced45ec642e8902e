//! The operations of a lite push consumer.

use std::sync::Arc;

use super::PushConsumer;
use crate::lite::{LiteTopics, lite_functions};

lite_functions!(PushConsumer, "PushConsumerOptions::lite");

impl PushConsumer {
    fn lite(&self) -> Option<&Arc<LiteTopics>> {
        self.0.0.lite.as_ref()
    }
}
