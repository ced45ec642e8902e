//! The native half of the Kotlin artifact. It converts, and decides nothing.
//!
//! ```text
//! control     uniffi          connect, producer, simple consumer, close: options in, an operation's id out
//! hot path    C functions     send, receive, settle, cancel: bytes in, an operation's id out
//! outcomes    poll (C)        one thread of the JVM waits here and takes many outcomes at once
//! ```
//!
//! A uniffi call costs about 200 times as much as a C function under JNA's direct mapping; its *encoding* of
//! values does not. So the C functions carry values as uniffi encodes them, and the Kotlin side reads and
//! writes them with the converters that uniffi generates: no format of our own.

mod completions;
mod control;
mod encoding;
mod error;
mod message;
mod operations;
mod options;
mod outcome;
mod registry;

uniffi::setup_scaffolding!("rocketmq_thin");
