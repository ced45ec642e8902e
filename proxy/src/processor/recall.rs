use super::send::{accepts, type_of_topic};
use super::{Processor, validate};
use crate::context::Context;
use crate::error::Error;
use crate::service::TopicKind;

impl Processor {
    /// Calls back a DELAY message that is not delivered yet, and returns its id.
    ///
    /// # Errors
    /// In this order: `IllegalTopic`, `TypeMismatch` (a topic without DELAY messages, or none), `BadRequest` (no such
    /// handle, or too late), then the backend's failures.
    pub async fn recall(&self, context: &Context, topic: &str, handle: &str) -> Result<String, Error> {
        validate::topic(topic)?;
        let services = self.services(context, topic);
        accepts(type_of_topic(services, topic).await?, TopicKind::Delay)?;
        let deadline = context.deadline_within(self.limits.call);
        let recalled = services.messages.recall(topic, handle, deadline).await;
        recalled.map_err(|error| Error::on_topic(error, topic))
    }
}
