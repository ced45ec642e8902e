//! The links of a client: one for each address that it talks to.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;

use super::{
    exporter::Exporter,
    in_flight::InFlight,
    link::{Link, LinkHealth},
    retry::{NoSettings, Retry},
    transport::Transport,
};
use crate::{
    error::{Error, ErrorKind},
    health::{EndpointHealth, Monitor, Status},
    metrics::Recorder,
    options::{Address, Endpoints, LONGEST_WAIT, Startup, Tls},
};

/// How long a starting client retries an address where nothing listens, with [`Startup::Eager`].
const ABSENT_SERVER_TIMEOUT: Duration = Duration::from_secs(1);

/// One link per address, shared by all producers and consumers of a client.
pub(crate) struct Pool {
    transport: Transport,
    links: Mutex<HashMap<Address, Arc<Link>>>,
    monitor: Arc<Monitor>,
    metrics: Arc<Recorder>,
    exporter: Exporter,
    /// The operations in flight of all producers and consumers.
    in_flight: Mutex<Vec<Weak<InFlight>>>,
    /// The index of the address that is tried first. Random, so that clients are spread over equivalent addresses.
    start: usize,
}

impl Pool {
    pub(crate) fn new(tls: &Tls, connect_timeout: Duration, monitor: Arc<Monitor>) -> Result<Self, Error> {
        Ok(Self {
            transport: Transport::new(tls, connect_timeout)?,
            links: Mutex::default(),
            monitor,
            metrics: Arc::default(),
            exporter: Exporter::default(),
            in_flight: Mutex::default(),
            start: rand::random::<u16>().into(),
        })
    }

    /// The best address of `endpoints`: preferably one that works, else one that was never tried, else one that failed.
    pub(crate) fn pick(&self, endpoints: &Endpoints) -> Result<Arc<Link>, Error> {
        let addresses = endpoints.addresses();
        if let [only] = addresses {
            return Ok(self.link(only));
        }
        let now = Instant::now();
        (0..addresses.len())
            .map(|at| self.link(&addresses[(at + self.start) % addresses.len()]))
            .min_by_key(|link| link.health().rank(now))
            .ok_or_else(|| {
                Error::new(ErrorKind::Protocol, "connect", "the server names a broker without an address")
            })
    }

    /// The counters of the client.
    pub(crate) fn metrics(&self) -> &Recorder {
        &self.metrics
    }

    pub(super) fn exporter(&self) -> &Exporter {
        &self.exporter
    }

    /// Creates a count of operations that is included in [`in_flight`](Self::in_flight).
    pub(crate) fn new_in_flight(&self) -> Arc<InFlight> {
        let new = Arc::new(InFlight::default());
        let mut all = self.in_flight.lock();
        all.retain(|it| it.strong_count() > 0);
        all.push(Arc::downgrade(&new));
        new
    }

    /// How many operations of all producers and consumers are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.lock().iter().filter_map(Weak::upgrade).map(|it| it.under_way()).sum()
    }

    /// How many connections are open to all addresses.
    pub(crate) fn connections(&self) -> usize {
        self.links.lock().values().map(|link| link.connections()).sum()
    }

    /// The health of the addresses in use, sorted by name.
    ///
    /// An address is in use while a telemetry stream or a call holds its link. If none is, returns all that were tried.
    pub(crate) fn endpoints(&self) -> Vec<EndpointHealth> {
        let links: Vec<_> = self.links.lock().values().cloned().collect();
        // Two references are in `links` and in the map.
        let in_use = |link: &Arc<Link>| Arc::strong_count(link) > 2;
        let all = !links.iter().any(in_use);
        let used = links.iter().filter(|link| all || in_use(link));
        let mut endpoints: Vec<_> = used.filter_map(|link| self.endpoint(link)).collect();
        endpoints.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        endpoints
    }

    /// The health of an address; `None` if it was not tried.
    fn endpoint(&self, link: &Link) -> Option<EndpointHealth> {
        let (endpoint, connections) = (link.name().to_string(), link.connections());
        let health = link.health();
        let error = match health {
            LinkHealth::Bad { .. } => link.error(),
            LinkHealth::Untried | LinkHealth::Good => self.monitor.error_at(link.name()),
        };
        if health == LinkHealth::Untried && error.is_none() {
            return None;
        }
        let status = match &error {
            None => Status::Connected,
            Some(_) if connections > 0 => Status::Degraded,
            Some(_) => Status::Lost,
        };
        Some(EndpointHealth { endpoint, status, error, connections })
    }

    /// Drops all links. Each closes its connections when it is no longer used.
    pub(crate) fn clear(&self) {
        self.links.lock().clear();
    }

    /// The link whose address is written as `name`.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Link>> {
        self.links.lock().values().find(|link| **link.name() == *name).cloned()
    }

    fn link(&self, address: &Address) -> Arc<Link> {
        let mut links = self.links.lock();
        if let Some(link) = links.get(address) {
            return link.clone();
        }
        let (monitor, metrics) = (self.monitor.clone(), self.metrics.clone());
        let link = Link::new(address.clone(), self.transport.clone(), monitor, metrics);
        links.insert(address.clone(), link.clone());
        link
    }

    /// Creates a link that is not part of the pool, and affects neither the health nor the metrics of the client.
    pub(super) fn detached_link(&self, address: &Address) -> Arc<Link> {
        Link::new(address.clone(), self.transport.clone(), Arc::default(), Arc::default())
    }

    /// Connects to all of `endpoints`, and waits until one of them accepts a connection. `startup` decides how long to
    /// retry absent servers.
    ///
    /// # Errors
    ///
    /// The error of the first address that failed, once no address is worth another attempt, or at the deadline.
    pub(crate) async fn connect_any(
        &self,
        endpoints: &Endpoints,
        startup: Startup,
        deadline: Instant,
    ) -> Result<(), Error> {
        let absent_timeout = match startup {
            Startup::Eager => ABSENT_SERVER_TIMEOUT,
            Startup::Wait => LONGEST_WAIT,
            Startup::Lazy => return Ok(()),
        };
        let attempt = |address| self.connect(address, deadline, absent_timeout);
        let mut attempts: FuturesUnordered<_> = endpoints.addresses().iter().map(attempt).collect();
        let mut first = None;
        while let Some(result) = attempts.next().await {
            match result {
                Ok(()) => return Ok(()),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| Error::new(ErrorKind::InvalidOptions, "connect", "no endpoint is given")))
    }

    async fn connect(
        &self,
        address: &Address,
        deadline: Instant,
        absent_timeout: Duration,
    ) -> Result<(), Error> {
        let link = self.link(address);
        let retry = Retry::for_connecting(self.transport.connect_timeout(), deadline, absent_timeout);
        // Opening a connection has its own timeout, whose error names the step that failed.
        let attempt = |_| link.for_call(deadline);
        retry.run(&NoSettings, attempt).await?;
        link.record_success();
        Ok(())
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("links", &self.links.lock().values()).finish_non_exhaustive()
    }
}
