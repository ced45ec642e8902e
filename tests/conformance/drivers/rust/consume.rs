//! Operations of simple consumers beyond receive and ack.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use rocketmq_thin::{Messages, StreamOptions, Subscription};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    convert,
    operation::{Handles, taken},
};

/// A stream that an application loops over, until it leaves the loop.
pub(crate) type Loop = Arc<Mutex<Option<Messages>>>;

impl Handles {
    pub(crate) async fn subscribe(&self, request: Value) -> Result<Value, Value> {
        let subscription: Subscription = convert::subscription(request.clone())?;
        let done = match self.push_consumer_of(&request) {
            Ok(consumer) => consumer.subscribe(subscription).await,
            Err(_) => self.consumer_of(&request)?.subscribe(subscription).await,
        };
        done.map_err(|error| convert::error(&error))?;
        Ok(json!({}))
    }

    pub(crate) async fn unsubscribe(&self, mut request: Value) -> Result<Value, Value> {
        let topic: String = taken(&mut request, "topic")?;
        let done = match self.push_consumer_of(&request) {
            Ok(consumer) => consumer.unsubscribe(&topic).await,
            Err(_) => self.consumer_of(&request)?.unsubscribe(&topic).await,
        };
        done.map_err(|error| convert::error(&error))?;
        Ok(json!({}))
    }

    pub(crate) async fn nack(&self, mut request: Value) -> Result<Value, Value> {
        let after = Duration::from_millis(taken(&mut request, "after_ms")?);
        let (consumer, delivery) = (self.consumer_of(&request)?, self.delivery_of(&request)?);
        consumer.nack(&delivery, after).await.map_err(|error| convert::error(&error))?;
        Ok(json!({}))
    }

    pub(crate) async fn dead_letter(&self, request: Value) -> Result<Value, Value> {
        let (consumer, delivery) = (self.consumer_of(&request)?, self.delivery_of(&request)?);
        consumer.dead_letter(&delivery).await.map_err(|error| convert::error(&error))?;
        Ok(json!({}))
    }

    pub(crate) fn keep_lease(&self, mut request: Value) -> Result<Value, Value> {
        let max = Duration::from_millis(taken(&mut request, "max_ms")?);
        let (consumer, delivery) = (self.consumer_of(&request)?, self.delivery_of(&request)?);
        consumer.keep_lease(&delivery, max).map_err(|error| convert::error(&error))?;
        Ok(json!({}))
    }

    pub(crate) fn stream(&self, mut request: Value) -> Result<Value, Value> {
        let mut options = StreamOptions::default();
        if let Some(messages) = taken(&mut request, "max_messages")? {
            options.max_messages = messages;
        }
        if let Some(bytes) = taken(&mut request, "max_bytes")? {
            options.max_bytes = bytes;
        }
        if let Some(invisible) = taken(&mut request, "invisible_ms")? {
            options.invisible_duration = Duration::from_millis(invisible);
        }
        let messages =
            self.consumer_of(&request)?.messages(options).map_err(|error| convert::error(&error))?;
        Ok(self.keep('m', Arc::new(Mutex::new(Some(messages))), |made| &mut made.streams))
    }

    pub(crate) async fn next(&self, request: Value) -> Result<Value, Value> {
        let stream: Loop = self.find(&request, "stream", |made| &made.streams)?;
        let mut stream = stream.lock().await;
        let next = match stream.as_mut() {
            Some(messages) => messages.next().await,
            None => None,
        };
        let next = next.transpose().map_err(|error| convert::error(&error))?;
        Ok(json!({"message": next.map(|delivery| self.received(delivery))}))
    }
}
