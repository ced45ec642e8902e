//! Receiving: how long to wait, for how long to lease, and which deliveries are a group's last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cluster_router::Cluster;
use super::handle::{Lease, Opened, Scope};
use super::lease::Renewal;
use super::limits::Limits;
use super::{Expression, Processor, filter, max_attempts, validate};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::service::{
    ChangeInvisible, Delivered, Delivery, Forward, GroupConfig, Receive, ServiceErrorKind, Services, Settle,
};

/// What a client's own request time-out is taken to be when it never said.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// A receive as a client asks for it.
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
    /// Names this receive over its repetitions.
    pub attempt_id: Option<String>,
}

/// A delivery and the handle that settles it.
#[derive(Clone, Debug)]
pub struct Handed {
    /// The delivery.
    pub delivery: Delivery,
    /// Its receipt handle.
    pub handle: String,
}

/// What a receive brought.
#[derive(Debug)]
pub enum Received {
    /// At least one message.
    Messages(Vec<Handed>),
    /// There were messages, and none is for this client.
    NoMatch,
    /// Nothing came.
    Nothing,
}

impl Processor {
    /// Waits for messages. Works for any client, also one whose settings this proxy never saw.
    ///
    /// # Errors
    /// In this order: `IllegalPollingTime`, `IllegalTopic`, `IllegalGroup`, `IllegalInvisibleTime`,
    /// `IllegalFilter`, `BadRequest` (a negative batch size), then what group, topic and backend say.
    pub async fn receive(&self, context: &Context, command: ReceiveCommand) -> Result<Received, Error> {
        let request_timeout = self.clients.request_timeout(&context.client_id).unwrap_or(REQUEST_TIMEOUT);
        let wait = polling_time(context, command.polling_ms, request_timeout, &self.limits)?;
        let until = context.end_of_wait(wait);
        validate::topic(&command.topic)?;
        validate::group(&command.group)?;
        let invisible = if command.auto_renew {
            self.limits.renewed_lease
        } else {
            invisible_time(command.invisible_ms, self.limits.min_invisible, &self.limits)?
        };
        let filter = filter::parse(command.expression)?;
        let Ok(batch_size) = usize::try_from(command.batch_size) else {
            let message = format!("the batch size must not be negative: {}", command.batch_size);
            return Err(Error::new(ErrorKind::BadRequest, message));
        };
        let cluster = self.clusters.route(context.into(), &command.topic);
        let group = consuming_group(&cluster.services, &command.group).await?;
        let request = Receive {
            topic: command.topic,
            group: command.group,
            broker: command.broker,
            filter,
            max: batch_size.min(self.limits.receive_batch),
            invisible,
            deadline: until,
            fifo: group.fifo,
            attempt_id: command.attempt_id,
            lite_client: group.lite_bind_topic.is_some().then(|| context.client_id.clone()),
        };
        let (topic, name) = (request.topic.clone(), request.group.clone());
        let deliveries = match self.wait_for(&cluster.services, request).await? {
            Delivered::Messages(deliveries) => deliveries,
            Delivered::AllFiltered => return Ok(Received::NoMatch),
            Delivered::Nothing => return Ok(Received::Nothing),
        };
        let scope = self.handles.scope(&topic, &name);
        let handed = self.hand_out((cluster, &scope), deliveries, &group).await;
        if handed.is_empty() {
            return Ok(Received::NoMatch);
        }
        if command.auto_renew {
            self.keep_renewed(context, (cluster, &scope), &handed);
        }
        Ok(Received::Messages(handed))
    }

    /// Makes deliveries that could not be handed over visible again, without counting them as attempts.
    pub async fn give_back(&self, topic: &str, group: &str, undelivered: Vec<Handed>) {
        let scope = self.handles.scope(topic, group);
        for Handed { delivery, handle } in undelivered {
            self.leases.take(&handle).await.settled();
            let Opened::Ours(lease) = scope.open(&handle) else { continue };
            let Ok(cluster) = self.clusters.get(&lease.cluster) else { continue };
            let change = ChangeInvisible {
                topic: topic.to_owned(),
                group: group.to_owned(),
                entry: Settle::from(&delivery),
                invisible: Duration::ZERO,
                suspend: true,
                deadline: Instant::now() + self.limits.call,
            };
            if let Err(error) = cluster.services.messages.change_invisible(change).await {
                tracing::debug!(topic, group, %error, "a delivery nobody took waits out its lease");
            }
        }
    }

