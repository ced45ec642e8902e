//! What every request of a client passes before the rules handle it, whatever its protocol.
//!
//! [`crate::processor::Processor::run`] runs each of them through [`Layers`]. Administration bypasses them.

mod access;
mod access_log;
mod limit;
mod message_trace;
mod metrics;
mod observe;
mod operation;
mod text;
mod trace;

use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::Error;
use access::Grant;
pub use access::{
    AccessConfig, AccessControl, AccessError, AccessFile, Action, Asked, Decision, Effect, Explanation,
    FirstUser, IssuerConfig, IssuerMistake, ListedUser, NewUser, Pattern, PolicyEntry, ResourceKind, Right,
    Rules, Secret, SecretKey, Tables, UserEntry, UserKind, UserUpdate,
};
pub use access_log::{AccessLog, AccessLogConfig, AccessLogError};
use limit::{Held, Slot};
pub use limit::{InFlight, OnExcess, Per, Quota, QuotaStatus, Quotas};
pub use message_trace::{
    CLIENT_PROPERTY, MessageTrace, MessageTraceConfig, TRACE_OK, TraceClient, TraceEvent, TraceStep, Traced,
    TracedSend, trace_word,
};
pub use metrics::{OperationCounts, RequestMetrics};
use observe::Observed;
pub use observe::Observers;
pub use operation::{Names, Operation, OperationKind, Size};

/// The layers, in this order: `access` refuses whom it does not know, and what they may not do; `limit` protects the rules
/// and the backend from what may be done; `trace` logs what failed, `metrics` counts what
/// came in, and `access_log` writes it down, refusals of the other layers included. `message_trace` records what becomes of
/// messages.
///
/// A new layer is a step in [`Layers::enter`], and in [`Passage::finish`] if it wants to see the result.
pub struct Layers {
    access: Option<Arc<AccessControl>>,
    in_flight: InFlight,
    quotas: Quotas,
    observers: Observers,
}

/// A request that all layers let in. Dropping it without [`Passage::finish`] means that the request was cancelled.
///
/// It outlives the request's command. What a layer needs of the operation when the request is done, it keeps here.
#[must_use]
pub struct Passage<'a> {
    kind: OperationKind,
    in_flight: &'a InFlight,
    slot: Slot<'a>,
    held: Option<Box<Held>>,
    grant: Granted,
    observed: Observed<'a>,
    // In a box: what is not traced must not take more memory.
    traced: Option<Box<Traced<'a>>>,
}

impl Layers {
    /// The layers, with at most this many requests in flight. Everybody may do everything without access control.
    #[must_use]
    pub fn new(max_in_flight: usize, quotas: Quotas, access: Option<Arc<AccessControl>>) -> Self {
        let observers = Observers::default();
        Self { access, in_flight: InFlight::new(max_in_flight), quotas, observers }
    }

    /// The same with these observers.
    #[must_use]
    pub fn observed_by(self, observers: Observers) -> Self {
        Self { observers, ..self }
    }

    /// Lets a request in, or refuses it.
    ///
    /// # Errors
    /// The refusal of the first layer that refuses.
    pub fn enter(&self, operation: &Operation<'_>) -> Result<Passage<'_>, Error> {
        // Layers are steps, not futures around futures: each wrapper would make every request's future larger.
        let Operation { kind, context, .. } = *operation;
        let entered = || {
            let (user, grant) = match self.access_of(context) {
                Some(access) => {
                    let (user, grant) = access.enter(operation)?;
                    (Some(user), Granted(grant))
                }
                None => (None, Granted::default()),
            };
            let mut slot = self.in_flight.enter(kind)?;
            let held = self.quotas.enter(operation, user.as_deref(), true)?;
            if held.as_ref().is_some_and(|held| held.turn.is_some()) {
                slot = Slot::default();
            }
            let trace = self.observers.message_trace.as_ref();
            let traced = trace.and_then(|trace| trace.begin(operation, user.as_deref()));
            Ok((slot, held, grant, traced))
        };
        let observed = self.observers.begin(operation, || self.claimed_user(context));
        match entered() {
            Ok((slot, held, grant, traced)) => {
                Ok(Passage { kind, in_flight: &self.in_flight, slot, held, grant, observed, traced })
            }
            Err(refused) => {
                trace::failed(context, kind, &refused);
                observed.refused(context, &refused);
                Err(refused)
            }
        }
    }

    /// Lets an administrator's request in if they have this right.
    ///
    /// # Errors
    /// `Unauthorized`, `AccessDenied`.
    pub fn administer(&self, context: &Context, right: Right) -> Result<(), Error> {
        self.access_of(context).map_or(Ok(()), |access| access.administer(context, right))
    }

    /// Lets a request in that no command carries out, or refuses it. It is never delayed.
    ///
    /// # Errors
    /// `Unauthorized`, `AccessDenied`, or `Busy`.
    pub fn check(&self, operation: &Operation<'_>) -> Result<(), Error> {
        let check = || {
            let user = self.access_of(operation.context).map(|access| access.enter(operation)).transpose()?;
            let user = user.as_ref().map(|(user, _)| &**user);
            self.quotas.enter(operation, user, false).map(drop)
        };
        let observed = self.observers.begin(operation, || self.claimed_user(operation.context));
        let checked = check();
        match &checked {
            Ok(()) => observed.finish(operation.context, Ok(Size::default())),
            Err(refused) => observed.refused(operation.context, refused),
        }
        checked
    }

    /// What decides whether this client may do what it asks for; nobody does if it may do everything.
    fn access_of(&self, context: &Context) -> Option<&AccessControl> {
        self.access.as_deref().filter(|_| !context.is_admitted && !context.is_trusted())
    }

    /// Who is said to send a request, if access control looks at it.
    fn claimed_user(&self, context: &Context) -> Option<String> {
        self.access_of(context)?.claimed_user(context)
    }

    /// What records what happens to messages.
    #[must_use]
    pub fn message_trace(&self) -> Option<&Arc<MessageTrace>> {
        self.observers.message_trace.as_ref()
    }

    /// Access control, if there is some.
    #[must_use]
    pub fn access(&self) -> Option<&Arc<AccessControl>> {
        self.access.as_ref()
    }

    /// The quotas, for an administrator.
    #[must_use]
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }
}

