//! The cache of routes. Callers that need the route of the same topic share one query.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::TopicRoute;
use crate::{
    error::{Error, ErrorKind},
    rpc::{ClientContext, NoSettings, QueryRoute, Retry, Rpc},
    wire::{build_query_route, process_query_route},
};

/// How often the routes are queried again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);

/// How long a route that nobody needs stays in the cache. Some programs use many topics for a short time each.
const MAX_UNUSED: Duration = Duration::from_secs(600);

/// The routes of a client's topics.
///
/// Each query runs in its own task and callers wait for its result, so that a caller that gives up does not affect other
/// callers. Dropping the cache ends all tasks.
#[derive(Debug)]
pub(crate) struct Routes(Arc<Cache>);

#[derive(Debug)]
struct Cache {
    rpc: Rpc,
    context: Arc<ClientContext>,
    topics: Mutex<HashMap<String, Topic>>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Topic {
    /// The latest route; `None` until the first query succeeds.
    route: Option<Arc<TopicRoute>>,
    /// The query in flight.
    query: Option<watch::Receiver<Progress>>,
    /// When a caller needed the route last.
    used: Instant,
}

/// The progress of a query.
#[derive(Clone, Debug)]
enum Progress {
    /// In flight. The error is the latest failure, after which the query is retried.
    Querying(Option<Error>),
    Done(Result<Arc<TopicRoute>, Error>),
}

impl Routes {
    /// Creates an empty cache, and starts the task that refreshes it periodically.
    pub(crate) fn new(rpc: Rpc, context: Arc<ClientContext>) -> Self {
        let stop = CancellationToken::new();
        let topics = Mutex::default();
        let cache = Arc::new(Cache { rpc, context, topics, stop });
        cache.spawn(cache.clone().refresh_periodically());
        Self(cache)
    }

    /// The client id in the requests of queries.
    pub(crate) fn client_id(&self) -> &str {
        self.0.rpc.identity().client_id()
    }

    /// The route of `topic`, from the cache if possible.
    pub(crate) async fn get(&self, topic: &str, deadline: Instant) -> Result<Arc<TopicRoute>, Error> {
        let (result, joined) = self.get_once(topic, deadline).await;
        match result {
            // The query may have been about to end when this call joined it.
            Err(error) if joined && error.retryable() && Instant::now() < deadline => {
                self.get_once(topic, deadline).await.0
            }
            result => result,
        }
    }

    /// Like [`get`](Self::get), with one query. Also returns whether another caller had started it.
    async fn get_once(&self, topic: &str, deadline: Instant) -> (Result<Arc<TopicRoute>, Error>, bool) {
        let (mut query, joined) = {
            let (mut topics, used) = (self.0.topics.lock(), Instant::now());
            let entry = match topics.get_mut(topic) {
                Some(entry) => entry,
                None => topics.entry(topic.to_owned()).or_insert(Topic { route: None, query: None, used }),
            };
            entry.used = used;
            match &entry.route {
                Some(route) => return (Ok(route.clone()), false),
                None => {
                    let joined = entry.query.is_some();
                    (self.0.start_query(topic, entry, deadline), joined)
                }
            }
        };
        let done = query.wait_for(|progress| matches!(progress, Progress::Done(_)));
        if let Ok(Err(_)) = tokio::time::timeout_at(deadline.into(), done).await {
            return (Err(Error::closed("query_route")), joined);
        }
        let progress = query.borrow().clone();
        let result = match progress {
            Progress::Done(result) => result,
            Progress::Querying(Some(error)) => Err(error),
            Progress::Querying(None) => Err(Error::new(
                ErrorKind::Timeout,
                "query_route",
                format!("the query for the route of topic {topic} timed out"),
            )
            .with_retryable(true)
            .with_endpoint(self.0.context.configured_endpoints.to_string())),
        };
        (result, joined)
    }

    /// Queries the route again in the background, because a failure showed that it may be outdated.
    pub(crate) fn refresh(&self, topic: &str) {
        self.0.refresh(topic);
    }

    /// Ends all tasks. Callers that still wait get an error of kind `Closed`.
    pub(crate) fn stop(&self) {
        self.0.stop.cancel();
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Cache {
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(work).await });
    }

