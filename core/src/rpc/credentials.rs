//! The credentials of a client, and when they are replaced.
//!
//! ```text
//! wait_until_needed() -> the provider -> update() / provider_failed()
//!    ^ no credentials yet, they expire soon, or a server refused them
//! ```
//!
//! The provider is called for one replacement at a time, and at most every five seconds. Calls wait for a replacement
//! only if there are no usable credentials. The application may replace credentials at any time.

use std::{
    error::Error as StdError,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout_at};
use tokio_util::sync::CancellationToken;

use super::signer::Signer;
use crate::{
    error::{Error, ErrorKind},
    options::{ClientOptions, Credentials, CredentialsProvider},
};

/// The minimum time between two replacements, or attempts at one.
const MIN_REPLACEMENT_INTERVAL: Duration = Duration::from_secs(5);
/// Credentials are replaced at most this long before they expire.
const MAX_EARLY_REPLACEMENT: Duration = Duration::from_secs(300);

/// Identifies the credentials that signed a request. Grows with each replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u64);

/// The credentials that sign requests at the moment.
#[derive(Debug)]
pub(crate) struct CurrentCredentials {
    state: Mutex<State>,
    /// Notified after every change of the state.
    changed: watch::Sender<()>,
    closed: CancellationToken,
}

#[derive(Debug)]
struct State {
    signer: Option<Arc<Signer>>,
    version: Version,
    credentials: CredentialsState,
    has_provider: bool,
    /// When to replace usable credentials; `None` if they do not expire.
    replace_at: Option<Instant>,
    /// When the provider was last called because a server refused the credentials.
    last_refusal: Option<Instant>,
}

/// Whether calls can use the credentials.
#[derive(Clone, Debug)]
enum CredentialsState {
    /// Calls use the current credentials. Also without credentials, if there is no provider.
    Usable,
    /// Calls wait for a replacement.
    Awaited,
    /// Calls fail, because the provider failed. After [`MIN_REPLACEMENT_INTERVAL`], the next call makes it run again.
    Failed { error: Error, since: Instant },
}

impl CurrentCredentials {
    /// Starts with the credentials of `options`, if there are any.
    ///
    /// # Errors
    ///
    /// `InvalidOptions` if a value can't be sent as a header.
    pub(crate) fn new(options: &ClientOptions) -> Result<Arc<Self>, Error> {
        let given = options.credentials.as_ref();
        let credentials = match (given, &options.credentials_provider) {
            (None, Some(_)) => CredentialsState::Awaited,
            _ => CredentialsState::Usable,
        };
        let state = State {
            signer: given.map(Signer::new).transpose()?.map(Arc::new),
            version: Version(0),
            credentials,
            has_provider: options.credentials_provider.is_some(),
            replace_at: given.and_then(lifetime).map(|left| from_now(time_until_replacement(left))),
            last_refusal: None,
        };
        let closed = CancellationToken::new();
        Ok(Arc::new(Self { state: Mutex::new(state), changed: watch::Sender::new(()), closed }))
    }

    /// The current signer, and the version of its credentials; `None` without credentials.
    pub(super) fn current(&self) -> (Option<Arc<Signer>>, Version) {
        let state = self.state.lock();
        (state.signer.clone(), state.version)
    }

