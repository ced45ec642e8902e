//! Receives messages: limits the wait and the lease.

use std::time::{Duration, Instant};

use super::cluster_router::Cluster;
use super::command::Command;
use super::delivery_source::{DeliverySource, give_back_one};
use super::environment::Environment;
use super::handle::Opened;
use super::host_budget::Reservation;
use super::limits::Limits;
use super::{Expression, filter, group, receive_from_clusters, trace_context, validate};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::layer::{Names, OperationKind, RequestTrace, Size};
use crate::service::{
    ChangeInvisible, Delivered, Delivery, GroupConfig, Receive, ServiceErrorKind, Services,
};

/// The assumed request timeout of a client that has not sent one.
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Waits for messages. The client need not have sent settings to this proxy.
///
/// # Errors
/// In this order: `IllegalPollingTime`, `IllegalTopic`, `IllegalGroup`, `IllegalInvisibleTime`, `IllegalFilter`,
/// `BadRequest` (a negative batch size, a long attempt id), then errors of the group, the topic and the backend.
#[derive(Clone, Debug)]
pub struct ReceiveCommand {
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// The broker that the client chose.
    pub broker: Option<String>,
    /// Which messages to deliver.
    pub expression: Expression,
    /// The maximum number of messages.
    pub batch_size: i32,
    /// The length of the lease, in milliseconds.
    pub invisible_ms: i64,
    /// Whether the proxy renews the lease as long as the client has a session.
    pub auto_renew: bool,
    /// How long to wait for a first message, in milliseconds. `None` derives the wait from the deadline.
    pub polling_ms: Option<i64>,
    /// Identifies a receive that a client repeats because the answer was lost. All repetitions have the same id.
    pub attempt_id: Option<String>,
}

/// A delivery with its receipt handle.
#[derive(Clone, Debug)]
pub struct LeasedDelivery {
    /// The delivery.
    pub delivery: Delivery,
    /// The receipt handle.
    pub handle: String,
}

/// The result of a receive.
#[derive(Debug)]
pub enum Received {
    /// At least one message.
    Messages(Vec<LeasedDelivery>),
    /// There were messages, but none matched the filter or had attempts left.
    NoMatch,
    /// There was no message during the wait.
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

    fn trace_end(result: Result<&Received, &Error>, traced: &mut RequestTrace<'_>) {
        let Ok(Received::Messages(leased)) = result else { return };
        for LeasedDelivery { delivery, handle } in leased {
            traced.record_delivery(delivery, Some(handle));
        }
    }

    fn answer_trace_contexts(answer: &Received, visit: &mut dyn FnMut(&str)) {
        let Received::Messages(leased) = answer else { return };
        trace_context::of_messages(leased.iter().map(|leased| &leased.delivery.message), visit);
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<Received, Error> {
        let auto_renew = self.auto_renew;
        let CheckedReceive { cluster, group, request, filter_memory } =
            self.check(environment, context).await?;
        let (topic, name) = (request.topic.clone(), request.group.clone());
        let others = environment.clusters.others_with_messages(context.into(), &topic);
        let (cluster, group, received) = match others.is_empty() {
            true => (cluster, group, wait_for(environment, &cluster.services, request).await?),
            false => {
                receive_from_clusters::wait_for_any(environment, (cluster, group), others, request).await?
            }
        };
        let deliveries = match received {
            Delivered::Messages(deliveries) => deliveries,
            Delivered::AllFiltered => return Ok(Received::NoMatch),
            Delivered::Nothing => return Ok(Received::Nothing),
        };
        drop(filter_memory);
        let source = DeliverySource { cluster, scope: environment.handle_sealer.scope(&topic, &name) };
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

/// A valid receive, with its cluster and group.
pub(super) struct CheckedReceive<'a> {
    pub(super) cluster: &'a Cluster,
    group: GroupConfig,
    pub(super) request: Receive,
    /// The memory of its filter, which is taken while it waits.
    pub(super) filter_memory: Option<Reservation>,
}

impl ReceiveCommand {
    /// Validates the request. Its wait begins now.
    ///
    /// # Errors
    /// As [`ReceiveCommand`], except for errors of the receive itself.
    pub(super) async fn check<'a>(
        self,
        environment: &'a Environment,
        context: &Context,
    ) -> Result<CheckedReceive<'a>, Error> {
        let limits = &environment.limits;
        let request_timeout = environment.clients.request_timeout(context).unwrap_or(DEFAULT_REQUEST_TIMEOUT);
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
        let filter_memory = filter::hold(&environment.filters, context, &filter)?;
        let Ok(batch_size) = usize::try_from(self.batch_size) else {
            let message = format!("the batch size must not be negative: {}", self.batch_size);
            return Err(Error::new(ErrorKind::BadRequest, message));
        };
        self.attempt_id.as_deref().map_or(Ok(()), validate::attempt_id)?;
        let cluster = environment.clusters.route(context.into(), &self.topic);
        let group = group::load_for_consuming(&cluster.services, &self.group).await?;
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
        Ok(CheckedReceive { cluster, group, request, filter_memory })
    }
}