    async fn wait_for(&self, services: &Services, request: Receive) -> Result<Delivered, Error> {
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
            () = self.draining.cancelled() => return Ok(Delivered::Nothing),
        };
        received.map_err(|error| match error.kind {
            ServiceErrorKind::Busy => Error::new(ErrorKind::Busy, "polling full"),
            _ => Error::on_topic(error, &topic),
        })
    }

    // Seals the handles, and turns what the group may not have again into dead letters.
    async fn hand_out(
        &self,
        (cluster, scope): (&Cluster, &Scope<'_>),
        deliveries: Vec<Delivery>,
        group: &GroupConfig,
    ) -> Vec<Handed> {
        let mut handed = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            if delivery.attempt > max_attempts(group) {
                self.dead_letter(&cluster.services, scope, &delivery).await;
                continue;
            }
            let lease = Lease {
                received_at: delivery.received_at,
                invisible: delivery.invisible,
                cluster: cluster.name.as_ref().to_owned(),
                coordinates: delivery.coordinates.clone(),
            };
            handed.push(Handed { handle: scope.seal(&lease), delivery });
        }
        handed
    }

    async fn dead_letter(&self, services: &Services, scope: &Scope<'_>, delivery: &Delivery) {
        let Scope { topic, group, .. } = *scope;
        let forward = Forward {
            topic: topic.to_owned(),
            group: group.to_owned(),
            entry: Settle::from(delivery),
            deadline: Instant::now() + self.limits.call,
        };
        // It comes back when its lease is over, and is tried again then.
        if let Err(error) = services.messages.forward_to_dead_letter(forward).await {
            tracing::warn!(topic, group, %error, "a message stays out of the dead-letter topic for now");
        }
    }

    fn keep_renewed(&self, context: &Context, (cluster, scope): (&Cluster, &Scope<'_>), handed: &[Handed]) {
        // Without a session nobody would ever know that the client is gone.
        if !self.clients.is_present(&context.client_id) {
            return;
        }
        let (client_id, topic, group): (Arc<str>, Arc<str>, Arc<str>) =
            (context.client_id.as_str().into(), scope.topic.into(), scope.group.into());
        for Handed { delivery, handle } in handed {
            self.leases.keep(
                handle.clone(),
                Renewal::new(
                    [&client_id, &cluster.name, &topic, &group],
                    Settle::from(delivery),
                    delivery.attempt,
                ),
            );
        }
    }
}

async fn consuming_group(services: &Services, name: &str) -> Result<GroupConfig, Error> {
    let group = services.metadata.group(name).await?;
    if group.consume {
        return Ok(group);
    }
    Err(Error::new(ErrorKind::Forbidden, format!("subscription group no permission, {name}")))
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

/// How long a receive waits: what the client asks for, else what its deadline leaves, within the bounds and
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
        Some(_) => {
            // Older clients don't know the code of its own; versions are compared as texts, as ever.
            let known = context.client_version.as_str() >= "5.0.3";
            let kind = if known { ErrorKind::IllegalPollingTime } else { ErrorKind::BadRequest };
            Err(Error::new(
                kind,
                "The deadline time remaining is not enough for polling, please check network condition",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(version: &str, remaining: Option<u64>) -> Context {
        let now = Instant::now();
        Context {
            client_id: "c".to_owned(),
            client_version: version.to_owned(),
            namespace: String::new(),
            peer: "p".into(),
            received: now,
            // Half a second for the test itself.
            deadline: remaining.map(|secs| now + Duration::from_millis(secs * 1000 + 500)),
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
            let wait =
                polling_time(&context("5.0.7", remaining), asked, Duration::from_secs(3), &Limits::default());
            let wait = wait.expect("enough time").as_secs_f64();
            let expected = f64::from(seconds);
            assert!(wait > expected - 0.9 && wait <= expected + 0.5, "{asked:?} {remaining:?}: {wait}");
        }
    }

    #[test]
    fn too_short_a_deadline_has_two_codes() {
        for (version, kind) in [
            ("5.0.7", ErrorKind::IllegalPollingTime),
            ("5.0.10", ErrorKind::BadRequest),
            ("4.9.9", ErrorKind::BadRequest),
            ("", ErrorKind::BadRequest),
        ] {
            let wait = polling_time(
                &context(version, Some(3)),
                Some(5_000),
                Duration::from_secs(3),
                &Limits::default(),
            );
            assert_eq!(wait.expect_err("too short").kind, kind, "{version}");
        }
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
