//! Implements the service traits for a cluster of Apache RocketMQ.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;

use super::cache::{Cache, FRESHNESS};
use super::cluster::{Cluster, ClusterOptions, no_route};
use super::convert;
use super::options::RemoteConfig;
use crate::remoting::sign::Signer;
use crate::service::{
    AckOutcome, Acknowledge, BrokerInfo, Capabilities, Change, ChangeInvisible, Delivered, Delivery, Filter,
    Forward, GroupConfig, InvisibleOutcome, Message, Messages, Metadata, Permission, QueueRange, Receive,
    Route, Routes, ServiceError, ServiceErrorKind, Services, StoreReceipt, TopicConfig, TopicKind, names,
};

/// The number of queues on each broker of a topic that is created on first use, and of a group's retry topic.
const QUEUES: i32 = 8;
const RETRY_QUEUES: i32 = 1;

/// The services of a cluster. Connections are opened on first use, so the cluster may start later.
///
/// # Errors
/// The file with the trusted certificates can't be read.
pub fn open(config: &RemoteConfig) -> io::Result<Services> {
    let tls = config.tls()?;
    let credentials = config.credentials.as_ref();
    let signer = credentials.map(|user| Signer::new(&user.access_key, &user.secret_key));
    let options = ClusterOptions {
        name_servers: config.name_server.clone(),
        name: config.cluster.clone(),
        tls,
        signer,
        connect_timeout: config.connect_timeout,
        lookup_timeout: config.lookup_timeout,
        call_timeout: config.call_timeout,
    };
    Ok(Services::of(Arc::new(Remote::new(Cluster::new(options), config.auto_create_topics))))
}

/// Implements the service traits for one cluster.
pub(super) struct Remote {
    pub(super) cluster: Arc<Cluster>,
    topics: Arc<Cache<TopicConfig, ServiceError>>,
    groups: Arc<Cache<GroupConfig, ServiceError>>,
    auto_create_topics: bool,
    /// Locked while a topic or group is changed: brokers accept only complete configurations, so that concurrent changes
    /// would overwrite each other.
    changes: tokio::sync::Mutex<()>,
}

impl Remote {
    fn new(cluster: Cluster, auto_create_topics: bool) -> Self {
        let (topics, groups) = (Cache::new(FRESHNESS), Cache::new(FRESHNESS));
        Self { cluster: Arc::new(cluster), topics, groups, auto_create_topics, changes: Default::default() }
    }

    /// Creates a topic that a client has named, if it does not exist and topics are created on first use.
    async fn ensure_topic(&self, topic: &str) -> Result<(), ServiceError> {
        // Topics that begin with a percent sign are created by brokers.
        if !self.auto_create_topics
            || topic.starts_with('%')
            || self.cluster.find_route(topic).await?.is_some()
        {
            return Ok(());
        }
        self.cluster.create_missing_topic(topic, QUEUES).await?;
        self.topics.forget(topic);
        Ok(())
    }

    async fn find_topic(&self, name: &str) -> Result<Option<TopicConfig>, ServiceError> {
        let (cluster, topic) = (self.cluster.clone(), name.to_owned());
        self.topics.get(name, || async move { cluster.fetch_topic(&topic).await }).await
    }

