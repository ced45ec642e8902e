//! The conformance suite: what users of rocketmq-thin rely on, written once as YAML and run in every language.
//!
//! [`case`] and [`script`] describe the contents of a YAML file. [`server`] is the scripted server, [`proxy`] starts a
//! merged proxy, and [`driver`] starts the program of a language. [`play`] runs one case in one language on one server,
//! and [`suite`] runs all cases. `README.md` explains the format.

pub mod case;
pub mod driver;
pub mod feature;
mod flood;
pub mod known;
pub mod pattern;
pub mod play;
pub mod proxy;
pub mod report;
pub mod scope;
pub mod script;
pub mod server;
pub mod suite;
mod web;
