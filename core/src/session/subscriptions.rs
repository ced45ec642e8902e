//! Changes of a consumer's subscriptions at run time.

use std::{sync::Arc, time::Instant};

use futures::future::try_join_all;

use super::{Session, StreamState, wait_until};
use crate::{
    error::Error,
    options::Subscription,
    rpc::{Channel, RetryDecision, retry_decision},
    wire::Role,
};

impl Session {
    /// Changes the subscriptions of a consumer, and waits until the servers that it is connected to have them.
    ///
    /// A server that can't be reached in time gets them when its stream reopens.
    ///
    /// # Errors
    ///
    /// The refusal of a server. The change is undone then.
    pub(crate) async fn change_subscriptions(
        &self,
        deadline: Instant,
        change: impl FnOnce(&mut Vec<Subscription>),
    ) -> Result<(), Error> {
        let Some(before) = self.replace_subscriptions(|subscriptions| change(subscriptions)) else {
            return Ok(());
        };
        let deadline = deadline.min(crate::options::deadline(Instant::now(), self.options().request_timeout));
        let channels = self.inner.channels(|_| true);
        let sent = try_join_all(channels.iter().map(|channel| self.send_settings(channel, deadline))).await;
        if let Err(error) = sent {
            self.replace_subscriptions(|subscriptions| *subscriptions = before);
            for stream in self.inner.streams.lock().values() {
                stream.resend();
            }
            return Err(error);
        }
        Ok(())
    }

    /// Applies `change`. Returns the subscriptions before it; `None` for a producer.
    fn replace_subscriptions(
        &self,
        change: impl FnOnce(&mut Vec<Subscription>),
    ) -> Option<Vec<Subscription>> {
        match &mut *self.inner.role.lock() {
            Role::Consumer { subscriptions, .. } => {
                let before = subscriptions.clone();
                change(subscriptions);
                Some(before)
            }
            Role::Producer { .. } => None,
        }
    }

    /// Sends the settings over one stream, and waits for the server's response.
    async fn send_settings(&self, channel: &Arc<Channel>, deadline: Instant) -> Result<(), Error> {
        let stream = self.inner.stream(channel);
        let mut state = stream.watch();
        let before = match &*state.borrow_and_update() {
            StreamState::Ready { received } => *received,
            // A new stream sends the new settings as its first command.
            StreamState::Opening { .. } => return Ok(()),
        };
        stream.resend();
        let _ = wait_until(&mut state, deadline, |state| match state {
            StreamState::Ready { received } => *received > before,
            StreamState::Opening { .. } => true,
        })
        .await;
        match &*state.borrow() {
            StreamState::Opening { error: Some(error), .. }
                if retry_decision(error) == RetryDecision::Fail =>
            {
                Err(error.clone())
            }
            _ => Ok(()),
        }
    }
}
