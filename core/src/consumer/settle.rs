//! Settles deliveries: acks, which are batched, and changes of the invisible time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::leases::Leases;
use crate::{
    error::{Error, Result},
    interceptor::{SettleInfo, Settlement},
    member::Member,
    message::{Delivery, Lease, Settling},
    metrics::{ConsumeSeries, Recorder},
    options::{ClientOptions, Endpoints, RetryOptions},
    rpc::{
        AckMessage, Answer, BatchCall, Batcher, ChangeInvisibleDuration, InFlightGuard, Link, PendingItem,
        ReplaySettings, Retry,
    },
    session::Session,
    wire::{InvisibleChange, build_ack, build_change, process_ack, process_change},
};

/// Deliveries that are given back together become visible at random times within this delay, and not all at once.
const MAX_GIVE_BACK_DELAY: Duration = Duration::from_secs(1);

/// The key of acks that may share a request: a topic, and the server that delivered its messages.
pub(crate) type Destination = (Arc<str>, Endpoints);

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
) -> Answer<()> {
    batcher.submit(Ack(lease.begin_settling()), deadline(lease, options), guard)
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

/// The batcher for the ack of `lease`.
pub(crate) fn batcher_for(
    member: &Member<Destination, AckBatcher>,
    leases: &Arc<Leases>,
    lease: &Lease,
) -> Arc<Batcher<AckBatcher>> {
    let message = lease.message();
    let destination = (message.topic.clone(), message.endpoints.clone());
    member.batcher(&destination, || {
        let (topic, endpoints) = &destination;
        AckBatcher::new(leases.clone(), &message.group.name, topic, endpoints.clone())
    })
}

/// The deadline of a request that settles a delivery: the end of its lease, but at least one request timeout from now,
/// because the server decides whether the lease has ended. At most the operation timeout.
pub(super) fn deadline(lease: &Lease, options: &ClientOptions) -> Instant {
    let now = Instant::now();
    let shortest = crate::options::deadline(now, options.request_timeout);
    lease.until().max(shortest).min(crate::options::deadline(now, options.operation_timeout))
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
        let link = self.session.pool().pick(&self.endpoints).map_err(|error| error.during("ack"))?;
        let leases = || items.iter().map(|pending| pending.item.0.lease());
        for lease in leases() {
            // A renewal in flight may replace the handle and invalidate the old one. It takes at most one request
            // timeout, and no further renewal starts.
            drop(lease.lock_handle().await);
        }
        let handles: Vec<String> = leases().map(|lease| lease.handle()).collect();
        let deliveries = leases().zip(&handles).map(|(lease, handle)| (lease.message(), handle.clone()));
        let request = build_ack(rpc.resource(&*self.group), rpc.resource(&*self.topic), deliveries);
        let (origin, response) = rpc.unary::<AckMessage>(&link, request, limit).await?;
        let results = process_ack(&origin, response, &handles)?;
        for (lease, result) in leases().zip(&results) {
            self.leases.record_result(lease, result);
        }
        Ok(results)
    }
}

/// A request to change the invisible time of one delivery.
pub(crate) struct Change {
    session: Arc<Session>,
    lease: Arc<Lease>,
    invisible: Duration,
    purpose: Purpose,
}

/// Why an invisible time is changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The application sets another time.
    Change,
    /// The client renews the lease. Skipped once the delivery is settled.
    Renewal,
    /// The application returns the delivery.
    Nack,
    /// The client returns a delivery that the application has not seen.
    GiveBack,
}

impl Change {
    pub(crate) fn new(session: Arc<Session>, delivery: &Delivery, invisible: Duration) -> Self {
        Self { session, lease: delivery.lease.clone(), invisible, purpose: Purpose::Change }
    }

    /// Renews a lease for `invisible` from now, unless the delivery is settled first.
    pub(crate) fn renewal(session: Arc<Session>, lease: Arc<Lease>, invisible: Duration) -> Self {
        Self { session, lease, invisible, purpose: Purpose::Renewal }
    }

