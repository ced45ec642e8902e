//! The stream of deliveries that the application reads.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::WatchStream;

use super::{SimpleConsumer, feed::Feed};
use crate::{error::Result, message::Delivery};

/// The deliveries of a consumer, fetched ahead of the application. See [`SimpleConsumer::messages`].
///
/// Cheap to clone; clones are the same stream. Dropping the last clone gives back the deliveries that the stream has
/// fetched and the application has not received. Received deliveries stay valid, and are settled through the consumer.
pub struct Messages {
    stream: Arc<Inner>,
    changes: WatchStream<u64>,
}

struct Inner {
    feed: Arc<Feed>,
    /// Keeps the consumer open while the stream exists, even if the application drops its own clone.
    consumer: SimpleConsumer,
}

impl Messages {
    pub(super) fn new(consumer: SimpleConsumer, feed: Arc<Feed>) -> Self {
        let changes = WatchStream::from_changes(feed.changes());
        Self { stream: Arc::new(Inner { feed, consumer }), changes }
    }

    /// Waits for deliveries, and returns between one and `max` of those that have arrived. Returns `None` once the
    /// consumer or the stream is closed.
    ///
    /// Cancelling the future loses no delivery.
    ///
    /// # Errors
    ///
    /// As for the items of the stream. The stream continues with the next call.
    pub async fn next_batch(&self, max: usize) -> Option<Result<Vec<Delivery>>> {
        let feed = &self.stream.feed;
        let mut changes = feed.changes();
        loop {
            if let Poll::Ready(batch) = feed.take(max.max(1)) {
                return batch;
            }
            changes.changed().await.ok()?;
        }
    }

    /// Puts back deliveries that the application has not seen. This is for libraries on top of this crate, such as a
    /// language binding whose call was cancelled after its deliveries had arrived.
    ///
    /// They are handed out next, in the given order. After a close they are given back to the server at once. May be
    /// called from any thread.
    pub fn put_back(&self, mut deliveries: Vec<Delivery>) {
        deliveries.retain(|delivery| self.stream.consumer.is_own(delivery));
        self.stream.feed.put_back(deliveries);
    }

    /// Ends the stream for all clones, and gives back the deliveries that the application has not received. Waits for
    /// that at most `deadline`. Giving back continues if the caller stops waiting.
    pub async fn close(&self, deadline: Duration) {
        let _ = tokio::time::timeout(deadline, self.stream.close()).await;
    }
}

impl Stream for Messages {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Poll::Ready(batch) = self.stream.feed.take(1) {
                let item = batch.and_then(|batch| batch.map(|mut batch| batch.pop()).transpose());
                return Poll::Ready(item);
            }
            match Pin::new(&mut self.changes).poll_next(context) {
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Clone for Messages {
    fn clone(&self) -> Self {
        let changes = WatchStream::from_changes(self.stream.feed.changes());
        Self { stream: self.stream.clone(), changes }
    }
}

impl Inner {
    fn close(&self) -> JoinHandle<()> {
        self.feed.close(self.consumer.clone())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.close());
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("consumer", &self.stream.consumer).finish_non_exhaustive()
    }
}
