//! Answers the requests of brokers.

use std::sync::Weak;

use bytes::BytesMut;
use tokio::sync::mpsc;
use tokio_util::codec::Encoder;

use super::connection_state::{ConnectionState, Frame};
use crate::remoting::{CommandCodec, HeaderType, RemotingCommand};

/// Answers one request of a peer.
pub(super) struct Responder {
    pub(super) outgoing: mpsc::WeakUnboundedSender<Frame>,
    pub(super) state: Weak<ConnectionState>,
    pub(super) opaque: i32,
    pub(super) header_type: HeaderType,
}

impl Responder {
    /// Sends the answer, unless the connection is closed or its peer does not read.
    pub(super) fn answer(self, answer: RemotingCommand) {
        let (Some(outgoing), Some(state)) = (self.outgoing.upgrade(), self.state.upgrade()) else { return };
        let answer = RemotingCommand { opaque: self.opaque, header_type: self.header_type, ..answer };
        let mut frame = BytesMut::new();
        if CommandCodec.encode(&answer, &mut frame).is_ok() && state.reserve(frame.len()).is_ok() {
            // Fails only if the connection is closed.
            let _ = outgoing.send(Frame { opaque: None, bytes: frame.freeze() });
        }
    }

    #[cfg(test)]
    pub(super) fn disconnected() -> Self {
        let (outgoing, _) = mpsc::unbounded_channel();
        let (outgoing, state) = (outgoing.downgrade(), Weak::new());
        Self { outgoing, state, opaque: 0, header_type: HeaderType::default() }
    }
}
