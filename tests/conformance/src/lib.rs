//! What users of rocketmq-thin rely on, written once as data and run in every language.
//!
//! [`case`] and [`script`] are what a YAML file holds, [`server`] the scripted server, [`proxy`] the merged
//! proxy as a process, [`driver`] the program of one language, [`play`] one case of one language on one server,
//! [`suite`] all of them. `README.md` explains the format.

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
