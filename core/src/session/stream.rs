//! One telemetry stream, which exchanges settings, and then handles the server's commands.

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

use super::{CHECKER_GRACE, Inner, Verification, VerificationReply};
use crate::{
    error::{Error, ErrorKind},
    health::Component,
    message::{Group, Orphan},
    options::Endpoints,
    rpc::{Backoff, CallContext, Channel},
    wire::{process_metric, process_orphan, process_settings, process_verification},
};

/// How long a server may take to send its first settings, as a multiple of the request timeout.
const FIRST_SETTINGS_TIMEOUTS: u32 = 2;

/// After this many consecutive failures, about two minutes, the stream to an address from a route is given up. Streams to
/// the user's endpoints are never given up.
const MAX_FAILURES: u64 = 64;

/// How often the settings are sent again. Servers do not announce changed settings, but respond with them.
const RESEND_INTERVAL: Duration = Duration::from_secs(300);

/// The telemetry stream to one address, as the session sees it. [`StreamTask`] runs it.
#[derive(Debug)]
pub(super) struct Stream {
    channel: Arc<Channel>,
    state: watch::Receiver<StreamState>,
    resend: Arc<Notify>,
}

/// The state of a stream.
#[derive(Debug)]
pub(super) enum StreamState {
    /// The server has not sent settings on this stream. `error` is the reason why the previous stream ended.
    ///
    /// `lost_at` is when an earlier stream that had received settings ended; `None` if there was no such stream.
    Opening { failures: u64, error: Option<Error>, lost_at: Option<Instant> },
    /// The server has the settings of the client, and has sent its own. `received` counts how many times.
    Ready { received: u64 },
}

impl Stream {
    /// Creates a stream, and the task that keeps it open.
    pub(super) fn open(
        session: Arc<Inner>,
        channel: Arc<Channel>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, state) =
            watch::channel(StreamState::Opening { failures: 0, error: None, lost_at: None });
        let resend = Arc::new(Notify::new());
        let task = StreamTask {
            session,
            channel: channel.clone(),
            state: sender,
            resend: resend.clone(),
            received: 0,
        };
        (Self { channel, state, resend }, task.run())
    }

    pub(super) fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    pub(super) fn watch(&self) -> watch::Receiver<StreamState> {
        self.state.clone()
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(*self.state.borrow(), StreamState::Ready { .. })
    }

    /// Whether the server's settings are known, from this stream or from an earlier one.
    pub(super) fn has_settings(&self) -> bool {
        !matches!(*self.state.borrow(), StreamState::Opening { lost_at: None, .. })
    }

    /// Sends the settings again at once.
    pub(super) fn resend(&self) {
        self.resend.notify_one();
    }
}

/// The task that keeps a stream open.
struct StreamTask {
    session: Arc<Inner>,
    channel: Arc<Channel>,
    state: watch::Sender<StreamState>,
    resend: Arc<Notify>,
    received: u64,
}

/// How a stream ended.
enum StreamEnd {
    /// The server requested a new stream.
    Reopen,
    /// The stream failed.
    Failed(Error),
}

impl StreamTask {
    async fn run(mut self) {
        let mut backoff = Backoff::for_telemetry();
        let mut failures = 0;
        let mut failures_in_a_row = 0;
        let mut lost_at = None;
        while failures_in_a_row < MAX_FAILURES || self.session.context.is_configured(&self.channel) {
            let received = self.received;
            let next = self.serve().await;
            failures_in_a_row += 1;
            if self.received > received {
                backoff = Backoff::for_telemetry();
                failures_in_a_row = 0;
                lost_at = Some(Instant::now());
            }
            let error = match next {
                StreamEnd::Reopen => None,
                StreamEnd::Failed(error) => {
                    tracing::debug!(%error, "a telemetry stream ended");
                    self.session.health.report(Component::telemetry(self.channel.name()), &error);
                    Some(error)
                }
            };
            failures += 1;
            self.state.send_replace(StreamState::Opening { failures, error, lost_at });
            tokio::time::sleep(backoff.next()).await;
        }
        // The next call to this address opens a new stream.
        self.session.remove_stream(&self.channel);
    }

    /// Opens a stream and serves it until it ends.
    async fn serve(&mut self) -> StreamEnd {
        let (commands, outgoing) = mpsc::channel(8);
        let before = self.received;
        let first_settings_due = crate::options::deadline(
            Instant::now(),
            self.session.context.options.request_timeout.saturating_mul(FIRST_SETTINGS_TIMEOUTS),
        );
        // Some servers send no headers before their first command, so the settings are sent first.
        if commands.try_send(self.settings()).is_err() {
            return StreamEnd::Failed(self.stream_error("the stream ended"));
        }
        let opening =
            self.session.rpc.telemetry(&self.channel, ReceiverStream::new(outgoing), first_settings_due);
        let mut stream = match opening.await {
            Ok(stream) => stream,
            Err(error) => return StreamEnd::Failed(error),
        };
        let mut ticks = tokio::time::interval_at((Instant::now() + RESEND_INTERVAL).into(), RESEND_INTERVAL);
        loop {
            let resend = async {
                tokio::select! {
                    () = self.resend.notified() => {}
                    _ = ticks.tick() => {}
                }
            };
            let answer = tokio::select! {
                command = stream.next() => match command {
                    Ok(Some(command)) => match self.handle(stream.call(), command, &commands) {
                        Ok(answer) => answer,
                        Err(next) => return next,
                    },
                    Ok(None) => return StreamEnd::Failed(self.stream_error("the server ended the stream")),
                    Err(error) => return StreamEnd::Failed(error),
                },
                () = resend => Some(self.settings()),
                () = sleep_until(first_settings_due.into()), if self.received == before => {
                    return StreamEnd::Failed(stream.call().error(
                        ErrorKind::Timeout,
                        "the server sent no settings in time",
                    ));
                }
            };
            if let Some(answer) = answer
                && commands.send(answer).await.is_err()
            {
                return StreamEnd::Failed(self.stream_error("the stream broke"));
            }
        }
    }

