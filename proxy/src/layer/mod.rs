//! Layers around the processing of requests: access control, limits, logs, metrics and traces, the same for every protocol.
//!
//! [`crate::processor::Processor::run`] passes each request of a client through [`Layers`]. Administration bypasses all of them
//! except access control.

mod access;
mod access_log;
mod limit;
mod log_failures;
mod message_trace;
mod metrics;
mod observe;
mod request_facts;
mod spans;
mod truncate;
mod write_counts;

use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::Error;
use access::Grant;
pub use access::{
    AccessConfig, AccessControl, AccessError, AccessFile, AccessQuery, AclIndex, Action, Effect, Explanation,
    FirstUser, IssuerConfig, IssuerMistake, ListedUser, NewUser, Pattern, PolicyDecision, PolicyEntry,
    ResourceKind, Revoked, Right, Secret, SecretKey, StoredAcl, UserEntry, UserKind, UserUpdate,
};
pub use access_log::{AccessLog, AccessLogConfig, AccessLogError};
pub use limit::{InFlight, OnExcess, Per, Quota, QuotaStatus, Quotas};
use limit::{QuotaPermit, RequestSlot};
pub use message_trace::{
    CLIENT_PROPERTY, MessageTrace, MessageTraceConfig, RequestTrace, TRACE_OK, TraceClient, TraceEvent,
    TraceStep, TracedSend, sanitize_for_trace,
};
pub use metrics::{OperationCounts, RequestMetrics};
use observe::Observed;
pub use observe::Observers;
pub use request_facts::{Names, OperationKind, RequestFacts, Size};
pub use spans::{RequestSpan, Span, SpanFailure, Spans, TraceParent};
pub use write_counts::WriteCounts;

/// The layers, in this order: `access` refuses requests of unknown users, and requests without the necessary rights; `limit`
/// bounds the load on the processor and the backend; `log_failures` logs failed requests; `metrics` counts requests; and
/// `access_log` logs them, including those that other layers refuse; `spans` records them as parts of traces.
/// `message_trace` records the steps of messages.
///
/// A new layer is a step in [`Layers::admit`], and in [`AdmittedRequest::finish`] if it needs the result.
pub struct Layers {
    access: Option<Arc<AccessControl>>,
    in_flight: InFlight,
    quotas: Quotas,
    observers: Observers,
}

/// A request that all layers have admitted. Dropping it without [`AdmittedRequest::finish`] means that the request was
/// cancelled.
///
/// It outlives the request's command, and holds the state that layers need when the request ends.
#[must_use]
pub struct AdmittedRequest<'a> {
    kind: OperationKind,
    in_flight: &'a InFlight,
    slot: RequestSlot<'a>,
    permit: Option<Box<QuotaPermit>>,
    grant: AccessGrant,
    observed: Observed<'a>,
    // Boxed, so that requests without a trace take no more memory.
    traced: Option<Box<RequestTrace<'a>>>,
}

impl Layers {
    /// Layers that allow `max_in_flight` concurrent requests. Without access control, all requests are authorized.
    #[must_use]
    pub fn new(max_in_flight: usize, quotas: Quotas, access: Option<Arc<AccessControl>>) -> Self {
        let observers = Observers::default();
        Self { access, in_flight: InFlight::new(max_in_flight), quotas, observers }
    }

    /// Sets the observers of requests. There are none by default.
    #[must_use]
    pub fn with_observers(self, observers: Observers) -> Self {
        Self { observers, ..self }
    }

