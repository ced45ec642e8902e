//! One telemetry stream: settings first, then whatever the server asks.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rocketmq_thin_proto::v2::{self, telemetry_command::Command};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::sleep_until,
};
use tokio_stream::wrappers::ReceiverStream;

use super::Inner;
use crate::{
    error::{Error, ErrorKind},
    rpc::{Backoff, Link, Origin},
    wire::process_settings,
};

/// How many request timeouts a server may take for its first settings.
const FIRST_SETTINGS: u32 = 2;

/// Failures in a row after which an address that only a route named is given up; about two minutes.
const PATIENCE: u64 = 64;

/// Servers don't announce changed settings; they answer with them when asked.
const RESEND: Duration = Duration::from_secs(300);

/// The state of the stream to one address, which its task keeps.
#[derive(Debug)]
pub(super) struct Stream {
    link: Arc<Link>,
    state: watch::Receiver<StreamState>,
    resend: Arc<Notify>,
}

/// How a stream is doing.
#[derive(Debug)]
pub(super) enum StreamState {
    /// No settings on this stream yet; `error` is why the one before ended.
    ///
    /// `settings_since` is set if an earlier stream brought settings, and tells when that stream ended.
    Opening { failures: u64, error: Option<Error>, settings_since: Option<Instant> },
    /// The server has our settings and sent its own for the `turn`th time.
    Ready { turn: u64 },
}

impl Stream {
    /// A stream, and the work that keeps it open.
    pub(super) fn open(session: Arc<Inner>, link: Arc<Link>) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, state) =
            watch::channel(StreamState::Opening { failures: 0, error: None, settings_since: None });
        let resend = Arc::new(Notify::new());
        let keeper = Keeper { session, link: link.clone(), state: sender, resend: resend.clone(), turn: 0 };
        (Self { link, state, resend }, keeper.keep())
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(super) fn watch(&self) -> watch::Receiver<StreamState> {
        self.state.clone()
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(*self.state.borrow(), StreamState::Ready { .. })
    }

    /// Whether the server's settings are known, from this stream or from an earlier one.
    pub(super) fn has_settings(&self) -> bool {
        !matches!(*self.state.borrow(), StreamState::Opening { settings_since: None, .. })
    }

    /// Sends our settings once more, at once.
    pub(super) fn resend(&self) {
        self.resend.notify_one();
    }
}

/// The task's side of a stream.
struct Keeper {
    session: Arc<Inner>,
    link: Arc<Link>,
    state: watch::Sender<StreamState>,
    resend: Arc<Notify>,
    turn: u64,
}

/// What keeps a stream's task going.
enum Next {
    /// The server asked for a new stream.
    Reopen,
    /// The stream ended.
    Failed(Error),
}

impl Keeper {
    async fn keep(mut self) {
        let mut backoff = Backoff::for_telemetry();
        let mut failures = 0;
        let mut in_a_row = 0;
        let mut settings_since = None;
        while in_a_row < PATIENCE || self.session.servers.is_access(&self.link) {
            let turn = self.turn;
            let next = self.attend().await;
            in_a_row += 1;
            if self.turn > turn {
                backoff = Backoff::for_telemetry();
                in_a_row = 0;
                settings_since = Some(Instant::now());
            }
            let error = match next {
                Next::Reopen => None,
                Next::Failed(error) => {
                    tracing::debug!(%error, "a telemetry stream ended");
                    Some(error)
                }
            };
            failures += 1;
            self.state.send_replace(StreamState::Opening { failures, error, settings_since });
            tokio::time::sleep(backoff.next()).await;
        }
        // Whoever needs the address again opens a new stream.
        self.session.forget(&self.link);
    }

