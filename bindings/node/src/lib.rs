//! The native part of the npm package. It converts between JavaScript's values and the bridge's.
//!
//! A method of a [`handle`] submits an operation and returns its id, under which JavaScript keeps a promise.
//! [`Completions`](completions::Completions) wakes JavaScript, which then drains many outcomes at once.

// In a test build the macros generate no functions.
#![cfg(not(test))]
#![allow(unreachable_pub, reason = "the macros require it")]

mod completions;
mod consumer;
mod handle;
mod input;
mod lite;
mod outcome;
mod output;
mod pulled;
mod push;
mod transaction;
