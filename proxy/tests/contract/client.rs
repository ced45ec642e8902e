//! A test client: shorthands for the calls and messages that cases need.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Semaphore;

use rocketmq_thin_proxy::service::{
    AckOutcome, Acknowledge, ChangeInvisible, Delay, Delivered, Delivery, Filter, Forward, InvisibleOutcome,
    Message, NextAttempt, QueueRef, Receive, ServiceError, ServiceErrorKind, Services, Settle, StoreReceipt,
    TopicConfig, TopicKind, Whence,
};

/// How long a case waits before it fails. Long enough for a slow machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
/// A lease that outlasts a case.
pub(crate) const LONG: Duration = Duration::from_secs(600);
/// A lease that expires soon.
pub(crate) const SHORT: Duration = Duration::from_millis(50);

/// A client with a topic and a group of its own.
pub(crate) struct Client {
    pub(crate) services: Services,
    pub(crate) topic: String,
    pub(crate) group: String,
}

impl Client {
    /// Creates a client with a topic and a group that no other case uses.
    pub(crate) fn new(services: Services) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        Self { services, topic: format!("topic-{id}-{number}"), group: format!("group-{id}-{number}") }
    }

    /// As [`Client::new`], and creates the topic with this many queues.
    pub(crate) async fn with_queues(services: Services, queues: i32) -> Self {
        let client = Self::new(services);
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let created = client.services.metadata.create_topic(client.topic_config(queues), false).await;
            if !is_flow_control(&created, deadline) {
                created.expect("a new topic");
                return client;
            }
        }
    }

    /// A client of the same topic in another group.
    pub(crate) fn other_group(&self) -> Self {
        let group = format!("{}-other", self.group);
        Self { services: self.services.clone(), topic: self.topic.clone(), group }
    }

    /// The topic's configuration with this many queues.
    pub(crate) fn topic_config(&self, queues: i32) -> TopicConfig {
        TopicConfig::new(self.topic.clone(), TopicKind::Mixed, queues)
    }

    pub(crate) async fn send(&self, messages: Vec<Message>) -> Vec<StoreReceipt> {
        self.try_send(messages).await.expect("a send")
    }

    pub(crate) async fn try_send(&self, messages: Vec<Message>) -> Result<Vec<StoreReceipt>, ServiceError> {
        let now = SystemTime::now();
        let waits =
            |delay| matches!(delay, Delay::Unknown) || matches!(delay, Delay::Until(time) if time > now);
        let at_once: Vec<_> =
            messages.iter().map(|message| !message.half && !message.delay.is_some_and(waits)).collect();
        let deadline = Instant::now() + TIMEOUT;
        let mut results = vec![None; messages.len()];
        while results.contains(&None) {
            let open: Vec<_> = (0..results.len()).filter(|index| results[*index].is_none()).collect();
            let batch = open.iter().map(|index| messages[*index].clone()).collect();
            let sent = self.services.messages.send(&self.topic, batch, deadline).await;
            if is_flow_control(&sent, deadline) {
                continue;
            }
            for (index, sent) in open.into_iter().zip(sent?) {
                if !is_flow_control(&sent, deadline) {
                    results[index] = Some(sent?);
                }
            }
        }
        let sent: Vec<StoreReceipt> = results.into_iter().flatten().collect();
        if self.services.metadata.capabilities().offsets {
            let sent = sent.iter().zip(at_once).filter(|(_, at_once)| *at_once);
            // Only the last message of each queue, as it comes after the others.
            let last: BTreeMap<_, _> = sent.map(|(sent, _)| (sent.queue_id, sent.queue_offset)).collect();
            for (queue_id, offset) in last {
                self.arrived(queue_id, offset).await?;
            }
        }
        Ok(sent)
    }

    /// Waits until a message can be received. Apache's brokers add it to its queue shortly after they answer the send.
    async fn arrived(&self, queue_id: i32, offset: i64) -> Result<(), ServiceError> {
        let route = self.services.routes.route(&self.topic).await?;
        let queue = QueueRef {
            topic: &self.topic,
            broker: &route.queues[0].broker,
            id: queue_id,
            deadline: Instant::now() + TIMEOUT,
        };
        // Bounds concurrent queries, as hundreds of them would keep a small broker from storing messages.
        static QUERIES: Semaphore = Semaphore::const_new(4);
        loop {
            let _permit = QUERIES.acquire().await.expect("the semaphore is never closed");
            let end = self.services.offsets.offset(queue, Whence::End).await;
            if !is_flow_control(&end, queue.deadline) && end? > offset {
                return Ok(());
            }
        }
    }

    /// Sends plain messages with these ids, one by one.
    pub(crate) async fn send_ids(&self, ids: impl IntoIterator<Item = impl ToString>) {
        for id in ids {
            self.send(vec![plain(id)]).await;
        }
    }

    /// A request to receive with default values.
    pub(crate) fn request(&self) -> Receive {
        Receive {
            topic: self.topic.clone(),
            group: self.group.clone(),
            broker: None,
            filter: Filter::All,
            max: 32,
            invisible: LONG,
            deadline: Instant::now() + TIMEOUT,
            fifo: false,
            attempt_id: None,
            lite_client: None,
        }
    }

    pub(crate) async fn try_receive(&self, request: Receive) -> Result<Vec<Delivery>, ServiceError> {
        self.services.messages.receive(request).await.map(|delivered| match delivered {
            Delivered::Messages(deliveries) => deliveries,
            Delivered::AllFiltered | Delivered::Nothing => Vec::new(),
        })
    }

    /// Receives once.
    pub(crate) async fn receive(&self, request: Receive) -> Vec<Delivery> {
        self.try_receive(request).await.expect("a receive")
    }

    /// Receives this many messages under long leases.
    pub(crate) async fn receive_all(&self, count: usize) -> Vec<Delivery> {
        let mut all = Vec::new();
        while all.len() < count {
            let deliveries = self.receive(self.request()).await;
            assert!(!deliveries.is_empty(), "only {} of {count} messages were delivered", all.len());
            all.extend(deliveries);
        }
        all
    }

    /// Receives the next message, with a lease of this duration.
    pub(crate) async fn next(&self, invisible: Duration) -> Delivery {
        let deliveries = self.receive(Receive { max: 1, invisible, ..self.request() }).await;
        deliveries.into_iter().next().expect("a message")
    }

    /// Receives without waiting.
    pub(crate) async fn now(&self, request: Receive) -> Vec<Delivery> {
        self.receive(Receive { deadline: Instant::now(), ..request }).await
    }

    /// Asserts that no message can be received now.
    pub(crate) async fn expect_nothing(&self) {
        let deliveries = self.now(self.request()).await;
        assert!(deliveries.is_empty(), "unexpected messages {:?}", ids(&deliveries));
    }

    /// A request to receive in order.
    pub(crate) fn in_order(&self) -> Receive {
        Receive { fifo: true, ..self.request() }
    }

    pub(crate) async fn acknowledge(&self, deliveries: &[Delivery]) -> Vec<AckOutcome> {
        self.acknowledge_entries(deliveries.iter().map(settle).collect()).await
    }

    pub(crate) async fn acknowledge_entries(&self, entries: Vec<Settle>) -> Vec<AckOutcome> {
        let request = Acknowledge {
            topic: self.topic.clone(),
            group: self.group.clone(),
            entries,
            deadline: Instant::now() + TIMEOUT,
        };
        self.services.messages.acknowledge(request).await.expect("an acknowledgement")
    }

    pub(crate) async fn change(
        &self,
        delivery: &Delivery,
        invisible: Duration,
        next_attempt: NextAttempt,
    ) -> InvisibleOutcome {
        let request = ChangeInvisible {
            topic: self.topic.clone(),
            group: self.group.clone(),
            entry: settle(delivery),
            invisible,
            next_attempt,
            deadline: Instant::now() + TIMEOUT,
        };
        self.services.messages.change_invisible(request).await.expect("a change")
    }

    pub(crate) async fn forward(&self, delivery: &Delivery) {
        let request = Forward {
            topic: self.topic.clone(),
            group: self.group.clone(),
            entry: settle(delivery),
            deadline: Instant::now() + TIMEOUT,
        };
        self.services.messages.forward_to_dead_letter(request).await.expect("a forward");
    }
}

