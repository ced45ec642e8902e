//! The addresses that a client talks to.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;

use super::{
    link::Link,
    retry::{NoSettings, Retry},
    transport::Transport,
};
use crate::{
    error::{Error, ErrorKind},
    options::{Address, Endpoints, Tls},
};

/// One link per address, shared by all producers and consumers of a client.
pub(crate) struct Pool {
    transport: Transport,
    links: Mutex<HashMap<Address, Arc<Link>>>,
    /// The address that each client tries first, so that many clients spread over equal addresses.
    start: usize,
}

impl Pool {
    pub(crate) fn new(tls: &Tls, connect_timeout: Duration) -> Result<Self, Error> {
        Ok(Self {
            transport: Transport::new(tls, connect_timeout)?,
            links: Mutex::default(),
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

    /// How many connections are open to all addresses.
    pub(crate) fn connections(&self) -> usize {
        self.links.lock().values().map(|link| link.connections()).sum()
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
        let link = Link::new(address.clone(), self.transport.clone());
        links.insert(address.clone(), link.clone());
        link
    }

    /// Waits until one of `endpoints` accepts a connection.
    ///
    /// # Errors
    ///
    /// The error of the first address that failed: at once if it is not worth another attempt at any address,
    /// otherwise at the deadline.
    pub(crate) async fn reach(&self, endpoints: &Endpoints, deadline: Instant) -> Result<(), Error> {
        let mut attempts: FuturesUnordered<_> =
            endpoints.addresses().iter().map(|address| self.connect(address, deadline)).collect();
        let mut first = None;
        while let Some(result) = attempts.next().await {
            match result {
                Ok(()) => return Ok(()),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| Error::new(ErrorKind::InvalidOptions, "connect", "no endpoint is given")))
    }

    async fn connect(&self, address: &Address, deadline: Instant) -> Result<(), Error> {
        let link = self.link(address);
        let retry = Retry::for_connecting(self.transport.connect_timeout(), deadline);
        let mut first = true;
        let connected = retry.run(&NoSettings, |limit| {
            let first = std::mem::take(&mut first);
            let link = &link;
            async move {
                let result = link.for_call(crate::options::deadline(Instant::now(), limit)).await;
                if let Err(error) = &result
                    && first
                    && error.retryable()
                {
                    tracing::warn!(%error, "the first attempt to connect failed; trying again");
                }
                result
            }
        });
        connected.await?;
        link.reached();
        Ok(())
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("links", &self.links.lock().values()).finish_non_exhaustive()
    }
}
