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
        let subscriptions: Vec<Subscribed> = taken(&mut request, "subscriptions")?;
        let mut options = PushConsumerOptions::new(group, subscriptions.into_iter().map(Subscription::from));
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

    fn push_consumer_of(&self, request: &Value) -> Result<PushConsumer, Value> {
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
