//! Health of a client, as uniffi records.

use rocketmq_thin_bridge as core;

use crate::completions::submit;
use crate::error::Failure;
use crate::outcome::Outcome;
use crate::registry::{CLIENTS, Registry};

static STATUS_CHANGES: Registry<core::StatusChanges> = Registry::new();

/// The health of a client.
#[derive(uniffi::Record)]
pub(crate) struct HealthReport {
    status: String,
    error: Option<Failure>,
    connections: i32,
    endpoints: Vec<EndpointReport>,
}

/// The health of one address.
#[derive(uniffi::Record)]
pub(crate) struct EndpointReport {
    endpoint: String,
    status: String,
    error: Option<Failure>,
    connections: i32,
}

impl From<core::Health> for HealthReport {
    fn from(health: core::Health) -> Self {
        Self {
            status: health.status.name().to_owned(),
            error: health.error.map(Into::into),
            connections: saturating_i32(health.connections),
            endpoints: health.endpoints.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<core::EndpointHealth> for EndpointReport {
    fn from(health: core::EndpointHealth) -> Self {
        Self {
            endpoint: health.endpoint,
            status: health.status.name().to_owned(),
            error: health.error.map(Into::into),
            connections: saturating_i32(health.connections),
        }
    }
}

fn saturating_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Returns the current health of a client.
#[uniffi::export]
pub(crate) fn client_health(client: i64) -> Outcome {
    let health = || Some(CLIENTS.get(client)?.health());
    Outcome::from_result(health(), |health| Outcome::Health { health: health.into() })
}

/// Subscribes to a client's status changes.
#[uniffi::export]
pub(crate) fn client_status_changes(client: i64) -> Outcome {
    let changes = || Some(CLIENTS.get(client)?.status_changes());
    Outcome::from_result(changes(), |changes| {
        Outcome::registered(STATUS_CHANGES.insert(changes), |key| STATUS_CHANGES.remove(key))
    })
}

/// Waits for the next change of a client's status.
#[uniffi::export]
pub(crate) fn next_status_change(changes: i64) -> i64 {
    submit(|| Some(STATUS_CHANGES.get(changes)?.next()))
}
