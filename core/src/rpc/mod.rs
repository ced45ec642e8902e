//! Sends requests to servers: connections, metadata, deadlines, batches, retries and errors.
//!
//! ```text
//! Retry::run ( build_* -> Rpc::unary (metadata, deadline, span) -> process_* )
//!                           |                  `-> failure: one Error
//!                           `-> Channel (one address) -> Connections -> Connection
//! ```

mod batcher;
mod call;
mod channel;
mod channel_pool;
mod client_context;
mod codec;
mod connection;
mod connections;
mod credentials;
mod diagnosis;
mod export;
mod exporter;
mod failure;
mod identity;
mod in_flight;
mod metadata_values;
mod method;
mod request_body;
mod retry;
mod signer;
mod tcp;
mod tls;
mod transport;
mod write_buffer;

pub(crate) use batcher::{BatchCall, Batcher, PendingItem, PendingResult, wait_all};
pub(crate) use call::{ReceiveEnd, Received, Rpc, new_id};
pub(crate) use channel::Channel;
pub(crate) use channel_pool::ChannelPool;
pub(crate) use client_context::ClientContext;
pub(crate) use connections::PollSlot;
pub(crate) use credentials::CurrentCredentials;
pub(crate) use failure::{CallContext, Outcome};
pub(crate) use identity::{Identity, WireLanguage};
pub(crate) use in_flight::{InFlight, InFlightGuard};
pub(crate) use method::{
    AckMessage, ChangeInvisibleDuration, EndTransaction, ForwardMessageToDeadLetterQueue,
    NotifyClientTermination, QueryRoute, RecallMessage, SendMessage, SyncLiteSubscription,
};
pub(crate) use retry::{
    Backoff, NoSettings, ReplaySettings, Retry, RetryDecision, retry_decision, time_for_request,
};
