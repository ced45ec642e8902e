//! The connections of a client, one per address.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;

use super::{
    failure,
    link::Link,
    retry::{NoSettings, Retry},
    transport::Transport,
};
use crate::{
    error::{Error, ErrorKind},
    options::{Address, Endpoints, Tls},
};

/// One HTTP/2 connection per address, shared by all producers and consumers of a client.
#[derive(Debug)]
pub(crate) struct Pool {
    transport: Transport,
    connect_timeout: Duration,
    links: Mutex<HashMap<Address, Arc<Link>>>,
    /// Where each client starts to count, so that many clients spread over equal addresses.
    start: usize,
}

impl Pool {
    pub(crate) fn new(tls: &Tls, connect_timeout: Duration) -> Result<Self, Error> {
        Ok(Self {
            transport: Transport::new(tls, connect_timeout)?,
            connect_timeout,
            links: Mutex::default(),
            start: rand::random::<u16>().into(),
        })
    }

    /// The best address of `endpoints`: one that works before one never tried before one that failed.
    pub(crate) fn pick(&self, endpoints: &Endpoints) -> Result<Arc<Link>, Error> {
        let addresses = endpoints.addresses();
        if let [only] = addresses {
            return self.link(only);
        }
        let now = Instant::now();
        let links = (0..addresses.len())
            .map(|at| self.link(&addresses[(at + self.start) % addresses.len()]))
            .collect::<Result<Vec<_>, _>>()?;
        links.into_iter().min_by_key(|link| link.health().rank(now)).ok_or_else(|| {
            Error::new(ErrorKind::Protocol, "connect", "the server names a broker without an address")
        })
    }

    /// Lets go of all connections; each ends when nothing uses it any more.
    pub(crate) fn clear(&self) {
        self.links.lock().clear();
    }

    /// The link whose address is written as `name`.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Link>> {
        self.links.lock().values().find(|link| **link.name() == *name).cloned()
    }

    fn link(&self, address: &Address) -> Result<Arc<Link>, Error> {
        let mut links = self.links.lock();
        if let Some(link) = links.get(address) {
            return Ok(link.clone());
        }
        let link = Link::new(address.clone(), self.transport.endpoint(address)?.connect_lazy());
        links.insert(address.clone(), link.clone());
        Ok(link)
    }

    /// Waits until one of `endpoints` takes a connection.
    pub(crate) async fn reach(&self, endpoints: &Endpoints, deadline: Instant) -> Result<(), Error> {
        let mut tries: FuturesUnordered<_> =
            endpoints.addresses().iter().map(|address| self.connect(address, deadline)).collect();
        let mut first = None;
        while let Some(result) = tries.next().await {
            match result {
                Ok(()) => return Ok(()),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| Error::new(ErrorKind::InvalidOptions, "connect", "no endpoint is given")))
    }

    async fn connect(&self, address: &Address, deadline: Instant) -> Result<(), Error> {
        let retry = Retry::for_connecting(self.connect_timeout, deadline);
        let connected = retry.run(&NoSettings, |limit| self.connect_once(address, limit)).await;
        if connected.is_err() {
            // The first calls go to another address.
            self.link(address)?.failed();
        }
        connected
    }

    async fn connect_once(&self, address: &Address, limit: Duration) -> Result<(), Error> {
        let endpoint = self.transport.endpoint(address)?;
        let channel = match tokio::time::timeout(limit, endpoint.connect()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(failure::of_connecting(address, error)),
            Err(_) => {
                return Err(Error::new(ErrorKind::Unavailable, "connect", "connect timed out")
                    .with_retryable(true)
                    .with_endpoint(address.to_string())
                    .unreached());
            }
        };
        let link = Link::new(address.clone(), channel);
        link.reached();
        self.links.lock().insert(address.clone(), link);
        Ok(())
    }
}
