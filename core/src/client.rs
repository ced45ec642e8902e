//! The client: the connections, credentials and routes that its producers and consumers share.

mod status_changes;

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::{join_all, try_join_all};
use parking_lot::Mutex;
use tokio::time::timeout_at;

pub use self::status_changes::StatusChanges;
use crate::{
    client_base::{Closable, close_in_task},
    error::{Error, ErrorKind, Result},
    health::{Health, Monitor},
    message::CloseReport,
    metrics::Metrics,
    options::{
        self, Access, ClientOptions, Credentials, ProducerOptions, PushConsumerOptions,
        SimpleConsumerOptions, Startup, Subscription,
    },
    producer::Producer,
    push_consumer::PushConsumer,
    route::Routes,
    rpc::{ChannelPool, ClientContext, CurrentCredentials},
    session::Session,
    simple_consumer::SimpleConsumer,
    wire::{ConsumerKind, Role},
};

/// A client of one RocketMQ service. Cheap to clone; clones share the same connections.
///
/// Dropping a client does not close the producers and consumers that it created.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    context: Arc<ClientContext>,
    routes: Arc<Routes>,
    members: Mutex<Vec<Weak<dyn Closable>>>,
    closed: AtomicBool,
    /// Held by a close until it has ended.
    closing: tokio::sync::Mutex<()>,
}

impl Client {
    /// Checks `options` and connects to one of the endpoints, unless the client starts
    /// [lazily](Startup::Lazy).
    ///
    /// # Errors
    ///
    /// - `InvalidOptions`, at once, if an option can't be used, such as a malformed certificate.
    /// - `Tls` and `Protocol`, at once, if the server speaks another protocol than the options say.
    /// - `Unavailable` if no endpoint could be reached: within a second if nothing listens there, otherwise after
    ///   [`ClientOptions::startup_timeout`] (see [`Startup`]).
    /// - `Unauthenticated` if the credentials provider failed.
    pub async fn connect(options: ClientOptions) -> Result<Self> {
        options::check("connect", options.flaw())?;
        let mut options = options.bounded();
        let Access { endpoints: configured_endpoints, https } = Access::parse(&options.endpoints)?;
        let tls = if https { options.tls.clone().for_https() } else { options.tls.clone() };
        let monitor = Arc::new(Monitor::default());
        let new_pool = {
            let (timeout, monitor) = (options.request_timeout, monitor.clone());
            move || ChannelPool::new(&tls, timeout, monitor)
        };
        // The certificate authorities of the system are read from files.
        let pool = tokio::task::spawn_blocking(new_pool).await;
        let pool = pool.map_err(|ended| Error::of_ended_task("connect", ended))??;
        let credentials = CurrentCredentials::new(&options)?;
        if let Some(provider) = options.credentials_provider.take() {
            credentials.keep_current(provider);
        }
        let context = Arc::new(ClientContext { pool, configured_endpoints, options, credentials, monitor });
        let routes = Arc::new(Routes::new(context.rpc()?, context.clone()));
        let (closed, closing) = (AtomicBool::new(false), tokio::sync::Mutex::default());
        let client = Self(Arc::new(Inner { context, routes, members: Mutex::default(), closed, closing }));
        client.0.context.connect().await?;
        Ok(client)
    }

