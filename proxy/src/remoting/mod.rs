//! RocketMQ's remoting protocol: how commands are encoded. What they mean is decided elsewhere.
//!
//! A frame is `total length (4) | header type (1) and length (3) | header | body`, big-endian; the header is
//! JSON or RocketMQ's own binary form, as each frame says (Apache's `RemotingCommand`, `RocketMQSerializable`).
//! The remote backend speaks it to name servers and brokers, and the remoting front end to classic clients.

pub mod auth;
mod binary;
mod codec;
mod command;
pub mod compression;
mod json;
pub mod lenient;
pub mod message;
pub mod properties;
pub mod request;
pub mod response;
pub mod sign;

pub use codec::{CommandCodec, FrameError, MAX_FRAME};
pub use command::{Command, Fields, HeaderType, Language};
