//! The native half of the npm package: converts between JavaScript's values and the bridge's, and decides
//! nothing.
//!
//! A method of a [`handle`] submits an operation and returns its id; JavaScript keeps a promise under that
//! id. [`Completions`](completions::Completions) wakes JavaScript, which then drains many outcomes at once.

// The macros leave their functions out of a test build, where nobody could call them.
#![cfg(not(test))]
#![allow(unreachable_pub, reason = "the macros take only what is `pub`; it is for JavaScript")]

mod completions;
mod handle;
mod input;
mod outcome;
mod output;
