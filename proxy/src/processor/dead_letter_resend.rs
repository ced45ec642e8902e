//! Sending dead letters again to the topics in which they failed.
//!
//! A consumer group of the proxy's own receives dead letters and acknowledges each one once it is sent, so that its
//! progress tells which are left. An interruption sends a letter twice at most, and loses none. The letters stay in their
//! topic as long as other messages do.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;

use super::Processor;
use super::letter_search::LetterSearch;
use crate::error::{Error, ErrorKind};
use crate::service::{
    Acknowledge, ChangeInvisible, Delivered, Delivery, Filter, GroupConfig, Message, Origin, QueueOf,
    Receive, ServiceError, ServiceErrorKind, Services, Settle, Whence, names,
};

/// The group that receives dead letters.
pub const RESEND_GROUP: &str = "dlq-resend";
/// Letters of one call.
const MAX_LETTERS: usize = 100;
/// Letters of one receive.
const BATCH: usize = 32;
/// Letters that are held while one is searched.
const MAX_HELD: usize = 256;
/// How long a call may take, apart from the request to a broker that is under way then. It leaves the rest to the next call.
const MAX_TIME: Duration = Duration::from_secs(5);
/// How long a letter is held: longer than a call takes. One that can't be sent is left alone for so long.
const LEASE: Duration = Duration::from_secs(60);
/// How long to wait for letters of one broker, and for everything else.
const POLL: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it is remembered that the group has begun in a topic, and in how many topics.
const BEGUN: Duration = Duration::from_secs(60);
const MAX_BEGUN: usize = 1000;
/// Queues whose progress is asked for at the same time.
const CONCURRENT: usize = 8;

/// Which dead letters to send again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResendSelection {
    /// The next ones that were not sent again yet, at most so many.
    Next(usize),
    /// The one with this id, also if it was sent again before.
    Id {
        /// The id.
        id: String,
        /// Where the call before has ended its search, if there was one.
        from: Option<LetterPosition>,
    },
}

/// A place in a dead-letter topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterPosition {
    /// The broker that holds the queue.
    pub broker: String,
    /// The queue.
    pub queue: i32,
    /// The offset.
    pub offset: i64,
}

/// Dead letters that were sent again, or could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResentPage {
    /// The letters.
    pub letters: Vec<ResentLetter>,
    /// Whether no others are left.
    pub finished: bool,
    /// The ids of letters for which the time of the call did not suffice. A later call sends them.
    pub unreached: Vec<String>,
    /// Up to where a letter was searched, if it was not found in the time of the call.
    pub searched_to: Option<LetterPosition>,
    /// Why the call ended early, if so. What it has sent before is among the letters.
    pub failure: Option<String>,
}

/// A dead letter that was sent again, or could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResentLetter {
    /// The message's id.
    pub id: String,
    /// Its queue in the dead-letter topic.
    pub queue: i32,
    /// Its offset there.
    pub offset: i64,
    /// The topic that it was sent to; empty if it is not known.
    pub topic: String,
    /// Why it was not sent, if so.
    pub failure: Option<String>,
}

/// In which topics the group has begun a moment ago. Asking again costs a call for each queue.
#[derive(Default)]
pub(super) struct BegunTopics(Mutex<HashMap<String, Instant>>);

impl BegunTopics {
    fn contains(&self, topic: &str) -> bool {
        self.0.lock().get(topic).is_some_and(|since| since.elapsed() < BEGUN)
    }

    fn insert(&self, topic: &str) {
        let mut begun = self.0.lock();
        if begun.len() >= MAX_BEGUN {
            begun.clear();
        }
        begun.insert(topic.to_owned(), Instant::now());
    }
}

impl Processor {
    /// Sends dead letters of a group again to the topics in which they failed. All groups of such a topic get them. The
    /// time of a call is limited: `finished` tells whether another one has something to do.
    ///
    /// # Errors
    /// `TopicNotFound` if the group has no dead letters or not this one, or the backend's failure before the first letter
    /// was sent.
    pub async fn resend_dead_letters(
        &self,
        group: &str,
        selection: ResendSelection,
    ) -> Result<ResentPage, Error> {
        let _turn = self.environment.administration.take().await;
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
        let brokers = resend.begin().await?;
        match selection {
            ResendSelection::Next(max) => resend.next(max.min(MAX_LETTERS), brokers).await,
            ResendSelection::Id { id, from } => resend.one(&id, from, brokers).await,
        }
    }
}

struct Resend<'a> {
    processor: &'a Processor,
    services: Services,
    topic: String,
    /// When the call ends.
    until: Instant,
    search: LetterSearch,
}

