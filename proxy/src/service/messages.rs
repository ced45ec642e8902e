//! Sending, receiving and settling messages.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{Delivery, Message, ServiceError, ServiceErrorKind};

/// Sending, receiving and settling messages.
///
/// Any proxy of a fleet may call any method for any topic, group and handle, so no call may depend on state that an earlier
/// call left in this process. Dropping a future cancels the wait, and never loses a message.
#[async_trait]
pub trait Messages: Send + Sync + 'static {
    /// Stores messages in a topic. Returns one outcome per message, in order, once the messages are as durable as the
    /// backend promises.
    ///
    /// # Errors
    /// The outcome of a message, or one error for all if no message was stored: `TopicNotFound`, `Forbidden` (no writable
    /// queue), `Rejected`, `Unsupported` (a type that the backend can't store), `Busy`, `Timeout`, `Unavailable`. After the
    /// last two, the messages may be stored nevertheless.
    async fn send(
        &self,
        topic: &str,
        messages: Vec<Message>,
        deadline: Instant,
    ) -> Result<Vec<Result<StoreReceipt, ServiceError>>, ServiceError>;

    /// Takes up to `max` messages under a lease, waiting until `deadline` for the first.
    ///
    /// Only messages that pass the filter are delivered; the others count as consumed. A message whose lease has
    /// expired is delivered again with `attempt` increased by one, even after a restart of the backend.
    ///
    /// In a FIFO group, the messages of a message group are delivered in order. The messages of a queue that have no message
    /// group form a message group of their own. A receive may take several messages of a message group. The next ones are
    /// delivered once these are settled. If all their leases end before, the unsettled ones are delivered again, in order.
    /// Messages of other message groups in the queue need not wait, although they do on Apache's brokers. A receive with the
    /// same `attempt_id` gets its unsettled batch again at once.
    ///
    /// # Errors
    /// `TopicNotFound`, `GroupNotFound`, `Forbidden`, `IllegalFilter`, `Busy` (too many waiting receives), `Timeout`,
    /// `Unavailable`.
    async fn receive(&self, request: Receive) -> Result<Delivered, ServiceError>;

    /// Waits until a receive would return a message, or until its deadline. Returns whether it would.
    ///
    /// # Errors
    /// As [`Messages::receive`].
    async fn has_message(self: Arc<Self>, request: Receive) -> Result<bool, ServiceError> {
        const LEASE: Duration = Duration::from_secs(1);
        let (topic, group, deadline) = (request.topic.clone(), request.group.clone(), request.deadline);
        let peek = Receive { max: 1, invisible: LEASE, attempt_id: None, ..request };
        let Delivered::Messages(deliveries) = self.receive(peek).await? else { return Ok(false) };
        // A task gives them back even if the caller is cancelled. Otherwise the lease would count as an attempt.
        let given_back = tokio::spawn(async move {
            for delivery in &deliveries {
                let deadline = deadline.max(Instant::now() + LEASE);
                self.change_invisible(ChangeInvisible::give_back(&topic, &group, delivery, deadline)).await?;
            }
            Ok(true)
        });
        let aborted = |_| ServiceError::new(ServiceErrorKind::Internal, "giving back a message was aborted");
        given_back.await.map_err(aborted)?
    }

    /// Checks that the backend can evaluate a filter, so that a consumer gets the error before its first receive.
    ///
    /// # Errors
    /// `IllegalFilter`, `Timeout`, `Unavailable`.
    async fn check_filter(&self, _filter: Filter, _deadline: Instant) -> Result<(), ServiceError> {
        Ok(())
    }

    /// Marks messages as consumed, so that they are never delivered again. Returns one outcome per entry, in order.
    ///
    /// # Errors
    /// Failures of the whole call: `TopicNotFound`, `GroupNotFound`, `Timeout`, `Unavailable`.
    async fn acknowledge(&self, request: Acknowledge) -> Result<Vec<AckOutcome>, ServiceError>;

    /// Replaces the lease of a delivery by one that ends `invisible` from now. Zero makes the message visible at once. The
    /// old coordinates become invalid.
    ///
    /// # Errors
    /// `InvalidHandle`, `TopicNotFound`, `GroupNotFound`, `Timeout`, `Unavailable`.
    async fn change_invisible(&self, request: ChangeInvisible) -> Result<InvisibleOutcome, ServiceError>;

    /// Moves a delivery to its group's dead-letter topic `%DLQ%group`.
    ///
    /// # Errors
    /// As [`Messages::change_invisible`].
    async fn forward_to_dead_letter(&self, request: Forward) -> Result<(), ServiceError>;

    /// Subscribes to the messages that the backend moves to dead-letter topics on its own. `None` if the backend moves none,
    /// or does not report them. Only the last subscriber gets them.
    fn dead_letters(&self) -> Option<mpsc::Receiver<DeadLetter>> {
        None
    }

    /// Recalls a DELAY message that was not delivered yet. Returns the message's id. `handle` is a
    /// [`StoreReceipt::recall_handle`] that a client sends, and may be forged.
    ///
    /// # Errors
    /// `Rejected` (an invalid handle, a handle of another topic, or the message was delivered already), `Forbidden`,
    /// `TopicNotFound`, `Unsupported`, `Timeout`, `Unavailable`.
    async fn recall(&self, _topic: &str, _handle: &str, _deadline: Instant) -> Result<String, ServiceError> {
        Err(ServiceError::new(ServiceErrorKind::Unsupported, "recall is not supported by this server"))
    }
}

