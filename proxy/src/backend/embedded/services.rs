//! Implements the service traits for the broker.

use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::blocking::blocking;
use super::broker::Broker;
use super::catalog::IfExists;
use super::filter::Matcher;
use super::lite_settle::LiteCoordinates;
use super::settle::deleted;
use crate::service::{
    AckOutcome, Acknowledge, BrokerInfo, BrokerRequest, BrokerRequests, Capabilities, Change,
    ChangeInvisible, CheckOutcome, DeadLetter, Delivered, EndTransaction, Filter, Forward, GroupConfig,
    InvisibleOutcome, Message, Messages, Metadata, QueueRange, Receive, Route, Routes, ServiceError,
    StoreReceipt, TopicConfig, TopicKind, Transactions,
};

/// The default cluster name of Apache's brokers.
const CLUSTER: &str = "DefaultCluster";

#[async_trait]
impl Messages for Broker {
    async fn send(
        &self,
        topic: &str,
        messages: Vec<Message>,
        deadline: Instant,
    ) -> Result<Vec<Result<StoreReceipt, ServiceError>>, ServiceError> {
        if messages.iter().any(|message| message.lite_topic.is_some()) {
            let topic = self.topic(topic).await?;
            if topic.kind() == TopicKind::Lite {
                return self.store_lite_messages(&topic, messages, deadline).await;
            }
        }
        // Either all messages are stored, or none.
        let stored = self.store_messages(topic, messages, deadline).await?;
        Ok(stored.into_iter().map(Ok).collect())
    }

    async fn receive(&self, request: Receive) -> Result<Delivered, ServiceError> {
        match request.lite_client.clone() {
            Some(client) => self.receive_from_lite_topics(request, &client).await,
            None => self.receive_messages(request).await,
        }
    }

    async fn check_filter(&self, filter: Filter, _: Instant) -> Result<(), ServiceError> {
        Matcher::new(filter).map(drop)
    }

    async fn acknowledge(&self, request: Acknowledge) -> Result<Vec<AckOutcome>, ServiceError> {
        if request.entries.iter().any(|entry| LiteCoordinates::of(&entry.coordinates).is_some()) {
            return self.acknowledge_lite_entries(request).await;
        }
        match self.catalog.topic(&request.topic) {
            Some(topic) => self.acknowledge_entries(&topic, request).await,
            None => Ok(vec![AckOutcome::Invalid(deleted("topic").message); request.entries.len()]),
        }
    }

    async fn change_invisible(&self, request: ChangeInvisible) -> Result<InvisibleOutcome, ServiceError> {
        let coordinates = request.entry.coordinates.clone();
        match LiteCoordinates::of(&coordinates) {
            Some(at) => self.change_lite_lease(request, at).await,
            None => match self.catalog.topic(&request.topic) {
                Some(topic) => self.change_lease(&topic, request).await,
                None => Err(deleted("topic")),
            },
        }
    }

    async fn forward_to_dead_letter(&self, request: Forward) -> Result<(), ServiceError> {
        let coordinates = request.entry.coordinates.clone();
        match LiteCoordinates::of(&coordinates) {
            Some(at) => self.move_lite_to_dead_letters(request, at).await,
            None => match self.catalog.topic(&request.topic) {
                Some(topic) => self.move_to_dead_letters(&topic, request).await.map(drop),
                None => Err(deleted("topic")),
            },
        }
    }

    fn dead_letters(&self) -> Option<mpsc::Receiver<DeadLetter>> {
        Some(self.expiry.exhausted.watch())
    }

    async fn recall(&self, topic: &str, handle: &str, deadline: Instant) -> Result<String, ServiceError> {
        self.recall_message(topic, handle, deadline).await
    }
}

