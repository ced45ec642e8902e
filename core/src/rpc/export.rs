//! Exports metrics to the collector that a server names.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    call::Rpc,
    client_context::ClientContext,
    exporter::{Export, Target},
};
use crate::{error::Error, options::Endpoints, wire::build_export};

/// The time between two exports, the same as in Apache's clients.
const EXPORT_INTERVAL: Duration = Duration::from_secs(60);
/// How long one export may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a close waits for the last export.
const FINAL_EXPORT_TIMEOUT: Duration = Duration::from_secs(1);

impl ClientContext {
    /// Starts to export to `collector`, on behalf of the producer or consumer that received the settings; `None` ends
    /// the export.
    ///
    /// Called for the settings of all producers and consumers of a client. The latest settings apply.
    pub(crate) fn export_metrics(self: &Arc<Self>, collector: Option<Endpoints>, rpc: &Rpc) {
        self.export_every(EXPORT_INTERVAL, collector, rpc);
    }

    fn export_every(self: &Arc<Self>, interval: Duration, collector: Option<Endpoints>, rpc: &Rpc) {
        let mut current = self.pool.exporter().0.lock();
        if current.as_ref().map(|export| &export.target.collector) == collector.as_ref() {
            return;
        }
        match &collector {
            Some(collector) => tracing::debug!(%collector, "the server requests an export of metrics"),
            None => tracing::debug!("the server ends the export of metrics"),
        }
        *current = collector.map(|collector| {
            let target = Target { collector, rpc: rpc.clone() };
            let stop = CancellationToken::new();
            let task = run(Arc::downgrade(self), target.clone(), interval);
            tokio::spawn(stop.clone().run_until_cancelled_owned(task));
            Export { target, _stop: stop.drop_guard() }
        });
    }

    /// Exports once more, and ends the export. Takes at most [`FINAL_EXPORT_TIMEOUT`], and ends at `deadline`.
    pub(crate) async fn end_export(&self, deadline: Instant) {
        let export = self.pool.exporter().0.lock().take();
        if let Some(Export { target, .. }) = export {
            let limit = deadline.saturating_duration_since(Instant::now()).min(FINAL_EXPORT_TIMEOUT);
            log_failure(&target, self.export(&target, limit).await);
        }
    }

    async fn export(&self, target: &Target, limit: Duration) -> Result<(), Error> {
        let Target { collector, rpc } = target;
        let metrics = self.metrics(rpc.identity().client_id());
        let Some(request) = build_export(&metrics) else { return Ok(()) };
        let deadline = crate::options::deadline(Instant::now(), limit);
        let mut result = Ok(());
        for address in collector.addresses() {
            // The connection is closed after the export, because the next export is a minute away.
            let channel = self.pool.detached_channel(address);
            result = rpc.export_metrics(&channel, request.clone(), deadline).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

/// Exports periodically, until the client is dropped.
async fn run(context: Weak<ClientContext>, target: Target, interval: Duration) {
    let mut ticks = tokio::time::interval_at((Instant::now() + interval).into(), interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(context) = context.upgrade() else { return };
        log_failure(&target, context.export(&target, EXPORT_TIMEOUT).await);
    }
}

/// Logs a failed export. Only at level `debug`, because the application is not affected, and the next export includes all
/// counts.
fn log_failure(target: &Target, result: Result<(), Error>) {
    if let Err(error) = result {
        tracing::debug!(collector = %target.collector, %error, "failed to export metrics");
    }
}
