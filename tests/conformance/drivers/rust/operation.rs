//! The operations of the protocol, and the handles they make.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rocketmq_thin::{
    CLOSE_DEADLINE, Client, CloseReport, Decision, Delivery, Message, OrphanCheck, Producer, ProducerOptions,
    PushConsumer, SimpleConsumer, SimpleConsumerOptions, Subscription, Transaction,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    answers::Answers,
    consume::Loop,
    convert::{self, Sent, Subscribed, Wanted},
};

#[derive(Default)]
pub(crate) struct Made {
    pub(crate) clients: HashMap<String, Client>,
    producers: HashMap<String, Producer>,
    consumers: HashMap<String, SimpleConsumer>,
    deliveries: HashMap<String, Delivery>,
    pub(crate) streams: HashMap<String, Loop>,
    pub(crate) push_consumers: HashMap<String, PushConsumer>,
    transactions: HashMap<String, Transaction>,
    answers: HashMap<String, Arc<Answers>>,
    count: u64,
}

impl Made {
    fn name(&mut self, prefix: char) -> String {
        self.count += 1;
        format!("{prefix}{}", self.count)
    }
}

/// The features of the protocol that this driver has.
const FEATURES: [&str; 18] = [
    "compression",
    "credentials_provider",
    "drop",
    "health",
    "interceptors",
    "keep_lease",
    "lazy",
    "lite",
    "message_types",
    "metrics",
    "push_consumer",
    "recall",
    "settle",
    "stream",
    "subscribe",
    "tls_options",
    "trace_context",
    "transactions",
];

/// Everything that requests have made so far, and where events go.
pub(crate) struct Handles {
    made: Mutex<Made>,
    pub(crate) events: mpsc::UnboundedSender<Value>,
}

impl Handles {
    pub(crate) fn new(events: mpsc::UnboundedSender<Value>) -> Self {
        Self { made: Mutex::default(), events }
    }

    /// Performs a request; `Err` is the error of the reply.
    pub(crate) async fn perform(&self, mut request: Value) -> Result<Value, Value> {
        match request["op"].as_str().unwrap_or_default() {
            "features" => Ok(json!({"features": FEATURES})),
            "connect" => self.connect(&mut request).await,
            "producer" => self.producer(&mut request).await,
            "consumer" => self.consumer(&mut request).await,
            "send" => {
                let message: Message = taken::<Sent>(&mut request, "message")?.try_into()?;
                let sent = match request["transaction"].is_string() {
                    true => self.transaction(&request)?.send(message).await,
                    false => self.find(&request, "producer", |made| &made.producers)?.send(message).await,
                };
                Ok(convert::receipt(&sent.map_err(|error| convert::error(&error))?))
            }
            "recall" => {
                let (topic, handle): (String, Option<String>) =
                    (taken(&mut request, "topic")?, taken(&mut request, "recall_handle")?);
                let producer = self.find(&request, "producer", |made| &made.producers)?;
                let recalled = producer.recall_by_handle(&topic, handle.as_deref().unwrap_or_default()).await;
                Ok(json!({"message_id": recalled.map_err(|error| convert::error(&error))?}))
            }
            "begin" => {
                let producer = self.find(&request, "producer", |made| &made.producers)?;
                let transaction = producer.begin().map_err(|error| convert::error(&error))?;
                Ok(self.keep('t', transaction, |made| &mut made.transactions))
            }
            "commit" => {
                let committed = self.transaction(&request)?.commit().await;
                committed.map_err(|error| convert::error(&error))?;
                Ok(json!({}))
            }
            "rollback" => {
                let rolled_back = self.transaction(&request)?.rollback().await;
                rolled_back.map_err(|error| convert::error(&error))?;
                Ok(json!({}))
            }
            "release" => {
                self.find(&request, "handle", |made| &made.answers)?.release();
                Ok(json!({}))
            }
            "send_all" => {
                let messages: Vec<Sent> = taken(&mut request, "messages")?;
                let messages: Vec<Message> =
                    messages.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
                let producer = self.find(&request, "producer", |made| &made.producers)?;
                Ok(convert::results(producer.send_all(messages).await, |receipt| convert::receipt(&receipt)))
            }
            "receive" => self.receive(request).await,
            "push_consumer" => self.push_consumer(request).await,
            "pause" => self.pause(&request),
            "resume" => self.resume(&request),
            "health" => self.health(&request),
            "watch" => self.watch(&request),
            "metrics" => self.metrics(&request),
            "subscribe_lite" => self.subscribe_lite(request).await,
            "unsubscribe_lite" => self.unsubscribe_lite(request).await,
            "lite_topics" => self.lite_topics(&request),
            "drop" => self.forget(&request),
            "subscribe" => self.subscribe(request).await,
            "unsubscribe" => self.unsubscribe(request).await,
            "nack" => self.nack(request).await,
            "dead_letter" => self.dead_letter(request).await,
            "keep_lease" => self.keep_lease(request),
            "stream" => self.stream(request),
            "next" => self.next(request).await,
            "ack" => {
                let (consumer, delivery) = (self.consumer_of(&request)?, self.delivery_of(&request)?);
                consumer.ack(&delivery).await.map_err(|error| convert::error(&error))?;
                Ok(json!({}))
            }
            "ack_all" => {
                let deliveries = self.deliveries(&mut request)?;
                let consumer = self.find(&request, "consumer", |made| &made.consumers)?;
                Ok(convert::results(consumer.ack_all(&deliveries).await, |()| json!({})))
            }
            "change_invisible" => {
                let (consumer, delivery) = (self.consumer_of(&request)?, self.delivery_of(&request)?);
                let invisible = Duration::from_millis(taken(&mut request, "invisible_ms")?);
                let changed = consumer.change_invisible(&delivery, invisible).await;
                changed.map_err(|error| convert::error(&error))?;
                Ok(json!({}))
            }
            "close" => self.close(&request).await,
            other => Err(convert::foreign(&format!("no operation is called {other}"))),
        }
    }

