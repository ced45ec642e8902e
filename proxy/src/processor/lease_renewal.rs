//! Renews leases for clients that request it. This is soft state: if a proxy dies, the leases expire and the messages are
//! delivered again.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use super::clients::ClientKey;
use super::environment::Environment;
use super::group;
use super::renewed_leases::{DueRenewal, LeaseHolder, Renewal, RenewalSlot};
use crate::error::Error;
use crate::service::{ChangeInvisible, InvisibleOutcome, NextAttempt, Settle};

/// Successive renewal lengths, as multiples of the first lease. The last one repeats.
const LEASE_MULTIPLES: [u32; 6] = [1, 3, 5, 10, 30, 60];
/// The number of consecutive failures after which a lease is not renewed any more.
const MAX_FAILURES: u32 = 3;
/// The time after which a message becomes visible again when its client is gone. The delivery counts as an attempt.
const RELEASE_AFTER: Duration = Duration::from_secs(1);

/// Renews leases, and removes expired sessions of clients and transactions, until the proxy drains. Then ends the leases
/// that it has renewed.
pub(super) async fn renew_leases(environment: &Environment) {
    let Environment { leases, clients, transactions, limits, draining, .. } = environment;
    let mut ticks = tokio::time::interval(limits.renew_every.max(Duration::from_millis(1)));
    // Changes run concurrently with each other and with the next ticks, so that a broker that does not answer does not let
    // the leases at other brokers expire. There is at most one change per lease.
    let mut changes: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = draining.cancelled() => break,
            Some(()) = changes.next() => {}
            _ = ticks.tick() => {
                clients.remove_expired();
                transactions.remove_expired();
                let abandoned = leases.remove_clients(|client| !clients.is_present(client));
                changes.extend(abandoned.into_iter().map(|slot| release_slot(environment, slot).boxed()));
                let due = leases.due_renewals(limits.renew_ahead);
                changes.extend(due.into_iter().map(|due| renew(environment, due).boxed()));
            }
        }
    }
    changes.extend(leases.all().into_iter().map(|slot| end_renewed(environment, slot).boxed()));
    while changes.next().await.is_some() {}
}

/// Ends the leases of a client whose session has ended, so that other clients get its messages.
pub(super) async fn release(environment: &Environment, client: &ClientKey) {
    let slots = environment.leases.remove_clients(|other| other == client);
    join_all(slots.into_iter().map(|slot| release_slot(environment, slot))).await;
}

async fn release_slot(environment: &Environment, slot: RenewalSlot) {
    if let Some(mut renewal) = slot.lock().await.take() {
        end_soon(environment, &mut renewal).await;
    }
}

// Other proxies treat the handle of a renewed lease as expired, so after this proxy's end the lease would only hide the
// message. Until the lease ends, the client can still settle it at this proxy. The handle of a lease that was never
// renewed is valid at every proxy, so that lease is left unchanged.
async fn end_renewed(environment: &Environment, slot: RenewalSlot) {
    let mut locked = slot.lock().await;
    if let Some(renewal) = locked.as_mut().filter(|renewal| renewal.renewed > 0) {
        end_soon(environment, renewal).await;
    }
}

async fn end_soon(environment: &Environment, renewal: &mut Renewal) {
    if let Err(error) = change(environment, renewal, RELEASE_AFTER).await {
        let client_id = &*renewal.holder.client.id;
        tracing::debug!(client_id, %error, "could not release a message of a closed client; it stays invisible until its lease ends");
    }
}

async fn renew(environment: &Environment, due: DueRenewal) {
    let DueRenewal { handle, mut renewal } = due;
    let Some(renewal) = renewal.as_mut() else { return };
    if !renew_once(environment, renewal).await {
        environment.leases.remove_handle(&handle);
    }
}

/// Renews a lease. Returns whether to continue renewing it.
async fn renew_once(environment: &Environment, renewal: &mut Renewal) -> bool {
    let limits = &environment.limits;
    let too_long = renewal.since.elapsed() > limits.renew_for;
    let invisible = if too_long {
        retry_pause(environment, renewal).await
    } else {
        let index = renewal.renewed.min(LEASE_MULTIPLES.len() - 1);
        limits.renewed_lease.saturating_mul(LEASE_MULTIPLES[index])
    };
    match change(environment, renewal, invisible).await {
        Ok(true) => {
            environment.leases.renewals.fetch_add(1, Ordering::Relaxed);
            renewal.renewed += 1;
            renewal.failures = 0;
            !too_long
        }
        Ok(false) => false,
        Err(error) => {
            let LeaseHolder { topic, group, .. } = &*renewal.holder;
            tracing::warn!(topic, group, %error, "could not renew a lease");
            environment.leases.failures.fetch_add(1, Ordering::Relaxed);
            renewal.failures += 1;
            renewal.failures < MAX_FAILURES
        }
    }
}

/// Lets a lease end this long from now. Returns false if the lease has expired or is gone. It is gone, for example, if an
/// acknowledgement was stored and then cancelled.
async fn change(
    environment: &Environment,
    renewal: &mut Renewal,
    invisible: Duration,
) -> Result<bool, Error> {
    let services = &environment.clusters.get(&renewal.holder.cluster)?.services;
    let ends_at = Instant::now() + invisible;
    let change = ChangeInvisible {
        topic: renewal.holder.topic.clone(),
        group: renewal.holder.group.clone(),
        entry: renewal.entry.clone(),
        invisible,
        next_attempt: NextAttempt::Counts,
        deadline: Instant::now() + environment.limits.call,
    };
    let outcome = services.messages.change_invisible(change).await?;
    let InvisibleOutcome::Changed { coordinates, received_at } = outcome else { return Ok(false) };
    renewal.entry = Settle { coordinates, received_at, invisible, ..renewal.entry.clone() };
    renewal.ends_at = ends_at;
    Ok(true)
}