    /// Returns a delivery, which is delivered again after `after`.
    pub(crate) fn nack(session: Arc<Session>, lease: Arc<Lease>, after: Duration) -> Self {
        Self { session, lease, invisible: after, purpose: Purpose::Nack }
    }

    /// Gives back a delivery that the application has not seen. Servers that support it do not count the attempt.
    ///
    /// The message is delivered again after a random time of at most [`MAX_GIVE_BACK_DELAY`].
    pub(crate) fn give_back(session: Arc<Session>, lease: Arc<Lease>) -> Self {
        let invisible = rand::random_range(Duration::ZERO..=MAX_GIVE_BACK_DELAY);
        Self { session, lease, invisible, purpose: Purpose::GiveBack }
    }

    /// Sends the change, with retries, and stores the new handle.
    pub(crate) async fn run(self) -> Result<()> {
        let deadline = deadline(&self.lease, self.session.options());
        self.run_until(deadline).await
    }

    /// Like [`run`](Self::run), with retries until `deadline`.
    pub(crate) async fn run_until(self, deadline: Instant) -> Result<()> {
        self.session.settle(self.lease.message(), self.settlement(), self.send_until(deadline)).await
    }

    /// What interceptors and metrics see.
    fn settlement(&self) -> Settlement {
        match self.purpose {
            Purpose::Change => Settlement::ChangeInvisible(self.invisible),
            Purpose::Renewal => Settlement::Renewal(self.invisible),
            Purpose::Nack => Settlement::Retry(self.invisible),
            Purpose::GiveBack => Settlement::GiveBack(self.invisible),
        }
    }

    async fn send_until(&self, deadline: Instant) -> Result<()> {
        let _settling = self.settles().then(|| self.lease.begin_settling());
        let (session, operation) = (&self.session, self.operation());
        let options = session.options();
        let retry = Retry::new(operation, &options.retry, options.request_timeout, deadline);
        let result = retry.run(&**session, |limit| self.attempt(limit, deadline)).await;
        if result.is_err() || self.settles() {
            self.lease.record_result(&result);
        }
        result.map_err(|error| error.during(operation))
    }

    /// Sends the change once. Works after the session has ended.
    pub(crate) async fn run_once(self) -> Result<()> {
        let link = self.session.pool().pick(&self.lease.message().endpoints)?;
        self.send(&link, self.session.options().request_timeout).await.map(drop)
    }

    /// Whether the change ends the consumer's use of the delivery.
    fn settles(&self) -> bool {
        matches!(self.purpose, Purpose::Nack | Purpose::GiveBack)
    }

    fn operation(&self) -> &'static str {
        match self.purpose {
            Purpose::Nack => "nack",
            _ => "change_invisible",
        }
    }

    async fn attempt(&self, limit: Duration, deadline: Instant) -> Result<()> {
        // Some servers refuse requests of clients without a telemetry stream to them.
        let link = self.session.ready(&self.lease.message().endpoints, deadline).await?;
        let _guard = self.lease.lock_handle().await;
        if self.purpose == Purpose::Renewal && !self.lease.is_open() {
            return Ok(());
        }
        let handle = self.send(&link, limit).await?;
        self.lease.renew(handle, self.invisible);
        Ok(())
    }

    async fn send(&self, link: &Link, limit: Duration) -> Result<String> {
        let (rpc, message) = (self.session.rpc(), self.lease.message());
        // A returned lite message would block its lite topic, so the server must not count the attempt.
        let suspend = match self.purpose {
            Purpose::GiveBack => true,
            Purpose::Nack => message.lite_topic.is_some(),
            Purpose::Change | Purpose::Renewal => false,
        };
        let change =
            InvisibleChange { message, handle: self.lease.handle(), invisible: self.invisible, suspend };
        let (group, topic) = (rpc.resource(&*message.group.name), rpc.resource(&*message.topic));
        let request = build_change(group, topic, change);
        let (origin, response) = rpc.unary::<ChangeInvisibleDuration>(link, request, limit).await?;
        process_change(&origin, response)
    }
}
