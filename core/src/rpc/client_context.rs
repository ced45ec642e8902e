//! What all producers and consumers of a client share: its endpoints, connections, credentials and options.

use std::{sync::Arc, time::Instant};

use super::{Channel, ChannelPool, CurrentCredentials, Identity, Rpc};
use crate::{
    error::Error,
    health::{Health, Monitor},
    metrics::Metrics,
    options::{ClientOptions, Endpoints, Startup},
};

/// What all producers and consumers of a client share.
#[derive(Debug)]
pub(crate) struct ClientContext {
    pub(crate) pool: ChannelPool,
    /// The endpoints in the options of the client.
    pub(crate) configured_endpoints: Endpoints,
    pub(crate) options: ClientOptions,
    pub(crate) credentials: Arc<CurrentCredentials>,
    pub(crate) monitor: Arc<Monitor>,
}

impl ClientContext {
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
        self.pool.connect_any(&self.configured_endpoints, options.startup, deadline).await
    }

    /// Whether the servers can be reached.
    pub(crate) fn health(&self) -> Health {
        Health::new(self.pool.endpoints(), self.monitor.is_closed())
    }

    /// The channel to the best of the configured endpoints.
    pub(crate) fn pick_configured(&self) -> Result<Arc<Channel>, Error> {
        self.pool.pick(&self.configured_endpoints)
    }

    /// A snapshot of the metrics, labelled with `client_id`.
    pub(crate) fn metrics(&self, client_id: &str) -> Metrics {
        let pool = &self.pool;
        pool.metrics().snapshot(client_id, pool.in_flight(), pool.connections())
    }

    /// Whether the channel leads to a configured endpoint.
    pub(crate) fn is_configured(&self, channel: &Channel) -> bool {
        self.configured_endpoints.addresses().contains(channel.address())
    }
}

impl Drop for ClientContext {
    /// Ends the task that keeps the credentials current, if the client was dropped without a close.
    fn drop(&mut self) {
        self.credentials.close();
    }
}
