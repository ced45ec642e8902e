//! The operations of the protocol, and the handles they make.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rocketmq_thin::{
    CLOSE_DEADLINE, Client, CloseReport, Delivery, Message, Producer, ProducerOptions, SimpleConsumer,
    SimpleConsumerOptions, Subscription,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::convert::{self, Options, Sent, Subscribed, Wanted};

#[derive(Default)]
struct Made {
    clients: HashMap<String, Client>,
    producers: HashMap<String, Producer>,
    consumers: HashMap<String, SimpleConsumer>,
    deliveries: HashMap<String, Delivery>,
    count: u64,
}

impl Made {
    fn name(&mut self, prefix: char) -> String {
        self.count += 1;
        format!("{prefix}{}", self.count)
    }
}

/// Everything that requests have made so far.
#[derive(Default)]
pub(crate) struct Handles(Mutex<Made>);

impl Handles {
    /// Performs a request; `Err` is the error of the reply.
    pub(crate) async fn perform(&self, mut request: Value) -> Result<Value, Value> {
        match request["op"].as_str().unwrap_or_default() {
            "connect" => self.connect(&mut request).await,
            "producer" => self.producer(&mut request).await,
            "consumer" => self.consumer(&mut request).await,
            "send" => {
                let message: Message = taken::<Sent>(&mut request, "message")?.try_into()?;
                let producer = self.find(&request, "producer", |made| &made.producers)?;
                let receipt = producer.send(message).await.map_err(|error| convert::error(&error))?;
                Ok(convert::receipt(&receipt))
            }
            "send_all" => {
                let messages: Vec<Sent> = taken(&mut request, "messages")?;
                let messages: Vec<Message> =
                    messages.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
                let producer = self.find(&request, "producer", |made| &made.producers)?;
                Ok(convert::results(producer.send_all(messages).await, |receipt| convert::receipt(&receipt)))
            }
            "receive" => self.receive(request).await,
            "ack" => {
                let delivery = self.find(&request, "delivery", |made| &made.deliveries)?;
                let consumer = self.find(&request, "consumer", |made| &made.consumers)?;
                consumer.ack(&delivery).await.map_err(|error| convert::error(&error))?;
                Ok(json!({}))
            }
            "ack_all" => {
                let deliveries = self.deliveries(&mut request)?;
                let consumer = self.find(&request, "consumer", |made| &made.consumers)?;
                Ok(convert::results(consumer.ack_all(&deliveries).await, |()| json!({})))
            }
            "change_invisible" => {
                let delivery = self.find(&request, "delivery", |made| &made.deliveries)?;
                let consumer = self.find(&request, "consumer", |made| &made.consumers)?;
                let invisible = Duration::from_millis(taken(&mut request, "invisible_ms")?);
                let changed = consumer.change_invisible(&delivery, invisible).await;
                changed.map_err(|error| convert::error(&error))?;
                Ok(json!({}))
            }
            "close" => self.close(&request).await,
            other => Err(convert::foreign(&format!("no operation is called {other}"))),
        }
    }

    async fn connect(&self, request: &mut Value) -> Result<Value, Value> {
        let options: Options = taken(request, "options")?;
        let client = Client::connect(options.into()).await.map_err(|error| convert::error(&error))?;
        let mut made = self.lock();
        let name = made.name('c');
        made.clients.insert(name.clone(), client);
        Ok(json!({"handle": name}))
    }

    async fn producer(&self, request: &mut Value) -> Result<Value, Value> {
        let topics: Option<Vec<String>> = taken(request, "topics")?;
        let client = self.find(request, "client", |made| &made.clients)?;
        let producer = client.producer(ProducerOptions::new(topics.unwrap_or_default())).await;
        let producer = producer.map_err(|error| convert::error(&error))?;
        let mut made = self.lock();
        let name = made.name('p');
        made.producers.insert(name.clone(), producer);
        Ok(json!({"handle": name}))
    }

    async fn consumer(&self, request: &mut Value) -> Result<Value, Value> {
        let group: String = taken(request, "group")?;
        let subscriptions: Vec<Subscribed> = taken(request, "subscriptions")?;
        let client = self.find(request, "client", |made| &made.clients)?;
        let subscriptions = subscriptions.into_iter().map(Subscription::from);
        let consumer = client.simple_consumer(SimpleConsumerOptions::new(group, subscriptions)).await;
        let consumer = consumer.map_err(|error| convert::error(&error))?;
        let mut made = self.lock();
        let name = made.name('s');
        made.consumers.insert(name.clone(), consumer);
        Ok(json!({"handle": name}))
    }

    async fn receive(&self, request: Value) -> Result<Value, Value> {
        let consumer = self.find(&request, "consumer", |made| &made.consumers)?;
        let wanted: Wanted = serde_json::from_value(request).map_err(|error| convert::foreign(&error))?;
        let received = consumer.receive(wanted.into()).await.map_err(|error| convert::error(&error))?;
        let mut made = self.lock();
        let show = |delivery: Delivery| {
            let name = made.name('d');
            let shown = convert::delivery(&name, &delivery);
            made.deliveries.insert(name, delivery);
            shown
        };
        Ok(json!({"messages": received.into_iter().map(show).collect::<Vec<_>>()}))
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
        let consumer = self.find(request, "handle", |made| &made.consumers)?;
        reported(consumer.close(deadline).await)
    }

    fn deliveries(&self, request: &mut Value) -> Result<Vec<Delivery>, Value> {
        let names: Vec<String> = taken(request, "deliveries")?;
        let made = self.lock();
        let find = |name: &String| made.deliveries.get(name).cloned().ok_or_else(|| unknown(name));
        names.iter().map(find).collect()
    }

    /// The thing that the request's `field` names.
    fn find<T: Clone>(
        &self,
        request: &Value,
        field: &str,
        among: impl Fn(&Made) -> &HashMap<String, T>,
    ) -> Result<T, Value> {
        let name = request[field].as_str().unwrap_or_default();
        among(&self.lock()).get(name).cloned().ok_or_else(|| unknown(name))
    }

    fn lock(&self) -> MutexGuard<'_, Made> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(name: &str) -> Value {
    convert::foreign(&format!("nothing is called {name:?}"))
}

fn taken<T: DeserializeOwned>(request: &mut Value, field: &str) -> Result<T, Value> {
    serde_json::from_value(request[field].take())
        .map_err(|error| convert::foreign(&format!("{field}: {error}")))
}
