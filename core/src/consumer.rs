//! Receiving and settling.

use std::time::Duration;

use crate::{
    error::{Error, Result},
    message::{CloseReport, Delivery},
    options::ReceiveOptions,
};

/// The client's hold on a delivery.
#[derive(Debug)]
pub(crate) struct Lease;

/// Receives messages one call at a time. Cheap to clone; clones are the same consumer.
#[derive(Clone, Debug)]
pub struct SimpleConsumer;

impl SimpleConsumer {
    /// Waits for messages of any subscribed topic; none in time is an empty list.
    ///
    /// # Errors
    ///
    /// The server's refusal, or what kept an answer from coming.
    pub async fn receive(&self, _options: ReceiveOptions) -> Result<Vec<Delivery>> {
        Err(Error::closed("receive"))
    }

    /// Tells the server that a delivery is done with.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` when the lease is over: the message comes, or came, again.
    pub async fn ack(&self, _delivery: &Delivery) -> Result<()> {
        Err(Error::closed("ack"))
    }

    /// Acks many; the results stand in the order of the deliveries.
    pub async fn ack_all(&self, deliveries: &[Delivery]) -> Vec<Result<()>> {
        deliveries.iter().map(|_| Err(Error::closed("ack"))).collect()
    }

    /// Hides a delivery from others for `invisible` from now; zero gives it back at once.
    ///
    /// # Errors
    ///
    /// `InvalidReceipt` when the lease is over; `InvalidArgument` above 12 h.
    pub async fn change_invisible(&self, _delivery: &Delivery, _invisible: Duration) -> Result<()> {
        Err(Error::closed("change_invisible"))
    }

    /// Takes no more calls, and waits at most `deadline` for acks under way.
    pub async fn close(&self, _deadline: Duration) -> CloseReport {
        CloseReport::default()
    }
}
