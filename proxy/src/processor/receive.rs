//! Receiving: how long to wait, for how long to lease, and which deliveries are dead letters.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cluster_router::Cluster;
use super::command::Command;
use super::environment::Environment;
use super::handle::{Lease, Opened, Scope};
use super::lease::{LeaseHolder, Renewal};
use super::limits::Limits;
use super::{Expression, filter, group, validate};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::layer::{Names, OperationKind, Size, Traced};
use crate::service::{
    ChangeInvisible, Delivered, Delivery, Forward, GroupConfig, Receive, ServiceErrorKind, Services, Settle,
};

/// A client's request timeout, if it never sent one.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Waits for messages. Works for any client, also one whose settings this proxy never saw.
///
/// # Errors
/// In this order: `IllegalPollingTime`, `IllegalTopic`, `IllegalGroup`, `IllegalInvisibleTime`,
/// `IllegalFilter`, `BadRequest` (a negative batch size, a long attempt id), then what group, topic and backend say.
#[derive(Clone, Debug)]
pub struct ReceiveCommand {
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// The broker that the client chose.
    pub broker: Option<String>,
    /// What to deliver.
    pub expression: Expression,
    /// How many messages at most.
    pub batch_size: i32,
    /// The lease, in milliseconds.
    pub invisible_ms: i64,
    /// Whether the proxy shall renew the lease while the client is there.
    pub auto_renew: bool,
    /// How long to wait for a first message, in milliseconds.
    pub polling_ms: Option<i64>,
    /// The same for all repetitions of one receive.
    pub attempt_id: Option<String>,
}

/// A delivery with the handle that settles it.
#[derive(Clone, Debug)]
pub struct LeasedDelivery {
    /// The delivery.
    pub delivery: Delivery,
    /// Its receipt handle.
    pub handle: String,
}

/// What a receive brought.
#[derive(Debug)]
pub enum Received {
    /// At least one message.
    Messages(Vec<LeasedDelivery>),
    /// There were messages, but none for this client.
    NoMatch,
    /// No message came.
    Nothing,
}

/// Deliveries that did not reach their client.
#[derive(Debug, Default)]
pub struct Undelivered {
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// The deliveries.
    pub deliveries: Vec<LeasedDelivery>,
}

impl Command for ReceiveCommand {
    type Answer = Received;
    const KIND: OperationKind = OperationKind::Receive;

    fn topics(&self) -> &dyn Names {
        &self.topic
    }

    fn groups(&self) -> &dyn Names {
        &self.group
    }

    fn answer_size(answer: &Received) -> Size {
        let Received::Messages(leased) = answer else { return Size::default() };
        Size::of_bodies(leased.iter().map(|leased| &*leased.delivery.message.body))
    }

    fn trace_end(result: Result<&Received, &Error>, traced: &mut Traced<'_>) {
        let Ok(Received::Messages(leased)) = result else { return };
        for LeasedDelivery { delivery, handle } in leased {
            traced.delivered(delivery, Some(handle));
        }
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<Received, Error> {
        let auto_renew = self.auto_renew;
        let Prepared { cluster, group, request } = self.prepare(environment, context).await?;
        let (topic, name) = (request.topic.clone(), request.group.clone());
        let deliveries = match wait_for(environment, &cluster.services, request).await? {
            Delivered::Messages(deliveries) => deliveries,
            Delivered::AllFiltered => return Ok(Received::NoMatch),
            Delivered::Nothing => return Ok(Received::Nothing),
        };
        let source = Source { cluster, scope: environment.handles.scope(&topic, &name) };
        let leased = source.seal(environment, deliveries, &group).await;
        if leased.is_empty() {
            return Ok(Received::NoMatch);
        }
        if auto_renew {
            source.renew(environment, context, &leased);
        }
        Ok(Received::Messages(leased))
    }
}

/// A receive that keeps to the rules.
pub(super) struct Prepared<'a> {
    pub(super) cluster: &'a Cluster,
    group: GroupConfig,
    pub(super) request: Receive,
}

