//! Recalls DELAY messages before their delivery.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::Producer;
use crate::{
    error::{Error, ErrorKind, Result},
    message::Receipt,
    route::{QueueChoice, Routes},
    rpc::{RecallMessage, Retry, time_for_request},
    session::Session,
    wire::{build_recall, process_recall},
};

const RECALL: &str = "recall";

impl Producer {
    /// Recalls a DELAY message before its delivery, so that it is not delivered. Returns its message id.
    ///
    /// Another producer, also of another process, can recall the message with
    /// [`recall_by_handle`](Self::recall_by_handle).
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if the receipt has no [`recall_handle`](Receipt::recall_handle). Otherwise the server's
    /// refusal, such as `TypeMismatch` for a topic of another type than DELAY. Apache's servers refuse a recall that
    /// comes too late with code 50001 and, by default, every recall.
    pub async fn recall(&self, receipt: &Receipt) -> Result<String> {
        self.recall_by_handle(&receipt.topic, receipt.recall_handle.as_deref().unwrap_or_default()).await
    }

    /// Recalls a DELAY message of `topic` by its [`recall_handle`](Receipt::recall_handle). Returns its message id.
    ///
    /// # Errors
    ///
    /// As [`recall`](Self::recall); `InvalidArgument` if the handle is empty.
    pub async fn recall_by_handle(&self, topic: &str, handle: &str) -> Result<String> {
        if handle.is_empty() {
            let message = "there is no recall handle; servers give one for DELAY messages that are not due";
            return Err(Error::new(ErrorKind::InvalidArgument, RECALL, message));
        }
        let base = &self.0.base;
        let recall = Recall {
            session: base.session().clone(),
            routes: self.0.routes.clone(),
            topic: topic.to_owned(),
            handle: handle.to_owned(),
        };
        base.run(RECALL, recall.run()).await
    }
}

/// A request to recall one message.
struct Recall {
    session: Arc<Session>,
    routes: Arc<Routes>,
    topic: String,
    handle: String,
}

impl Recall {
    async fn run(self) -> Result<String> {
        let options = self.session.options();
        let deadline = crate::options::deadline(Instant::now(), options.operation_timeout);
        let retry = Retry::new(RECALL, &self.session.retry(), options.request_timeout, deadline);
        retry.run(&*self.session, |limit| self.attempt(limit, deadline)).await
    }

    async fn attempt(&self, limit: Duration, deadline: Instant) -> Result<String> {
        let route = self.routes.get(&self.topic, deadline).await?;
        let queue = route.writable(QueueChoice::RoundRobin(rand::random::<u16>().into()))?;
        let channel = self.session.pool().pick(&queue.endpoints)?;
        let rpc = self.session.rpc();
        let request = build_recall(rpc.resource(&*self.topic), &self.handle);
        let limit = time_for_request(RECALL, deadline, limit)?;
        let answer = rpc.unary::<RecallMessage>(&channel, request, limit).await;
        let (call, response) = answer.map_err(|error| self.session.explain(&channel, error))?;
        process_recall(&call, response)
    }
}
