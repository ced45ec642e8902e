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
