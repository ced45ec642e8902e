//! Finds stored dead letters, in the time that a call has.

use std::collections::HashMap;
use std::time::Instant;

use super::dead_letters::LetterPosition;
use crate::service::{
    Delivery, Origin, QueueStats, ReadMessage, ReadPage, ReadQueue, ServiceError, ServiceErrorKind, Services,
    WantedMessage,
};

/// Letters of one read that only looks where they were before.
const PAGE: usize = 1000;

/// A search in a dead-letter topic.
pub(super) struct LetterSearch {
    pub(super) services: Services,
    pub(super) topic: String,
    /// When it ends.
    pub(super) until: Instant,
}

impl LetterSearch {
    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Whether a search that has just ended has seen all letters.
    pub(super) fn has_seen_all(&self) -> bool {
        !self.is_over()
    }

    /// The stored letter with this id, with all that an administrator sees. The search begins at the position that is given.
    /// If it does not end in time, it returns the position that it has got to.
    pub(super) async fn letter(
        &self,
        id: &str,
        from: Option<LetterPosition>,
    ) -> Result<Result<Option<Delivery>, LetterPosition>, ServiceError> {
        let queues = self.queues().await?;
        let is_begin = |queue: &QueueStats| {
            from.as_ref().is_none_or(|from| queue.broker == from.broker && queue.id == from.queue)
        };
        // A queue that is gone has no letters: then the others are searched again.
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
                if self.is_over() {
                    return Ok(Err(LetterPosition { broker: queue.broker.clone(), queue: queue.id, offset }));
                }
            }
        }
        Ok(Ok(None))
    }

    /// Where letters were before that do not say it themselves, by id: those that are found in time. Apache's proxy does not
    /// tell consumers, and their brokers deliver a copy from another topic once the lease of an earlier delivery was over.
    pub(super) async fn origins(
        &self,
        letters: &[&Delivery],
    ) -> Result<HashMap<String, Origin>, ServiceError> {
        let mut found = HashMap::new();
        if letters.is_empty() {
            return Ok(found);
        }
        let queues = self.queues().await?;
        // First where they are, if they are no copies.
        for queue in &queues {
            let here = letters.iter().filter(|letter| letter.queue_id == queue.id);
            let (mut first, mut last) = (i64::MAX, i64::MIN);
            for letter in here.filter(|letter| !found.contains_key(&letter.message.id)) {
                (first, last) = (first.min(letter.queue_offset), last.max(letter.queue_offset));
            }
            if first <= last && !self.is_over() {
                note(letters, self.look(queue, first).await?.messages, &mut found);
            }
        }
        // Then all of the topic, once for all letters.
        for queue in &queues {
            let mut offset = queue.first;
            while found.len() < letters.len() && !self.is_over() {
                let page = self.look(queue, offset).await?;
                note(letters, page.messages, &mut found);
                if page.finished {
                    break;
                }
                offset = page.next_offset;
            }
        }
        Ok(found)
    }

    /// Reads a page of a queue, without bodies.
    async fn look(&self, queue: &QueueStats, offset: i64) -> Result<ReadPage, ServiceError> {
        let read = ReadQueue { max: PAGE, max_body: 0, ..self.read(queue, offset, WantedMessage::Any) };
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

/// Notes where those of the letters were that are among these messages.
fn note(letters: &[&Delivery], messages: Vec<ReadMessage>, found: &mut HashMap<String, Origin>) {
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

    /// A queue with the letters `0`, `1` and so on, of which a read sees one.
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

    fn letter(number: i64, tells_origin: bool) -> Delivery {
        let mut letter = scripted::delivery("%DLQ%g");
        // A copy is elsewhere.
        letter.queue_id = if tells_origin { 0 } else { 7 };
        letter.queue_offset = number;
        let origin = Origin { topic: format!("topic-{number}"), message_id: number.to_string() };
        letter.message = Message {
            id: number.to_string(),
            dead_letter_origin: tells_origin.then_some(origin),
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
    async fn a_search_that_runs_out_of_time_says_where_to_go_on() {
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
            "it is looked for where it was delivered"
        );
    }
}
