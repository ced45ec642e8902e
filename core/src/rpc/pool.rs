//! The addresses that a client talks to.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;

use super::{
    export::Exporter,
    in_flight::InFlight,
    link::{Health, Link},
    retry::{NoSettings, Retry},
    transport::Transport,
};
use crate::{
    error::{Error, ErrorKind},
    health::{EndpointHealth, Monitor, Status},
    metrics::Recorder,
    options::{Address, Endpoints, LONGEST_WAIT, Startup, Tls},
};

/// How long a client that starts waits for a server where nobody listens, unless it is told to wait longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// One link per address, shared by all producers and consumers of a client.
pub(crate) struct Pool {
    transport: Transport,
    links: Mutex<HashMap<Address, Arc<Link>>>,
    monitor: Arc<Monitor>,
    metrics: Arc<Recorder>,
    exporter: Exporter,
    /// The counts of all producers and consumers.
    in_flight: Mutex<Vec<Weak<InFlight>>>,
    /// The address that each client tries first, so that many clients spread over equal addresses.
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

    /// The best address of `endpoints`: one that works, then one that was never tried, then one that failed.
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

    /// Where everything is counted that goes over these connections.
    pub(crate) fn metrics(&self) -> &Recorder {
        &self.metrics
    }

    pub(super) fn exporter(&self) -> &Exporter {
        &self.exporter
    }

    /// A new count of operations, which is a part of [`in_flight`](Self::in_flight).
    pub(crate) fn new_in_flight(&self) -> Arc<InFlight> {
        let new = Arc::new(InFlight::default());
        let mut all = self.in_flight.lock();
        all.retain(|it| it.strong_count() > 0);
        all.push(Arc::downgrade(&new));
        new
    }

    /// How many operations of all producers and consumers have no result yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.lock().iter().filter_map(Weak::upgrade).map(|it| it.under_way()).sum()
    }

    /// How many connections are open to all addresses.
    pub(crate) fn connections(&self) -> usize {
        self.links.lock().values().map(|link| link.connections()).sum()
    }

    /// The health of the addresses in use, sorted by name.
    ///
    /// An address is in use while a telemetry stream or a call needs it. Without any, all that were tried count.
    pub(crate) fn endpoints(&self) -> Vec<EndpointHealth> {
        let links: Vec<_> = self.links.lock().values().cloned().collect();
        // Here and in the map.
        let in_use = |link: &Arc<Link>| Arc::strong_count(link) > 2;
        let all = !links.iter().any(in_use);
        let used = links.iter().filter(|link| all || in_use(link));
        let mut endpoints: Vec<_> = used.filter_map(|link| self.endpoint(link)).collect();
        endpoints.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        endpoints
    }

    /// `None` for an address that was not tried.
    fn endpoint(&self, link: &Link) -> Option<EndpointHealth> {
        let (endpoint, connections) = (link.name().to_string(), link.connections());
        let health = link.health();
        let error = match health {
            Health::Bad { .. } => link.error(),
            Health::Untried | Health::Good => self.monitor.trouble(link.name()),
        };
        if health == Health::Untried && error.is_none() {
            return None;
        }
        let status = match &error {
            None => Status::Connected,
            Some(_) if connections > 0 => Status::Degraded,
            Some(_) => Status::Lost,
        };
        Some(EndpointHealth { endpoint, status, error, connections })
    }

    /// Drops all links. Each closes its connections when nothing uses it any more.
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

    /// A link to something other than a server: it counts neither for the health of the client nor in its metrics.
    pub(super) fn apart(&self, address: &Address) -> Arc<Link> {
        Link::new(address.clone(), self.transport.clone(), Arc::default(), Arc::default())
    }

    /// Waits until one of `endpoints` accepts a connection, as long as `startup` says.
    ///
    /// # Errors
    ///
    /// The error of the first address that failed: at once if it is not worth another attempt at any address,
    /// otherwise at the deadline.
    pub(crate) async fn reach(
        &self,
        endpoints: &Endpoints,
        startup: Startup,
        deadline: Instant,
    ) -> Result<(), Error> {
        let patience = match startup {
            Startup::Eager => PATIENCE,
            Startup::Wait => LONGEST_WAIT,
            Startup::Lazy => return Ok(()),
        };
        let attempt = |address| self.connect(address, deadline, patience);
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

    async fn connect(&self, address: &Address, deadline: Instant, patience: Duration) -> Result<(), Error> {
        let link = self.link(address);
        let retry = Retry::for_connecting(self.transport.connect_timeout(), deadline, patience);
        // The connection has a timeout of its own, which says at which step it failed.
        let attempt = |_| link.for_call(deadline);
        retry.run(&NoSettings, attempt).await?;
        link.reached();
        Ok(())
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("links", &self.links.lock().values()).finish_non_exhaustive()
    }
}
