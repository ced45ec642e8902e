//! Resends dead letters to the topics in which they failed.
//!
//! The proxy receives dead letters in a consumer group of its own, and acknowledges each letter once it is sent, so that
//! the group's progress shows which letters are left. If a resend is interrupted, a letter may be sent twice, but none is
//! lost. The letters stay in the dead-letter topic until its retention removes them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};

use super::Processor;
use super::dead_letter_search::{LetterPosition, LetterSearch};
use crate::error::{Error, ErrorKind};
use crate::service::{
    Acknowledge, ChangeInvisible, DeadLetterOrigin, Delivered, Delivery, Filter, GroupConfig, Message,
    QueueRef, Receive, ServiceError, ServiceErrorKind, Services, Settle, Whence, names,
};

/// The consumer group that receives dead letters to resend.
pub const RESEND_GROUP: &str = "dlq-resend";
/// The maximum number of letters that one call resends.
const MAX_LETTERS: usize = 100;
/// The maximum number of letters of one receive.
const RECEIVE_BATCH: usize = 32;
/// The maximum number of letters that a search for one of them leases.
const MAX_LEASED: usize = 256;
/// The time after which a call ends. A request to a broker that is under way is completed. The next call continues.
const MAX_TIME: Duration = Duration::from_secs(5);
/// The lease of a letter, which is longer than a call takes. A letter that can't be sent is received again after this time.
const LEASE: Duration = Duration::from_secs(60);
/// How long a receive waits for letters of one broker.
const RECEIVE_WAIT: Duration = Duration::from_millis(300);
/// The timeout of all other calls.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum number of concurrent calls.
const MAX_CONCURRENT_CALLS: usize = 8;

/// Selects the dead letters to resend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResendSelection {
    /// The next letters that were not resent yet, at most this many.
    Next(usize),
    /// The letter with this id, even if it was resent before.
    Id {
        /// The id.
        id: String,
        /// The position at which the previous call's search has ended; `None` for the first call.
        from: Option<LetterPosition>,
    },
}

/// The result of a call that resends dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResentPage {
    /// The letters that were processed.
    pub letters: Vec<ResentLetter>,
    /// Whether no letters are left.
    pub finished: bool,
    /// The ids of letters that were not processed before the time limit. A later call sends them.
    pub unreached: Vec<String>,
    /// The position at which the search for a letter has ended, if the letter was not found before the time limit.
    pub searched_to: Option<LetterPosition>,
    /// Why the call ended early; `None` if it did not. `letters` contains those that were processed before.
    pub failure: Option<String>,
}

/// The outcome of resending one dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResentLetter {
    /// The message's id.
    pub id: String,
    /// The letter's queue in the dead-letter topic.
    pub queue: i32,
    /// The letter's offset in the queue.
    pub offset: i64,
    /// The topic in which the message failed; empty if it is unknown.
    pub topic: String,
    /// Why the letter was not sent; `None` if it was.
    pub failure: Option<String>,
}

impl Processor {
    /// Resends dead letters of a group to the topics in which they failed. All groups of these topics get them again. The
    /// time of a call is limited. If the result is not `finished`, call again.
    ///
    /// # Errors
    /// `TopicNotFound` if the group has no dead letters, or if the selected one does not exist. The error of the backend
    /// if it fails before the first letter was sent.
    pub async fn resend_dead_letters(
        &self,
        group: &str,
        selection: ResendSelection,
    ) -> Result<ResentPage, Error> {
        let _permit = self.environment.administration.acquire().await;
        let until = Instant::now() + MAX_TIME;
        let topic = names::dead_letter_topic(group);
        let services = self.services_of(&topic).clone();
        services.metadata.existing_topic(&topic).await.map_err(|error| match error.kind {
            ServiceErrorKind::TopicNotFound => {
                Error::new(ErrorKind::TopicNotFound, format!("group {group} has no dead letters"))
            }
            _ => error.into(),
        })?;
        let search = LetterSearch { services: services.clone(), topic: topic.clone(), until };
        let resend = Resend { processor: self, services, topic, until, search };
        let brokers = resend.initialize_group().await?;
        match selection {
            ResendSelection::Next(max) => resend.resend_next(max.min(MAX_LETTERS), brokers).await,
            ResendSelection::Id { id, from } => resend.resend_one(&id, from, brokers).await,
        }
    }
}

/// One call that resends letters of a dead-letter topic.
struct Resend<'a> {
    processor: &'a Processor,
    services: Services,
    topic: String,
    /// The end of the call's time.
    until: Instant,
    search: LetterSearch,
}