    /// Admits a request, or refuses it.
    ///
    /// # Errors
    /// The refusal of the first layer that refuses.
    pub fn admit(&self, facts: &RequestFacts<'_>) -> Result<AdmittedRequest<'_>, Error> {
        // Layers are steps, not nested futures: each wrapper would enlarge the future of every request.
        let RequestFacts { kind, context, .. } = *facts;
        let admit = || {
            let (user, grant) = match self.access_for(context) {
                Some(access) => {
                    let (user, grant) = access.authorize(facts)?;
                    (Some(user), AccessGrant(grant))
                }
                None => (None, AccessGrant::default()),
            };
            let mut slot = self.in_flight.acquire(kind)?;
            let permit = self.quotas.acquire(facts, user.as_deref(), true)?;
            if permit.as_ref().is_some_and(|permit| permit.starts_at.is_some()) {
                slot = RequestSlot::default();
            }
            let trace = self.observers.message_trace.as_ref();
            let traced = trace.and_then(|trace| trace.begin(facts, user.as_deref()));
            Ok((slot, permit, grant, traced))
        };
        let observed = self.observers.begin(facts, || self.claimed_user(context));
        match admit() {
            Ok((slot, permit, grant, traced)) => Ok(AdmittedRequest {
                kind,
                in_flight: &self.in_flight,
                slot,
                permit,
                grant,
                observed,
                traced,
            }),
            Err(refused) => {
                log_failures::log_failure(context, kind, &refused);
                observed.refused(context, &refused);
                Err(refused)
            }
        }
    }

    /// Checks that the user of an administrative request has this right.
    ///
    /// # Errors
    /// `Unauthorized`, `AccessDenied`.
    pub fn administer(&self, context: &Context, right: Right) -> Result<(), Error> {
        self.access_for(context).map_or(Ok(()), |access| access.administer(context, right))
    }

    /// Checks a request that is not processed by a command. Quotas never delay it.
    ///
    /// # Errors
    /// `Unauthorized`, `AccessDenied`, or `Busy`.
    pub fn check(&self, facts: &RequestFacts<'_>) -> Result<(), Error> {
        let check = || {
            let user = self.access_for(facts.context).map(|access| access.authorize(facts)).transpose()?;
            let user = user.as_ref().map(|(user, _)| &**user);
            self.quotas.acquire(facts, user, false).map(drop)
        };
        let observed = self.observers.begin(facts, || self.claimed_user(facts.context));
        let checked = check();
        match &checked {
            Ok(()) => observed.finish(facts.context, Ok(Size::default())),
            Err(refused) => observed.refused(facts.context, refused),
        }
        checked
    }

    /// Access control for this request. `None` if the request needs no authorization.
    fn access_for(&self, context: &Context) -> Option<&AccessControl> {
        self.access.as_deref().filter(|_| !context.is_admitted && !context.is_trusted())
    }

    /// The user that the request claims to come from, not necessarily verified. `None` without access control.
    fn claimed_user(&self, context: &Context) -> Option<String> {
        self.access_for(context)?.claimed_user(context)
    }

    /// Message trace, if it is configured.
    #[must_use]
    pub fn message_trace(&self) -> Option<&Arc<MessageTrace>> {
        self.observers.message_trace.as_ref()
    }

    /// Access control, if it is configured.
    #[must_use]
    pub fn access(&self) -> Option<&Arc<AccessControl>> {
        self.access.as_ref()
    }

    /// The quotas in force, which administrators read and change.
    #[must_use]
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }
}