#[async_trait]
impl Routes for Broker {
    async fn route(&self, topic: &str) -> Result<Route, ServiceError> {
        let config = self.topic(topic).await?.config();
        let queues = QueueRange {
            broker: self.config.broker_name.clone(),
            cluster: CLUSTER.to_owned(),
            replicas: vec![0],
            read_queues: config.read_queues,
            write_queues: config.write_queues,
            permission: config.permission,
        };
        Ok(Route { kind: config.kind, queues: vec![queues] })
    }

    async fn brokers(&self) -> Result<Vec<BrokerInfo>, ServiceError> {
        Ok(vec![BrokerInfo { name: self.config.broker_name.clone(), cluster: CLUSTER.to_owned() }])
    }

    async fn ready(&self) -> Result<(), ServiceError> {
        self.store.check_writable()
    }
}

#[async_trait]
impl Metadata for Broker {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            fifo: true,
            delay: true,
            transaction: true,
            priority: true,
            lite: true,
            sql_filter: true,
            recall: true,
            offsets: true,
            repeatable_decisions: true,
        }
    }

    async fn topic(&self, name: &str) -> Result<TopicConfig, ServiceError> {
        Ok(self.topic(name).await?.config())
    }

    async fn existing_topic(&self, name: &str) -> Result<TopicConfig, ServiceError> {
        Ok(self.known_topic(name)?.config())
    }

    async fn group(&self, name: &str) -> Result<GroupConfig, ServiceError> {
        Ok(self.group(name).await?.config.as_ref().clone())
    }

    async fn topics(&self) -> Result<Vec<TopicConfig>, ServiceError> {
        Ok(self.catalog.topics().iter().map(|topic| topic.config()).collect())
    }

    async fn groups(&self) -> Result<Vec<GroupConfig>, ServiceError> {
        Ok(self.catalog.groups().iter().map(|group| group.config.as_ref().clone()).collect())
    }

    async fn create_topic(&self, config: TopicConfig, replace: bool) -> Result<(), ServiceError> {
        let catalog = self.catalog.clone();
        blocking(move || catalog.put_topic(config, existing(replace)).map(drop)).await
    }

    async fn create_group(&self, config: GroupConfig, replace: bool) -> Result<(), ServiceError> {
        let catalog = self.catalog.clone();
        blocking(move || catalog.put_group(config, existing(replace)).map(drop)).await
    }

    async fn change_topic(&self, name: &str, change: Change<TopicConfig>) -> Result<(), ServiceError> {
        let (catalog, name) = (self.catalog.clone(), name.to_owned());
        blocking(move || catalog.change_topic(&name, &change)).await
    }

    async fn change_group(&self, name: &str, change: Change<GroupConfig>) -> Result<(), ServiceError> {
        let (catalog, name) = (self.catalog.clone(), name.to_owned());
        blocking(move || catalog.change_group(&name, &change)).await
    }

    async fn delete_topic(&self, name: &str) -> Result<(), ServiceError> {
        let (catalog, name) = (self.catalog.clone(), name.to_owned());
        blocking(move || catalog.delete_topic(&name)).await
    }

    async fn delete_group(&self, name: &str) -> Result<(), ServiceError> {
        let (catalog, name) = (self.catalog.clone(), name.to_owned());
        blocking(move || catalog.delete_group(&name)).await
    }
}

#[async_trait]
impl Transactions for Broker {
    async fn end(&self, end: EndTransaction) -> Result<(), ServiceError> {
        self.end_transaction(end).await
    }
}

#[async_trait]
impl BrokerRequests for Broker {
    async fn announce_producers(&self, topics: &[String]) {
        self.watch_half_messages(topics);
    }

    async fn next(&self) -> BrokerRequest {
        // Both futures are cancellation safe.
        tokio::select! {
            check = self.next_check() => BrokerRequest::Check(Box::new(check)),
            revocation = self.catalog.lite.subscriptions().next_revocation() => revocation,
        }
    }

    async fn checked(&self, coordinates: &str, outcome: CheckOutcome) {
        self.count_check(coordinates, outcome);
    }
}

fn existing(replace: bool) -> IfExists {
    if replace { IfExists::Replace } else { IfExists::Refuse }
}
