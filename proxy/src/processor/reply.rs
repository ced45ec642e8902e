//! Passes replies to requests of classic clients. Replies are not stored.

use super::Processor;
use super::command::Command;
use super::environment::Environment;
use crate::context::Context;
use crate::error::Error;
use crate::layer::{Names, OperationKind, Size};
use crate::service::Reply;

/// Passes a reply to a client that is connected to another proxy.
///
/// # Errors
/// `BadRequest` if no proxy has announced the client, or the backend's failure.
#[derive(Clone, Debug)]
pub struct ReplyCommand {
    /// The reply.
    pub reply: Reply,
}

impl Command for ReplyCommand {
    type Answer = ();
    const KIND: OperationKind = OperationKind::Send;

    fn topics(&self) -> &dyn Names {
        &self.reply.topic
    }

    fn size(&self) -> Size {
        Size::of_bodies(std::iter::once(&*self.reply.body))
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<(), Error> {
        let services = environment.services(context, &self.reply.topic);
        let deadline = context.deadline_within(environment.limits.call);
        Ok(services.broker_requests.reply(self.reply, deadline).await?)
    }
}

impl Processor {
    /// Records that a classic client sends requests. From now on, brokers pass replies for the client to this proxy.
    pub fn awaits_replies(&self, context: &Context) {
        self.environment.clients.record_requester(context);
    }
}
