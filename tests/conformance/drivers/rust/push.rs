//! Push consumers, whose handlers do what a script says.

use std::{collections::HashMap, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use rocketmq_thin::{ConsumeResult, Delivery, PushConsumer, PushConsumerOptions, Subscription};
use serde_json::{Value, json};

use crate::{
    answers::Answers,
    convert::{self, Subscribed},
    operation::{Handles, taken},
};

impl Handles {
    pub(crate) async fn push_consumer(&self, mut request: Value) -> Result<Value, Value> {
        let group: String = taken(&mut request, "group")?;
        let subscriptions: Option<Vec<Subscribed>> = taken(&mut request, "subscriptions")?;
        let subscriptions = subscriptions.unwrap_or_default().into_iter().map(Subscription::from);
        let lite: Option<String> = taken(&mut request, "lite")?;
        let is_lite = lite.is_some();
        let mut options = match lite {
            Some(topic) => PushConsumerOptions::lite(group, topic),
            None => PushConsumerOptions::new(group, subscriptions),
        };
        if let Some(concurrency) = taken(&mut request, "concurrency")? {
            options.concurrency = concurrency;
        }
        if let Some(messages) = taken(&mut request, "max_cached_messages")? {
            options.max_cached_messages = messages;
        }
        if let Some(bytes) = taken(&mut request, "max_cached_bytes")? {
            options.max_cached_bytes = bytes;
        }
        if let Some(invisible) = taken(&mut request, "invisible_ms")? {
            options.invisible_duration = Duration::from_millis(invisible);
        }
        options.max_rate = taken(&mut request, "max_rate")?;
        let by_tag: Option<HashMap<String, Vec<Value>>> = taken(&mut request, "handler")?;
        let client = self.client_of(&request)?;
        let consumer = client.push_consumer(options).await.map_err(|error| convert::error(&error))?;
        let kept = self.keep('k', consumer.clone(), |made| &mut made.push_consumers);
        let answers = self.answers(&kept, by_tag.unwrap_or_default());
        let handle = kept["handle"].clone();
        let started = consumer.start(move |delivery| handled(handle.clone(), Arc::clone(&answers), delivery));
        started.map_err(|error| convert::error(&error))?;
        if is_lite {
            let revocations = consumer.lite_revocations().map_err(|error| convert::error(&error))?;
            let (handle, events) = (kept["handle"].clone(), self.events.clone());
            tokio::spawn(async move {
                while let Some(lite_topic) = revocations.next().await {
                    let _ =
                        events.send(json!({"event": "revoked", "handle": handle, "lite_topic": lite_topic}));
                }
            });
        }
        Ok(kept)
    }

    pub(crate) fn pause(&self, request: &Value) -> Result<Value, Value> {
        self.push_consumer_of(request)?.pause();
        Ok(json!({}))
    }

    pub(crate) fn resume(&self, request: &Value) -> Result<Value, Value> {
        self.push_consumer_of(request)?.resume();
        Ok(json!({}))
    }

    pub(crate) async fn subscribe_lite(&self, mut request: Value) -> Result<Value, Value> {
        let lite_topic: String = taken(&mut request, "lite_topic")?;
        let from: Option<Value> = taken(&mut request, "from")?;
        let from = from.as_ref().map(convert::offset_option).transpose()?;
        let done = match (self.push_consumer_of(&request), from) {
            (Ok(consumer), None) => consumer.subscribe_lite(&lite_topic).await,
            (Ok(consumer), Some(from)) => consumer.subscribe_lite_from(&lite_topic, from).await,
            (Err(_), None) => self.consumer_of(&request)?.subscribe_lite(&lite_topic).await,
            (Err(_), Some(from)) => self.consumer_of(&request)?.subscribe_lite_from(&lite_topic, from).await,
        };
        done.map_err(|error| convert::error(&error))?;
        Ok(json!({}))
    }

    pub(crate) async fn unsubscribe_lite(&self, mut request: Value) -> Result<Value, Value> {
        let lite_topic: String = taken(&mut request, "lite_topic")?;
        let done = match self.push_consumer_of(&request) {
            Ok(consumer) => consumer.unsubscribe_lite(&lite_topic).await,
            Err(_) => self.consumer_of(&request)?.unsubscribe_lite(&lite_topic).await,
        };
        done.map_err(|error| convert::error(&error))?;
        Ok(json!({}))
    }

    pub(crate) fn lite_topics(&self, request: &Value) -> Result<Value, Value> {
        let lite_topics = match self.push_consumer_of(request) {
            Ok(consumer) => consumer.lite_topics(),
            Err(_) => self.consumer_of(request)?.lite_topics(),
        };
        Ok(json!({"lite_topics": lite_topics}))
    }

    pub(crate) fn push_consumer_of(&self, request: &Value) -> Result<PushConsumer, Value> {
        self.find(request, "consumer", |made| &made.push_consumers)
    }
}

async fn handled(handle: Value, answers: Arc<Answers>, delivery: Delivery) -> ConsumeResult {
    let Delivery { message_id, attempt, message_group, .. } = &delivery;
    let body = BASE64_STANDARD.encode(&delivery.body);
    answers.report(json!({"event": "start", "handle": handle, "body": body, "message_id": message_id,
        "attempt": attempt, "message_group": message_group}));
    let answer = answers.next(delivery.tag.as_deref(), message_id, "ack").await;
    answers.report(json!({"event": "end", "handle": handle, "body": body, "message_id": message_id,
        "answer": answer}));
    match answer.as_str() {
        Some("retry") => ConsumeResult::Retry,
        Some("dead_letter") => ConsumeResult::DeadLetter,
        Some("throw") => std::panic::resume_unwind(Box::new("as the script says")),
        _ => match answer["retry_after_ms"].as_u64() {
            Some(after) => ConsumeResult::RetryAfter(Duration::from_millis(after)),
            None => ConsumeResult::Ack,
        },
    }
}
