//! The operations of a lite simple consumer.

use std::sync::Arc;

use super::SimpleConsumer;
use crate::lite::{LiteTopics, lite_functions};

lite_functions!(SimpleConsumer, "SimpleConsumerOptions::lite");

impl SimpleConsumer {
    pub(super) fn lite(&self) -> Option<&Arc<LiteTopics>> {
        self.0.lite.as_ref()
    }
}
