//! Credentials, and the credential requests of a client whose application provides them.

use std::sync::Arc;
use std::time::SystemTime;

use rocketmq_thin_bridge as core;

use crate::completions::submit;
use crate::options::ConnectOptions;
use crate::outcome::Outcome;
use crate::registry::Registry;

static REQUESTS: Registry<Arc<core::CredentialRequests>> = Registry::new();

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

/// Creates the credential requests of a client that is not connected yet.
#[uniffi::export]
pub(crate) fn create_credential_requests() -> Outcome {
    Outcome::from_result(Some(core::CredentialRequests::new()), |requests| {
        Outcome::registered(REQUESTS.insert(Arc::new(requests)), |key| REQUESTS.remove(key))
    })
}

/// Connects a client that sends its credential requests to `requests`.
#[uniffi::export]
pub(crate) fn connect_with_provider(options: ConnectOptions, requests: i64) -> i64 {
    submit(|| core::connect(REQUESTS.get(requests)?.provide_for(options.into()).ok()?).ok())
}

/// Waits until the client needs credentials.
#[uniffi::export]
pub(crate) fn next_credential_request(requests: i64) -> i64 {
    submit(|| Some(REQUESTS.get(requests)?.next()))
}

/// Answers a request with credentials.
#[uniffi::export]
pub(crate) fn provide_credentials(requests: i64, credentials: AccessKey) -> Outcome {
    let answer = || Some(REQUESTS.get(requests)?.answer(Ok(credentials.into())));
    Outcome::from_result(answer(), |()| Outcome::Done)
}

/// Answers a request with an error message instead of credentials.
#[uniffi::export]
pub(crate) fn refuse_credentials(requests: i64, message: String) -> Outcome {
    let answer = || Some(REQUESTS.get(requests)?.answer(Err(message)));
    Outcome::from_result(answer(), |()| Outcome::Done)
}
