//! What every language binding of rocketmq-thin shares.
//!
//! A binding converts its language's values into an [`Operation`], hands it over with one cheap call, and
//! gets an [`Outcome`] back:
//!
//! ```text
//! language thread                     the process's one runtime thread
//! ---------------                     --------------------------------
//! Queue::submit(operation) -> id ---> runs it on the core
//! (makes a future of its own for id)
//! wake() <--------------------------- the first completion after the queue was empty
//! Queue::drain(max) <---------------- many (id, outcome) at once
//! (resolves its futures)
//! ```
//!
//! Languages with threads may wait instead: [`start`] and [`Call::wait`].
//!
//! Neither side ever calls the other's code on the way of a message: the wake-up only tells that there is
//! something to fetch, and is made once for many completions.
//!
//! After a `fork` the child has no runtime thread. It gets a runtime of its own with its first new object;
//! what it inherited answers with an error of kind [`Closed`](ErrorKind::Closed), never with silence.

mod bound;
mod call;
mod operation;
mod process;
mod queue;

pub use bound::{Bound, Client, Producer, SimpleConsumer};
pub use call::{Call, run, start};
pub use operation::{Operation, Outcome};
pub use process::shutdown;
pub use queue::Queue;
/// The core's values, so that a binding needs this crate alone.
pub use rocketmq_thin::{
    CLOSE_DEADLINE, ClientOptions, CloseReport, Credentials, DecodeOptions, Delivery, Error, ErrorKind,
    Filter, Language, Message, ProducerOptions, Receipt, ReceiveOptions, RetryOptions, SimpleConsumerOptions,
    Subscription, Tls,
};
