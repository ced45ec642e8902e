use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{Delivery, Message, ServiceError, ServiceErrorKind};

/// Sending, receiving and settling.
///
/// Every method may be called for any topic, group and handle by any proxy of a fleet: no call may depend on
/// state that an earlier call left in this process. Dropping a future cancels the wait, and never loses a message.
#[async_trait]
pub trait Messages: Send + Sync {
    /// Stores messages in a topic. Returns an outcome per message, in order, once they are as durable as the backend
    /// promises.
    ///
    /// # Errors
    /// One per message among the outcomes, or one error for all if none was stored:
    /// `TopicNotFound`, `Forbidden` (no writable queue), `Rejected`, `Unsupported` (a kind the backend can't
    /// store), `Busy`, `Timeout` and `Unavailable` (after both the messages may be stored).
    async fn send(
        &self,
        topic: &str,
        messages: Vec<Message>,
        deadline: Instant,
    ) -> Result<Vec<Result<Sent, ServiceError>>, ServiceError>;

    /// Takes up to `max` messages under a lease, waiting until `deadline` for the first.
    ///
    /// Only messages that pass the filter are delivered; the others count as consumed. A message whose lease
    /// expired is delivered again with `attempt` raised by one, also after a restart of the backend.
    ///
    /// In a FIFO group, the messages of a message group are delivered in order; those of a queue that have none are a
    /// group of their own. A receive may take several messages of a group. The next ones wait until these are settled,
    /// or until all their leases are over: then what is not settled is delivered again, in order. Messages of other
    /// groups in the queue need not wait, though Apache's brokers let them. A receive with the same `attempt_id` gets
    /// its unsettled batch again at once.
    ///
    /// # Errors
    /// `TopicNotFound`, `GroupNotFound`, `Forbidden`, `IllegalFilter`, `Busy` (too many waiting), `Timeout`,
    /// `Unavailable`.
    async fn receive(&self, request: Receive) -> Result<Delivered, ServiceError>;

    /// Waits until a receive would bring a message, or until its deadline. Returns whether it would.
    ///
    /// # Errors
    /// As [`Messages::receive`].
    async fn has_message(&self, request: Receive) -> Result<bool, ServiceError> {
        const LOOK: Duration = Duration::from_secs(1);
        let (topic, group, deadline) = (request.topic.clone(), request.group.clone(), request.deadline);
        let look = Receive { max: 1, invisible: LOOK, attempt_id: None, ..request };
        let Delivered::Messages(deliveries) = self.receive(look).await? else { return Ok(false) };
        for delivery in &deliveries {
            let deadline = deadline.max(Instant::now() + LOOK);
            self.change_invisible(ChangeInvisible::give_back(&topic, &group, delivery, deadline)).await?;
        }
        Ok(true)
    }

    /// Checks that the backend can evaluate a filter, so that a consumer learns of a mistake before its first receive.
    ///
    /// # Errors
    /// `IllegalFilter`, `Timeout`, `Unavailable`.
    async fn check_filter(&self, _filter: Filter, _deadline: Instant) -> Result<(), ServiceError> {
        Ok(())
    }

    /// Marks deliveries as consumed: they are never delivered again. Returns one outcome per entry, in order.
    ///
    /// # Errors
    /// Only failures of the whole call: `TopicNotFound`, `GroupNotFound`, `Timeout`, `Unavailable`.
    async fn acknowledge(&self, request: Acknowledge) -> Result<Vec<AckOutcome>, ServiceError>;

    /// Replaces the lease of a delivery by one that ends `invisible` from now; zero ends it at once. The old coordinates no
    /// longer settle anything.
    ///
    /// # Errors
    /// `InvalidHandle`, `TopicNotFound`, `GroupNotFound`, `Timeout`, `Unavailable`.
    async fn change_invisible(&self, request: ChangeInvisible) -> Result<InvisibleOutcome, ServiceError>;

    /// Moves a delivery to its group's dead-letter topic `%DLQ%group`.
    ///
    /// # Errors
    /// As [`Messages::change_invisible`].
    async fn forward_to_dead_letter(&self, request: Forward) -> Result<(), ServiceError>;

    /// Watches for messages that become dead letters though nobody asked for it: those that the backend itself moves. `None` if
    /// it moves none, or does not tell. One watcher at a time is told.
    fn dead_letters(&self) -> Option<mpsc::Receiver<DeadLetter>> {
        None
    }

    /// Recalls a DELAY message that is not delivered yet, and returns its id. `handle` is
    /// [`Sent::recall_handle`], as a client sends it: it may be forged.
    ///
    /// # Errors
    /// `Rejected` (no such handle, another topic's, or too late), `Forbidden`, `TopicNotFound`, `Unsupported`,
    /// `Timeout`, `Unavailable`.
    async fn recall(&self, _topic: &str, _handle: &str, _deadline: Instant) -> Result<String, ServiceError> {
        Err(ServiceError::new(ServiceErrorKind::Unsupported, "recall is not supported by this server"))
    }
}

/// A message that has become a dead letter.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The topic that it was in.
    pub topic: String,
    /// The group that did not settle it.
    pub group: String,
    /// The message.
    pub message: Message,
}

