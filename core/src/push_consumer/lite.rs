//! The operations of a lite push consumer.

use std::sync::Arc;

use super::PushConsumer;
use crate::{
    error::Result,
    lite::{LiteTopics, lite_functions},
};

lite_functions!(PushConsumer, "PushConsumerOptions::lite");

impl PushConsumer {
    fn lite(&self) -> Option<&Arc<LiteTopics>> {
        self.0.0.lite.as_ref()
    }

    async fn run(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<()>> + Send + 'static,
    ) -> Result<()> {
        self.0.0.member.run(operation, work).await
    }
}
