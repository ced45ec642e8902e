//! Sending dead letters again to the topics in which they failed.
//!
//! A consumer group of the proxy's own receives dead letters and acknowledges each one once it is sent, so that its
//! progress tells which are left. An interruption sends a letter twice at most, and loses none. The letters stay in their
//! topic as long as other messages do.

use std::time::{Duration, Instant};

use super::Processor;
use crate::error::{Error, ErrorKind};
use crate::service::{
    Acknowledge, ChangeInvisible, Delivered, Delivery, Filter, GroupConfig, Message, Origin, QueueOf,
    ReadQueue, Receive, ServiceError, ServiceErrorKind, Services, Settle, WantedMessage, Whence, names,
};

/// The group that receives dead letters.
pub const RESEND_GROUP: &str = "dlq-resend";
/// Letters of one call.
const MAX_LETTERS: usize = 100;
/// Letters of one receive.
const BATCH: usize = 32;
/// Letters that are held while one is searched.
const MAX_HELD: usize = 1024;
/// How long a call may search letters that were sent before.
const MAX_SEARCH: Duration = Duration::from_secs(5);
/// How long a letter is held. One that can't be sent is left alone for so long.
const LEASE: Duration = Duration::from_secs(60);
/// How long to wait for letters of one broker, and for everything else.
const POLL: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);

/// Which dead letters to send again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResendSelection {
    /// The next ones that were not sent again yet, at most so many.
    Next(usize),
    /// The one with this id, also if it was sent again before.
    Id(String),
}

/// Dead letters that were sent again, or could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResentPage {
    /// The letters.
    pub letters: Vec<ResentLetter>,
    /// Whether no others are left.
    pub finished: bool,
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

impl Processor {
    /// Sends dead letters of a group again to the topics in which they failed. All groups of such a topic get them.
    ///
    /// # Errors
    /// `TopicNotFound` if the group has no dead letters or not this one, or the backend's failure.
    pub async fn resend_dead_letters(
        &self,
        group: &str,
        selection: ResendSelection,
    ) -> Result<ResentPage, Error> {
        let _turn = self.environment.administration.take().await;
        let topic = names::dead_letter_topic(group);
        let services = self.services_of(&topic).clone();
        services.metadata.existing_topic(&topic).await.map_err(|error| match error.kind {
            ServiceErrorKind::TopicNotFound => {
                Error::new(ErrorKind::TopicNotFound, format!("group {group} has no dead letters"))
            }
            _ => error.into(),
        })?;
        let resend = Resend { processor: self, services, topic };
        let brokers = resend.begin().await?;
        match selection {
            ResendSelection::Next(max) => resend.next(max.min(MAX_LETTERS), brokers).await,
            ResendSelection::Id(id) => resend.one(&id, brokers).await,
        }
    }
}

struct Resend<'a> {
    processor: &'a Processor,
    services: Services,
    topic: String,
}