impl ReceiveCommand {
    /// Checks the request. The time to wait begins now.
    ///
    /// # Errors
    /// As the command, except for the backend's.
    pub(super) async fn prepare<'a>(
        self,
        environment: &'a Environment,
        context: &Context,
    ) -> Result<Prepared<'a>, Error> {
        let limits = &environment.limits;
        let request_timeout = environment.clients.request_timeout(context).unwrap_or(REQUEST_TIMEOUT);
        let wait = polling_time(context, self.polling_ms, request_timeout, limits)?;
        let until = context.end_of_wait(wait);
        validate::topic(&self.topic)?;
        validate::group(&self.group)?;
        let invisible = if self.auto_renew {
            limits.renewed_lease
        } else {
            invisible_time(self.invisible_ms, limits.min_invisible, limits)?
        };
        let filter = filter::parse(self.expression)?;
        let Ok(batch_size) = usize::try_from(self.batch_size) else {
            let message = format!("the batch size must not be negative: {}", self.batch_size);
            return Err(Error::new(ErrorKind::BadRequest, message));
        };
        self.attempt_id.as_deref().map_or(Ok(()), validate::attempt_id)?;
        let cluster = environment.clusters.route(context.into(), &self.topic);
        let group = group::consuming(&cluster.services, &self.group).await?;
        let request = Receive {
            topic: self.topic,
            group: self.group,
            broker: self.broker,
            filter,
            max: batch_size.min(limits.receive_batch),
            invisible,
            deadline: until,
            fifo: group.fifo,
            attempt_id: self.attempt_id,
            lite_client: group.lite_bind_topic.is_some().then(|| context.client_id.clone()),
        };
        Ok(Prepared { cluster, group, request })
    }
}

/// Makes deliveries that could not be handed over visible again, without counting them as attempts.
pub(super) async fn give_back(environment: &Environment, undelivered: Undelivered) {
    let Undelivered { topic, group, deliveries } = undelivered;
    let scope = environment.handles.scope(&topic, &group);
    for LeasedDelivery { delivery, handle } in deliveries {
        environment.leases.take(&handle).await.settled();
        let Opened::Lease(lease) = scope.open(&handle) else { continue };
        let Ok(cluster) = environment.clusters.get(&lease.cluster) else { continue };
        let deadline = Instant::now() + environment.limits.call;
        give_back_one(&cluster.services, ChangeInvisible::give_back(&topic, &group, &delivery, deadline))
            .await;
    }
}

async fn give_back_one(services: &Services, change: ChangeInvisible) {
    let (topic, group) = (change.topic.clone(), change.group.clone());
    if let Err(error) = services.messages.change_invisible(change).await {
        tracing::debug!(topic, group, %error, "an undelivered message stays invisible until its lease ends");
    }
}

async fn wait_for(
    environment: &Environment,
    services: &Services,
    request: Receive,
) -> Result<Delivered, Error> {
    let (topic, until, wanted) = (request.topic.clone(), request.deadline, request.max);
    let received = async {
        if wanted == 0 {
            tokio::time::sleep_until(until.into()).await;
            return Ok(Delivered::Nothing);
        }
        services.messages.receive(request).await
    };
    let received = tokio::select! {
        biased;
        received = received => received,
        () = environment.draining.cancelled() => return Ok(Delivered::Nothing),
    };
    received.map_err(|error| match error.kind {
        ServiceErrorKind::Busy => Error::new(ErrorKind::Busy, "polling full"),
        _ => Error::on_topic(error, &topic),
    })
}

/// Deliveries whose receive may still be cancelled. If it is, they are given back.
struct Pending<'a> {
    source: &'a Source<'a>,
    call: Duration,
    deliveries: VecDeque<Delivery>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.deliveries.is_empty() {
            return;
        }
        let services = self.source.cluster.services.clone();
        let deadline = Instant::now() + self.call;
        let Scope { topic, group, .. } = self.source.scope;
        let changes: Vec<_> = self
            .deliveries
            .drain(..)
            .map(|delivery| ChangeInvisible::give_back(topic, group, &delivery, deadline))
            .collect();
        tokio::spawn(async move {
            for change in changes {
                give_back_one(&services, change).await;
            }
        });
    }
}

/// Where deliveries came from.
struct Source<'a> {
    cluster: &'a Cluster,
    scope: Scope<'a>,
}

