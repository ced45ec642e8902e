//! The codec of RocketMQ's remoting protocol.
//!
//! A frame is `total length (4) | header type (1) and length (3) | header | body`, big-endian. The header is JSON or in
//! RocketMQ's binary form, depending on the header type (Apache's `RemotingCommand`, `RocketMQSerializable`). The remote
//! backend uses the protocol with name servers and brokers, and the remoting front end with classic clients.

pub mod acl_bodies;
mod binary;
pub mod broker_stats;
mod codec;
mod command;
pub mod compression;
mod frame_error;
mod json;
pub mod lenient;
pub mod message;
pub mod properties;
pub mod request;
pub mod response;
pub mod sign;

pub use codec::{CommandCodec, FrameLimits, FramePrefix, MAX_FRAME};
pub use command::{Fields, HeaderType, Language, RemotingCommand};
pub use frame_error::FrameError;
