//! Tests of batching, retries and deadlines.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use proptest::prelude::*;

use super::*;

/// The number of an item that is not sent again.
const ONCE: u32 = 99;

/// Sends numbers. `decide` returns the response to a request, from its numbers and the count of earlier requests.
struct Numbers<D> {
    requests: Mutex<Vec<Vec<u32>>>,
    count: AtomicUsize,
    replays: AtomicUsize,
    decide: D,
}

type Decision = Result<Vec<Result<u32, Error>>, Error>;

impl<D: Send + Sync> ReplaySettings for Numbers<D> {
    async fn replay_settings(&self, _: &Error, _: Instant) -> Result<(), Error> {
        self.replays.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl<D: Fn(&[u32], usize) -> Decision + Send + Sync + 'static> BatchCall for Numbers<D> {
    type Item = u32;
    type Output = u32;

    const OPERATION: &'static str = "send";
    const MAX_ITEMS: usize = 4;
    const MAX_BYTES: usize = 100;

    fn size(item: &u32) -> usize {
        *item as usize
    }

    fn may_repeat(item: &u32, _: &Error) -> bool {
        *item != ONCE
    }

    fn retry(&self) -> RetryOptions {
        RetryOptions { max_attempts: 3, initial: Duration::ZERO, max: Duration::ZERO }
    }

    fn request_timeout(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn execute(&self, items: &[PendingItem<Self>], _limit: Duration) -> Decision {
        let numbers: Vec<u32> = items.iter().map(|pending| pending.item).collect();
        let before = self.count.fetch_add(1, Ordering::SeqCst);
        self.requests.lock().push(numbers.clone());
        (self.decide)(&numbers, before)
    }
}

impl<C: BatchCall> Batcher<C> {
    fn submit(
        self: &Arc<Self>,
        item: C::Item,
        deadline: Instant,
        guard: InFlightGuard,
    ) -> PendingResult<C::Output> {
        let (pending, answer) = PendingItem::new(item, deadline, guard);
        self.queue(pending);
        answer
    }
}

fn batcher<D>(decide: D) -> Arc<Batcher<Numbers<D>>>
where
    D: Fn(&[u32], usize) -> Decision + Send + Sync + 'static,
{
    let numbers = Numbers {
        requests: Mutex::default(),
        count: AtomicUsize::new(0),
        replays: AtomicUsize::new(0),
        decide,
    };
    Batcher::new(numbers, CancellationToken::new())
}

async fn send<D>(batcher: &Arc<Batcher<Numbers<D>>>, numbers: &[u32]) -> Vec<Result<u32, Error>>
where
    D: Fn(&[u32], usize) -> Decision + Send + Sync + 'static,
{
    let deadline = Instant::now() + Duration::from_secs(60);
    let waiting: Vec<_> = numbers.iter().map(|number| batcher.submit(*number, deadline, guard())).collect();
    join_all(waiting.into_iter().map(PendingResult::wait)).await
}

fn guard() -> InFlightGuard {
    Arc::<crate::rpc::InFlight>::default().begin().unwrap()
}

fn error(kind: ErrorKind, retryable: bool) -> Error {
    Error::new(kind, "send", "").with_retryable(retryable)
}

fn all(numbers: &[u32]) -> Decision {
    Ok(numbers.iter().map(|number| Ok(*number)).collect())
}

#[tokio::test]
async fn items_submitted_together_share_a_request() {
    let batcher = batcher(|numbers, _| all(numbers));
    let results = send(&batcher, &[1, 2, 3, 4, 5]).await;
    assert_eq!(results.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(*batcher.call.requests.lock(), [vec![1, 2, 3, 4], vec![5]]);
}

#[tokio::test]
async fn tasks_that_submit_one_after_the_other_share_a_request() {
    let batcher = batcher(|numbers, _| all(numbers));
    let mut answers = Vec::new();
    for number in [1, 2, 3] {
        let deadline = Instant::now() + Duration::from_secs(60);
        answers.push(batcher.submit(number, deadline, guard()));
        tokio::task::yield_now().await;
    }
    join_all(answers.into_iter().map(PendingResult::wait)).await;
    assert_eq!(*batcher.call.requests.lock(), [[1, 2, 3]]);
}

#[tokio::test]
async fn a_large_item_has_its_own_request() {
    let batcher = batcher(|numbers, _| all(numbers));
    send(&batcher, &[300, 60, 60, 1]).await;
    let mut requests = batcher.call.requests.lock().clone();
    requests.sort();
    assert_eq!(requests, [vec![60], vec![60, 1], vec![300]]);
}

#[tokio::test]
async fn only_failed_items_are_retried() {
    let batcher = batcher(|numbers, before| {
        if before > 0 {
            return all(numbers);
        }
        Ok(numbers
            .iter()
            .map(|number| if *number == 2 { Err(error(ErrorKind::Throttled, true)) } else { Ok(*number) })
            .collect())
    });
    let results = send(&batcher, &[1, 2, 3]).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(*batcher.call.requests.lock(), [vec![1, 2, 3], vec![2]]);
}

#[tokio::test]
async fn one_invalid_item_does_not_fail_the_others() {
    let batcher = batcher(|numbers, _| {
        if numbers.contains(&2) { Err(error(ErrorKind::InvalidArgument, false)) } else { all(numbers) }
    });
    let results = send(&batcher, &[1, 2, 3]).await;
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(batcher.call.requests.lock().len(), 4);
}

#[tokio::test]
async fn a_final_error_is_not_retried() {
    let batcher = batcher(|_, _| Err(error(ErrorKind::TopicNotFound, false)));
    assert!(send(&batcher, &[1, 2]).await.iter().all(Result::is_err));
    assert_eq!(batcher.call.requests.lock().len(), 1);
}

#[tokio::test]
async fn a_panic_is_an_error_and_does_not_stop_the_next_requests() {
    let batcher = batcher(|numbers, before| {
        assert!(before >= 2 * MAX_WORKERS, "it panics on purpose");
        all(numbers)
    });
    for _ in 0..2 * MAX_WORKERS {
        let error = send(&batcher, &[1]).await.remove(0).unwrap_err();
        assert_eq!((error.kind(), error.retryable()), (ErrorKind::Internal, false));
        assert!(error.message().ends_with("it panics on purpose"), "{error}");
    }
    assert!(send(&batcher, &[1]).await[0].is_ok());
}

#[tokio::test]
async fn attempts_are_counted() {
    let batcher = batcher(|_, _| Err(error(ErrorKind::Unavailable, true).with_maybe_delivered()));
    let results = send(&batcher, &[1, 2]).await;
    assert!(results.iter().all(|result| result.as_ref().unwrap_err().maybe_delivered()));
    assert_eq!(batcher.call.requests.lock().len(), 3);
}

#[tokio::test]
async fn lost_settings_are_replayed() {
    let batcher = batcher(|numbers, before| {
        if before == 0 {
            return Err(error(ErrorKind::Unavailable, true).with_code(40015));
        }
        all(numbers)
    });
    assert!(send(&batcher, &[1, 2]).await.iter().all(Result::is_ok));
    assert_eq!(*batcher.call.requests.lock(), [vec![1, 2], vec![1, 2]]);
    assert_eq!(batcher.call.replays.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_item_whose_deadline_has_passed_is_not_sent() {
    let batcher = batcher(|numbers, _| all(numbers));
    let result = batcher.submit(1, Instant::now(), guard()).wait().await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(batcher.call.requests.lock().is_empty());
}

#[tokio::test]
async fn a_stopped_batcher_answers_with_closed() {
    let batcher = batcher(|numbers, _| all(numbers));
    batcher.stop.cancel();
    let answer = batcher.submit(1, Instant::now() + Duration::from_secs(60), guard());
    let error = answer.wait().await.unwrap_err();
    assert_eq!((error.kind(), error.maybe_delivered()), (ErrorKind::Closed, false));
}

/// A call that never gets a response.
struct Silent;

impl ReplaySettings for Silent {
    async fn replay_settings(&self, _: &Error, _: Instant) -> Result<(), Error> {
        Ok(())
    }
}

impl BatchCall for Silent {
    type Item = ();
    type Output = ();

    const OPERATION: &'static str = "send";
    const MAX_ITEMS: usize = 4;
    const MAX_BYTES: usize = 100;

    fn size((): &()) -> usize {
        1
    }

    fn retry(&self) -> RetryOptions {
        RetryOptions::default()
    }

    fn request_timeout(&self) -> Duration {
        Duration::from_secs(600)
    }

    async fn execute(&self, _: &[PendingItem<Self>], _: Duration) -> Result<Vec<Result<(), Error>>, Error> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_is_answered_at_its_own_deadline() {
    let batcher = Batcher::new(Silent, CancellationToken::new());
    let now = Instant::now();
    let early = batcher.submit((), now + Duration::from_secs(1), guard());
    let _late = batcher.submit((), now + Duration::from_secs(600), guard());
    let start = tokio::time::Instant::now();
    let error = early.wait().await.unwrap_err();
    assert_eq!((error.kind(), error.maybe_delivered()), (ErrorKind::Timeout, true));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn an_item_alone_waits_for_its_turn_and_shares_no_request() {
    let batcher = batcher(|numbers, _| all(numbers));
    let deadline = Instant::now() + Duration::from_secs(60);
    let (first_is_done, done) = oneshot::channel();
    let (item, second) = PendingItem::new(2, deadline, guard());
    batcher.submit_alone(item, done);
    let (item, first) = PendingItem::new(1, deadline, guard());
    batcher.submit_alone(item, std::future::ready(()));
    assert_eq!(first.wait().await.unwrap(), 1);
    assert_eq!(*batcher.call.requests.lock(), [[1]]);
    first_is_done.send(()).unwrap();
    assert_eq!(second.wait().await.unwrap(), 2);
    assert_eq!(*batcher.call.requests.lock(), [[1], [2]]);
}

#[tokio::test]
async fn an_item_that_must_not_be_repeated_fails_at_once() {
    let batcher = batcher(|_, _| Err(error(ErrorKind::Unavailable, true).with_maybe_delivered()));
    let results = send(&batcher, &[ONCE]).await;
    assert_eq!(results[0].as_ref().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(batcher.call.requests.lock().len(), 1);
}

proptest! {
    #[test]
    fn a_batch_fits_or_has_one_item(sizes in prop::collection::vec(0usize..50, 0..20)) {
        let length = batch_length(sizes.iter().copied(), 60);
        prop_assert_eq!(length == 0, sizes.is_empty());
        prop_assert!(length == 1 || sizes[..length].iter().sum::<usize>() <= 60);
        prop_assert!(length == sizes.len() || sizes[..=length].iter().sum::<usize>() > 60);
    }
}
