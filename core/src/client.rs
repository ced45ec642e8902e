//! The client: one set of connections, credentials and names that producers and consumers share.

use std::time::Duration;

use crate::{
    consumer::SimpleConsumer,
    error::{Error, Result},
    message::CloseReport,
    options::{ClientOptions, ProducerOptions, SimpleConsumerOptions},
    producer::Producer,
};

/// A way to one RocketMQ service. Cheap to clone; clones are the same client.
///
/// Dropping all clones closes no producer or consumer made from it: each lives on its own.
#[derive(Clone, Debug)]
pub struct Client;

impl Client {
    /// Checks `options` and reaches one of the endpoints.
    ///
    /// # Errors
    ///
    /// `InvalidOptions` at once; `Unavailable`, `Tls` or `Timeout` when no endpoint could be reached within
    /// [`ClientOptions::startup_timeout`].
    pub async fn connect(_options: ClientOptions) -> Result<Self> {
        Err(Error::closed("connect"))
    }

    /// A producer, ready to send: the server has sent its settings and knows the named topics.
    ///
    /// # Errors
    ///
    /// `TopicNotFound`, `Unauthenticated`, ... as the server says; `Timeout` when it says nothing within
    /// [`ClientOptions::startup_timeout`].
    pub async fn producer(&self, _options: ProducerOptions) -> Result<Producer> {
        Err(Error::closed("producer"))
    }

    /// A consumer, ready to receive: the server has sent its settings and knows the topics.
    ///
    /// # Errors
    ///
    /// As for [`producer`](Self::producer).
    pub async fn simple_consumer(&self, _options: SimpleConsumerOptions) -> Result<SimpleConsumer> {
        Err(Error::closed("consumer"))
    }

    /// Closes every producer and consumer made from this client, together within `deadline`.
    pub async fn close(&self, _deadline: Duration) -> CloseReport {
        CloseReport::default()
    }
}