    /// Waits until there are credentials that no server has refused.
    ///
    /// # Errors
    ///
    /// `Unauthenticated` if the provider failed; `Timeout` at the deadline; `Closed` if the client is closed.
    pub(crate) async fn ready(&self, deadline: Instant) -> Result<(), Error> {
        if matches!(self.state.lock().credentials, CredentialsState::Usable) {
            return Ok(());
        }
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(result) = self.current_result() {
                return result;
            }
            let waiting = self.closed.run_until_cancelled(changed.changed());
            match timeout_at(deadline.into(), waiting).await {
                Ok(Some(_)) => {}
                Ok(None) => return Err(Error::closed("credentials")),
                Err(_) => {
                    let message = "the credentials provider did not answer in time";
                    return Err(Error::new(ErrorKind::Timeout, "credentials", message)
                        .with_retryable(true)
                        .unreached());
                }
            }
        }
    }

    /// Whether calls can proceed; `None` while they must wait.
    fn current_result(&self) -> Option<Result<(), Error>> {
        let mut state = self.state.lock();
        match &state.credentials {
            CredentialsState::Usable => Some(Ok(())),
            CredentialsState::Awaited => None,
            CredentialsState::Failed { error, since } if since.elapsed() < MIN_REPLACEMENT_INTERVAL => {
                Some(Err(error.clone()))
            }
            CredentialsState::Failed { .. } => {
                state.credentials = CredentialsState::Awaited;
                drop(state);
                self.changed.send_replace(());
                None
            }
        }
    }

    /// Records that a server refused the credentials of this version. Returns whether the request may succeed with newer
    /// credentials: there are some already, or the provider is called.
    pub(crate) fn record_refusal(&self, version: Version) -> bool {
        let mut state = self.state.lock();
        if version < state.version || matches!(state.credentials, CredentialsState::Awaited) {
            return true;
        }
        let recent = state.last_refusal.is_some_and(|refused| refused.elapsed() < MIN_REPLACEMENT_INTERVAL);
        if !state.has_provider || recent || self.closed.is_cancelled() {
            return false;
        }
        tracing::debug!("a server refused the credentials; asking for new ones");
        state.credentials = CredentialsState::Awaited;
        state.last_refusal = Some(Instant::now());
        drop(state);
        self.changed.send_replace(());
        true
    }

    /// Waits until the credentials must be replaced. Returns `false` once the client is closed.
    async fn wait_until_needed(&self) -> bool {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let wait = self.state.lock().until_needed();
            if wait.is_some_and(|wait| wait.is_zero()) && !self.closed.is_cancelled() {
                return true;
            }
            let sleep = tokio::time::sleep(wait.unwrap_or(crate::options::LONGEST_WAIT));
            tokio::select! {
                () = self.closed.cancelled() => return false,
                _ = changed.changed() => {}
                () = sleep => {}
            }
        }
    }

    /// Replaces the credentials.
    ///
    /// # Errors
    ///
    /// `InvalidOptions` if a value can't be sent as a header.
    pub(crate) fn update(&self, credentials: &Credentials) -> Result<(), Error> {
        let signer = Signer::new(credentials).map_err(|error| error.during("update_credentials"))?;
        let mut state = self.state.lock();
        state.signer = Some(Arc::new(signer));
        state.version.0 += 1;
        state.credentials = CredentialsState::Usable;
        // Credentials that have already expired when they are provided must not make the provider run all the time.
        state.replace_at = lifetime(credentials)
            .map(|left| from_now(time_until_replacement(left).max(MIN_REPLACEMENT_INTERVAL)));
        drop(state);
        tracing::debug!(access_key = credentials.access_key, "the credentials were replaced");
        self.changed.send_replace(());
        Ok(())
    }

    /// Records that the provider failed. Waiting calls fail.
    fn provider_failed(&self, cause: Box<dyn StdError + Send + Sync>) {
        tracing::warn!(%cause, "the credentials could not be renewed");
        let message = format!("no credentials: the credentials provider failed: {cause}");
        let error = Error::new(ErrorKind::Unauthenticated, "credentials", message).with_boxed_source(cause);
        let mut state = self.state.lock();
        if matches!(state.credentials, CredentialsState::Awaited) {
            state.credentials = CredentialsState::Failed { error, since: Instant::now() };
        }
        if state.replace_at.is_some() {
            state.replace_at = Some(from_now(MIN_REPLACEMENT_INTERVAL));
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Stops calling the provider. Waiting calls fail.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Calls the provider whenever credentials are needed. Drops it when the client is closed.
    pub(crate) fn keep_current(self: &Arc<Self>, provider: CredentialsProvider) {
        let this = self.clone();
        tokio::spawn(self.closed.clone().run_until_cancelled_owned(async move {
            while this.wait_until_needed().await {
                let updated = match provider.provide().await {
                    Ok(credentials) => this.update(&credentials).map_err(Into::into),
                    Err(error) => Err(error),
                };
                if let Err(error) = updated {
                    this.provider_failed(error);
                }
            }
        }));
    }
}

impl State {
    /// How long until the provider must be called; `None` if it need not be.
    fn until_needed(&self) -> Option<Duration> {
        let at = match self.credentials {
            CredentialsState::Awaited => Some(Instant::now()),
            CredentialsState::Usable | CredentialsState::Failed { .. } => self.replace_at,
        };
        at.map(|at| at.saturating_duration_since(Instant::now()))
    }
}

/// How long credentials remain valid; `None` if they never expire.
fn lifetime(credentials: &Credentials) -> Option<Duration> {
    Some(credentials.expires_at?.duration_since(SystemTime::now()).unwrap_or_default())
}

/// How long to wait before replacing credentials that remain valid for `left`: four fifths of it, or until five minutes
/// before the end if that is later.
fn time_until_replacement(left: Duration) -> Duration {
    left - (left / 5).min(MAX_EARLY_REPLACEMENT)
}

fn from_now(wait: Duration) -> Instant {
    crate::options::deadline(Instant::now(), wait)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn soon() -> Instant {
        from_now(Duration::from_secs(60))
    }

    fn provided() -> Arc<CurrentCredentials> {
        let options = ClientOptions::default().credentials_provider(async || Ok(Credentials::new("a", "s")));
        CurrentCredentials::new(&options).unwrap()
    }

    #[test]
    fn credentials_are_replaced_before_they_expire() {
        for (left, wait) in [(0, 0), (1000, 800), (36_000, 35_700)] {
            assert_eq!(time_until_replacement(Duration::from_secs(left)), Duration::from_secs(wait));
        }
        assert_eq!(lifetime(&Credentials::new("a", "s")), None);
        let expired = Credentials::new("a", "s").expires_at(SystemTime::UNIX_EPOCH);
        assert_eq!(lifetime(&expired), Some(Duration::ZERO));
    }

    #[tokio::test]
    async fn calls_wait_for_the_first_credentials() {
        let credentials = provided();
        let mut ready = Box::pin(credentials.ready(soon()));
        assert!(futures::poll!(&mut ready).is_pending());
        assert!(credentials.wait_until_needed().await);
        credentials.update(&Credentials::new("a", "s")).unwrap();
        ready.await.unwrap();
        assert!(credentials.wait_until_needed().now_or_never().is_none());
    }

    #[tokio::test]
    async fn waiting_calls_fail_with_the_error_of_the_provider() {
        let credentials = provided();
        assert!(credentials.wait_until_needed().await);
        credentials.provider_failed("the vault is sealed".into());
        for _ in 0..2 {
            let error = credentials.ready(soon()).await.unwrap_err();
            assert_eq!((error.kind(), error.retryable()), (ErrorKind::Unauthenticated, false));
            assert!(error.message().contains("the vault is sealed"), "{error}");
        }
        assert!(credentials.wait_until_needed().now_or_never().is_none(), "not again at once");
    }

    #[tokio::test]
    async fn the_first_refusal_calls_the_provider_and_the_next_one_is_final() {
        let credentials = provided();
        credentials.update(&Credentials::new("a", "s")).unwrap();
        let (_, old) = credentials.current();
        assert!(credentials.record_refusal(old) && credentials.record_refusal(old));
        assert!(credentials.wait_until_needed().await);
        credentials.update(&Credentials::new("b", "s")).unwrap();
        let (_, new) = credentials.current();
        assert!(credentials.record_refusal(old), "there are newer ones");
        assert!(!credentials.record_refusal(new), "the new ones are refused, too");
        credentials.ready(soon()).await.unwrap();
        assert!(credentials.wait_until_needed().now_or_never().is_none());
    }

    #[tokio::test]
    async fn credentials_without_a_provider_are_refused_for_good() {
        let options = ClientOptions::default().credentials(Credentials::new("a", "s"));
        let credentials = CurrentCredentials::new(&options).unwrap();
        assert!(!credentials.record_refusal(credentials.current().1));
        assert!(credentials.wait_until_needed().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_hangs_is_given_up() {
        let credentials = provided();
        credentials.keep_current(CredentialsProvider::new(std::future::pending));
        let error = credentials.ready(soon()).await.unwrap_err();
        assert!(error.message().contains("did not answer within 30 s"), "{error}");
    }

    #[tokio::test]
    async fn a_close_ends_every_wait() {
        let credentials = provided();
        credentials.close();
        assert_eq!(credentials.ready(soon()).await.unwrap_err().kind(), ErrorKind::Closed);
        assert!(!credentials.wait_until_needed().await);
    }

    #[test]
    fn credentials_that_cannot_be_sent_are_refused_and_the_old_ones_stay() {
        let credentials = provided();
        let error = credentials.update(&Credentials::new("\n", "s")).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidOptions, "update_credentials"));
        assert!(credentials.current().0.is_none());
    }
}
