//! Changes the invisible time of a delivery.

use std::{
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    error::Result,
    interceptor::Settlement,
    message::{Delivery, Lease},
    options::ClientOptions,
    rpc::{ChangeInvisibleDuration, Channel, Retry, time_for_request},
    session::Session,
    wire::{ChangeInvisibleRequest, build_change_invisible, process_change_invisible},
};

/// Deliveries that are given back together become visible after random delays, and not all at once. Not earlier than a poll
/// ends at the server that was stopped just before: it would get the message, and nobody would read its answer.
const GIVE_BACK_DELAY: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);

/// The deadline of a request that settles a delivery: the end of its lease, but at least one request timeout from now,
/// because the server decides whether the lease has ended. At most the operation timeout.
pub(super) fn deadline(lease: &Lease, options: &ClientOptions) -> Instant {
    let now = Instant::now();
    let shortest = crate::options::deadline(now, options.request_timeout);
    lease.until().max(shortest).min(crate::options::deadline(now, options.operation_timeout))
}

/// A request to change the invisible time of one delivery.
pub(crate) struct InvisibleDurationChange {
    session: Arc<Session>,
    lease: Arc<Lease>,
    invisible: Duration,
    purpose: ChangePurpose,
}

/// Why an invisible time is changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ChangePurpose {
    /// The application sets another time.
    Change,
    /// The client renews the lease, which began or was last renewed at `since`. Skipped once the delivery is settled, and
    /// if the lease was renewed or changed meanwhile: the application may have set a longer or a shorter time.
    Renewal { since: Instant },
    /// The application returns the delivery.
    Nack,
    /// The client returns a delivery that the application has not seen.
    GiveBack,
}

impl InvisibleDurationChange {
    pub(crate) fn new(session: Arc<Session>, delivery: &Delivery, invisible: Duration) -> Self {
        Self { session, lease: delivery.lease.clone(), invisible, purpose: ChangePurpose::Change }
    }

    /// Renews a lease for its length from now, unless the delivery is settled or the lease is changed first.
    pub(crate) fn renewal(session: Arc<Session>, lease: Arc<Lease>) -> Self {
        // Read first: if the lease changes in between, the renewal is skipped.
        let since = lease.since();
        let invisible = lease.length();
        Self { session, lease, invisible, purpose: ChangePurpose::Renewal { since } }
    }

    /// The same change for `invisible` from now.
    pub(crate) fn lasting(self, invisible: Duration) -> Self {
        Self { invisible, ..self }
    }

    /// Returns a delivery, which is delivered again after `after`.
    pub(crate) fn nack(session: Arc<Session>, lease: Arc<Lease>, after: Duration) -> Self {
        Self { session, lease, invisible: after, purpose: ChangePurpose::Nack }
    }

    /// Gives back a delivery that the application has not seen. Servers that support it do not count the attempt.
    ///
    /// The message is delivered again after a random time within [`GIVE_BACK_DELAY`].
    pub(crate) fn give_back(session: Arc<Session>, lease: Arc<Lease>) -> Self {
        let invisible = rand::random_range(GIVE_BACK_DELAY);
        Self { session, lease, invisible, purpose: ChangePurpose::GiveBack }
    }

    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.lease
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
            ChangePurpose::Change => Settlement::ChangeInvisible(self.invisible),
            ChangePurpose::Renewal { .. } => Settlement::Renewal(self.invisible),
            ChangePurpose::Nack => Settlement::Retry(self.invisible),
            ChangePurpose::GiveBack => Settlement::GiveBack(self.invisible),
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
        let channel = self.session.pool().pick(&self.lease.message().endpoints)?;
        self.send(&channel, self.session.options().request_timeout).await.map(drop)
    }

    /// Whether the change ends the consumer's use of the delivery.
    fn settles(&self) -> bool {
        matches!(self.purpose, ChangePurpose::Nack | ChangePurpose::GiveBack)
    }

    /// Whether the change is a renewal that is to be skipped.
    fn is_obsolete(&self) -> bool {
        match self.purpose {
            ChangePurpose::Renewal { since } => !self.lease.is_open() || self.lease.since() != since,
            ChangePurpose::Change | ChangePurpose::Nack | ChangePurpose::GiveBack => false,
        }
    }

    fn operation(&self) -> &'static str {
        match self.purpose {
            ChangePurpose::Nack => "nack",
            _ => "change_invisible",
        }
    }

    async fn attempt(&self, limit: Duration, deadline: Instant) -> Result<()> {
        // Some servers refuse requests of clients without a telemetry stream to them.
        let channel = self.session.ready(&self.lease.message().endpoints, deadline).await?;
        let _guard = self.lease.lock_handle().await;
        if self.is_obsolete() {
            return Ok(());
        }
        // The waits before this may have taken most of the time.
        let limit = time_for_request(self.operation(), deadline, limit)?;
        let handle = self.send(&channel, limit).await?;
        self.lease.renew(handle, self.invisible);
        Ok(())
    }

    async fn send(&self, channel: &Channel, limit: Duration) -> Result<String> {
        let (rpc, message) = (self.session.rpc(), self.lease.message());
        // A returned lite message would block its lite topic, so the server must not count the attempt.
        let suspend = match self.purpose {
            ChangePurpose::GiveBack => true,
            ChangePurpose::Nack => message.lite_topic.is_some(),
            ChangePurpose::Change | ChangePurpose::Renewal { .. } => false,
        };
        let change = ChangeInvisibleRequest {
            message,
            handle: self.lease.handle(),
            invisible: self.invisible,
            suspend,
        };
        let (group, topic) = (rpc.resource(&*message.group.name), rpc.resource(&*message.topic));
        let request = build_change_invisible(group, topic, change);
        let (call, response) = rpc.unary::<ChangeInvisibleDuration>(channel, request, limit).await?;
        process_change_invisible(&call, response)
    }
}
