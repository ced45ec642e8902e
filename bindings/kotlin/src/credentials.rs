//! Credentials, and new ones in place of the old ones.

use std::time::SystemTime;

use rocketmq_thin_bridge as core;

use crate::completions::submit;
use crate::outcome::Outcome;
use crate::registry::CLIENTS;

#[derive(uniffi::Record)]
pub(crate) struct AccessKey {
    access_key: String,
    secret_key: String,
    session_token: Option<String>,
    expires_at: Option<SystemTime>,
}

impl From<AccessKey> for core::Credentials {
    fn from(given: AccessKey) -> Self {
        let mut credentials = Self::new(given.access_key, given.secret_key);
        credentials.session_token = given.session_token;
        credentials.expires_at = given.expires_at;
        credentials
    }
}

/// Waits until a client needs new credentials.
#[uniffi::export]
pub(crate) fn credentials_needed(client: i64) -> i64 {
    submit(|| Some(CLIENTS.get(client)?.credentials_needed()))
}

/// Gives a client new credentials.
#[uniffi::export]
pub(crate) fn update_credentials(client: i64, credentials: AccessKey) -> Outcome {
    let update = || Some(CLIENTS.get(client)?.update_credentials(&credentials.into()));
    Outcome::answer(update(), |()| Outcome::Done)
}

/// Tells a client why there are no new credentials.
#[uniffi::export]
pub(crate) fn credentials_failed(client: i64, reason: String) -> Outcome {
    let failed = || Some(CLIENTS.get(client)?.credentials_failed(reason));
    Outcome::answer(failed(), |()| Outcome::Done)
}
