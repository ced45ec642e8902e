//! Why a frame can't be read or written.

/// An error of reading or writing a frame. After a read error the connection can't be used any more, because the beginning
/// of the next frame is unknown.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The frame is longer than brokers accept or send.
    #[error("the frame is too long: {0} bytes")]
    TooLong(usize),
    /// The lengths in the frame contradict each other, or its header is unreadable.
    #[error("malformed frame: {0}")]
    Malformed(String),
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl FrameError {
    pub(super) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }
}