impl<'a> AdmittedRequest<'a> {
    /// Returns a future that delays the request as a quota demands, or `None` if no quota delays it. The delay ends early when
    /// `draining` is cancelled. The request takes its slot among those in flight after the delay, so that delayed requests
    /// don't take slots from others.
    ///
    /// # Errors
    /// The client's access is revoked meanwhile, or all slots are taken after the delay.
    // Boxed, because few requests are delayed, and the future of every request would be larger.
    pub fn wait_for_quota<'b>(
        &'b mut self,
        draining: &'b CancellationToken,
    ) -> Option<BoxFuture<'b, Result<(), Error>>> {
        let starts_at: Instant = self.permit.as_ref()?.starts_at?;
        Some(Box::pin(async move {
            tokio::select! {
                biased;
                revoked = self.revoked() => return Err(revoked.reason),
                () = tokio::time::sleep_until(starts_at.into()) => {}
                () = draining.cancelled() => {}
            }
            self.slot = self.in_flight.acquire(self.kind).inspect_err(|refused| {
                self.permit.iter().for_each(|permit| permit.give_back());
                self.observed.count_refusal(refused);
            })?;
            Ok(())
        }))
    }

    /// Completes when the client's access is revoked.
    pub async fn revoked(&mut self) -> Revoked {
        self.grant.revoked().await
    }

    /// The trace of the request's messages, if they are traced.
    pub fn traced(&mut self) -> Option<&mut RequestTrace<'a>> {
        self.traced.as_deref_mut()
    }

    /// The request's span, if spans are recorded.
    pub fn span(&mut self) -> Option<&mut RequestSpan<'a>> {
        self.observed.span()
    }

    /// Reports the end of the request: the size of the answer, or the error.
    ///
    /// Returns the access grant, which a stream that the request opened holds further.
    pub fn finish(self, context: &Context, result: Result<Size, &Error>) -> AccessGrant {
        drop(self.slot);
        self.observed.finish(context, result);
        match result {
            Ok(answered) => self.permit.iter().for_each(|permit| permit.charge(answered)),
            Err(error) => log_failures::log_failure(context, self.kind, error),
        }
        self.grant
    }
}

/// An access grant of a request that waits or opens a stream. Without access control, it is never revoked.
#[derive(Default)]
pub struct AccessGrant(Option<Box<Grant>>);

impl AccessGrant {
    /// Completes when the grant is revoked.
    pub async fn revoked(&mut self) -> Revoked {
        match &mut self.0 {
            Some(grant) => grant.revoked().await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroU64};
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_cancelled_request_gives_its_slot_back() {
        let layers = Layers::new(1, Quotas::default(), None);
        let context = Context::of_client("c");
        let facts = RequestFacts {
            kind: OperationKind::Send,
            context: &context,
            topics: &"t".to_owned(),
            groups: &(),
            size: Size::default(),
        };
        let first = layers.admit(&facts).expect("room");
        assert_eq!(layers.admit(&facts).err().map(|error| error.kind), Some(ErrorKind::Busy));
        drop(first);
        drop(layers.admit(&facts).expect("room").finish(&context, Ok(Size::default())));
        assert!(layers.admit(&facts).is_ok());
    }

    #[tokio::test]
    async fn delayed_requests_take_a_slot_only_after_their_delay() {
        let quota = Quota {
            send_messages_per_second: NonZeroU64::new(1),
            on_excess: OnExcess::Delay,
            max_delay: Duration::from_secs(60),
            ..Quota::new("q".to_owned(), Per::Client)
        };
        let quotas = Quotas::new(&[quota], NonZeroU32::MIN, false).expect("a quota");
        let layers = Layers::new(1, quotas, None);
        let (noisy, quiet) = (Context::of_client("noisy"), Context::of_client("quiet"));
        let send = |context| {
            let size = Size { messages: 1, bytes: 1, largest: 1 };
            layers.admit(&RequestFacts { kind: OperationKind::Send, context, topics: &(), groups: &(), size })
        };
        drop(send(&noisy).expect("room"));
        let mut delayed = [send(&noisy).expect("a delay"), send(&noisy).expect("a delay")];
        let in_flight = send(&quiet).expect("delayed requests leave room");
        let draining = CancellationToken::new();
        draining.cancel();
        let [one, other] = &mut delayed;
        let refused = one.wait_for_quota(&draining).expect("a delay").await;
        assert_eq!(refused.err().map(|error| error.kind), Some(ErrorKind::Busy));
        drop(in_flight);
        assert!(other.wait_for_quota(&draining).expect("a delay").await.is_ok());
        assert_eq!(send(&quiet).err().map(|error| error.kind), Some(ErrorKind::Busy));
    }
}