impl Source<'_> {
    /// Seals the handles. Deliveries beyond the group's attempts are moved to the dead-letter topic instead.
    async fn seal(
        &self,
        environment: &Environment,
        deliveries: Vec<Delivery>,
        group: &GroupConfig,
    ) -> Vec<LeasedDelivery> {
        let mut pending =
            Pending { source: self, call: environment.limits.call, deliveries: deliveries.into() };
        let mut leased = Vec::with_capacity(pending.deliveries.len());
        for _ in 0..pending.deliveries.len() {
            let Some(delivery) = pending.deliveries.pop_front() else { break };
            if delivery.attempt > group.max_attempts() {
                self.forward(&delivery, environment).await;
            } else {
                // It stays among those that are given back until the whole batch is ready.
                pending.deliveries.push_back(delivery);
            }
        }
        for delivery in std::mem::take(&mut pending.deliveries) {
            let lease = Lease {
                received_at: delivery.received_at,
                invisible: delivery.invisible,
                cluster: self.cluster.name.as_ref().to_owned(),
                coordinates: delivery.coordinates.clone(),
            };
            leased.push(LeasedDelivery { handle: self.scope.seal(&lease), delivery });
        }
        leased
    }

    async fn forward(&self, delivery: &Delivery, environment: &Environment) {
        let Scope { topic, group, .. } = self.scope;
        let forward = Forward {
            topic: topic.to_owned(),
            group: group.to_owned(),
            entry: Settle::from(delivery),
            deadline: Instant::now() + environment.limits.call,
        };
        match self.cluster.services.messages.forward_to_dead_letter(forward).await {
            Ok(()) => {
                environment
                    .message_trace
                    .iter()
                    .for_each(|trace| trace.dead_lettered(topic, group, &delivery.message));
            }
            // The message comes back when its lease ends, and this is tried again.
            Err(error) => {
                tracing::warn!(topic, group, %error, "a message could not be moved to the dead-letter topic");
            }
        }
    }

    /// Renews the leases of these deliveries from now on, if their client is known here. Otherwise the proxy would not
    /// notice when it is gone.
    fn renew(&self, environment: &Environment, context: &Context, leased: &[LeasedDelivery]) {
        let Some(client) = environment.clients.find(context) else { return };
        let holder = Arc::new(LeaseHolder {
            client,
            cluster: self.cluster.name.clone(),
            topic: self.scope.topic.to_owned(),
            group: self.scope.group.to_owned(),
        });
        for LeasedDelivery { delivery, handle } in leased {
            let renewal = Renewal::new(holder.clone(), Settle::from(delivery), delivery.attempt);
            environment.leases.keep(handle.clone(), renewal);
        }
    }
}

/// Checks a lease's length against its bounds.
///
/// # Errors
/// `IllegalInvisibleTime`.
pub(super) fn invisible_time(asked_ms: i64, min: Duration, limits: &Limits) -> Result<Duration, Error> {
    let refuse = |message: String| Err(Error::new(ErrorKind::IllegalInvisibleTime, message));
    let min_ms = min.as_millis();
    let Ok(asked) = u64::try_from(asked_ms).map(Duration::from_millis) else {
        return refuse(format!("the invisibleTime is too small. min is {min_ms}"));
    };
    if asked < min {
        return refuse(format!("the invisibleTime is too small. min is {min_ms}"));
    }
    if asked > limits.max_invisible {
        return refuse(format!(
            "the invisibleTime is too large. max is {}",
            limits.max_invisible.as_millis()
        ));
    }
    Ok(asked)
}

