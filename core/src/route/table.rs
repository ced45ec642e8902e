//! A cache of routes. Callers who need the same topic share one query.

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
    rpc::{NoSettings, QueryRoute, Retry, Rpc, Servers},
    wire::{build_query_route, process_query_route},
};

/// How often the routes are queried again.
const REFRESH: Duration = Duration::from_secs(30);

/// The routes of a client's topics.
///
/// A query is a task of its own and callers only wait for its result, so that a caller who gives up does not affect
/// the others. All tasks end with the table.
#[derive(Debug)]
pub(crate) struct Routes(Arc<Table>);

#[derive(Debug)]
struct Table {
    rpc: Rpc,
    servers: Arc<Servers>,
    topics: Mutex<HashMap<String, Topic>>,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Topic {
    route: Option<Arc<TopicRoute>>,
    query: Option<watch::Receiver<Progress>>,
}

#[derive(Clone, Debug)]
enum Progress {
    /// The query is retried after this failure.
    Asking(Option<Error>),
    Answered(Result<Arc<TopicRoute>, Error>),
}

impl Routes {
    /// An empty table, which queries the routes it learns again from time to time.
    pub(crate) fn new(rpc: Rpc, servers: Arc<Servers>) -> Self {
        let stop = CancellationToken::new();
        let topics = Mutex::default();
        let table = Arc::new(Table { rpc, servers, topics, stop });
        table.spawn(table.clone().refresh());
        Self(table)
    }

    /// The id that the client queries routes by.
    pub(crate) fn client_id(&self) -> &str {
        self.0.rpc.identity().client_id()
    }

    /// The route of `topic`, from the cache if it is there.
    pub(crate) async fn get(&self, topic: &str, deadline: Instant) -> Result<Arc<TopicRoute>, Error> {
        let mut query = {
            let mut topics = self.0.topics.lock();
            let entry = match topics.get_mut(topic) {
                Some(entry) => entry,
                None => topics.entry(topic.to_owned()).or_default(),
            };
            match &entry.route {
                Some(route) => return Ok(route.clone()),
                None => self.0.ask(topic, entry, deadline),
            }
        };
        let answered = query.wait_for(|progress| matches!(progress, Progress::Answered(_)));
        if let Ok(Err(_)) = tokio::time::timeout_at(deadline.into(), answered).await {
            return Err(Error::closed("query_route"));
        }
        let progress = query.borrow().clone();
        match progress {
            Progress::Answered(result) => result,
            Progress::Asking(Some(error)) => Err(error),
            Progress::Asking(None) => Err(Error::new(
                ErrorKind::Timeout,
                "query_route",
                format!("the query for the route of topic {topic} timed out"),
            )
            .with_retryable(true)
            .with_endpoint(self.0.servers.access.to_string())),
        }
    }

    /// Queries the route again in the background, because an answer showed that it may be outdated.
    pub(crate) fn suspect(&self, topic: &str) {
        self.0.suspect(topic);
    }

    /// Ends all tasks. Callers who still wait get an error of kind `Closed`.
    pub(crate) fn stop(&self) {
        self.0.stop.cancel();
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Table {
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(work).await });
    }

    async fn refresh(self: Arc<Self>) {
        let mut ticks = tokio::time::interval_at((Instant::now() + REFRESH).into(), REFRESH);
        loop {
            ticks.tick().await;
            let topics: Vec<String> = self.topics.lock().keys().cloned().collect();
            for topic in topics {
                self.suspect(&topic);
            }
        }
    }

    fn suspect(self: &Arc<Self>, topic: &str) {
        if let Some(entry) = self.topics.lock().get_mut(topic) {
            self.ask(
                topic,
                entry,
                crate::options::deadline(Instant::now(), self.servers.options.operation_timeout),
            );
        }
    }

    /// The query under way for a topic, or a new one.
    fn ask(self: &Arc<Self>, topic: &str, entry: &mut Topic, deadline: Instant) -> watch::Receiver<Progress> {
        if let Some(query) = &entry.query {
            return query.clone();
        }
        let (progress, query) = watch::channel(Progress::Asking(None));
        entry.query = Some(query.clone());
        let (table, topic) = (self.clone(), topic.to_owned());
        let deadline =
            deadline.max(crate::options::deadline(Instant::now(), self.servers.options.request_timeout));
        self.spawn(async move {
            let result = table.query(&topic, deadline, &progress).await.map(Arc::new);
            table.store(&topic, result.as_ref().ok());
            progress.send_replace(Progress::Answered(result));
        });
        query
    }

    /// Stores the result of a query; without a new route the old one stays.
    fn store(&self, topic: &str, route: Option<&Arc<TopicRoute>>) {
        let mut topics = self.topics.lock();
        let Some(entry) = topics.get_mut(topic) else { return };
        entry.query = None;
        if let Some(route) = route {
            entry.route = Some(route.clone());
        }
        // A topic that was never found is forgotten, so that it is not queried every half minute.
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
        let options = &self.servers.options;
        let retry = Retry::new("query_route", &options.retry, options.request_timeout, deadline);
        // Servers answer without the settings of a client.
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
            progress.send_replace(Progress::Asking(Some(error.clone())));
        }
        result
    }

    async fn request(&self, topic: &str, limit: Duration) -> Result<TopicRoute, Error> {
        let link = self.servers.pick_access()?;
        let request = build_query_route(self.rpc.resource(topic), &self.servers.access);
        let (origin, response) = self.rpc.unary::<QueryRoute>(&link, request, limit).await?;
        process_query_route(&origin, response)
    }
}