/// Gives back deliveries that could not be handed over to a client. They don't count as attempts.
pub(super) async fn give_back(environment: &Environment, undelivered: Undelivered) {
    let Undelivered { topic, group, deliveries } = undelivered;
    let scope = environment.handle_sealer.scope(&topic, &group);
    for LeasedDelivery { delivery, handle } in deliveries {
        environment.leases.take(&handle).await.settled();
        let Opened::Lease(lease) = scope.open(&handle) else { continue };
        let Ok(cluster) = environment.clusters.get(&lease.cluster) else { continue };
        let deadline = Instant::now() + environment.limits.call;
        give_back_one(&cluster.services, ChangeInvisible::give_back(&topic, &group, &delivery, deadline))
            .await;
    }
}

/// Waits for messages of one cluster.
pub(super) async fn wait_for(
    environment: &Environment,
    services: &Services,
    request: Receive,
) -> Result<Delivered, Error> {
    let (topic, until, max) = (request.topic.clone(), request.deadline, request.max);
    let received = async {
        if max == 0 {
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

/// Checks the requested length of a lease against its limits.
///
/// # Errors
/// `IllegalInvisibleTime`.
pub(super) fn invisible_time(requested_ms: i64, min: Duration, limits: &Limits) -> Result<Duration, Error> {
    let refuse = |message: String| Err(Error::new(ErrorKind::IllegalInvisibleTime, message));
    let min_ms = min.as_millis();
    let Ok(requested) = u64::try_from(requested_ms).map(Duration::from_millis) else {
        return refuse(format!("the invisibleTime is too small. min is {min_ms}"));
    };
    if requested < min {
        return refuse(format!("the invisibleTime is too small. min is {min_ms}"));
    }
    if requested > limits.max_invisible {
        return refuse(format!(
            "the invisibleTime is too large. max is {}",
            limits.max_invisible.as_millis()
        ));
    }
    Ok(requested)
}

/// How long a receive waits: the time that the client requests, or else the time until its deadline minus half of its
/// request timeout. The wait is within the limits, and ends before the deadline.
fn polling_time(
    context: &Context,
    requested_ms: Option<i64>,
    request_timeout: Duration,
    limits: &Limits,
) -> Result<Duration, Error> {
    let remaining = context.remaining();
    let requested = match (requested_ms, remaining) {
        (Some(millis), _) => Duration::from_millis(u64::try_from(millis).unwrap_or_default()),
        (None, Some(remaining)) => remaining.saturating_sub(request_timeout / 2),
        (None, None) => limits.max_polling,
    };
    let wait = requested.clamp(limits.min_polling, limits.max_polling);
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
    use super::*;

    fn context(remaining: Option<u64>) -> Context {
        Context {
            // Half a second is added for the test itself.
            deadline: remaining.map(|secs| Instant::now() + Duration::from_millis(secs * 1000 + 500)),
            ..Context::of_client("c")
        }
    }

    #[test]
    fn a_wait_is_within_the_limits_and_the_deadline() {
        for (requested, remaining, seconds) in [
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
            let wait = polling_time(&context(remaining), requested, request_timeout, &Limits::default());
            let wait = wait.expect("enough time").as_secs_f64();
            let expected = f64::from(seconds);
            assert!(wait > expected - 0.9 && wait <= expected + 0.5, "{requested:?} {remaining:?}: {wait}");
        }
    }

    #[test]
    fn a_deadline_must_leave_time_to_wait() {
        let request_timeout = Duration::from_secs(3);
        let wait = polling_time(&context(Some(3)), Some(5_000), request_timeout, &Limits::default());
        assert_eq!(wait.expect_err("too short").kind, ErrorKind::IllegalPollingTime);
    }

    #[test]
    fn the_length_of_a_lease_is_limited() {
        let limits = Limits::default();
        for (requested, min, legal) in [
            (9_999, limits.min_invisible, false),
            (10_000, limits.min_invisible, true),
            (43_200_000, limits.min_invisible, true),
            (43_200_001, Duration::ZERO, false),
            (0, Duration::ZERO, true),
            (-1, Duration::ZERO, false),
        ] {
            assert_eq!(invisible_time(requested, min, &limits).is_ok(), legal, "{requested}");
        }
    }
}
