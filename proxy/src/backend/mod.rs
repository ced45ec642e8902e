//! The two backends: a broker in this process ([`embedded`]), or Apache RocketMQ clusters ([`remote`]).
//!
//! A backend implements the traits of [`crate::service`] and imports nothing from the processor or a front end.

pub mod embedded;
mod queue_choice;
pub mod remote;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use embedded::EmbeddedConfig;
use remote::RemoteConfig;

/// The configuration of both backends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackendConfig {
    /// The broker inside this process.
    pub embedded: EmbeddedConfig,
    /// The default Apache RocketMQ cluster. It replaces the embedded broker if it names a name server.
    pub remote: RemoteConfig,
    /// Further clusters of Apache RocketMQ, by names that the operator chooses.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub clusters: BTreeMap<String, RemoteConfig>,
}
