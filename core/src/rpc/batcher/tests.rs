use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use proptest::prelude::*;

use super::*;

/// Carries numbers; what it does with a request is a function of its numbers and of how many came before.
struct Numbers<D> {
    requests: Mutex<Vec<Vec<u32>>>,
    count: AtomicUsize,
    decide: D,
}

type Decision = Result<Vec<Result<u32, Error>>, Error>;

impl<D: Fn(&[u32], usize) -> Decision + Send + Sync + 'static> BatchCall for Numbers<D> {
    type Item = u32;
    type Output = u32;

    const OPERATION: &'static str = "send";
    const MAX_ITEMS: usize = 4;
    const MAX_BYTES: usize = 100;

    fn size(item: &u32) -> usize {
        *item as usize
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

fn batcher<D>(decide: D) -> Arc<Batcher<Numbers<D>>>
where
    D: Fn(&[u32], usize) -> Decision + Send + Sync + 'static,
{
    let numbers = Numbers { requests: Mutex::default(), count: AtomicUsize::new(0), decide };
    Batcher::new(numbers, CancellationToken::new())
}

async fn send<D>(batcher: &Arc<Batcher<Numbers<D>>>, numbers: &[u32]) -> Vec<Result<u32, Error>>
where
    D: Fn(&[u32], usize) -> Decision + Send + Sync + 'static,
{
    let deadline = Instant::now() + Duration::from_secs(60);
    let waiting: Vec<_> = numbers.iter().map(|number| batcher.submit(*number, deadline)).collect();
    join_all(waiting).await.into_iter().map(|result| result.unwrap()).collect()
}

fn error(kind: ErrorKind, retryable: bool) -> Error {
    Error::new(kind, "send", "").with_retryable(retryable)
}

fn all(numbers: &[u32]) -> Decision {
    Ok(numbers.iter().map(|number| Ok(*number)).collect())
}

#[tokio::test]
async fn what_is_submitted_together_travels_together() {
    let batcher = batcher(|numbers, _| all(numbers));
    let results = send(&batcher, &[1, 2, 3, 4, 5]).await;
    assert_eq!(results.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(*batcher.call.requests.lock(), [vec![1, 2, 3, 4], vec![5]]);
}

#[tokio::test]
async fn a_large_item_travels_alone() {
    let batcher = batcher(|numbers, _| all(numbers));
    send(&batcher, &[300, 60, 60, 1]).await;
    let mut requests = batcher.call.requests.lock().clone();
    requests.sort();
    assert_eq!(requests, [vec![60], vec![60, 1], vec![300]]);
}

#[tokio::test]
async fn only_what_failed_is_repeated() {
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
async fn one_bad_item_does_not_fail_the_others() {
    let batcher = batcher(|numbers, _| {
        if numbers.contains(&2) { Err(error(ErrorKind::InvalidArgument, false)) } else { all(numbers) }
    });
    let results = send(&batcher, &[1, 2, 3]).await;
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(batcher.call.requests.lock().len(), 4);
}

#[tokio::test]
async fn a_refusal_of_the_topic_costs_one_request() {
    let batcher = batcher(|_, _| Err(error(ErrorKind::TopicNotFound, false)));
    assert!(send(&batcher, &[1, 2]).await.iter().all(Result::is_err));
    assert_eq!(batcher.call.requests.lock().len(), 1);
}

#[tokio::test]
async fn attempts_are_counted() {
    let batcher = batcher(|_, _| Err(error(ErrorKind::Unavailable, true).maybe()));
    let results = send(&batcher, &[1, 2]).await;
    assert!(results.iter().all(|result| result.as_ref().unwrap_err().maybe_delivered()));
    assert_eq!(batcher.call.requests.lock().len(), 3);
}

#[tokio::test]
async fn an_item_whose_time_is_up_is_not_sent() {
    let batcher = batcher(|numbers, _| all(numbers));
    let result = batcher.submit(1, Instant::now()).await.unwrap();
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(batcher.call.requests.lock().is_empty());
}

#[tokio::test]
async fn a_stopped_lane_answers_nobody() {
    let batcher = batcher(|numbers, _| all(numbers));
    batcher.stop.cancel();
    assert!(batcher.submit(1, Instant::now() + Duration::from_secs(60)).await.is_err());
}

proptest! {
    #[test]
    fn a_batch_fits_or_is_one(sizes in prop::collection::vec(0usize..50, 0..20)) {
        let length = batch_length(sizes.iter().copied(), 60);
        prop_assert_eq!(length == 0, sizes.is_empty());
        prop_assert!(length == 1 || sizes[..length].iter().sum::<usize>() <= 60);
        prop_assert!(length == sizes.len() || sizes[..=length].iter().sum::<usize>() > 60);
    }
}