/// A message that has become a dead letter.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The topic in which the message failed.
    pub topic: String,
    /// The group that did not consume the message.
    pub group: String,
    /// The message.
    pub message: Message,
}

/// A stored message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreReceipt {
    /// The queue in which the message is stored.
    pub queue_id: i32,
    /// The message's offset in the queue.
    pub queue_offset: i64,
    /// The handle with which a DELAY message can be recalled.
    pub recall_handle: Option<String>,
    /// Everything that the backend needs to end the transaction of a half message, in the form of
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

/// Selects the messages that a consumer gets.
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

impl Filter {
    /// The approximate memory of the filter once it is compiled, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        /// The memory of a tag, in addition to its bytes.
        const TAG_OVERHEAD: usize = 48;
        /// The memory of an expression, as a multiple of the bytes of its text.
        const EXPRESSION_FACTOR: usize = 16;
        match self {
            Self::All => 0,
            Self::Tags(tags) => tags.iter().map(|tag| tag.len() + TAG_OVERHEAD).sum(),
            Self::Sql(text) => text.len() * EXPRESSION_FACTOR,
        }
    }
}

/// A receive.
#[derive(Clone, Debug)]
pub struct Receive {
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// The broker to receive from, if the client chose one. Backends with one broker ignore it.
    pub broker: Option<String>,
    /// Which messages to deliver.
    pub filter: Filter,
    /// The maximum number of messages, 1 to 32.
    pub max: usize,
    /// The length of the leases.
    pub invisible: Duration,
    /// When to stop waiting for a first message.
    pub deadline: Instant,
    /// Whether the group consumes in order.
    pub fifo: bool,
    /// Identifies a receive that a client repeats because the answer was lost. All repetitions have the same id.
    pub attempt_id: Option<String>,
    /// For a group that is bound to a LITE topic: the client whose subscription selects the lite topics.
    pub lite_client: Option<String>,
}

/// The result of a receive.
#[derive(Clone, Debug)]
pub enum Delivered {
    /// At least one message.
    Messages(Vec<Delivery>),
    /// There were messages, but none passed the filter.
    AllFiltered,
    /// There was no message before the deadline.
    Nothing,
}

/// A delivery to settle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// [`Delivery::coordinates`], verbatim.
    pub coordinates: String,
    /// The message's id.
    pub message_id: String,
    /// The message's lite topic, if it has one.
    pub lite_topic: Option<String>,
    /// When the lease of these coordinates began.
    pub received_at: SystemTime,
    /// The length of the lease.
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

/// The outcome of acknowledging one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AckOutcome {
    /// The message is consumed, by this or an earlier acknowledgement. As with Apache's broker, coordinates that a later
    /// lease has replaced also have this outcome, without any effect.
    Done,
    /// The lease has expired, and another consumer may have the message.
    Expired,
    /// This backend did not create the coordinates.
    Invalid(String),
    /// The broker refused the acknowledgement, or could not be called.
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
    /// The length of the new lease from now. Zero makes the message visible at once.
    pub invisible: Duration,
    /// Whether the next delivery counts as another attempt.
    pub next_attempt: NextAttempt,
    /// When the caller stops waiting for the answer.
    pub deadline: Instant,
}

/// Whether the delivery after a change of the invisible time counts as another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextAttempt {
    /// The next delivery counts.
    Counts,
    /// The client suspends the message. As with Apache's brokers, the next delivery counts only in FIFO groups.
    Suspended,
    /// No client got this delivery. The next one does not count, if the backend supports the distinction.
    GivenBack,
}

impl ChangeInvisible {
    /// Gives back a delivery that could not be handed over to a client: the message becomes visible at once, and the delivery
    /// does not count as an attempt.
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
    /// The delivery has a new lease.
    Changed {
        /// [`Delivery::coordinates`] of the new lease.
        coordinates: String,
        /// When the new lease began, by the broker's clock.
        received_at: SystemTime,
    },
    /// The coordinates name no lease any more: the message is settled, or a later lease has replaced them. As with Apache's
    /// brokers, clients are told that the lease was changed.
    Gone {
        /// Coordinates in the form of [`Delivery::coordinates`], which name no lease either.
        coordinates: String,
        /// The present, by the broker's clock.
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