/// Where a message was stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The queue.
    pub queue_id: i32,
    /// The position in it.
    pub queue_offset: i64,
    /// The handle that recalls it, for a DELAY message.
    pub recall_handle: Option<String>,
    /// All that the backend needs to end the transaction of a half message, in the form of
    /// [`Delivery::coordinates`].
    pub transaction: Option<String>,
    /// How durably the message is stored.
    pub persistence: Persistence,
}

/// How durably a message is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persistence {
    /// As durably as the backend promises.
    #[default]
    Done,
    /// Stored, but not yet on the master's disk.
    MasterTimeout,
    /// Stored, but not yet on a replica.
    ReplicaTimeout,
    /// Stored, but there is no replica.
    NoReplica,
}

/// Which messages a receive wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Every message.
    #[default]
    All,
    /// Messages with one of these tags.
    Tags(Vec<String>),
    /// Messages for which the SQL92 expression is true.
    Sql(String),
}

/// A receive.
#[derive(Clone, Debug)]
pub struct Receive {
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// The broker that the client's route named, if it matters to the backend.
    pub broker: Option<String>,
    /// What to deliver.
    pub filter: Filter,
    /// The maximum number of messages, 1 to 32.
    pub max: usize,
    /// The lease's length.
    pub invisible: Duration,
    /// When to stop waiting for a first message.
    pub deadline: Instant,
    /// Whether the group consumes in order.
    pub fifo: bool,
    /// The same for all repetitions of one receive, by which a client asks again for a lost answer.
    pub attempt_id: Option<String>,
    /// The client whose lite topics to receive from, for a group that is bound to a LITE topic.
    pub lite_client: Option<String>,
}

/// The result of a receive.
#[derive(Clone, Debug)]
pub enum Delivered {
    /// At least one message.
    Messages(Vec<Delivery>),
    /// There were messages, but none passed the filter.
    AllFiltered,
    /// No message came before the deadline.
    Nothing,
}

/// A delivery to settle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// [`Delivery::coordinates`], verbatim.
    pub coordinates: String,
    /// The message's id.
    pub message_id: String,
    /// The lite topic, where the message has one.
    pub lite_topic: Option<String>,
    /// When the lease of these coordinates began.
    pub received_at: SystemTime,
    /// How long it lasts.
    pub invisible: Duration,
}

impl From<&Delivery> for Settle {
    fn from(delivery: &Delivery) -> Self {
        Self {
            coordinates: delivery.coordinates.clone(),
            message_id: delivery.message.id.clone(),
            lite_topic: delivery.message.lite_topic.clone(),
            received_at: delivery.received_at,
            invisible: delivery.invisible,
        }
    }
}

/// An acknowledgement.
#[derive(Clone, Debug)]
pub struct Acknowledge {
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// The deliveries.
    pub entries: Vec<Settle>,
    /// When the caller stops waiting for the answer.
    pub deadline: Instant,
}

/// The outcome of one acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AckOutcome {
    /// Consumed, now or before. Coordinates that a later lease replaced return this, too, and have no
    /// effect, as with Apache's broker.
    Done,
    /// The lease has expired, and another consumer may have the message.
    Expired,
    /// The coordinates are not this backend's.
    Invalid(String),
    /// The broker refused, or could not be called.
    Failed(ServiceError),
}

/// A change of the invisible time.
#[derive(Clone, Debug)]
pub struct ChangeInvisible {
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// The delivery.
    pub entry: Settle,
    /// The new lease's length from now; zero ends it at once.
    pub invisible: Duration,
    /// Whether the next delivery is another attempt.
    pub next_attempt: NextAttempt,
    /// When the caller stops waiting for the answer.
    pub deadline: Instant,
}

/// Whether the delivery after a change of the invisible time counts as another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextAttempt {
    /// It counts.
    Counts,
    /// The client suspends the message. It counts only in FIFO groups, as with Apache's brokers.
    Suspended,
    /// Nobody got the delivery. It does not count, if the backend can tell.
    GivenBack,
}

impl ChangeInvisible {
    /// Makes a delivery that nobody got visible again at once, without counting it as an attempt. Used wherever a
    /// delivery could not be handed over.
    #[must_use]
    pub fn give_back(topic: &str, group: &str, delivery: &Delivery, deadline: Instant) -> Self {
        Self {
            topic: topic.to_owned(),
            group: group.to_owned(),
            entry: Settle::from(delivery),
            invisible: Duration::ZERO,
            next_attempt: NextAttempt::GivenBack,
            deadline,
        }
    }
}

/// The outcome of a change of the invisible time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvisibleOutcome {
    /// The new lease, for the next settlement.
    Changed {
        /// [`Delivery::coordinates`] of the new lease.
        coordinates: String,
        /// When it began, by the broker's clock.
        received_at: SystemTime,
    },
    /// The old lease has expired, and another consumer may have the message.
    Expired,
}

/// A move to the dead-letter topic.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// The delivery.
    pub entry: Settle,
    /// When the caller stops waiting for the answer.
    pub deadline: Instant,
}
