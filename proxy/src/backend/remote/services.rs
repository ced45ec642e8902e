use std::io;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;

use super::cache::Cache;
use super::cluster::{Cluster, ClusterOptions, FRESHNESS, no_route};
use super::convert;
use super::options::{self, RemoteConfig};
use crate::remoting::sign::Signer;
use crate::service::{
    AckOutcome, Acknowledge, Capabilities, ChangeInvisible, Delivered, Delivery, Forward, GroupConfig,
    InvisibleOutcome, Message, Messages, Metadata, Permission, QueueRange, Receive, Route, Routes, Sent,
    ServiceError, ServiceErrorKind, Services, TopicConfig, TopicKind,
};

/// Opens the way to a cluster. Nobody is contacted yet: the cluster may come up later.
///
/// # Errors
/// If the file with the certificates to trust can't be read.
pub fn open(config: &RemoteConfig) -> io::Result<Services> {
    let tls = config.ca_file.as_deref().map(options::trust).transpose()?;
    let credentials = config.credentials.as_ref();
    let signer = credentials.and_then(|user| Signer::new(&user.access_key, &user.secret_key));
    let options = ClusterOptions {
        name_servers: config.name_server.clone(),
        name: config.cluster.clone(),
        tls,
        signer,
        connect_timeout: config.connect_timeout,
        lookup_timeout: config.lookup_timeout,
        call_timeout: config.call_timeout,
    };
    let remote = Arc::new(Remote {
        cluster: Arc::new(Cluster::new(options)),
        topics: Cache::new(FRESHNESS),
        groups: Cache::new(FRESHNESS),
        auto_create_topics: config.auto_create_topics,
    });
    Ok(Services::of(remote))
}

/// A cluster behind the service traits.
pub(super) struct Remote {
    pub(super) cluster: Arc<Cluster>,
    topics: Arc<Cache<TopicConfig, ServiceError>>,
    groups: Arc<Cache<GroupConfig, ServiceError>>,
    auto_create_topics: bool,
}

impl Remote {
    /// Makes a topic that a client has named, if it is missing and may be made.
    async fn ensure(&self, topic: &str) -> Result<(), ServiceError> {
        // What begins with a percent sign belongs to the brokers.
        if !self.auto_create_topics
            || topic.starts_with('%')
            || self.cluster.find_route(topic).await?.is_some()
        {
            return Ok(());
        }
        self.cluster.make_topic(topic).await?;
        self.topics.forget(topic);
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
    ) -> Result<Vec<Result<Sent, ServiceError>>, ServiceError> {
        convert::check_properties(topic, &messages)?;
        self.ensure(topic).await?;
        self.cluster.send(topic, &messages, deadline).await
    }

    async fn receive(&self, request: Receive) -> Result<Delivered, ServiceError> {
        self.ensure(&request.topic).await?;
        let cluster = self.cluster.clone();
        // The broker answers the pop whether or not the client still listens.
        let (tell, told) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let popped = cluster.pop(&request).await;
            drop(tell.send(Parcel { popped: Some(popped), cluster, request }));
        });
        let parcel = told.await.ok().and_then(|mut parcel| parcel.popped.take());
        parcel.unwrap_or_else(|| Err(ServiceError::new(ServiceErrorKind::Internal, "the pop was abandoned")))
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

/// What a pop brought. Nobody takes it once the client has gone, however late that happens: then the messages are
/// given back at once instead of lying out their leases.
struct Parcel {
    popped: Option<Result<Delivered, ServiceError>>,
    cluster: Arc<Cluster>,
    request: Receive,
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if let Some(Ok(Delivered::Messages(unheard))) = self.popped.take() {
            let (cluster, request) = (self.cluster.clone(), self.request.clone());
            tokio::spawn(async move { give_back(&cluster, &request, unheard).await });
        }
    }
}

/// Makes leased messages visible again, without counting the delivery that nobody saw.
async fn give_back(cluster: &Cluster, request: &Receive, unheard: Vec<Delivery>) {
    let changes = unheard.into_iter().map(|delivery| {
        let deadline = Instant::now() + cluster.options.call_timeout;
        let change = ChangeInvisible::give_back(&request.topic, &request.group, &delivery, deadline);
        async move { cluster.change(&change).await }
    });
    for failed in futures::future::join_all(changes).await.into_iter().filter_map(Result::err) {
        tracing::debug!(group = request.group, %failed, "an unheard message stays hidden for its invisible time");
    }
}

#[async_trait]
impl Routes for Remote {
    async fn route(&self, topic: &str) -> Result<Route, ServiceError> {
        self.ensure(topic).await?;
        let route = self.cluster.route(topic).await?;
        // Without its configuration a topic's queues are known and its type is not: the route still serves.
        let kind = self.topic(topic).await.map_or(TopicKind::Unspecified, |topic| topic.kind);
        let queues = route.queues.iter().filter_map(|queues| {
            Some(QueueRange {
                broker: queues.broker_name.clone(),
                replicas: replicas(route.broker(&queues.broker_name)?.addresses.keys()),
                read_queues: queues.read,
                write_queues: queues.write,
                permission: Permission { read: queues.readable(), write: queues.writable() },
            })
        });
        Ok(Route { kind, queues: queues.collect() })
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
        }
    }

    async fn topic(&self, name: &str) -> Result<TopicConfig, ServiceError> {
        self.ensure(name).await?;
        let (cluster, topic) = (self.cluster.clone(), name.to_owned());
        let found = self.topics.get(name, || async move { cluster.ask_topic(&topic).await }).await?;
        found.ok_or_else(|| no_route(name))
    }

    async fn group(&self, name: &str) -> Result<GroupConfig, ServiceError> {
        let (cluster, group) = (self.cluster.clone(), name.to_owned());
        let found = self.groups.get(name, || async move { cluster.ask_group(&group).await }).await?;
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
        if !replace && self.cluster.ask_topic(&config.name).await?.is_some() {
            return Err(exists("topic", &config.name));
        }
        self.cluster.write_topic(&config).await?;
        self.topics.forget(&config.name);
        Ok(())
    }

    async fn create_group(&self, config: GroupConfig, replace: bool) -> Result<(), ServiceError> {
        // Asking for one group would create it where brokers may; the list tells without doing so.
        if !replace && self.cluster.list_groups().await?.iter().any(|group| group.name == config.name) {
            return Err(exists("group", &config.name));
        }
        self.cluster.write_group(&config).await?;
        self.groups.forget(&config.name);
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
    ServiceError::new(ServiceErrorKind::AlreadyExists, format!("{what} {name} exists already"))
}
