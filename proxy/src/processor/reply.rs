//! Replies to requests of classic clients. They are stored nowhere.

use super::Processor;
use super::command::Command;
use super::environment::Environment;
use crate::context::Context;
use crate::error::Error;
use crate::layer::{Names, OperationKind, Size};
use crate::service::Reply;

/// Passes a reply on to a client that waits for it at another proxy.
///
/// # Errors
/// `BadRequest` if no proxy has the client, or the backend's failure.
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
    /// Notes that a classic client sends requests: brokers pass replies to it on to this proxy from now on.
    pub fn awaits_replies(&self, context: &Context) {
        self.environment.clients.awaits_replies(context);
    }
}
