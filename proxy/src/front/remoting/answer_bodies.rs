//! The bodies of the messages in one answer: decompressed, and as many as fit.

use super::answer::Refusal;
use super::inflate::inflate;
use super::request_charge::RequestCharge;
use crate::decompression::{InflateError, Inflating};
use crate::remoting::MAX_FRAME;
use crate::service::{BodyEncoding, Message};

/// The maximum size of the decompressed bodies in one answer, in bytes. One message may exceed it.
const MAX_BYTES: usize = 12 << 20;
/// The longest body that fits into a frame, besides its properties and the header of the answer.
const MAX_BODY: usize = MAX_FRAME - (128 << 10);

/// What is left for the bodies of one answer.
pub(super) struct AnswerBodies<'a> {
    charge: &'a RequestCharge,
    left: usize,
    is_empty: bool,
}

/// Whether a message is a part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It is.
    Fits,
    /// A later answer has room for it.
    Later,
    /// No answer can have room for it.
    Never,
}

impl<'a> AnswerBodies<'a> {
    /// An answer without messages. Its request is charged for the bodies.
    pub(super) fn new(charge: &'a RequestCharge) -> Self {
        Self { charge, left: MAX_BYTES, is_empty: true }
    }

    /// Adds a message if it fits. Decompresses its body, because classic clients can't decompress gzip.
    ///
    /// A body that is not gzip, or is too long for any answer when it is decompressed, is delivered as it is stored,
    /// so that it does not block its queue.
    ///
    /// # Errors
    /// `SYSTEM_BUSY` if there is no memory for the first message.
    pub(super) async fn add(&mut self, message: &mut Message) -> Result<Fit, Refusal> {
        let added = self.try_add(message).await;
        match added {
            // The answer goes without it.
            Err(_) if !self.is_empty => Ok(Fit::Later),
            added => added,
        }
    }

    async fn try_add(&mut self, message: &mut Message) -> Result<Fit, Refusal> {
        let room = if self.is_empty { MAX_BODY } else { self.left };
        if message.body_encoding == BodyEncoding::Gzip {
            match inflate(Inflating::gzip(&message.body, room), self.charge).await? {
                Ok(body) => {
                    message.body = body;
                    message.body_encoding = BodyEncoding::Identity;
                }
                Err(InflateError::TooLong) if !self.is_empty => return Ok(Fit::Later),
                Err(error) => {
                    tracing::debug!(id = message.id, ?error, "a body is delivered without decompressing it")
                }
            }
        }
        let bytes = message.body.len();
        if bytes > MAX_BODY {
            return Ok(Fit::Never);
        }
        if bytes > room {
            return Ok(Fit::Later);
        }
        // The copy in the answer.
        self.charge.grow(bytes)?;
        self.left = self.left.saturating_sub(bytes);
        self.is_empty = false;
        Ok(Fit::Fits)
    }
}
