//! Acks and changes of the invisible time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    message::{Delivery, Lease},
    options::{ClientOptions, Endpoints, RetryOptions},
    rpc::{
        AckMessage, Answer, BatchCall, Batcher, ChangeInvisibleDuration, InFlightGuard, Link, PendingItem,
        ReplaySettings, Retry,
    },
    session::Session,
    wire::{InvisibleChange, build_ack, build_change, process_ack, process_change},
};

/// One delivery to ack.
pub(super) struct Ack {
    message_id: String,
    lease: Arc<Lease>,
}

/// Acks deliveries of one topic from one server.
pub(super) struct Acks {
    session: Arc<Session>,
    group: String,
    topic: String,
    endpoints: Endpoints,
}

/// Queues an ack. It is retried only until its lease ends.
pub(super) fn submit_ack(
    batcher: &Arc<Batcher<Acks>>,
    delivery: &Delivery,
    guard: InFlightGuard,
    options: &ClientOptions,
) -> Answer<()> {
    let deadline = deadline(&delivery.lease, options);
    let lease = delivery.lease.clone();
    batcher.submit(Ack { message_id: delivery.message_id.clone(), lease }, deadline, guard)
}

/// The end of the lease, but not before one attempt has had its time: the server decides whether the lease is over.
fn deadline(lease: &Lease, options: &ClientOptions) -> Instant {
    let now = Instant::now();
    let shortest = crate::options::deadline(now, options.request_timeout);
    lease.until().max(shortest).min(crate::options::deadline(now, options.operation_timeout))
}

impl Acks {
    pub(super) fn new(session: Arc<Session>, group: &str, topic: &str, endpoints: Endpoints) -> Self {
        Self { session, group: group.to_owned(), topic: topic.to_owned(), endpoints }
    }
}

impl ReplaySettings for Acks {
    async fn replay_settings(&self, error: &Error, deadline: Instant) -> Result<()> {
        self.session.replay_settings(error, deadline).await
    }
}

impl BatchCall for Acks {
    type Item = Ack;
    type Output = ();

    const OPERATION: &'static str = "ack";
    const MAX_ITEMS: usize = 32;
    const MAX_BYTES: usize = usize::MAX;

    fn size(_ack: &Ack) -> usize {
        0
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
        let handles: Vec<String> = items.iter().map(|pending| pending.item.lease.handle()).collect();
        let deliveries = items
            .iter()
            .zip(&handles)
            .map(|(pending, handle)| (pending.item.message_id.clone(), handle.clone()));
        let request = build_ack(rpc.resource(&*self.group), rpc.resource(&*self.topic), deliveries);
        let (origin, response) = rpc.unary::<AckMessage>(&link, request, limit).await?;
        process_ack(&origin, response, &handles)
    }
}

/// One change of an invisible time.
pub(super) struct Change {
    session: Arc<Session>,
    group: String,
    topic: String,
    message_id: String,
    lease: Arc<Lease>,
    invisible: Duration,
    suspend: bool,
}

impl Change {
    pub(super) fn new(session: Arc<Session>, group: &str, delivery: &Delivery, invisible: Duration) -> Self {
        Self {
            session,
            group: group.to_owned(),
            topic: delivery.topic.clone(),
            message_id: delivery.message_id.clone(),
            lease: delivery.lease.clone(),
            invisible,
            suspend: false,
        }
    }

    /// Gives back a delivery that the application has not seen, without counting an attempt where the server can.
    pub(super) fn give_back(session: Arc<Session>, group: &str, delivery: &Delivery) -> Self {
        Self { suspend: true, ..Self::new(session, group, delivery, Duration::ZERO) }
    }

    /// Sends the change, with retries, and stores the new handle.
    pub(super) async fn run(self) -> Result<()> {
        let session = &self.session;
        let options = session.options();
        let deadline = deadline(&self.lease, options);
        let retry = Retry::new("change_invisible", &options.retry, options.request_timeout, deadline);
        let handle = retry.run(&**session, |limit| self.attempt(limit, deadline)).await?;
        self.lease.renew(handle, self.invisible);
        Ok(())
    }

    /// Sends the change once, without the session, which may have ended.
    pub(super) async fn run_once(self) -> Result<()> {
        let link = self.session.pool().pick(self.lease.endpoints())?;
        self.send(&link, self.session.options().request_timeout).await.map(drop)
    }

    async fn attempt(&self, limit: Duration, deadline: Instant) -> Result<String> {
        // Some servers only know clients that have a telemetry stream to them.
        let link = self.session.ready(self.lease.endpoints(), deadline).await;
        let link = link.map_err(|error| error.during("change_invisible"))?;
        self.send(&link, limit).await
    }

    async fn send(&self, link: &Link, limit: Duration) -> Result<String> {
        let rpc = self.session.rpc();
        let change = InvisibleChange {
            message_id: self.message_id.clone(),
            handle: self.lease.handle(),
            invisible: self.invisible,
            suspend: self.suspend,
        };
        let (group, topic) = (rpc.resource(&*self.group), rpc.resource(&*self.topic));
        let request = build_change(group, topic, change);
        let (origin, response) = rpc.unary::<ChangeInvisibleDuration>(link, request, limit).await?;
        process_change(&origin, response)
    }
}
