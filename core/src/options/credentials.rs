//! The credentials of a client, and the functions that provide them.

use std::{
    error::Error as StdError,
    fmt,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{FutureExt, future::BoxFuture};

/// How long one call of a provider may take.
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(30);

type Provided = Result<Credentials, Box<dyn StdError + Send + Sync>>;

/// An access key and its secret, as issued by the server's administrator.
///
/// The access key and the session token are sent as headers: each may have at most 8192 bytes of printable ASCII.
///
/// The `Debug` output contains the access key, but no secrets.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// The name of the user at the server.
    pub access_key: String,
    /// The key that signs each request. It is never sent.
    pub secret_key: String,
    /// The token of temporary credentials. `None` for permanent ones.
    pub session_token: Option<String>,
    /// When the credentials expire. If there is a provider, the client asks it for new ones before. `None` means never.
    pub expires_at: Option<SystemTime>,
}

impl Credentials {
    /// Creates permanent credentials.
    #[must_use]
    pub fn new(access_key: impl Into<String>, secret_key: impl Into<String>) -> Self {
        Self {
            access_key: access_key.into(),
            secret_key: secret_key.into(),
            session_token: None,
            expires_at: None,
        }
    }

    /// Sets [`session_token`](Self::session_token).
    #[must_use]
    pub fn session_token(mut self, token: impl Into<String>) -> Self {
        self.session_token = Some(token.into());
        self
    }

    /// Sets [`expires_at`](Self::expires_at).
    #[must_use]
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.expires_at = Some(time);
        self
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// An async function that provides credentials. Cheap to clone.
///
/// The client calls it when it has no credentials yet, before they expire, and after a server has refused them. Only one
/// call runs at a time. A call that takes longer than 30 s is cancelled and counts as failed.
#[derive(Clone)]
pub struct CredentialsProvider(Arc<dyn Fn() -> BoxFuture<'static, Provided> + Send + Sync>);

impl CredentialsProvider {
    /// Creates a provider that calls `provide`.
    #[must_use]
    pub fn new<F, R>(provide: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<Credentials, Box<dyn StdError + Send + Sync>>> + Send + 'static,
    {
        Self(Arc::new(move || provide().boxed()))
    }

    /// Calls the provider. Returns an error if it fails, panics or times out.
    pub(crate) async fn provide(&self) -> Provided {
        let call = AssertUnwindSafe(async { (self.0)().await }).catch_unwind();
        match tokio::time::timeout(PROVIDER_TIMEOUT, call).await {
            Ok(Ok(provided)) => provided,
            Ok(Err(_)) => Err("it panicked".into()),
            Err(_) => Err("it did not answer within 30 s".into()),
        }
    }
}

impl fmt::Debug for CredentialsProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsProvider").finish_non_exhaustive()
    }
}