/// The entry that settles this delivery.
pub(crate) fn settle(delivery: &Delivery) -> Settle {
    Settle {
        coordinates: delivery.coordinates.clone(),
        message_id: delivery.message.id.clone(),
        lite_topic: None,
        received_at: delivery.received_at,
        invisible: delivery.invisible,
    }
}

/// The delivery under the lease that a change started.
pub(crate) fn changed(delivery: &Delivery, outcome: InvisibleOutcome, invisible: Duration) -> Delivery {
    let InvisibleOutcome::Changed { coordinates, received_at } = outcome else {
        panic!("the lease has ended")
    };
    Delivery { coordinates, received_at, invisible, ..delivery.clone() }
}

/// A message with an id and a body.
pub(crate) fn plain(id: impl ToString) -> Message {
    let id = id.to_string();
    Message { body: format!("body of {id}").into(), id, ..Message::default() }
}

/// A message of a message group.
pub(crate) fn of_group(id: impl ToString, group: &str) -> Message {
    Message { group: Some(group.to_owned()), ..plain(id) }
}

/// A message that is delivered after a delay.
pub(crate) fn delayed(id: impl ToString, delay: Duration) -> Message {
    Message { delay: Some(Delay::Until(SystemTime::now() + delay)), ..plain(id) }
}

/// The ids, in order of delivery.
pub(crate) fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.message.id.as_str()).collect()
}

/// The ids, sorted.
pub(crate) fn sorted_ids(deliveries: &[Delivery]) -> Vec<&str> {
    let mut ids = ids(deliveries);
    ids.sort_unstable();
    ids
}

/// Whether a broker refused a request because too many are waiting. Clients retry such requests.
pub(crate) fn is_flow_control<T>(result: &Result<T, ServiceError>, deadline: Instant) -> bool {
    matches!(result, Err(error) if error.kind == ServiceErrorKind::Busy) && Instant::now() < deadline
}