    async fn producer(&self, request: &mut Value) -> Result<Value, Value> {
        let topics: Option<Vec<String>> = taken(request, "topics")?;
        let checker: Option<HashMap<String, Vec<Value>>> = taken(request, "checker")?;
        let mut options = ProducerOptions::new(topics.unwrap_or_default());
        options.compress_above = taken(request, "compress_above")?;
        let client = self.find(request, "client", |made| &made.clients)?;
        let producer = client.producer(options).await.map_err(|error| convert::error(&error))?;
        let kept = self.keep('p', producer.clone(), |made| &mut made.producers);
        if let Some(checker) = checker {
            let answers = self.answers(&kept, checker);
            let handle = kept["handle"].clone();
            producer.check_orphans(move |check| checked(handle.clone(), Arc::clone(&answers), check));
        }
        Ok(kept)
    }

    async fn consumer(&self, request: &mut Value) -> Result<Value, Value> {
        let group: String = taken(request, "group")?;
        let subscriptions: Option<Vec<Subscribed>> = taken(request, "subscriptions")?;
        let subscriptions = subscriptions.unwrap_or_default().into_iter().map(Subscription::from);
        let lite: Option<String> = taken(request, "lite")?;
        let options = match lite {
            Some(topic) => SimpleConsumerOptions::lite(group, topic),
            None => SimpleConsumerOptions::new(group, subscriptions),
        };
        let client = self.find(request, "client", |made| &made.clients)?;
        let consumer = client.simple_consumer(options).await;
        let consumer = consumer.map_err(|error| convert::error(&error))?;
        Ok(self.keep('s', consumer, |made| &mut made.consumers))
    }

    async fn receive(&self, request: Value) -> Result<Value, Value> {
        let consumer = self.find(&request, "consumer", |made| &made.consumers)?;
        let wanted: Wanted = serde_json::from_value(request).map_err(|error| convert::foreign(&error))?;
        let received = consumer.receive(wanted.into()).await.map_err(|error| convert::error(&error))?;
        let shown: Vec<Value> = received.into_iter().map(|delivery| self.received(delivery)).collect();
        Ok(json!({"messages": shown}))
    }

    /// Stores a delivery under a new name. Returns its description for the reply.
    pub(crate) fn received(&self, delivery: Delivery) -> Value {
        let mut made = self.lock();
        let name = made.name('d');
        let shown = convert::delivery(&name, &delivery);
        made.deliveries.insert(name, delivery);
        shown
    }

    /// Removes the object that a handle names.
    fn forget(&self, request: &Value) -> Result<Value, Value> {
        let name = request["handle"].as_str().unwrap_or_default();
        let mut made = self.lock();
        let Made { clients, producers, consumers, deliveries, streams, push_consumers, transactions, .. } =
            &mut *made;
        let found = [
            clients.remove(name).is_some(),
            producers.remove(name).is_some(),
            consumers.remove(name).is_some(),
            deliveries.remove(name).is_some(),
            streams.remove(name).is_some(),
            push_consumers.remove(name).is_some(),
            transactions.remove(name).is_some(),
        ];
        if found.contains(&true) { Ok(json!({})) } else { Err(unknown(name)) }
    }