/// How long a receive waits: what the client asks for, or else what its deadline leaves, within the limits and
/// always within the deadline.
fn polling_time(
    context: &Context,
    asked_ms: Option<i64>,
    request_timeout: Duration,
    limits: &Limits,
) -> Result<Duration, Error> {
    let remaining = context.remaining();
    let asked = match (asked_ms, remaining) {
        (Some(asked), _) => Duration::from_millis(u64::try_from(asked).unwrap_or_default()),
        (None, Some(remaining)) => remaining.saturating_sub(request_timeout / 2),
        (None, None) => limits.max_polling,
    };
    let wait = asked.clamp(limits.min_polling, limits.max_polling);
    match remaining {
        Some(remaining) if wait <= remaining => Ok(wait),
        None => Ok(wait),
        Some(remaining) if remaining >= limits.min_polling => Ok(remaining),
        Some(_) => Err(Error::new(
            ErrorKind::IllegalPollingTime,
            "The deadline time remaining is not enough for polling, please check network condition",
        )),
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::super::ClusterRouter;
    use super::super::scripted::{self, Asked};
    use super::*;
    use crate::service::{GroupStart, NextAttempt, RetryPolicy};

    #[tokio::test]
    async fn a_receive_that_is_cancelled_during_a_move_to_the_dead_letters_gives_the_rest_back() {
        let ([services], [mut asked]) = scripted::backends();
        let processor = scripted::processor(ClusterRouter::single(services), Limits::default());
        let environment = &processor.environment;
        let cluster = environment.clusters.route((&context(None)).into(), "t");
        let source = Source { cluster, scope: environment.handles.scope("t", "g") };
        let config = GroupConfig {
            name: "g".to_owned(),
            fifo: false,
            consume: true,
            max_retries: 1,
            retry: RetryPolicy::default(),
            lite_bind_topic: None,
            lite_quota: 0,
            lite_exclusive: false,
            start: GroupStart::Default,
        };
        let last_attempt = config.max_attempts();
        let deliveries = [("first", 1), ("dead", last_attempt + 1), ("last", last_attempt)];
        let deliveries = deliveries.map(|(coordinates, attempt)| Delivery {
            coordinates: coordinates.to_owned(),
            attempt,
            ..scripted::delivery("t")
        });
        let mut sealing = Box::pin(source.seal(environment, deliveries.into(), &config));
        assert!(poll!(&mut sealing).is_pending());
        drop(sealing);
        let Some(Asked::Forward(forward, _)) = asked.recv().await else { panic!("another question") };
        assert_eq!(forward.entry.coordinates, "dead");
        let mut given_back = Vec::new();
        for _ in 0..2 {
            let (change, _) = scripted::change(&mut asked).await;
            assert_eq!((change.invisible, change.next_attempt), (Duration::ZERO, NextAttempt::GivenBack));
            given_back.push(change.entry.coordinates);
        }
        given_back.sort();
        assert_eq!(given_back, ["first", "last"]);
    }

    fn context(remaining: Option<u64>) -> Context {
        Context {
            // Half a second for the test itself.
            deadline: remaining.map(|secs| Instant::now() + Duration::from_millis(secs * 1000 + 500)),
            ..Context::of_client("c")
        }
    }

    #[test]
    fn waits_within_the_bounds_and_the_deadline() {
        for (asked, remaining, seconds) in [
            (Some(0), None, 5),
            (Some(1_000), Some(30), 5),
            (Some(7_000), Some(30), 7),
            (Some(30_000), Some(40), 20),
            (Some(10_000), Some(6), 6),
            (None, None, 20),
            (None, Some(12), 11),
            (None, Some(5), 5),
        ] {
            let request_timeout = Duration::from_secs(3);
            let wait = polling_time(&context(remaining), asked, request_timeout, &Limits::default());
            let wait = wait.expect("enough time").as_secs_f64();
            let expected = f64::from(seconds);
            assert!(wait > expected - 0.9 && wait <= expected + 0.5, "{asked:?} {remaining:?}: {wait}");
        }
    }

    #[test]
    fn a_deadline_must_leave_time_to_wait() {
        let request_timeout = Duration::from_secs(3);
        let wait = polling_time(&context(Some(3)), Some(5_000), request_timeout, &Limits::default());
        assert_eq!(wait.expect_err("too short").kind, ErrorKind::IllegalPollingTime);
    }

    #[test]
    fn leases_have_bounds() {
        let limits = Limits::default();
        for (asked, min, legal) in [
            (9_999, limits.min_invisible, false),
            (10_000, limits.min_invisible, true),
            (43_200_000, limits.min_invisible, true),
            (43_200_001, Duration::ZERO, false),
            (0, Duration::ZERO, true),
            (-1, Duration::ZERO, false),
        ] {
            assert_eq!(invisible_time(asked, min, &limits).is_ok(), legal, "{asked}");
        }
    }
}