    fn stream_error(&self, message: &str) -> Error {
        Error::new(ErrorKind::Unavailable, "telemetry", message)
            .with_retryable(true)
            .with_endpoint(self.channel.name().to_string())
    }

    /// Handles one command of the server. Returns the reply if there is one.
    fn handle(
        &mut self,
        call: &CallContext,
        command: v2::TelemetryCommand,
        commands: &mpsc::Sender<v2::TelemetryCommand>,
    ) -> Result<Option<v2::TelemetryCommand>, StreamEnd> {
        if let Some(status) = &command.status {
            call.check(Some(status)).map_err(StreamEnd::Failed)?;
        }
        match command.command {
            Some(Command::Settings(settings)) => {
                let mut received = process_settings(&settings);
                {
                    let mut current = self.session.settings.lock();
                    // Settings that say nothing about consumers do not set the defaults.
                    received.consumer = received.consumer.or_else(|| current.consumer.clone());
                    *current = received;
                }
                self.session.context.export_metrics(process_metric(&settings), &self.session.rpc);
                self.channel.record_success();
                self.session.health.clear(&Component::telemetry(self.channel.name()));
                self.received += 1;
                if matches!(*self.state.borrow(), StreamState::Opening { .. }) {
                    self.session.connected.send_modify(|count| *count += 1);
                }
                self.state.send_replace(StreamState::Ready { received: self.received });
                Ok(None)
            }
            Some(Command::ReconnectEndpointsCommand(_)) => Err(StreamEnd::Reopen),
            Some(Command::RecoverOrphanedTransactionCommand(command)) => {
                let endpoints = Endpoints::from_iter([self.channel.address().clone()]);
                match process_orphan(command, endpoints) {
                    Some(check) => {
                        let transaction_id = check.transaction_id.clone();
                        if !self.session.orphans.has_subscriber()
                            && self.session.began.elapsed() > CHECKER_GRACE
                        {
                            self.session.no_checker.call_once(|| warn_of_orphans(&check));
                        }
                        if !self.session.orphans.offer(check) {
                            tracing::debug!(
                                transaction_id,
                                "an orphan check was dropped: there is no checker, or too many checks wait"
                            );
                        }
                    }
                    None => tracing::debug!("an orphan check lacks its message or transaction"),
                }
                Ok(None)
            }
            Some(Command::NotifyUnsubscribeLiteCommand(command)) => {
                if !self.session.revocations.offer(command.lite_topic) {
                    tracing::debug!(
                        "a revocation of a lite topic was dropped: there is no subscriber, or too many wait"
                    );
                }
                Ok(None)
            }
            Some(Command::VerifyMessageCommand(command)) => Ok(self.verify(command, commands)),
            Some(Command::PrintThreadStackTraceCommand(command)) => {
                let trace = v2::ThreadStackTrace { nonce: command.nonce, thread_stack_trace: None };
                Ok(Some(unsupported(Command::ThreadStackTrace(trace))))
            }
            // Other commands need no reply.
            Some(_) | None => Ok(None),
        }
    }

    /// Passes a message to verify to the push consumer. Returns the reply if this client is none, or too many messages wait.
    fn verify(
        &self,
        command: v2::VerifyMessageCommand,
        commands: &mpsc::Sender<v2::TelemetryCommand>,
    ) -> Option<v2::TelemetryCommand> {
        let nonce = command.nonce.clone();
        let reply = VerificationReply::new(nonce.clone(), commands);
        let endpoints = Endpoints::from_iter([self.channel.address().clone()]);
        let namespace = self.session.context.options.namespace.clone();
        let name = self.session.group().map(|group| group.name).unwrap_or_default();
        let delivery = process_verification(command, Group { namespace, name }, &endpoints);
        let accepted = delivery
            .is_some_and(|delivery| self.session.verifications.offer(Verification { delivery, reply }));
        let result = v2::VerifyMessageResult { nonce };
        (!accepted).then(|| unsupported(Command::VerifyMessageResult(result)))
    }

    fn settings(&self) -> v2::TelemetryCommand {
        v2::TelemetryCommand { status: None, command: Some(Command::Settings(self.session.own_settings())) }
    }
}

/// Warns that nobody answers a server's question about a transaction. Otherwise its message would get lost unnoticed.
fn warn_of_orphans(check: &Orphan) {
    tracing::warn!(
        topic = check.message.topic,
        transaction_id = check.transaction_id,
        "a server asks about a transaction that was not decided, and this producer has no checker of orphans"
    );
}

/// The reply to a command that this client does not support, so that an administrator does not wait for a result.
fn unsupported(answer: Command) -> v2::TelemetryCommand {
    let message = "this client does not support the command".to_owned();
    let status = v2::Status { code: v2::Code::Unsupported.into(), message };
    v2::TelemetryCommand { status: Some(status), command: Some(answer) }
}