impl Resend<'_> {
    fn is_out_of_time(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Creates the resend group if necessary, and lets it start at the first letter of each queue. Returns the number of
    /// brokers with letters.
    async fn initialize_group(&self) -> Result<usize, Error> {
        let initialized = &self.processor.environment.resend_topics;
        let route = self.services.routes.route(&self.topic).await?;
        let brokers = route.queues.len().max(1);
        if initialized.contains(&self.topic) {
            return Ok(brokers);
        }
        match self.services.metadata.create_group(GroupConfig::named(RESEND_GROUP), false).await {
            Err(error) if error.kind != ServiceErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let queues = route.queues.iter();
        let queues = queues.flat_map(|queues| (0..queues.read_queues).map(|id| (queues.broker.as_str(), id)));
        stream::iter(queues)
            .map(Ok::<_, Error>)
            .try_for_each_concurrent(MAX_CONCURRENT_CALLS, |(broker, id)| self.initialize_queue(broker, id))
            .await?;
        initialized.insert(&self.topic);
        Ok(brokers)
    }

    async fn initialize_queue(&self, broker: &str, id: i32) -> Result<(), Error> {
        let offsets = &self.services.offsets;
        let queue = QueueRef { topic: &self.topic, broker, id, deadline: Instant::now() + CALL_TIMEOUT };
        if offsets.committed(queue, RESEND_GROUP).await?.is_none() {
            let first = offsets.offset(queue, Whence::Beginning).await?;
            offsets.commit(queue, RESEND_GROUP, first).await?;
        }
        Ok(())
    }

    async fn resend_next(&self, max: usize, brokers: usize) -> Result<ResentPage, Error> {
        let mut page = ResentPage::default();
        while page.letters.len() + page.unreached.len() < max && !self.is_out_of_time() {
            let batch_size = (max - page.letters.len() - page.unreached.len()).min(RECEIVE_BATCH);
            let received = match self.receive(batch_size, brokers).await {
                Ok(received) => received,
                Err(error) if page.letters.is_empty() => return Err(error),
                Err(error) => {
                    page.failure = Some(error.message);
                    break;
                }
            };
            if received.is_empty() {
                page.finished = page.unreached.is_empty();
                break;
            }
            self.send_all(received, &mut page).await;
            if page.failure.is_some() {
                break;
            }
        }
        Ok(page)
    }

    /// Sends letters as long as there is time. Gives back the others.
    async fn send_all(&self, letters: Vec<Delivery>, page: &mut ResentPage) {
        let without_origin: Vec<_> =
            letters.iter().filter(|letter| letter.message.dead_letter_origin.is_none()).collect();
        let origins = self.search.origins(&without_origin).await.unwrap_or_else(|error| {
            page.failure = Some(error.message);
            HashMap::new()
        });
        let mut letters = letters.into_iter();
        for letter in letters.by_ref() {
            let known = letter.message.dead_letter_origin.clone();
            let origin = known.or_else(|| origins.get(&letter.message.id).cloned());
            if self.is_out_of_time() || page.failure.is_some() {
                page.unreached.push(letter.message.id.clone());
                self.give_back(std::slice::from_ref(&letter)).await;
                break;
            }
            if origin.is_none() && !self.search.is_complete() {
                // The letter stays leased for a while, so that the next call gets other letters.
                page.unreached.push(letter.message.id.clone());
                continue;
            }
            match self.send(letter, origin, true).await {
                Ok(letter) => page.letters.push(letter),
                Err(error) => page.failure = Some(error.message),
            }
        }
        let rest: Vec<_> = letters.collect();
        page.unreached.extend(rest.iter().map(|letter| letter.message.id.clone()));
        self.give_back(&rest).await;
    }

    /// Resends the letter with this id.
    async fn resend_one(
        &self,
        id: &str,
        from: Option<LetterPosition>,
        brokers: usize,
    ) -> Result<ResentPage, Error> {
        let leased = if from.is_none() { self.lease(id, brokers).await? } else { None };
        let has_origin = leased.as_ref().is_some_and(|letter| letter.message.dead_letter_origin.is_some());
        // The stored letter is needed if it was resent before, if it is not among the next letters, or if its delivered copy
        // has no origin.
        let found = if has_origin { None } else { Some(self.search.letter(id, from).await?) };
        let (stored, searched_to) = match found {
            None => (None, None),
            Some(Ok(stored)) => (stored, None),
            Some(Err(position)) => (None, Some(position)),
        };
        if let Some(position) = searched_to {
            self.give_back(leased.as_slice()).await;
            return Ok(ResentPage {
                unreached: vec![id.to_owned()],
                searched_to: Some(position),
                ..ResentPage::default()
            });
        }
        let origin = stored.as_ref().and_then(|stored| stored.message.dead_letter_origin.clone());
        let letter = match (leased, stored) {
            (Some(letter), _) => {
                let origin = letter.message.dead_letter_origin.clone().or(origin);
                self.send(letter, origin, true).await?
            }
            (None, Some(letter)) => self.send(letter, origin, false).await?,
            (None, None) => {
                let message = format!("there is no dead letter {id} in {}", self.topic);
                return Err(Error::new(ErrorKind::TopicNotFound, message));
            }
        };
        Ok(ResentPage { letters: vec![letter], finished: true, ..ResentPage::default() })
    }

    /// Leases the letter with this id if it is among the next ones. The other received letters are given back at the end, so
    /// that each is received only once.
    async fn lease(&self, id: &str, brokers: usize) -> Result<Option<Delivery>, Error> {
        let (mut others, mut found) = (Vec::new(), None);
        while found.is_none() && others.len() < MAX_LEASED && !self.is_out_of_time() {
            let received = self.receive(RECEIVE_BATCH, brokers).await?;
            if received.is_empty() {
                break;
            }
            for letter in received {
                match found.is_none() && letter.message.id == id {
                    true => found = Some(letter),
                    false => others.push(letter),
                }
            }
        }
        self.give_back(&others).await;
        Ok(found)
    }

    async fn receive(&self, max: usize, brokers: usize) -> Result<Vec<Delivery>, Error> {
        // Each receive reaches one broker, in rotation.
        for _ in 0..brokers {
            let receive = Receive {
                topic: self.topic.clone(),
                group: RESEND_GROUP.to_owned(),
                broker: None,
                filter: Filter::All,
                max,
                invisible: LEASE,
                deadline: Instant::now() + RECEIVE_WAIT,
                fifo: false,
                attempt_id: None,
                lite_client: None,
            };
            if let Delivered::Messages(deliveries) = self.services.messages.receive(receive).await?
                && !deliveries.is_empty()
            {
                return Ok(deliveries);
            }
        }
        Ok(Vec::new())
    }

    async fn give_back(&self, letters: &[Delivery]) {
        let changes = letters.iter().map(|letter| async move {
            let deadline = Instant::now() + CALL_TIMEOUT;
            let change = ChangeInvisible::give_back(&self.topic, RESEND_GROUP, letter, deadline);
            if let Err(error) = self.services.messages.change_invisible(change).await {
                tracing::debug!(topic = self.topic, %error, "could not give back a dead letter; it stays leased");
            }
        });
        stream::iter(changes).for_each_concurrent(MAX_CONCURRENT_CALLS, |change| change).await;
    }

    /// Sends a letter, and acknowledges it if it is leased.
    async fn send(
        &self,
        delivery: Delivery,
        origin: Option<DeadLetterOrigin>,
        leased: bool,
    ) -> Result<ResentLetter, Error> {
        let entry = Settle::from(&delivery);
        let Delivery { message, queue_id: queue, queue_offset: offset, .. } = delivery;
        let id = message.id.clone();
        let Some(origin) = origin else {
            let failure = Some("the topic in which the message failed is unknown".to_owned());
            return Ok(ResentLetter { id, queue, offset, topic: String::new(), failure });
        };
        let failure = self.store(&origin.topic, message).await.err().map(|error| error.message);
        if failure.is_none() && leased {
            let acknowledge = Acknowledge {
                topic: self.topic.clone(),
                group: RESEND_GROUP.to_owned(),
                entries: vec![entry],
                deadline: Instant::now() + CALL_TIMEOUT,
            };
            self.services.messages.acknowledge(acknowledge).await?;
        }
        Ok(ResentLetter { id, queue, offset, topic: origin.topic, failure })
    }

    async fn store(&self, topic: &str, letter: Message) -> Result<(), ServiceError> {
        let services = self.processor.services_of(topic);
        // The check is necessary because a send could create the topic.
        services.metadata.existing_topic(topic).await.map_err(|error| match error.kind {
            ServiceErrorKind::TopicNotFound => {
                ServiceError::new(error.kind, format!("topic {topic} does not exist any more"))
            }
            _ => error,
        })?;
        // The transaction of a half message was committed before the message became a dead letter.
        let message = Message {
            half: false,
            recovery: None,
            delay: None,
            dead_letter_origin: None,
            system_properties: Vec::new(),
            ..letter
        };
        let sent = services.messages.send(topic, vec![message], Instant::now() + CALL_TIMEOUT).await?;
        sent.into_iter().try_for_each(|sent| sent.map(drop))
    }
}