impl Resend<'_> {
    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Has the group begin with the first letter. Returns how many brokers have letters.
    async fn begin(&self) -> Result<usize, Error> {
        let begun = &self.processor.environment.resent_topics;
        let route = self.services.routes.route(&self.topic).await?;
        let brokers = route.queues.len().max(1);
        if begun.contains(&self.topic) {
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
            .try_for_each_concurrent(CONCURRENT, |(broker, id)| self.begin_in_queue(broker, id))
            .await?;
        begun.insert(&self.topic);
        Ok(brokers)
    }

    async fn begin_in_queue(&self, broker: &str, id: i32) -> Result<(), Error> {
        let offsets = &self.services.offsets;
        let queue = QueueOf { topic: &self.topic, broker, id, deadline: Instant::now() + PATIENCE };
        if offsets.committed(queue, RESEND_GROUP).await?.is_none() {
            let first = offsets.offset(queue, Whence::Beginning).await?;
            offsets.commit(queue, RESEND_GROUP, first).await?;
        }
        Ok(())
    }

    async fn next(&self, max: usize, brokers: usize) -> Result<ResentPage, Error> {
        let mut page = ResentPage::default();
        while page.letters.len() + page.unreached.len() < max && !self.is_over() {
            let wanted = (max - page.letters.len() - page.unreached.len()).min(BATCH);
            let received = match self.receive(wanted, brokers).await {
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

    /// Sends letters as long as there is time. The others are given back.
    async fn send_all(&self, letters: Vec<Delivery>, page: &mut ResentPage) {
        let nameless: Vec<_> =
            letters.iter().filter(|letter| letter.message.dead_letter_origin.is_none()).collect();
        // What is not found now is not found at all, or beyond the time of this call.
        let origins = self.search.origins(&nameless).await.unwrap_or_else(|error| {
            page.failure = Some(error.message);
            HashMap::new()
        });
        let mut letters = letters.into_iter();
        for letter in letters.by_ref() {
            let known = letter.message.dead_letter_origin.clone();
            let origin = known.or_else(|| origins.get(&letter.message.id).cloned());
            if self.is_over() || page.failure.is_some() {
                page.unreached.push(letter.message.id.clone());
                self.give_back(std::slice::from_ref(&letter)).await;
                break;
            }
            if origin.is_none() && !self.search.has_seen_all() {
                // It stays leased for a while, so that the next call gets others.
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

    /// Sends the letter with this id.
    async fn one(&self, id: &str, from: Option<LetterPosition>, brokers: usize) -> Result<ResentPage, Error> {
        let leased = if from.is_none() { self.lease(id, brokers).await? } else { None };
        let has_origin = leased.as_ref().is_some_and(|letter| letter.message.dead_letter_origin.is_some());
        // It was sent before, there are too many others, or its copy does not tell where it was.
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

    /// Leases the letter with this id, if it is among the next ones. The others are held meanwhile, so that each comes once,
    /// and then given back.
    async fn lease(&self, id: &str, brokers: usize) -> Result<Option<Delivery>, Error> {
        let (mut held, mut found) = (Vec::new(), None);
        while found.is_none() && held.len() < MAX_HELD && !self.is_over() {
            let received = self.receive(BATCH, brokers).await?;
            if received.is_empty() {
                break;
            }
            for letter in received {
                match found.is_none() && letter.message.id == id {
                    true => found = Some(letter),
                    false => held.push(letter),
                }
            }
        }
        self.give_back(&held).await;
        Ok(found)
    }

    async fn receive(&self, max: usize, brokers: usize) -> Result<Vec<Delivery>, Error> {
        // A receive asks one of the brokers, in turn.
        for _ in 0..brokers {
            let receive = Receive {
                topic: self.topic.clone(),
                group: RESEND_GROUP.to_owned(),
                broker: None,
                filter: Filter::All,
                max,
                invisible: LEASE,
                deadline: Instant::now() + POLL,
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

    async fn give_back(&self, held: &[Delivery]) {
        let changes = held.iter().map(|delivery| async move {
            let deadline = Instant::now() + PATIENCE;
            let change = ChangeInvisible::give_back(&self.topic, RESEND_GROUP, delivery, deadline);
            if let Err(error) = self.services.messages.change_invisible(change).await {
                tracing::debug!(topic = self.topic, %error, "a dead letter is held until its lease ends");
            }
        });
        stream::iter(changes).for_each_concurrent(CONCURRENT, |change| change).await;
    }

    /// Sends a letter, and then acknowledges it if it is leased.
    async fn send(
        &self,
        delivery: Delivery,
        origin: Option<Origin>,
        leased: bool,
    ) -> Result<ResentLetter, Error> {
        let entry = Settle::from(&delivery);
        let Delivery { message, queue_id: queue, queue_offset: offset, .. } = delivery;
        let id = message.id.clone();
        let Some(origin) = origin else {
            let failure = Some("the topic in which it failed is not known".to_owned());
            return Ok(ResentLetter { id, queue, offset, topic: String::new(), failure });
        };
        let failure = self.store(&origin.topic, message).await.err().map(|error| error.message);
        if failure.is_none() && leased {
            let acknowledge = Acknowledge {
                topic: self.topic.clone(),
                group: RESEND_GROUP.to_owned(),
                entries: vec![entry],
                deadline: Instant::now() + PATIENCE,
            };
            self.services.messages.acknowledge(acknowledge).await?;
        }
        Ok(ResentLetter { id, queue, offset, topic: origin.topic, failure })
    }

    async fn store(&self, topic: &str, letter: Message) -> Result<(), ServiceError> {
        let services = self.processor.services_of(topic);
        // A send could create it.
        services.metadata.existing_topic(topic).await.map_err(|error| match error.kind {
            ServiceErrorKind::TopicNotFound => {
                ServiceError::new(error.kind, format!("topic {topic} does not exist any more"))
            }
            _ => error,
        })?;
        let message =
            Message { delay: None, dead_letter_origin: None, system_properties: Vec::new(), ..letter };
        let sent = services.messages.send(topic, vec![message], Instant::now() + PATIENCE).await?;
        sent.into_iter().try_for_each(|sent| sent.map(drop))
    }
}
