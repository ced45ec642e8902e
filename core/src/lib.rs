//! A thin client of the RocketMQ 5 proxy: send, receive, ack, change the invisible time.

mod client;
mod consumer;
mod error;
mod message;
mod options;
mod producer;
mod route;
mod rpc;
mod session;
mod wire;

pub use client::Client;
pub use consumer::SimpleConsumer;
pub use error::{Error, ErrorKind, Result};
pub use message::{CloseReport, Delivery, Message, Receipt};
pub use options::{
    CLOSE_DEADLINE, ClientOptions, Credentials, DecodeOptions, Filter, Language, ProducerOptions,
    ReceiveOptions, RetryOptions, SimpleConsumerOptions, Subscription, Tls,
};
pub use producer::Producer;