    /// Creates the retry topic of a group if it does not exist. Brokers do so only when they get a heartbeat of a consumer,
    /// or send back a message.
    async fn ensure_retry_topic(&self, group: &str) -> Result<(), ServiceError> {
        self.group(group).await?;
        let topic = names::retry_topic(group);
        if self.cluster.find_route(&topic).await?.is_none() {
            self.cluster.create_missing_topic(&topic, RETRY_QUEUES).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Messages for Remote {
    async fn send(
        &self,
        topic: &str,
        messages: Vec<Message>,
        deadline: Instant,
    ) -> Result<Vec<Result<StoreReceipt, ServiceError>>, ServiceError> {
        convert::check_properties(topic, &messages)?;
        match topic.strip_prefix(names::RETRY_PREFIX) {
            Some(group) => self.ensure_retry_topic(group).await?,
            None => self.ensure_topic(topic).await?,
        }
        self.cluster.send(topic, &messages, deadline).await
    }

    async fn receive(&self, request: Receive) -> Result<Delivered, ServiceError> {
        self.ensure_topic(&request.topic).await?;
        let cluster = self.cluster.clone();
        // The pop runs in a task of its own, because the broker answers it even if this call is cancelled.
        let (sender, receiver) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let popped = cluster.pop(&request).await;
            drop(sender.send(Unclaimed { popped: Some(popped), cluster, request }));
        });
        let popped = receiver.await.ok().and_then(|mut unclaimed| unclaimed.popped.take());
        popped.unwrap_or_else(|| Err(ServiceError::new(ServiceErrorKind::Internal, "the pop was aborted")))
    }

    async fn has_message(self: Arc<Self>, request: Receive) -> Result<bool, ServiceError> {
        self.ensure_topic(&request.topic).await?;
        self.cluster.has_message(&request).await
    }

    async fn check_filter(&self, filter: Filter, deadline: Instant) -> Result<(), ServiceError> {
        self.cluster.check_filter(&filter, deadline).await
    }

    async fn acknowledge(&self, request: Acknowledge) -> Result<Vec<AckOutcome>, ServiceError> {
        Ok(self.cluster.acknowledge(&request).await)
    }

    async fn change_invisible(&self, request: ChangeInvisible) -> Result<InvisibleOutcome, ServiceError> {
        self.cluster.change(&request).await
    }

    async fn forward_to_dead_letter(&self, request: Forward) -> Result<(), ServiceError> {
        self.cluster.forward(&request).await
    }

    async fn recall(&self, topic: &str, handle: &str, deadline: Instant) -> Result<String, ServiceError> {
        self.cluster.recall(topic, handle, deadline).await
    }
}

/// The result of a pop. If the receive was cancelled and nobody takes the result, its messages are given back. Otherwise
/// they would stay invisible until their leases end.
struct Unclaimed {
    popped: Option<Result<Delivered, ServiceError>>,
    cluster: Arc<Cluster>,
    request: Receive,
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(Ok(Delivered::Messages(deliveries))) = self.popped.take() {
            let (cluster, request) = (self.cluster.clone(), self.request.clone());
            tokio::spawn(async move { give_back(&cluster, &request, deliveries).await });
        }
    }
}

/// Makes messages that were not delivered to a client visible again.
async fn give_back(cluster: &Cluster, request: &Receive, deliveries: Vec<Delivery>) {
    let changes = deliveries.into_iter().map(|delivery| {
        let deadline = Instant::now() + cluster.options.call_timeout;
        let change = ChangeInvisible::give_back(&request.topic, &request.group, &delivery, deadline);
        async move { cluster.change(&change).await }
    });
    for failed in futures::future::join_all(changes).await.into_iter().filter_map(Result::err) {
        tracing::debug!(group = request.group, %failed, "could not give back a message; it stays invisible until its lease ends");
    }
}

#[async_trait]
impl Routes for Remote {
    async fn route(&self, topic: &str) -> Result<Route, ServiceError> {
        self.ensure_topic(topic).await?;
        let route = self.cluster.route(topic).await?;
        // Without the topic's configuration the route is still usable; only the topic's type is unknown.
        let kind = self.topic(topic).await.map_or(TopicKind::Unspecified, |topic| topic.kind);
        let queues = route.queues.iter().filter_map(|queues| {
            let broker = route.broker(&queues.broker_name)?;
            Some(QueueRange {
                broker: queues.broker_name.clone(),
                cluster: broker.cluster.clone(),
                replicas: replicas(broker.addresses.keys()),
                read_queues: queues.read,
                write_queues: queues.write,
                permission: Permission { read: queues.readable(), write: queues.writable() },
            })
        });
        Ok(Route { kind, queues: queues.collect() })
    }

    async fn brokers(&self) -> Result<Vec<BrokerInfo>, ServiceError> {
        self.cluster.brokers().await
    }

    async fn ready(&self) -> Result<(), ServiceError> {
        self.cluster.ready().await
    }
}

fn replicas<'a>(ids: impl Iterator<Item = &'a i64>) -> Vec<i32> {
    ids.filter_map(|id| i32::try_from(*id).ok()).collect()
}

