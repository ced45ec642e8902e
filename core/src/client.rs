//! The client: one set of connections, credentials and names that producers and consumers share.

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

use crate::{
    consumer::{self, SimpleConsumer},
    error::{Error, ErrorKind, Result},
    message::CloseReport,
    options::{Access, ClientOptions, Filter, ProducerOptions, SimpleConsumerOptions, Tls},
    producer::{self, Producer},
    route::Routes,
    rpc::{Identity, Pool, Rpc, Servers},
    session::Session,
    wire::Role,
};

/// A way to one RocketMQ service. Cheap to clone; clones are the same client.
///
/// Dropping it closes no producer or consumer made from it: each lives on its own.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    servers: Arc<Servers>,
    routes: Arc<Routes>,
    members: Mutex<Vec<Member>>,
    closed: AtomicBool,
}

/// What a client has made, for its close.
enum Member {
    Producer(Weak<producer::Inner>),
    SimpleConsumer(Weak<consumer::Inner>),
}

impl Client {
    /// Checks `options` and reaches one of the endpoints.
    ///
    /// # Errors
    ///
    /// `InvalidOptions` and `Tls` at once; `Unavailable` when no endpoint could be reached within
    /// [`ClientOptions::startup_timeout`].
    pub async fn connect(options: ClientOptions) -> Result<Self> {
        let options = options.bounded();
        let Access { endpoints: access, https } = Access::parse(&options.endpoints)?;
        let tls = if https && options.tls == Tls::Off { &Tls::SystemRoots } else { &options.tls };
        let pool = Pool::new(tls, options.request_timeout)?;
        let rpc = Rpc::new(Identity::new(&options)?);
        pool.reach(&access, crate::options::deadline(Instant::now(), options.startup_timeout)).await?;
        let servers = Arc::new(Servers { pool, access, options });
        let routes = Arc::new(Routes::new(rpc, servers.clone()));
        let closed = AtomicBool::new(false);
        Ok(Self(Arc::new(Inner { servers, routes, members: Mutex::default(), closed })))
    }

    /// A producer, ready to send: the server has sent its settings and knows the named topics.
    ///
    /// # Errors
    ///
    /// `TopicNotFound`, `Unauthenticated`, ... as the server says; `Timeout` when it says nothing within
    /// [`ClientOptions::startup_timeout`].
    pub async fn producer(&self, options: ProducerOptions) -> Result<Producer> {
        let role = Role::Producer { topics: options.topics.clone() };
        let session = self.start("producer", role, &options.topics).await?;
        let producer = Producer::new(session, self.0.routes.clone(), &options);
        self.enlist("producer", Member::Producer(Arc::downgrade(producer.inner())))?;
        Ok(producer)
    }

    /// A consumer, ready to receive: the server has sent its settings and knows the topics.
    ///
    /// # Errors
    ///
    /// `InvalidOptions` without a group or a topic; otherwise as for [`producer`](Self::producer).
    pub async fn simple_consumer(&self, options: SimpleConsumerOptions) -> Result<SimpleConsumer> {
        check_consumer(&options)?;
        let topics: Vec<String> = options.subscriptions.iter().map(|it| it.topic.clone()).collect();
        let role = Role::SimpleConsumer {
            group: options.group.clone(),
            subscriptions: options.subscriptions.clone(),
        };
        let session = self.start("simple_consumer", role, &topics).await?;
        let consumer = SimpleConsumer::new(session, self.0.routes.clone(), options);
        self.enlist("simple_consumer", Member::SimpleConsumer(Arc::downgrade(consumer.inner())))?;
        Ok(consumer)
    }

    /// Closes every producer and consumer made from this client, all at once within `deadline`.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        let start = Instant::now();
        self.0.closed.store(true, Ordering::SeqCst);
        let members = std::mem::take(&mut *self.0.members.lock());
        let closes = members.into_iter().map(|member| member.close(deadline));
        let reports = join_all(closes).await;
        self.0.routes.stop();
        self.0.servers.pool.clear();
        reports.into_iter().fold(CloseReport::default(), CloseReport::beside).since(start)
    }

    /// A session whose settings have arrived, for topics whose routes are known.
    async fn start(&self, operation: &'static str, role: Role, topics: &[String]) -> Result<Session> {
        let Inner { servers, routes, closed, .. } = &*self.0;
        if closed.load(Ordering::SeqCst) {
            return Err(Error::closed(operation));
        }
        let deadline = crate::options::deadline(Instant::now(), servers.options.startup_timeout);
        let rpc = Rpc::new(Identity::new(&servers.options)?);
        let session = Session::new(rpc, servers.clone(), role);
        let known = try_join_all(topics.iter().map(|topic| routes.get(topic, deadline)));
        // A missing topic is said at once, even when the settings are late.
        let started = tokio::select! {
            biased;
            known = known => match known {
                Ok(_) => session.start(deadline).await,
                Err(error) => Err(error),
            },
            Err(error) = session.start(deadline) => Err(error),
        };
        started.map_err(|error| error.during(operation))?;
        Ok(session)
    }

    /// Remembers a member for the close; one that came too late is refused.
    fn enlist(&self, operation: &'static str, member: Member) -> Result<()> {
        let mut members = self.0.members.lock();
        if self.0.closed.load(Ordering::SeqCst) {
            return Err(Error::closed(operation));
        }
        members.retain(Member::is_alive);
        members.push(member);
        Ok(())
    }
}

impl Member {
    fn is_alive(&self) -> bool {
        match self {
            Self::Producer(producer) => producer.strong_count() > 0,
            Self::SimpleConsumer(consumer) => consumer.strong_count() > 0,
        }
    }

    async fn close(self, deadline: Duration) -> CloseReport {
        match self {
            Self::Producer(producer) => match producer.upgrade() {
                Some(inner) => Producer::from_inner(inner).close(deadline).await,
                None => CloseReport::default(),
            },
            Self::SimpleConsumer(consumer) => match consumer.upgrade() {
                Some(inner) => SimpleConsumer::from_inner(inner).close(deadline).await,
                None => CloseReport::default(),
            },
        }
    }
}

fn check_consumer(options: &SimpleConsumerOptions) -> Result<()> {
    let invalid = |message: String| Err(Error::new(ErrorKind::InvalidOptions, "simple_consumer", message));
    if options.group.is_empty() {
        return invalid("a consumer needs a group".to_owned());
    }
    if options.subscriptions.is_empty() {
        return invalid("a consumer needs a subscription".to_owned());
    }
    for (at, subscription) in options.subscriptions.iter().enumerate() {
        let topic = &subscription.topic;
        let empty_filter = match &subscription.filter {
            Filter::All => false,
            Filter::Tags(tags) => tags.is_empty() || tags.iter().any(String::is_empty),
            Filter::Sql(expression) => expression.trim().is_empty(),
        };
        if topic.is_empty() || empty_filter {
            return invalid(format!("the topic or the filter of subscription `{topic}` is empty"));
        }
        if options.subscriptions[..at].iter().any(|other| other.topic == *topic) {
            return invalid(format!("topic {topic} is subscribed to twice"));
        }
    }
    Ok(())
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.0.servers.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Subscription;

    #[test]
    fn a_consumer_s_options_must_make_sense() {
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
            let options = SimpleConsumerOptions::new(group, subscriptions);
            assert_eq!(check_consumer(&options).is_ok(), sound, "{options:?}");
        }
    }
}