    /// Opens a stream and serves it until it ends.
    async fn attend(&mut self) -> Next {
        let (commands, outgoing) = mpsc::channel(8);
        let before = self.turn;
        let patience = crate::options::deadline(
            Instant::now(),
            self.session.servers.options.request_timeout.saturating_mul(FIRST_SETTINGS),
        );
        // Some servers send no headers before their first answer, hence the settings go first.
        if commands.try_send(self.settings()).is_err() {
            return Next::Failed(self.ended("the stream ended"));
        }
        let opening = self.session.rpc.telemetry(&self.link, ReceiverStream::new(outgoing), patience);
        let mut stream = match opening.await {
            Ok(stream) => stream,
            Err(error) => return Next::Failed(error),
        };
        let mut ticks = tokio::time::interval_at((Instant::now() + RESEND).into(), RESEND);
        loop {
            let resend = async {
                tokio::select! {
                    () = self.resend.notified() => {}
                    _ = ticks.tick() => {}
                }
            };
            let answer = tokio::select! {
                command = stream.next() => match command {
                    Ok(Some(command)) => match self.take(stream.origin(), command) {
                        Ok(answer) => answer,
                        Err(next) => return next,
                    },
                    Ok(None) => return Next::Failed(self.ended("the server ended the stream")),
                    Err(error) => return Next::Failed(error),
                },
                () = resend => Some(self.settings()),
                () = sleep_until(patience.into()), if self.turn == before => {
                    return Next::Failed(stream.origin().error(
                        ErrorKind::Timeout,
                        "the server sent no settings in time",
                    ));
                }
            };
            if let Some(answer) = answer
                && commands.send(answer).await.is_err()
            {
                return Next::Failed(self.ended("the stream broke"));
            }
        }
    }

    fn ended(&self, message: &str) -> Error {
        Error::new(ErrorKind::Unavailable, "telemetry", message)
            .with_retryable(true)
            .with_endpoint(self.link.name().to_string())
    }

    /// Obeys one command of the server, and answers where an answer is due.
    fn take(
        &mut self,
        origin: &Origin,
        command: v2::TelemetryCommand,
    ) -> Result<Option<v2::TelemetryCommand>, Next> {
        if let Some(status) = &command.status {
            origin.check(Some(status)).map_err(Next::Failed)?;
        }
        match command.command {
            Some(Command::Settings(settings)) => {
                *self.session.settings.lock() = process_settings(&settings);
                self.link.reached();
                self.turn += 1;
                self.state.send_replace(StreamState::Ready { turn: self.turn });
                Ok(None)
            }
            Some(Command::ReconnectEndpointsCommand(_)) => Err(Next::Reopen),
            Some(command) => Ok(answer(command)),
            None => Ok(None),
        }
    }

    fn settings(&self) -> v2::TelemetryCommand {
        v2::TelemetryCommand { status: None, command: Some(Command::Settings(self.session.own_settings())) }
    }
}

/// What a client says that doesn't do what is asked: an administrator sees that at once instead of waiting.
fn answer(command: Command) -> Option<v2::TelemetryCommand> {
    let command = match command {
        Command::PrintThreadStackTraceCommand(asked) => {
            Command::ThreadStackTrace(v2::ThreadStackTrace { nonce: asked.nonce, thread_stack_trace: None })
        }
        Command::VerifyMessageCommand(asked) => {
            Command::VerifyMessageResult(v2::VerifyMessageResult { nonce: asked.nonce })
        }
        // A check of a transaction is repeated by the server; the rest needs no answer.
        _ => return None,
    };
    let message = "this client doesn't do that".to_owned();
    let status = v2::Status { code: v2::Code::Unsupported.into(), message };
    Some(v2::TelemetryCommand { status: Some(status), command: Some(command) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_done_is_answered_with_its_nonce() {
        let asked = v2::PrintThreadStackTraceCommand { nonce: "7".into() };
        let told = answer(Command::PrintThreadStackTraceCommand(asked)).unwrap();
        assert_eq!(told.status.unwrap().code(), v2::Code::Unsupported);
        let Some(Command::ThreadStackTrace(trace)) = told.command else { panic!("another answer") };
        assert_eq!(trace.nonce, "7");
        let asked = v2::VerifyMessageCommand { nonce: "8".into(), message: None };
        assert!(answer(Command::VerifyMessageCommand(asked)).is_some());
    }

    #[test]
    fn what_needs_no_answer_gets_none() {
        for command in [
            Command::RecoverOrphanedTransactionCommand(Default::default()),
            Command::NotifyUnsubscribeLiteCommand(Default::default()),
            Command::ThreadStackTrace(Default::default()),
        ] {
            assert!(answer(command).is_none());
        }
    }
}