#[async_trait]
impl Metadata for Remote {
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
            // Brokers deliver a message once for each commit.
            repeatable_decisions: false,
        }
    }

    async fn topic(&self, name: &str) -> Result<TopicConfig, ServiceError> {
        self.ensure_topic(name).await?;
        self.existing_topic(name).await
    }

    async fn existing_topic(&self, name: &str) -> Result<TopicConfig, ServiceError> {
        if let Some(found) = self.find_topic(name).await? {
            return Ok(found);
        }
        // The topic may have been created since its absence was cached, and its route is known already.
        if self.cluster.find_route(name).await?.is_some() {
            self.topics.forget(name);
        }
        self.find_topic(name).await?.ok_or_else(|| no_route(name))
    }

    async fn group(&self, name: &str) -> Result<GroupConfig, ServiceError> {
        let (cluster, group) = (self.cluster.clone(), name.to_owned());
        let found = self.groups.get(name, || async move { cluster.fetch_group(&group).await }).await?;
        found.ok_or_else(|| {
            ServiceError::new(ServiceErrorKind::GroupNotFound, format!("group not found: {name}"))
        })
    }

    async fn topics(&self) -> Result<Vec<TopicConfig>, ServiceError> {
        self.cluster.list_topics().await
    }

    async fn groups(&self) -> Result<Vec<GroupConfig>, ServiceError> {
        self.cluster.list_groups().await
    }

    async fn create_topic(&self, config: TopicConfig, replace: bool) -> Result<(), ServiceError> {
        if !replace && self.cluster.fetch_topic(&config.name).await?.is_some() {
            return Err(exists("topic", &config.name));
        }
        self.cluster.write_topic(&config).await?;
        self.topics.forget(&config.name);
        Ok(())
    }

    async fn create_group(&self, config: GroupConfig, replace: bool) -> Result<(), ServiceError> {
        // Brokers with auto-creation of groups would create a group that is fetched alone, so all groups are listed.
        if !replace && self.cluster.list_groups().await?.iter().any(|group| group.name == config.name) {
            return Err(exists("group", &config.name));
        }
        self.cluster.write_group(&config).await?;
        self.groups.forget(&config.name);
        Ok(())
    }

    async fn change_topic(&self, name: &str, change: Change<TopicConfig>) -> Result<(), ServiceError> {
        let _one_at_a_time = self.changes.lock().await;
        self.cluster.change_topic(name, &change).await?;
        self.topics.forget(name);
        Ok(())
    }

    async fn change_group(&self, name: &str, change: Change<GroupConfig>) -> Result<(), ServiceError> {
        let _one_at_a_time = self.changes.lock().await;
        self.cluster.change_group(name, &change).await?;
        self.groups.forget(name);
        Ok(())
    }

    async fn delete_topic(&self, name: &str) -> Result<(), ServiceError> {
        self.cluster.route(name).await?;
        self.cluster.remove_topic(name).await?;
        self.topics.forget(name);
        Ok(())
    }

    async fn delete_group(&self, name: &str) -> Result<(), ServiceError> {
        if !self.cluster.list_groups().await?.iter().any(|group| group.name == name) {
            return Err(ServiceError::new(
                ServiceErrorKind::GroupNotFound,
                format!("group not found: {name}"),
            ));
        }
        self.cluster.remove_group(name).await?;
        self.groups.forget(name);
        Ok(())
    }
}

fn exists(what: &str, name: &str) -> ServiceError {
    ServiceError::new(ServiceErrorKind::AlreadyExists, format!("{what} {name} already exists"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::backend::remote::scripted;
    use crate::remoting::{RemotingCommand, request, response};

    #[tokio::test]
    async fn a_topic_whose_route_is_known_exists_though_its_absence_is_cached() {
        let created = Arc::new(AtomicBool::new(false));
        let exists = created.clone();
        let broker = scripted::peer(|_| {
            RemotingCommand::request(response::SUCCESS)
                .body(r#"{"topicName":"t","perm":6,"readQueueNums":1}"#)
        });
        let route = format!(
            r#"{{"brokerDatas":[{{"cluster":"c","brokerName":"b","brokerAddrs":{{0:"{}"}}}}],"queueDatas":[{{"brokerName":"b"}}]}}"#,
            broker.await
        );
        let name_server = scripted::peer(move |command| match command.code {
            request::GET_BROKER_CLUSTER_INFO => {
                RemotingCommand::request(response::SUCCESS).body(r#"{"brokerAddrTable":{"b":{}}}"#)
            }
            _ if exists.load(Ordering::SeqCst) => {
                RemotingCommand::request(response::SUCCESS).body(route.clone())
            }
            _ => RemotingCommand::request(response::TOPIC_NOT_EXIST),
        });
        let remote = Remote::new(scripted::cluster(&[name_server.await]), false);
        let error = remote.existing_topic("t").await.unwrap_err();
        assert_eq!(error.kind, ServiceErrorKind::TopicNotFound);
        created.store(true, Ordering::SeqCst);
        // A request that waits until the created topic has a route does this.
        remote.cluster.forget_route("t");
        assert_eq!(remote.existing_topic("t").await.unwrap().name, "t");
    }
}
