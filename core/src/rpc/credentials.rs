//! The credentials of a client, and when they are replaced.
//!
//! ```text
//! needed() -> the provider -> update() / fail()
//!    ^ no credentials yet, they expire soon, or a server refused them
//! ```
//!
//! The provider is asked for one replacement at a time, and at most every few seconds. Calls wait for a replacement
//! only if they can't do without it. The application may replace credentials at any time.

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

/// How long after one replacement, or an attempt at one, the next is asked for.
const PAUSE: Duration = Duration::from_secs(5);
/// How long before they expire credentials are replaced at the earliest.
const LONGEST_LEAD: Duration = Duration::from_secs(300);

/// Counts the replacements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u64);

/// The credentials that sign requests at the moment.
#[derive(Debug)]
pub(crate) struct CurrentCredentials {
    state: Mutex<State>,
    /// Told after every change of the state.
    changed: watch::Sender<()>,
    closed: CancellationToken,
}

#[derive(Debug)]
struct State {
    signer: Option<Arc<Signer>>,
    version: Version,
    standing: Standing,
    /// Whether there is a provider.
    replaceable: bool,
    /// When a replacement is due although calls can go on.
    due: Option<Instant>,
    /// When a refusal by a server was the reason to ask, the last time.
    refused: Option<Instant>,
}

/// What calls do.
#[derive(Clone, Debug)]
enum Standing {
    /// They use the credentials there are.
    Good,
    /// They wait for a replacement.
    Awaited,
    /// They fail, because there was none. After a pause, the next call asks again.
    Failed { error: Error, since: Instant },
}

impl CurrentCredentials {
    /// The given credentials, or none until the provider is asked.
    ///
    /// # Errors
    ///
    /// `InvalidOptions` if they can't be sent to a server.
    pub(crate) fn new(options: &ClientOptions) -> Result<Arc<Self>, Error> {
        let given = options.credentials.as_ref();
        let standing = match (given, &options.credentials_provider) {
            (None, Some(_)) => Standing::Awaited,
            _ => Standing::Good,
        };
        let state = State {
            signer: given.map(Signer::new).transpose()?.map(Arc::new),
            version: Version(0),
            standing,
            replaceable: options.credentials_provider.is_some(),
            due: given.and_then(lifetime).map(|left| later(lead(left))),
            refused: None,
        };
        let closed = CancellationToken::new();
        Ok(Arc::new(Self { state: Mutex::new(state), changed: watch::Sender::new(()), closed }))
    }

    /// What signs requests now; `None` without credentials.
    pub(super) fn current(&self) -> (Option<Arc<Signer>>, Version) {
        let state = self.state.lock();
        (state.signer.clone(), state.version)
    }