impl<'a> Passage<'a> {
    /// What to wait for before the request is carried out, if a quota delays it. Once `draining` is cancelled, nobody waits
    /// any more. Only then it is in flight: those that wait must not take the place of others.
    ///
    /// # Errors
    /// Its client loses the right to it, or too many others are in flight.
    // In a box of its own: few requests wait, and every request's future would be larger.
    pub fn turn<'b>(
        &'b mut self,
        draining: &'b CancellationToken,
    ) -> Option<BoxFuture<'b, Result<(), Error>>> {
        let turn: Instant = self.held.as_ref()?.turn?;
        Some(Box::pin(async move {
            tokio::select! {
                biased;
                revoked = self.revoked() => return Err(revoked),
                () = tokio::time::sleep_until(turn.into()) => {}
                () = draining.cancelled() => {}
            }
            self.slot = self.in_flight.enter(self.kind).inspect_err(|refused| {
                self.held.iter().for_each(|held| held.give_back());
                self.observed.count_refusal(refused);
            })?;
            Ok(())
        }))
    }

    /// Completes if the client loses the right to what the request waits for.
    pub async fn revoked(&mut self) -> Error {
        self.grant.revoked().await
    }

    /// What records what happens to the request's messages, if they are traced.
    pub fn traced(&mut self) -> Option<&mut Traced<'a>> {
        self.traced.as_deref_mut()
    }

    /// Reports how the request ended: what was answered, by messages and bytes, or why it failed.
    ///
    /// Returns what stays granted beyond the request, if it opened a stream.
    pub fn finish(self, context: &Context, result: Result<Size, &Error>) -> Granted {
        drop(self.slot);
        self.observed.finish(context, result);
        match result {
            Ok(answered) => self.held.iter().for_each(|held| held.charge(answered)),
            Err(error) => trace::failed(context, self.kind, error),
        }
        self.grant
    }
}

/// What access control has granted for a while.
#[derive(Default)]
pub struct Granted(Option<Box<Grant>>);

impl Granted {
    /// Completes if it is revoked.
    pub async fn revoked(&mut self) -> Error {
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
        let operation = Operation {
            kind: OperationKind::Send,
            context: &context,
            topics: &"t".to_owned(),
            groups: &(),
            size: Size::default(),
        };
        let first = layers.enter(&operation).expect("room");
        assert_eq!(layers.enter(&operation).err().map(|error| error.kind), Some(ErrorKind::Busy));
        drop(first);
        drop(layers.enter(&operation).expect("room").finish(&context, Ok(Size::default())));
        assert!(layers.enter(&operation).is_ok());
    }

    #[tokio::test]
    async fn delayed_requests_are_in_flight_once_their_turn_has_come() {
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
            layers.enter(&Operation { kind: OperationKind::Send, context, topics: &(), groups: &(), size })
        };
        drop(send(&noisy).expect("room"));
        let mut delayed = [send(&noisy).expect("a turn"), send(&noisy).expect("a turn")];
        let in_flight = send(&quiet).expect("delayed requests leave room");
        let draining = CancellationToken::new();
        draining.cancel();
        let [one, other] = &mut delayed;
        let refused = one.turn(&draining).expect("a turn").await;
        assert_eq!(refused.err().map(|error| error.kind), Some(ErrorKind::Busy));
        drop(in_flight);
        assert!(other.turn(&draining).expect("a turn").await.is_ok());
        assert_eq!(send(&quiet).err().map(|error| error.kind), Some(ErrorKind::Busy));
    }
}