    pub(crate) fn client_of(&self, request: &Value) -> Result<Client, Value> {
        self.find(request, "client", |made| &made.clients)
    }

    pub(crate) fn consumer_of(&self, request: &Value) -> Result<SimpleConsumer, Value> {
        self.find(request, "consumer", |made| &made.consumers)
    }

    pub(crate) fn delivery_of(&self, request: &Value) -> Result<Delivery, Value> {
        self.find(request, "delivery", |made| &made.deliveries)
    }

    async fn close(&self, request: &Value) -> Result<Value, Value> {
        let deadline = request["deadline_ms"].as_u64().map_or(CLOSE_DEADLINE, Duration::from_millis);
        let reported = |report: CloseReport| Ok(json!({"report": convert::report(&report)}));
        if let Ok(client) = self.find(request, "handle", |made| &made.clients) {
            return reported(client.close(deadline).await);
        }
        if let Ok(producer) = self.find(request, "handle", |made| &made.producers) {
            return reported(producer.close(deadline).await);
        }
        if let Ok(stream) = self.find(request, "handle", |made| &made.streams) {
            drop(stream.lock().await.take());
            return Ok(json!({}));
        }
        if let Ok(consumer) = self.find(request, "handle", |made| &made.push_consumers) {
            return reported(consumer.close(deadline).await);
        }
        let consumer = self.find(request, "handle", |made| &made.consumers)?;
        reported(consumer.close(deadline).await)
    }

    fn deliveries(&self, request: &mut Value) -> Result<Vec<Delivery>, Value> {
        let names: Vec<String> = taken(request, "deliveries")?;
        let made = self.lock();
        let find = |name: &String| made.deliveries.get(name).cloned().ok_or_else(|| unknown(name));
        names.iter().map(find).collect()
    }

    /// Stores an object under a new name. Returns the reply that contains the name.
    pub(crate) fn keep<T>(
        &self,
        prefix: char,
        thing: T,
        among: impl Fn(&mut Made) -> &mut HashMap<String, T>,
    ) -> Value {
        let mut made = self.lock();
        let name = made.name(prefix);
        among(&mut made).insert(name.clone(), thing);
        json!({"handle": name})
    }

    fn transaction(&self, request: &Value) -> Result<Transaction, Value> {
        self.find(request, "transaction", |made| &made.transactions)
    }

    /// Creates the answers of an object that was just stored. `kept` is the reply that contains its name.
    pub(crate) fn answers(&self, kept: &Value, by_tag: HashMap<String, Vec<Value>>) -> Arc<Answers> {
        let answers = Arc::new(Answers::new(by_tag, self.events.clone()));
        let name = kept["handle"].as_str().unwrap_or_default().to_owned();
        self.lock().answers.insert(name, Arc::clone(&answers));
        answers
    }

    /// Finds the object that the request's `field` names.
    pub(crate) fn find<T: Clone>(
        &self,
        request: &Value,
        field: &str,
        among: impl Fn(&Made) -> &HashMap<String, T>,
    ) -> Result<T, Value> {
        let name = request[field].as_str().unwrap_or_default();
        among(&self.lock()).get(name).cloned().ok_or_else(|| unknown(name))
    }

    fn lock(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a scripted checker does.
async fn checked(handle: Value, answers: Arc<Answers>, check: OrphanCheck) -> Decision {
    let OrphanCheck { message, message_id, transaction_id, .. } = &check;
    let body = BASE64_STANDARD.encode(&message.body);
    answers.report(json!({"event": "asked", "handle": handle, "body": body, "message_id": message_id,
        "transaction_id": transaction_id}));
    let answer = answers.next(message.tag.as_deref(), message_id, "commit").await;
    match answer.as_str() {
        Some("commit") => Decision::Commit,
        Some("rollback") => Decision::Rollback,
        Some("throw") => std::panic::resume_unwind(Box::new("as the script says")),
        _ => Decision::Unknown,
    }
}

fn unknown(name: &str) -> Value {
    convert::foreign(&format!("nothing is called {name:?}"))
}

pub(crate) fn taken<T: DeserializeOwned>(request: &mut Value, field: &str) -> Result<T, Value> {
    serde_json::from_value(request[field].take())
        .map_err(|error| convert::foreign(&format!("{field}: {error}")))
}