impl Resend<'_> {
    /// Has the group begin with the first letter. Returns how many brokers have letters.
    async fn begin(&self) -> Result<usize, Error> {
        match self.services.metadata.create_group(GroupConfig::named(RESEND_GROUP), false).await {
            Err(error) if error.kind != ServiceErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let route = self.services.routes.route(&self.topic).await?;
        let offsets = &self.services.offsets;
        for queues in &route.queues {
            for id in 0..queues.read_queues {
                let deadline = Instant::now() + PATIENCE;
                let queue = QueueOf { topic: &self.topic, broker: &queues.broker, id, deadline };
                if offsets.committed(queue, RESEND_GROUP).await?.is_none() {
                    let first = offsets.offset(queue, Whence::Beginning).await?;
                    offsets.commit(queue, RESEND_GROUP, first).await?;
                }
            }
        }
        Ok(route.queues.len().max(1))
    }

    async fn next(&self, max: usize, brokers: usize) -> Result<ResentPage, Error> {
        let mut page = ResentPage::default();
        while page.letters.len() < max {
            let deliveries = self.receive((max - page.letters.len()).min(BATCH), brokers).await?;
            if deliveries.is_empty() {
                page.finished = true;
                break;
            }
            for delivery in deliveries {
                page.letters.push(self.send(delivery, true).await?);
            }
        }
        Ok(page)
    }

    /// Sends the letter with this id. Others are held during the search, so that each comes once, and then given back.
    async fn one(&self, id: &str, brokers: usize) -> Result<ResentPage, Error> {
        let (mut held, mut found) = (Vec::new(), None);
        while found.is_none() && held.len() < MAX_HELD {
            let deliveries = self.receive(BATCH, brokers).await?;
            if deliveries.is_empty() {
                break;
            }
            for delivery in deliveries {
                match found.is_none() && delivery.message.id == id {
                    true => found = Some(delivery),
                    false => held.push(delivery),
                }
            }
        }
        self.give_back(&held).await;
        let letter = match found {
            Some(delivery) => self.send(delivery, true).await?,
            // It was sent before, or there are too many others.
            None => match self.search(id).await? {
                Some(delivery) => self.send(delivery, false).await?,
                None => {
                    let message = format!("there is no dead letter {id} in {}", self.topic);
                    return Err(Error::new(ErrorKind::TopicNotFound, message));
                }
            },
        };
        Ok(ResentPage { letters: vec![letter], finished: true })
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
        for delivery in held {
            let deadline = Instant::now() + PATIENCE;
            let change = ChangeInvisible::give_back(&self.topic, RESEND_GROUP, delivery, deadline);
            if let Err(error) = self.services.messages.change_invisible(change).await {
                tracing::debug!(topic = self.topic, %error, "a dead letter is held until its lease ends");
            }
        }
    }

    async fn search(&self, id: &str) -> Result<Option<Delivery>, Error> {
        let started = Instant::now();
        let stats = self.services.administration.topic_stats(&self.topic).await?;
        for queue in stats.queues {
            let mut offset = queue.first;
            while started.elapsed() < MAX_SEARCH {
                let read = ReadQueue {
                    topic: self.topic.clone(),
                    broker: queue.broker.clone(),
                    queue_id: queue.id,
                    offset,
                    max: 1,
                    max_body: usize::MAX,
                    from: None,
                    to: None,
                    wanted: WantedMessage::Id(id.to_owned()),
                };
                let page = self.services.administration.read(read).await?;
                if let Some(found) = page.messages.into_iter().next() {
                    return Ok(Some(found.delivery));
                }
                if page.finished {
                    break;
                }
                offset = page.next_offset;
            }
        }
        Ok(None)
    }

    /// Sends a letter, and then acknowledges it if it is leased.
    async fn send(&self, delivery: Delivery, leased: bool) -> Result<ResentLetter, Error> {
        let entry = Settle::from(&delivery);
        let origin = match delivery.message.dead_letter_origin.clone() {
            Some(origin) => Some(origin),
            None => self.origin(&delivery).await?,
        };
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

    /// Where a letter was before, as far as an administrator may see more than a consumer.
    async fn origin(&self, delivery: &Delivery) -> Result<Option<Origin>, Error> {
        for queues in self.services.routes.route(&self.topic).await?.queues {
            let read = ReadQueue {
                topic: self.topic.clone(),
                broker: queues.broker,
                queue_id: delivery.queue_id,
                offset: delivery.queue_offset,
                max: 1,
                max_body: 0,
                from: None,
                to: None,
                wanted: WantedMessage::Any,
            };
            let page = self.services.administration.read(read).await?;
            let found = page.messages.into_iter().map(|read| read.delivery.message);
            let same = |message: &Message| message.id == delivery.message.id;
            if let Some(origin) = found.filter(same).find_map(|message| message.dead_letter_origin) {
                return Ok(Some(origin));
            }
        }
        // Apache's brokers deliver a copy from another topic once the lease of an earlier delivery was over.
        let found = self.search(&delivery.message.id).await?;
        Ok(found.and_then(|delivery| delivery.message.dead_letter_origin))
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
