//! The channels of a client: one for each address that it talks to.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;

use super::{
    channel::{Channel, ChannelHealth},
    exporter::Exporter,
    in_flight::InFlight,
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

/// One channel per address, shared by all producers and consumers of a client.
pub(crate) struct ChannelPool {
    transport: Transport,
    channels: Mutex<HashMap<Address, Arc<Channel>>>,
    monitor: Arc<Monitor>,
    metrics: Arc<Recorder>,
    exporter: Exporter,
    /// The operations in flight of all producers and consumers.
    in_flight: Mutex<Vec<Weak<InFlight>>>,
    /// The index of the address that is tried first. Random, so that clients are spread over equivalent addresses.
    start: usize,
}

impl ChannelPool {
    pub(crate) fn new(tls: &Tls, connect_timeout: Duration, monitor: Arc<Monitor>) -> Result<Self, Error> {
        Ok(Self {
            transport: Transport::new(tls, connect_timeout)?,
            channels: Mutex::default(),
            monitor,
            metrics: Arc::default(),
            exporter: Exporter::default(),
            in_flight: Mutex::default(),
            start: rand::random::<u16>().into(),
        })
    }

    /// The best address of `endpoints`: preferably one that works, else one that was never tried, else one that failed.
    pub(crate) fn pick(&self, endpoints: &Endpoints) -> Result<Arc<Channel>, Error> {
        let addresses = endpoints.addresses();
        if let [only] = addresses {
            return Ok(self.channel(only));
        }
        let now = Instant::now();
        (0..addresses.len())
            .map(|at| self.channel(&addresses[(at + self.start) % addresses.len()]))
            .min_by_key(|channel| channel.health().rank(now))
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
        self.channels.lock().values().map(|channel| channel.connections()).sum()
    }

    /// The health of the addresses in use, sorted by name.
    ///
    /// An address is in use while a telemetry stream or a call holds its channel. If none is, returns all that were tried.
    pub(crate) fn endpoints(&self) -> Vec<EndpointHealth> {
        let channels: Vec<_> = self.channels.lock().values().cloned().collect();
        // Two references are in `channels` and in the map.
        let in_use = |channel: &Arc<Channel>| Arc::strong_count(channel) > 2;
        let all = !channels.iter().any(in_use);
        let used = channels.iter().filter(|channel| all || in_use(channel));
        let mut endpoints: Vec<_> = used.filter_map(|channel| self.endpoint(channel)).collect();
        endpoints.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        endpoints
    }

    /// The health of an address; `None` if it was not tried.
    fn endpoint(&self, channel: &Channel) -> Option<EndpointHealth> {
        let (endpoint, connections) = (channel.name().to_string(), channel.connections());
        let health = channel.health();
        let error = match health {
            ChannelHealth::Bad { .. } => channel.error(),
            ChannelHealth::Untried | ChannelHealth::Good => self.monitor.error_at(channel.name()),
        };
        if health == ChannelHealth::Untried && error.is_none() {
            return None;
        }
        let status = match &error {
            None => Status::Connected,
            Some(_) if connections > 0 => Status::Degraded,
            Some(_) => Status::Lost,
        };
        Some(EndpointHealth { endpoint, status, error, connections })
    }

    /// Drops all channels. Each closes its connections when it is no longer used.
    pub(crate) fn clear(&self) {
        self.channels.lock().clear();
    }

    /// The channel whose address is written as `name`.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Channel>> {
        self.channels.lock().values().find(|channel| **channel.name() == *name).cloned()
    }

    fn channel(&self, address: &Address) -> Arc<Channel> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(address) {
            return channel.clone();
        }
        let (monitor, metrics) = (self.monitor.clone(), self.metrics.clone());
        let channel = Channel::new(address.clone(), self.transport.clone(), monitor, metrics);
        channels.insert(address.clone(), channel.clone());
        channel
    }

    /// Creates a channel that is not part of the pool, and affects neither the health nor the metrics of the client.
    pub(super) fn detached_channel(&self, address: &Address) -> Arc<Channel> {
        Channel::new(address.clone(), self.transport.clone(), Arc::default(), Arc::default())
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
        let channel = self.channel(address);
        let retry = Retry::for_connecting(self.transport.connect_timeout(), deadline, absent_timeout);
        // Opening a connection has its own timeout, whose error names the step that failed.
        let attempt = |_| channel.for_call(deadline);
        retry.run(&NoSettings, attempt).await?;
        channel.record_success();
        Ok(())
    }
}

impl std::fmt::Debug for ChannelPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelPool")
            .field("channels", &self.channels.lock().values())
            .finish_non_exhaustive()
    }
}