    /// Returns whether the servers can be reached, according to the latest calls and heartbeats.
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.context.health()
    }

    /// Returns the current status, followed by each later change.
    #[must_use]
    pub fn status_changes(&self) -> StatusChanges {
        StatusChanges::new(self.0.context.clone())
    }

    /// Replaces the credentials. Later requests are signed with the new credentials.
    ///
    /// # Errors
    ///
    /// `InvalidOptions` if a value can't be sent as a header; the old credentials stay in use.
    pub fn update_credentials(&self, credentials: &Credentials) -> Result<()> {
        self.0.context.credentials.update(credentials)
    }

    /// Creates a producer. It is ready to send: the server has sent its settings, and the named topics exist. If the
    /// client starts [lazily](Startup::Lazy), the producer is returned at once, and sends wait for the server.
    ///
    /// # Errors
    ///
    /// `InvalidOptions` if a limit is zero; the server's refusal, such as `TopicNotFound` or `Unauthenticated`;
    /// `Timeout` if the server does not answer within [`ClientOptions::startup_timeout`].
    pub async fn producer(&self, options: ProducerOptions) -> Result<Producer> {
        options::check("producer", options.flaw())?;
        let role = Role::Producer { topics: options.topics.clone() };
        let session = self.start_session("producer", role, &options.topics).await?;
        let producer = Producer::new(session, self.0.routes.clone(), &options);
        self.register("producer", producer.as_member())?;
        Ok(producer)
    }

    /// Creates a consumer. It is ready to receive: the server has sent its settings, and the topics exist. If the
    /// client starts [lazily](Startup::Lazy), the consumer is returned at once, and receives wait for the server.
    ///
    /// # Errors
    ///
    /// `InvalidOptions` without a group or a topic; otherwise as for [`producer`](Self::producer).
    pub async fn simple_consumer(&self, options: SimpleConsumerOptions) -> Result<SimpleConsumer> {
        const OPERATION: &str = "simple_consumer";
        let kind = if options.bind_topic.is_some() { ConsumerKind::LiteSimple } else { ConsumerKind::Simple };
        options::check(OPERATION, options.flaw())?;
        let session = self.start_consumer(OPERATION, kind, (&options.group, options.sources())).await?;
        let consumer = SimpleConsumer::new(session, self.0.routes.clone(), options);
        self.register(OPERATION, consumer.as_member())?;
        Ok(consumer)
    }

    /// Creates a consumer that calls a handler for each message. It begins to receive when it is
    /// [started](PushConsumer::start).
    ///
    /// # Errors
    ///
    /// `InvalidOptions` without a group or a topic, if a limit is zero, or if the invisible duration is less than a
    /// second; otherwise as for [`producer`](Self::producer).
    pub async fn push_consumer(&self, options: PushConsumerOptions) -> Result<PushConsumer> {
        const OPERATION: &str = "push_consumer";
        let kind = if options.bind_topic.is_some() { ConsumerKind::LitePush } else { ConsumerKind::Push };
        options::check(OPERATION, options.flaw())?;
        let session = self.start_consumer(OPERATION, kind, (&options.group, options.sources())).await?;
        let consumer = PushConsumer::new(session, self.0.routes.clone(), options);
        self.register(OPERATION, consumer.as_member())?;
        Ok(consumer)
    }

    /// Returns a snapshot of the metrics of this client, including all its producers and consumers.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.0.context.metrics(self.0.routes.client_id())
    }

    /// Closes all producers and consumers of this client concurrently, within `deadline`. The report leaves out
    /// producers and consumers that were closed before.
    ///
    /// A close continues if the caller stops waiting. Another call waits for it.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        close_in_task(self.0.clone().close(deadline)).await
    }

    /// Starts the session of a consumer in a group.
    async fn start_consumer(
        &self,
        operation: &'static str,
        kind: ConsumerKind,
        (group, subscriptions): (&str, Vec<Subscription>),
    ) -> Result<Session> {
        check_consumer(operation, group, &subscriptions)?;
        let topics: Vec<String> = subscriptions.iter().map(|it| it.topic.clone()).collect();
        self.start_session(
            operation,
            Role::Consumer { kind, group: group.to_owned(), subscriptions },
            &topics,
        )
        .await
    }

    /// Starts a session. Waits for its settings and for the routes of `topics`, unless the client starts lazily.
    async fn start_session(&self, operation: &'static str, role: Role, topics: &[String]) -> Result<Session> {
        let Inner { context, routes, closed, .. } = &*self.0;
        if closed.load(Ordering::SeqCst) {
            return Err(Error::closed(operation));
        }
        let deadline = options::deadline(Instant::now(), context.options.startup_timeout);
        let session = Session::new(context.rpc()?, context.clone(), role);
        if context.options.startup == Startup::Lazy {
            session.connect_in_background()?;
            return Ok(session);
        }
        let known = try_join_all(topics.iter().map(|topic| routes.get(topic, deadline)));
        // A missing topic is reported at once, even if the settings have not arrived yet.
        let started = tokio::select! {
            biased;
            known = known => match known {
                Ok(_) => session.wait_until_ready(deadline).await,
                Err(error) => Err(error),
            },
            Err(error) = session.wait_until_ready(deadline) => Err(error),
        };
        started.map_err(|error| error.during(operation))?;
        Ok(session)
    }

    /// Registers a producer or consumer, so that closing the client closes it.
    fn register(&self, operation: &'static str, member: Weak<dyn Closable>) -> Result<()> {
        let mut members = self.0.members.lock();
        if self.0.closed.load(Ordering::SeqCst) {
            return Err(Error::closed(operation));
        }
        members.retain(|member| member.strong_count() > 0);
        members.push(member);
        Ok(())
    }
}

