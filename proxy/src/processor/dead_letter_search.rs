//! Searches a dead-letter topic for stored letters and their origins, within a time limit.

use std::collections::HashMap;
use std::time::Instant;

use crate::service::{
    DeadLetterOrigin, Delivery, QueueStats, ReadMessage, ReadPage, ReadQueue, ServiceError, ServiceErrorKind,
    Services, WantedMessage,
};

/// The maximum number of letters of one read that searches for origins.
const PAGE_SIZE: usize = 1000;

/// A position in a dead-letter topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterPosition {
    /// The broker that holds the queue.
    pub broker: String,
    /// The queue.
    pub queue: i32,
    /// The offset.
    pub offset: i64,
}

/// A search in a dead-letter topic.
pub(super) struct LetterSearch {
    pub(super) services: Services,
    pub(super) topic: String,
    /// The end of the search's time.
    pub(super) until: Instant,
}

impl LetterSearch {
    fn is_out_of_time(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Whether a search that has just ended was complete: it had time to read all letters.
    pub(super) fn is_complete(&self) -> bool {
        !self.is_out_of_time()
    }

    /// Finds the stored letter with this id, beginning at `from`. `Ok(None)` if there is no such letter. If the time runs
    /// out, returns the position at which to continue as the inner error.
    pub(super) async fn letter(
        &self,
        id: &str,
        from: Option<LetterPosition>,
    ) -> Result<Result<Option<Delivery>, LetterPosition>, ServiceError> {
        let queues = self.queues().await?;
        let is_begin = |queue: &QueueStats| {
            from.as_ref().is_none_or(|from| queue.broker == from.broker && queue.id == from.queue)
        };
        // If the queue of `from` does not exist any more, all other queues are searched again.
        let begin = queues.iter().position(is_begin).unwrap_or_default();
        for (index, queue) in queues.iter().enumerate().skip(begin) {
            let resumed = from.as_ref().filter(|_| index == begin).map_or(queue.first, |from| from.offset);
            let mut offset = resumed.max(queue.first);
            loop {
                let read = ReadQueue { max: 1, ..self.read(queue, offset, WantedMessage::Id(id.to_owned())) };
                let ReadPage { messages, next_offset, finished, .. } =
                    self.services.administration.read(read).await?;
                if let Some(found) = messages.into_iter().next() {
                    return Ok(Ok(Some(found.delivery)));
                }
                if finished {
                    break;
                }
                offset = next_offset;
                if self.is_out_of_time() {
                    return Ok(Err(LetterPosition { broker: queue.broker.clone(), queue: queue.id, offset }));
                }
            }
        }
        Ok(Ok(None))
    }

    /// Finds the origins of deliveries that don't contain them, by message id. Origins that are not found in time are left
    /// out. Apache's brokers don't deliver the origin to consumers. After an expired lease, they deliver a copy of the letter
    /// from a retry topic, so that the delivery's offset is not that of the letter.
    pub(super) async fn origins(
        &self,
        letters: &[&Delivery],
    ) -> Result<HashMap<String, DeadLetterOrigin>, ServiceError> {
        let mut found = HashMap::new();
        if letters.is_empty() {
            return Ok(found);
        }
        let queues = self.queues().await?;
        // First at the offsets of the deliveries, where the letters are unless these are copies.
        for queue in &queues {
            let in_queue = letters.iter().filter(|letter| letter.queue_id == queue.id);
            let (mut first, mut last) = (i64::MAX, i64::MIN);
            for letter in in_queue.filter(|letter| !found.contains_key(&letter.message.id)) {
                (first, last) = (first.min(letter.queue_offset), last.max(letter.queue_offset));
            }
            if first <= last && !self.is_out_of_time() {
                collect_origins(letters, self.read_page(queue, first).await?.messages, &mut found);
            }
        }
        // Then in the whole topic, once for all letters.
        for queue in &queues {
            let mut offset = queue.first;
            while found.len() < letters.len() && !self.is_out_of_time() {
                let page = self.read_page(queue, offset).await?;
                collect_origins(letters, page.messages, &mut found);
                if page.finished {
                    break;
                }
                offset = page.next_offset;
            }
        }
        Ok(found)
    }

    /// Reads a page of a queue, without bodies.
    async fn read_page(&self, queue: &QueueStats, offset: i64) -> Result<ReadPage, ServiceError> {
        let read = ReadQueue { max: PAGE_SIZE, max_body: 0, ..self.read(queue, offset, WantedMessage::Any) };
        self.services.administration.read(read).await
    }

    async fn queues(&self) -> Result<Vec<QueueStats>, ServiceError> {
        match self.services.administration.topic_stats(&self.topic, None).await {
            Ok(stats) => Ok(stats.queues),
            Err(error) if error.kind == ServiceErrorKind::TopicNotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn read(&self, queue: &QueueStats, offset: i64, wanted: WantedMessage) -> ReadQueue {
        ReadQueue {
            topic: self.topic.clone(),
            lite_topic: None,
            broker: queue.broker.clone(),
            queue_id: queue.id,
            offset,
            max: 1,
            max_body: usize::MAX,
            from: None,
            to: None,
            wanted,
        }
    }
}

/// Adds the origins of the letters that are among these messages.
fn collect_origins(
    letters: &[&Delivery],
    messages: Vec<ReadMessage>,
    found: &mut HashMap<String, DeadLetterOrigin>,
) {
    for message in messages.into_iter().map(|read| read.delivery.message) {
        if letters.iter().any(|letter| letter.message.id == message.id)
            && let Some(origin) = message.dead_letter_origin
        {
            found.insert(message.id, origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::processor::scripted;
    use crate::service::{Administration, Message, TopicStats};

    const LETTERS: i64 = 9;

    /// A queue with the letters `0`, `1` and so on. Each read returns one of them.
    #[derive(Default)]
    struct OneByOne {
        reads: AtomicUsize,
    }

    #[async_trait]
    impl Administration for OneByOne {
        async fn topic_stats(&self, _: &str, _: Option<&str>) -> Result<TopicStats, ServiceError> {
            let queue = QueueStats {
                broker: "b".to_owned(),
                id: 0,
                first: 0,
                next: LETTERS,
                oldest: None,
                newest: None,
            };
            Ok(TopicStats { queues: vec![queue], ..TopicStats::default() })
        }

        async fn read(&self, read: ReadQueue) -> Result<ReadPage, ServiceError> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let message =
                ReadMessage { delivery: letter(read.offset, true), broker: "b".to_owned(), body_bytes: 0 };
            let next_offset = read.offset + 1;
            let is_wanted = read.wanted.matches(&message.delivery.message.id, &[]);
            Ok(ReadPage {
                messages: Vec::from_iter(is_wanted.then_some(message)),
                next_offset,
                looked_at: 1,
                finished: next_offset == LETTERS,
            })
        }
    }

    fn letter(number: i64, has_origin: bool) -> Delivery {
        let mut letter = scripted::delivery("%DLQ%g");
        // A copy without an origin is in another queue.
        letter.queue_id = if has_origin { 0 } else { 7 };
        letter.queue_offset = number;
        let origin = DeadLetterOrigin { topic: format!("topic-{number}"), message_id: number.to_string() };
        letter.message = Message {
            id: number.to_string(),
            dead_letter_origin: has_origin.then_some(origin),
            ..Message::default()
        };
        letter
    }

    fn search(until: Instant) -> (LetterSearch, Arc<OneByOne>) {
        let ([services], _) = scripted::backends();
        let administration = Arc::new(OneByOne::default());
        let services = Services { administration: administration.clone(), ..services };
        (LetterSearch { services, topic: "%DLQ%g".to_owned(), until }, administration)
    }

    #[tokio::test]
    async fn a_search_that_runs_out_of_time_returns_its_position() {
        let (search, _) = search(Instant::now());
        let (mut from, mut calls) = (None, 0);
        let found = loop {
            calls += 1;
            match search.letter("5", from).await.expect("read") {
                Ok(found) => break found,
                Err(position) => from = Some(position),
            }
        };
        assert_eq!((found.expect("the letter").message.id.as_str(), calls), ("5", 6));
        let (search, _) = self::search(Instant::now() + Duration::from_secs(3600));
        assert!(search.letter("absent", None).await.expect("read").expect("in time").is_none());
    }

    #[tokio::test]
    async fn the_origins_of_all_letters_are_found_by_reading_the_topic_once() {
        let (search, administration) = search(Instant::now() + Duration::from_secs(3600));
        let copies = [letter(2, false), letter(7, false), letter(4, false)];
        let found = search.origins(&copies.each_ref()).await.expect("read");
        let mut topics: Vec<_> = found.values().map(|origin| origin.topic.as_str()).collect();
        topics.sort_unstable();
        assert_eq!(topics, ["topic-2", "topic-4", "topic-7"]);
        assert_eq!(administration.reads.load(Ordering::Relaxed), 8);
        let stored = letter(3, true);
        assert_eq!(search.origins(&[&stored]).await.expect("read").len(), 1);
        assert_eq!(
            administration.reads.load(Ordering::Relaxed),
            9,
            "the letter is found at the offset of its delivery"
        );
    }
}
