//! Receiving and settling.

mod poll;
mod settle;

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use parking_lot::Mutex;

use self::{
    poll::Polls,
    settle::{Acks, Change},
};
use crate::{
    error::{Error, ErrorKind, Result},
    message::{CloseReport, Delivery},
    options::{Endpoints, ReceiveOptions, SimpleConsumerOptions},
    route::Routes,
    rpc::{Answer, Batcher, InFlight},
    session::Session,
};

/// Receives messages one call at a time. Cheap to clone; clones are the same consumer.
///
/// Polls of several topics and brokers run side by side, and go on while the caller works on what came
/// first: what they bring is kept for the next [`receive`](Self::receive), also when a receive was cancelled.
///
/// Dropping the last clone without [`close`](Self::close) ends polling; what was received comes again after
/// its invisible time.
#[derive(Clone)]
pub struct SimpleConsumer(Arc<Inner>);

/// Where acks go that may travel together: a topic, and the server that gave its messages out.
type Destination = (String, Endpoints);

pub(crate) struct Inner {
    session: Arc<Session>,
    group: String,
    polls: Arc<Polls>,
    batchers: Mutex<HashMap<Destination, Arc<Batcher<Acks>>>>,
    in_flight: Arc<InFlight>,
}

impl SimpleConsumer {
    pub(crate) fn new(session: Session, routes: Arc<Routes>, options: SimpleConsumerOptions) -> Self {
        let session = Arc::new(session);
        let group = options.group.clone();
        let polls = Polls::new(session.clone(), routes, options);
        Self(Arc::new(Inner { session, group, polls, batchers: Mutex::default(), in_flight: Arc::default() }))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    /// Waits for messages of any subscribed topic; none in time is an empty list.
    ///
    /// # Errors
    ///
    /// The server's refusal at once; what may pass by itself only when it lasts as long as the wait.
    pub async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Delivery>> {
        if options.max_messages == 0 {
            return Err(Error::new(ErrorKind::InvalidOptions, "receive", "max_messages is 0"));
        }
        self.0.polls.receive(&options).await.map_err(|error| error.during("receive"))
    }

    /// Tells the server that a delivery is done with.
    ///
    /// Acks that run at the same time travel together where that costs no time. Cancelling the future gives
    /// up waiting, not the ack.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` when the lease is over: the message comes, or came, again.
    pub async fn ack(&self, delivery: &Delivery) -> Result<()> {
        self.submit_ack(delivery)?.wait().await
    }

    /// Acks many; the results stand in the order of the deliveries.
    pub async fn ack_all(&self, deliveries: &[Delivery]) -> Vec<Result<()>> {
        let answers: Vec<_> = deliveries.iter().map(|delivery| self.submit_ack(delivery)).collect();
        join_all(answers.into_iter().map(|answer| async { answer?.wait().await })).await
    }

    /// Hides a delivery from others for `invisible` from now; zero gives it back at once.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` when the lease is over; `InvalidArgument` above 12 h.
    pub async fn change_invisible(&self, delivery: &Delivery, invisible: Duration) -> Result<()> {
        let guard = self.0.in_flight.begin().ok_or_else(|| Error::closed("change_invisible"))?;
        let session = self.0.session.clone();
        let change = Change::new(session.clone(), &self.0.group, delivery, invisible);
        // A task of its own: a caller who gives up must not lose the new handle.
        let stop = session.stop().clone();
        let work = tokio::spawn(async move {
            let result = stop.run_until_cancelled(change.run()).await;
            if matches!(result, Some(Ok(()))) {
                guard.succeeded();
            }
            drop(guard);
            result
        });
        match work.await {
            Ok(Some(result)) => result,
            Ok(None) | Err(_) => Err(Error::closed("change_invisible").maybe()),
        }
    }

    /// Takes no more calls, gives back what was received for nobody, waits at most `deadline` for acks under
    /// way, and says good-bye to the servers.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        let start = Instant::now();
        let deadline = crate::options::deadline(start, deadline);
        let first = self.0.in_flight.stop_accepting();
        let unclaimed = self.0.polls.stop();
        let release = unclaimed.iter().map(|delivery| {
            Change::new(self.0.session.clone(), &self.0.group, delivery, Duration::ZERO).run()
        });
        let release = tokio::time::timeout_at(deadline.into(), join_all(release));
        let (report, _) = tokio::join!(self.0.in_flight.drain(deadline), release);
        if first {
            self.0.session.end(deadline).await;
            for (_, batcher) in self.0.batchers.lock().drain() {
                batcher.abandon();
            }
        }
        report.since(start)
    }

    fn submit_ack(&self, delivery: &Delivery) -> Result<Answer<()>> {
        let guard = self.0.in_flight.begin().ok_or_else(|| Error::closed("ack"))?;
        let batcher = self.batcher(delivery);
        Ok(settle::submit_ack(&batcher, delivery, guard, self.0.session.options()))
    }

    fn batcher(&self, delivery: &Delivery) -> Arc<Batcher<Acks>> {
        let key = (delivery.topic.clone(), delivery.lease.endpoints().clone());
        let make = || {
            let acks = Acks::new(self.0.session.clone(), &self.0.group, &key.0, key.1.clone());
            Batcher::new(acks, self.0.session.stop().clone())
        };
        self.0.batchers.lock().entry(key.clone()).or_insert_with(make).clone()
    }
}

impl Drop for Inner {
    /// What is under way holds on to the session, so that dropping that alone would not end it.
    fn drop(&mut self) {
        self.session.stop().cancel();
    }
}

impl fmt::Debug for SimpleConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimpleConsumer")
            .field("group", &self.0.group)
            .field("client_id", &self.0.session.rpc().identity().client_id())
            .finish_non_exhaustive()
    }
}
