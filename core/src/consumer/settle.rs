//! Acknowledges deliveries, several in one request.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{invisible_duration_change::deadline, leases::Leases};
use crate::{
    client_base::ClientBase,
    error::{Error, Result},
    interceptor::{SettleInfo, Settlement},
    message::{Lease, Settling},
    metrics::{ConsumeSeries, Recorder},
    options::{ClientOptions, Endpoints, RetryOptions},
    rpc::{AckMessage, BatchCall, Batcher, InFlightGuard, PendingItem, PendingResult, ReplaySettings},
    session::Session,
    wire::{build_ack, process_ack},
};

/// The key of acks that may share a request: a topic, and the server that delivered its messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    topic: Arc<str>,
    server: Endpoints,
}

/// A delivery to acknowledge.
pub(crate) struct Ack(Settling);

/// Acknowledges the deliveries of one topic from one server, several in one request.
pub(crate) struct AckBatcher {
    series: Arc<ConsumeSeries>,
    session: Arc<Session>,
    leases: Arc<Leases>,
    group: String,
    topic: String,
    endpoints: Endpoints,
}

/// Queues an ack. It is retried until its lease ends.
pub(crate) fn submit_ack(
    batcher: &Arc<Batcher<AckBatcher>>,
    lease: &Arc<Lease>,
    guard: InFlightGuard,
    options: &ClientOptions,
) -> PendingResult<()> {
    let (ack, answer) = PendingItem::new(Ack(lease.begin_settling()), deadline(lease, options), guard);
    queue_ack(batcher, ack);
    answer
}

/// An ack to be queued, whose result goes to `callback`. The callback is not called if the session ends first.
pub(crate) fn ack_with_callback(
    lease: &Arc<Lease>,
    guard: InFlightGuard,
    options: &ClientOptions,
    callback: impl FnOnce(Result<()>) + Send + Sync + 'static,
) -> PendingItem<AckBatcher> {
    PendingItem::with_callback(Ack(lease.begin_settling()), deadline(lease, options), guard, callback)
}

/// Queues an ack once no change of its lease is in flight, which may replace the handle and invalidate the old one. A
/// change takes at most one request timeout, and no further renewal starts. Other acks don't wait for it.
pub(crate) fn queue_ack(batcher: &Arc<Batcher<AckBatcher>>, ack: PendingItem<AckBatcher>) {
    let lease = ack.item.0.lease();
    if !lease.is_handle_locked() {
        return batcher.queue(ack);
    }
    let lease = lease.clone();
    batcher.queue_after(ack, async move { drop(lease.lock_handle().await) });
}

/// The batcher for the ack of `lease`.
pub(crate) fn batcher_for(
    base: &ClientBase<Destination, AckBatcher>,
    leases: &Arc<Leases>,
    lease: &Lease,
) -> Arc<Batcher<AckBatcher>> {
    let message = lease.message();
    let destination = Destination { topic: message.topic.clone(), server: message.endpoints.clone() };
    base.batcher(&destination, || {
        let Destination { topic, server } = &destination;
        AckBatcher::new(leases.clone(), &message.group.name, topic, server.clone())
    })
}

impl AckBatcher {
    pub(crate) fn new(leases: Arc<Leases>, group: &str, topic: &str, endpoints: Endpoints) -> Self {
        let session = leases.session().clone();
        let series = session.metrics().consumes(group, topic);
        Self { series, session, leases, group: group.to_owned(), topic: topic.to_owned(), endpoints }
    }
}

impl ReplaySettings for AckBatcher {
    async fn replay_settings(&self, error: &Error, deadline: Instant) -> Result<()> {
        self.session.replay_settings(error, deadline).await
    }

    fn metrics(&self) -> Option<&Recorder> {
        Some(self.session.metrics())
    }
}

impl BatchCall for AckBatcher {
    type Item = Ack;
    type Output = ();

    const OPERATION: &'static str = "ack";
    const MAX_ITEMS: usize = 32;
    const MAX_BYTES: usize = usize::MAX;

    fn size(_ack: &Ack) -> usize {
        0
    }

    fn submitted(&self, ack: &Ack) {
        let info = SettleInfo::new(ack.0.lease().message(), Settlement::Ack);
        self.session.interceptors().before_settle(&info);
    }

    fn finished(&self, ack: &Ack, _submitted: Instant, result: Result<&(), &Error>) {
        let info = SettleInfo::new(ack.0.lease().message(), Settlement::Ack);
        self.session.record_settlement(&self.series, &info, result.copied());
    }

    fn retry(&self) -> RetryOptions {
        self.session.options().retry
    }

    fn request_timeout(&self) -> Duration {
        self.session.options().request_timeout
    }

    async fn execute(&self, items: &[PendingItem<Self>], limit: Duration) -> Result<Vec<Result<()>>> {
        let rpc = self.session.rpc();
        let channel = self.session.pool().pick(&self.endpoints).map_err(|error| error.during("ack"))?;
        let leases = || items.iter().map(|pending| pending.item.0.lease());
        let handles: Vec<String> = leases().map(|lease| lease.handle()).collect();
        let deliveries = leases().zip(&handles).map(|(lease, handle)| (lease.message(), handle.clone()));
        let request = build_ack(rpc.resource(&*self.group), rpc.resource(&*self.topic), deliveries);
        let (call, response) = rpc.unary::<AckMessage>(&channel, request, limit).await?;
        let results = process_ack(&call, response, &handles)?;
        for (lease, result) in leases().zip(&results) {
            self.leases.record_result(lease, result);
        }
        Ok(results)
    }
}