    async fn refresh_periodically(self: Arc<Self>) {
        let mut ticks =
            tokio::time::interval_at((Instant::now() + REFRESH_INTERVAL).into(), REFRESH_INTERVAL);
        loop {
            ticks.tick().await;
            let topics = remove_unused(&mut self.topics.lock(), Instant::now());
            for topic in topics {
                self.refresh(&topic);
            }
        }
    }

    fn refresh(self: &Arc<Self>, topic: &str) {
        if let Some(entry) = self.topics.lock().get_mut(topic) {
            self.start_query(
                topic,
                entry,
                crate::options::deadline(Instant::now(), self.context.options.operation_timeout),
            );
        }
    }

    /// Returns the query in flight for a topic, or starts one.
    fn start_query(
        self: &Arc<Self>,
        topic: &str,
        entry: &mut Topic,
        deadline: Instant,
    ) -> watch::Receiver<Progress> {
        if let Some(query) = &entry.query {
            return query.clone();
        }
        let (progress, query) = watch::channel(Progress::Querying(None));
        entry.query = Some(query.clone());
        let (cache, topic) = (self.clone(), topic.to_owned());
        let deadline =
            deadline.max(crate::options::deadline(Instant::now(), self.context.options.request_timeout));
        self.spawn(async move {
            let result = cache.query(&topic, deadline, &progress).await.map(Arc::new);
            cache.store(&topic, result.as_ref().ok());
            progress.send_replace(Progress::Done(result));
        });
        query
    }

    /// Stores the result of a query. If it failed, the old route stays.
    fn store(&self, topic: &str, route: Option<&Arc<TopicRoute>>) {
        let mut topics = self.topics.lock();
        let Some(entry) = topics.get_mut(topic) else { return };
        entry.query = None;
        if let Some(route) = route {
            entry.route = Some(route.clone());
        }
        // Removes a topic that was never found, so that it is not refreshed.
        if entry.route.is_none() {
            topics.remove(topic);
        }
    }

    async fn query(
        &self,
        topic: &str,
        deadline: Instant,
        progress: &watch::Sender<Progress>,
    ) -> Result<TopicRoute, Error> {
        let options = &self.context.options;
        let retry = Retry::new("query_route", &options.retry, options.request_timeout, deadline);
        // Servers answer this request without having the client's settings.
        retry.run(&NoSettings, |limit| self.query_once(topic, limit, progress)).await
    }

    async fn query_once(
        &self,
        topic: &str,
        limit: Duration,
        progress: &watch::Sender<Progress>,
    ) -> Result<TopicRoute, Error> {
        let result = self.request(topic, limit).await;
        if let Err(error) = &result {
            progress.send_replace(Progress::Querying(Some(error.clone())));
        }
        result
    }

    async fn request(&self, topic: &str, limit: Duration) -> Result<TopicRoute, Error> {
        let channel = self.context.pick_configured()?;
        let request = build_query_route(self.rpc.resource(topic), &self.context.configured_endpoints);
        let (call, response) = self.rpc.unary::<QueryRoute>(&channel, request, limit).await?;
        process_query_route(&call, response)
    }
}

/// Removes the topics that were not used for long. Returns the names of the others.
fn remove_unused(topics: &mut HashMap<String, Topic>, now: Instant) -> Vec<String> {
    topics.retain(|_, topic| topic.query.is_some() || now.saturating_duration_since(topic.used) < MAX_UNUSED);
    topics.keys().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_is_not_used_is_not_queried_any_more() {
        let (used, later) = (Instant::now(), MAX_UNUSED / 2);
        let topic = |query, used| Topic { route: None, query, used };
        let (_progress, query) = watch::channel(Progress::Querying(None));
        let mut topics = HashMap::from([
            ("unused".to_owned(), topic(None, used)),
            ("used".to_owned(), topic(None, used + later)),
            ("queried".to_owned(), topic(Some(query), used)),
        ]);
        assert_eq!(remove_unused(&mut topics, used + later).len(), 3);
        let mut left = remove_unused(&mut topics, used + MAX_UNUSED);
        left.sort();
        assert_eq!(left, ["queried", "used"]);
    }
}