    /// Waits until there are credentials that no server has refused.
    ///
    /// # Errors
    ///
    /// `Unauthenticated` if they could not be had; `Timeout` at the deadline.
    pub(crate) async fn ready(&self, deadline: Instant) -> Result<(), Error> {
        if matches!(self.state.lock().standing, Standing::Good) {
            return Ok(());
        }
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(result) = self.outcome() {
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

    /// `None` while calls have to wait.
    fn outcome(&self) -> Option<Result<(), Error>> {
        let mut state = self.state.lock();
        match &state.standing {
            Standing::Good => Some(Ok(())),
            Standing::Awaited => None,
            Standing::Failed { error, since } if since.elapsed() < PAUSE => Some(Err(error.clone())),
            Standing::Failed { .. } => {
                state.standing = Standing::Awaited;
                drop(state);
                self.changed.send_replace(());
                None
            }
        }
    }

    /// Notes that a server refused the credentials of this version. Returns whether the request may succeed with
    /// others: there are newer ones already, or they have been asked for.
    pub(crate) fn refused(&self, version: Version) -> bool {
        let mut state = self.state.lock();
        if version < state.version || matches!(state.standing, Standing::Awaited) {
            return true;
        }
        let recent = state.refused.is_some_and(|refused| refused.elapsed() < PAUSE);
        if !state.replaceable || recent || self.closed.is_cancelled() {
            return false;
        }
        tracing::debug!("a server refused the credentials; asking for new ones");
        state.standing = Standing::Awaited;
        state.refused = Some(Instant::now());
        drop(state);
        self.changed.send_replace(());
        true
    }

    /// Waits until the credentials have to be replaced. Returns `false` once the client is closed.
    async fn needed(&self) -> bool {
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
    /// `InvalidOptions` if they can't be sent to a server.
    pub(crate) fn update(&self, credentials: &Credentials) -> Result<(), Error> {
        let signer = Signer::new(credentials).map_err(|error| error.during("update_credentials"))?;
        let mut state = self.state.lock();
        state.signer = Some(Arc::new(signer));
        state.version.0 += 1;
        state.standing = Standing::Good;
        // Credentials that are given out when they have already expired are no reason to ask all the time.
        state.due = lifetime(credentials).map(|left| later(lead(left).max(PAUSE)));
        drop(state);
        tracing::debug!(access_key = credentials.access_key, "the credentials were replaced");
        self.changed.send_replace(());
        Ok(())
    }

    /// Notes that no credentials can be had at the moment. Calls that wait for them fail.
    fn fail(&self, cause: Box<dyn StdError + Send + Sync>) {
        tracing::warn!(%cause, "the credentials could not be renewed");
        let message = format!("no credentials: the credentials provider failed: {cause}");
        let error = Error::new(ErrorKind::Unauthenticated, "credentials", message).with_boxed_source(cause);
        let mut state = self.state.lock();
        if matches!(state.standing, Standing::Awaited) {
            state.standing = Standing::Failed { error, since: Instant::now() };
        }
        if state.due.is_some() {
            state.due = Some(later(PAUSE));
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Asks nobody for credentials any more. Calls that wait for them fail.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Asks the provider whenever credentials are needed. Drops it when the client is closed.
    pub(crate) fn keep_current(self: &Arc<Self>, provider: CredentialsProvider) {
        let this = self.clone();
        tokio::spawn(self.closed.clone().run_until_cancelled_owned(async move {
            while this.needed().await {
                let updated = match provider.provide().await {
                    Ok(credentials) => this.update(&credentials).map_err(Into::into),
                    Err(error) => Err(error),
                };
                if let Err(error) = updated {
                    this.fail(error);
                }
            }
        }));
    }
}

impl State {
    /// How long until the provider has to be asked; `None` without a reason to.
    fn until_needed(&self) -> Option<Duration> {
        let at = match self.standing {
            Standing::Awaited => Some(Instant::now()),
            Standing::Good | Standing::Failed { .. } => self.due,
        };
        at.map(|at| at.saturating_duration_since(Instant::now()))
    }
}

/// How long credentials are still good; `None` if they never expire.
fn lifetime(credentials: &Credentials) -> Option<Duration> {
    Some(credentials.expires_at?.duration_since(SystemTime::now()).unwrap_or_default())
}

/// How long until credentials are replaced that are good for `left`: four fifths of that, or until five minutes
/// before its end if that is later.
fn lead(left: Duration) -> Duration {
    left - (left / 5).min(LONGEST_LEAD)
}

fn later(wait: Duration) -> Instant {
    crate::options::deadline(Instant::now(), wait)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn soon() -> Instant {
        later(Duration::from_secs(60))
    }

    fn provided() -> Arc<CurrentCredentials> {
        let options = ClientOptions::default().credentials_provider(async || Ok(Credentials::new("a", "s")));
        CurrentCredentials::new(&options).unwrap()
    }

    #[test]
    fn credentials_are_replaced_before_they_expire() {
        for (left, wait) in [(0, 0), (1000, 800), (36_000, 35_700)] {
            assert_eq!(lead(Duration::from_secs(left)), Duration::from_secs(wait));
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
        assert!(credentials.needed().await);
        credentials.update(&Credentials::new("a", "s")).unwrap();
        ready.await.unwrap();
        assert!(credentials.needed().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_failed_provider_is_the_reason_of_the_calls_that_wait() {
        let credentials = provided();
        assert!(credentials.needed().await);
        credentials.fail("the vault is sealed".into());
        for _ in 0..2 {
            let error = credentials.ready(soon()).await.unwrap_err();
            assert_eq!((error.kind(), error.retryable()), (ErrorKind::Unauthenticated, false));
            assert!(error.message().contains("the vault is sealed"), "{error}");
        }
        assert!(credentials.needed().now_or_never().is_none(), "not again at once");
    }

    #[tokio::test]
    async fn one_refusal_asks_once_and_the_next_is_final() {
        let credentials = provided();
        credentials.update(&Credentials::new("a", "s")).unwrap();
        let (_, old) = credentials.current();
        assert!(credentials.refused(old) && credentials.refused(old));
        assert!(credentials.needed().await);
        credentials.update(&Credentials::new("b", "s")).unwrap();
        let (_, new) = credentials.current();
        assert!(credentials.refused(old), "there are newer ones");
        assert!(!credentials.refused(new), "the new ones are refused, too");
        credentials.ready(soon()).await.unwrap();
        assert!(credentials.needed().now_or_never().is_none());
    }

    #[tokio::test]
    async fn credentials_without_a_provider_are_refused_for_good() {
        let options = ClientOptions::default().credentials(Credentials::new("a", "s"));
        let credentials = CurrentCredentials::new(&options).unwrap();
        assert!(!credentials.refused(credentials.current().1));
        assert!(credentials.needed().now_or_never().is_none());
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
        assert!(!credentials.needed().await);
    }

    #[test]
    fn credentials_that_cannot_be_sent_are_refused_and_the_old_ones_stay() {
        let credentials = provided();
        let error = credentials.update(&Credentials::new("\n", "s")).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidOptions, "update_credentials"));
        assert!(credentials.current().0.is_none());
    }
}