impl Inner {
    async fn close(self: Arc<Self>, deadline: Duration) -> CloseReport {
        let start = Instant::now();
        let until = options::deadline(start, deadline);
        self.closed.store(true, Ordering::SeqCst);
        // What follows ends the work of producers and consumers that another close still waits for.
        let Ok(_closing) = timeout_at(until.into(), self.closing.lock()).await else {
            return CloseReport::default().with_elapsed_since(start);
        };
        let members = std::mem::take(&mut *self.members.lock());
        let left = until.saturating_duration_since(Instant::now());
        let open = members.iter().filter_map(Weak::upgrade).filter(|member| !member.is_closed());
        let reports = join_all(open.map(|member| member.close(left))).await;
        self.routes.stop();
        self.context.end_export(until).await;
        self.context.credentials.close();
        self.context.pool.clear();
        self.context.monitor.close();
        reports.into_iter().fold(CloseReport::default(), CloseReport::merge).with_elapsed_since(start)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.context.monitor.close();
    }
}

/// Turns the flaw of some options, if there is one, into an error of kind `InvalidOptions`.
fn check_consumer(operation: &'static str, group: &str, subscriptions: &[Subscription]) -> Result<()> {
    let invalid = |message: String| Err(Error::new(ErrorKind::InvalidOptions, operation, message));
    if group.is_empty() {
        return invalid("a consumer needs a group".to_owned());
    }
    if subscriptions.is_empty() {
        return invalid("a consumer needs a subscription".to_owned());
    }
    for (at, subscription) in subscriptions.iter().enumerate() {
        let topic = &subscription.topic;
        if let Some(flaw) = subscription.flaw() {
            return invalid(flaw);
        }
        if subscriptions[..at].iter().any(|other| other.topic == *topic) {
            return invalid(format!("topic {topic} is subscribed to twice"));
        }
    }
    Ok(())
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("options", &self.0.context.options)
            .field("connections", &self.0.context.pool.connections())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Filter;

    #[test]
    fn consumer_options_are_checked() {
        let tags = |tags: &[&str]| Filter::Tags(tags.iter().map(|tag| (*tag).to_owned()).collect());
        for (group, subscriptions, sound) in [
            ("g", vec![Subscription::from("t")], true),
            ("g", vec![Subscription::from("t"), Subscription::new("u", tags(&["a"]))], true),
            ("", vec![Subscription::from("t")], false),
            ("g", vec![], false),
            ("g", vec![Subscription::from("")], false),
            ("g", vec![Subscription::from("t"), Subscription::from("t")], false),
            ("g", vec![Subscription::new("t", tags(&[]))], false),
            ("g", vec![Subscription::new("t", tags(&["a", ""]))], false),
            ("g", vec![Subscription::new("t", Filter::Sql(" ".into()))], false),
        ] {
            let checked = check_consumer("simple_consumer", group, &subscriptions);
            assert_eq!(checked.is_ok(), sound, "{group} {subscriptions:?}");
        }
    }
}
