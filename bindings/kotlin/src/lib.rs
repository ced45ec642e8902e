//! The native part of the Kotlin artifact. It converts between Kotlin's values and the bridge's.
//!
//! ```text
//! control     uniffi          connect, producer, simple consumer, close: take options, return an operation id
//!             uniffi          health, metrics, begin, messages: return the outcome at once
//! hot path    C functions     send, receive, ack, next tasks, complete, ...: take bytes, return an operation id
//! outcomes    C function      poll: one thread of the JVM waits for outcomes and fetches many at once
//! ```
//!
//! A uniffi call costs about 200 times as much as a C function with JNA's direct mapping, but uniffi's
//! encoding of values is fast. Therefore the C functions use uniffi's encoding, and the Kotlin side uses the
//! converters that uniffi generates.

mod completions;
mod consumer;
mod control;
mod credentials;
mod encoding;
mod error;
mod health;
mod lite;
mod logs;
mod message;
mod metrics;
mod operations;
mod options;
mod outcome;
mod push;
mod registry;
mod stream;
mod subscriptions;
mod transaction;

uniffi::setup_scaffolding!("rocketmq_thin");