/// The pause of the group's retry policy after this attempt.
async fn retry_pause(environment: &Environment, renewal: &Renewal) -> Duration {
    let LeaseHolder { cluster, group, .. } = &*renewal.holder;
    let Ok(cluster) = environment.clusters.get(cluster) else { return environment.limits.renewed_lease };
    let Ok(config) = cluster.services.metadata.group(group).await else {
        return environment.limits.renewed_lease;
    };
    group::pause_after(&config.retry, renewal.attempt.min(config.max_attempts()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::super::clients::ClientSession;
    use super::super::scripted::{self, renewal, settle_entry as entry};
    use super::super::{ClientKind, ClusterRouter, Limits, Processor, PushStream};
    use super::*;
    use crate::context::Context;

    fn processor() -> (Arc<Processor>, scripted::BackendCalls) {
        let ([services], [calls]) = scripted::backends();
        let limits = Limits { renew_every: Duration::ZERO, ..Limits::default() };
        (scripted::processor(ClusterRouter::single(services), limits), calls)
    }

    fn renewed_outcome() -> InvisibleOutcome {
        InvisibleOutcome::Changed { coordinates: "renewed".to_owned(), received_at: SystemTime::now() }
    }

    fn start(processor: &Arc<Processor>) -> tokio::task::JoinHandle<()> {
        let processor = processor.clone();
        tokio::spawn(async move { renew_leases(&processor.environment).await })
    }

    #[tokio::test]
    async fn a_renewal_without_an_answer_delays_no_other() {
        let (processor, mut calls) = processor();
        let _connected = scripted::connect(&processor, "c", &[]);
        let maintenance = start(&processor);
        processor.environment.leases.add("silent".to_owned(), renewal("c", entry("silent", Duration::ZERO)));
        let (change, _unanswered) = scripted::change(&mut calls).await;
        assert_eq!(change.entry.coordinates, "silent");
        for _ in 0..3 {
            processor
                .environment
                .leases
                .add("other".to_owned(), renewal("c", entry("other", Duration::ZERO)));
            let (change, answer) = scripted::change(&mut calls).await;
            assert_eq!(change.entry.coordinates, "other");
            answer.send(Ok(renewed_outcome())).expect("a renewal");
            let taken = processor.environment.leases.take("other").await;
            assert_eq!(taken.lease().map(|lease| lease.coordinates).as_deref(), Some("renewed"));
            taken.settled();
        }
        maintenance.abort();
    }

    #[tokio::test]
    async fn leases_end_when_the_access_of_a_clients_current_stream_is_revoked() {
        let (processor, mut calls) = processor();
        let context = Context::of_client("c");
        let [(stream, _), (replaced, _)] = [PushStream::open(), PushStream::open()];
        let session = ClientSession::new(&context, ClientKind::Unspecified, &stream).expect("a short name");
        processor.environment.clients.insert(&context, session).expect("room");
        processor
            .environment
            .leases
            .add("held".to_owned(), renewal("c", entry("held", Duration::from_secs(60))));
        processor.access_revoked(&context, &replaced);
        assert!(processor.environment.clients.is_present(&ClientKey::of(&context)));
        processor.access_revoked(&context, &stream);
        let (change, answer) = scripted::change(&mut calls).await;
        assert_eq!((change.entry.coordinates.as_str(), change.invisible), ("held", RELEASE_AFTER));
        answer.send(Ok(InvisibleOutcome::Expired)).expect("the end of a lease");
        assert!(!processor.environment.clients.is_present(&ClientKey::of(&context)));
    }

    #[tokio::test]
    async fn a_drain_ends_the_leases_that_were_renewed_and_no_others() {
        let (processor, mut calls) = processor();
        let _connected = scripted::connect(&processor, "c", &[]);
        processor.environment.leases.add("old".to_owned(), renewal("c", entry("old", Duration::ZERO)));
        processor
            .environment
            .leases
            .add("new".to_owned(), renewal("c", entry("new", Duration::from_secs(60))));
        let maintenance = start(&processor);
        let (change, answer) = scripted::change(&mut calls).await;
        assert_eq!(change.entry.coordinates, "old");
        // The renewal is still under way.
        processor.draining().cancel();
        answer.send(Ok(renewed_outcome())).expect("a renewal");
        let (change, answer) = scripted::change(&mut calls).await;
        assert_eq!((change.entry.coordinates.as_str(), change.invisible), ("renewed", RELEASE_AFTER));
        answer.send(Ok(InvisibleOutcome::Expired)).expect("the end of a lease");
        maintenance.await.expect("the end");
        assert!(calls.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_lease_that_is_gone_is_not_renewed_again() {
        let (processor, mut calls) = processor();
        let mut settled = renewal("c", entry("settled", Duration::ZERO));
        let gone = || {
            let (coordinates, received_at) = ("none".to_owned(), SystemTime::now());
            InvisibleOutcome::Gone { coordinates, received_at }
        };
        let answered = async {
            let (_, answer) = scripted::change(&mut calls).await;
            answer.send(Ok(gone())).expect("a renewal");
        };
        let (continues, ()) = tokio::join!(renew_once(&processor.environment, &mut settled), answered);
        assert!(!continues);
    }
}
