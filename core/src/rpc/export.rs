//! Exports metrics to the collector that a server names.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{call::Rpc, servers::Servers};
use crate::{error::Error, options::Endpoints, wire::build_export};

/// As often as Apache's clients.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long one export may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a close waits for the last export.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);

/// The export under way, if a server asks for one.
#[derive(Debug, Default)]
pub(super) struct Exporter(Mutex<Option<Export>>);

#[derive(Debug)]
struct Export {
    target: Target,
    /// Ends the task when dropped.
    _stop: DropGuard,
}

/// Where metrics go, and as which protocol client.
#[derive(Clone, Debug)]
struct Target {
    collector: Endpoints,
    rpc: Rpc,
}

impl Servers {
    /// Exports to `collector` from now on, in the name of the protocol client that was asked to; `None` ends it.
    ///
    /// Settings of all producers and consumers of a client arrive here; the latest count.
    pub(crate) fn export_metrics(self: &Arc<Self>, collector: Option<Endpoints>, rpc: &Rpc) {
        self.export_every(INTERVAL, collector, rpc);
    }

    fn export_every(self: &Arc<Self>, interval: Duration, collector: Option<Endpoints>, rpc: &Rpc) {
        let mut current = self.pool.exporter().0.lock();
        if current.as_ref().map(|export| &export.target.collector) == collector.as_ref() {
            return;
        }
        match &collector {
            Some(collector) => tracing::debug!(%collector, "the server asks for metrics"),
            None => tracing::debug!("the server asks for no more metrics"),
        }
        *current = collector.map(|collector| {
            let target = Target { collector, rpc: rpc.clone() };
            let stop = CancellationToken::new();
            let task = run(Arc::downgrade(self), target.clone(), interval);
            tokio::spawn(stop.clone().run_until_cancelled_owned(task));
            Export { target, _stop: stop.drop_guard() }
        });
    }

    /// Ends the export with what was counted since the last one. Takes at most a second, and not longer than until
    /// `deadline`.
    pub(crate) async fn end_export(&self, deadline: Instant) {
        let export = self.pool.exporter().0.lock().take();
        if let Some(Export { target, .. }) = export {
            let limit = deadline.saturating_duration_since(Instant::now()).min(LAST_TIMEOUT);
            report(&target, self.export(&target, limit).await);
        }
    }

    async fn export(&self, target: &Target, limit: Duration) -> Result<(), Error> {
        let Target { collector, rpc } = target;
        let metrics = self.metrics(rpc.identity().client_id());
        let Some(request) = build_export(&metrics) else { return Ok(()) };
        let deadline = crate::options::deadline(Instant::now(), limit);
        let mut result = Ok(());
        for address in collector.addresses() {
            // Its connection ends with the export: the next one is far off.
            let link = self.pool.apart(address);
            result = rpc.export_metrics(&link, request.clone(), deadline).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

/// Exports again and again, until the client is gone.
async fn run(servers: Weak<Servers>, target: Target, interval: Duration) {
    let mut ticks = tokio::time::interval_at((Instant::now() + interval).into(), interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(servers) = servers.upgrade() else { return };
        report(&target, servers.export(&target, TIMEOUT).await);
    }
}

/// A collector that can't be reached is no problem of the application. The next export has all that this one missed.
fn report(target: &Target, result: Result<(), Error>) {
    if let Err(error) = result {
        tracing::debug!(collector = %target.collector, %error, "metrics were not exported");
    }
}
