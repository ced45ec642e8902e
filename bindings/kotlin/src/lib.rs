//! The native part of the Kotlin artifact. It converts between Kotlin's values and the bridge's.
//!
//! ```text
//! control     uniffi          connect, producer, simple consumer, close: take options, return an operation's id
//!             uniffi          health, metrics, begin, messages: return the outcome at once
//! hot path    C functions     send, receive, ack, next tasks, complete, ...: take bytes, return an operation's id
//! outcomes    poll (C)        one thread of the JVM waits for outcomes and fetches many at once
//! ```
//!
//! A uniffi call costs about 200 times as much as a C function with JNA's direct mapping, but uniffi's encoding
//! of values is fast. So the C functions use that encoding, and the Kotlin side uses uniffi's generated
//! converters.

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
mod operations;
mod options;
mod outcome;
mod push;
mod registry;
mod stream;
mod transaction;

uniffi::setup_scaffolding!("rocketmq_thin");
