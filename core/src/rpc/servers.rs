//! What all parts of a client share: its addresses, connections, credentials and options.

use std::{sync::Arc, time::Instant};

use super::{CurrentCredentials, Identity, Link, Pool, Rpc};
use crate::{
    error::Error,
    health::{Health, Monitor},
    metrics::Metrics,
    options::{ClientOptions, Endpoints, Startup},
};

/// The addresses of a client's servers, the connections to them, and the client's options.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) pool: Pool,
    /// The addresses that the user gave.
    pub(crate) access: Endpoints,
    pub(crate) options: ClientOptions,
    pub(crate) credentials: Arc<CurrentCredentials>,
    pub(crate) monitor: Arc<Monitor>,
}

impl Servers {
    /// Creates an [`Rpc`] with a new client id.
    pub(crate) fn rpc(&self) -> Result<Rpc, Error> {
        Ok(Rpc::new(Identity::new(&self.options, self.credentials.clone())?))
    }

    /// Waits for the first credentials and for a connection, unless the client starts lazily.
    pub(crate) async fn connect(&self) -> Result<(), Error> {
        let options = &self.options;
        let deadline = crate::options::deadline(Instant::now(), options.startup_timeout);
        if options.startup != Startup::Lazy {
            self.credentials.ready(deadline).await.map_err(|error| error.during("connect"))?;
        }
        self.pool.connect_any(&self.access, options.startup, deadline).await
    }

    /// Whether the servers can be reached.
    pub(crate) fn health(&self) -> Health {
        Health::new(self.pool.endpoints(), self.monitor.is_closed())
    }

    /// The link to the best of the addresses that the user gave.
    pub(crate) fn pick_access(&self) -> Result<Arc<Link>, Error> {
        self.pool.pick(&self.access)
    }

    /// A snapshot of the metrics, labelled with `client_id`.
    pub(crate) fn metrics(&self, client_id: &str) -> Metrics {
        let pool = &self.pool;
        pool.metrics().snapshot(client_id, pool.in_flight(), pool.connections())
    }

    /// Whether the user gave the address.
    pub(crate) fn is_access(&self, link: &Link) -> bool {
        self.access.addresses().contains(link.address())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.credentials.close();
    }
}
