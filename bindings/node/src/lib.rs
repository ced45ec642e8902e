//! The native part of the npm package. It converts between JavaScript's values and the bridge's.
//!
//! Most methods of the classes submit an operation and return its id, under which JavaScript keeps a promise.
//! [`Completions`](completions::Completions) wakes JavaScript, which then drains many outcomes at once.
//! Methods that do not wait return an array: whether they failed, and their value or failure.

// In a test build the macros generate no functions.
#![cfg(not(test))]
#![allow(unreachable_pub, reason = "the macros require it")]

mod client;
mod completions;
mod consumer;
mod credentials;
mod input;
mod lite;
mod logs;
mod outcome;
mod output;
mod producer;
mod push;
mod subscriptions;
mod transaction;
