//! Telemetry. A client sends its settings, and gets them back with the values that the server decides.
//!
//! Unlike other calls, it is refused by gRPC statuses.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proto::v2::retry_policy::Strategy;
use rocketmq_thin_proto::v2::settings::PubSub;
use rocketmq_thin_proto::v2::telemetry_command::Command;
use tokio::time::Instant;
use tonic::Code;

use super::message::BodyDigest;
use super::reader::Reader;
use super::shared::Shared;
use super::wire::{self, Body, Refusal};
use super::{convert, message, status};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::layer::AccessGrant;
use crate::processor::{
    ClientKind, ClientPolicy, ClientSettings, Limits, ProducerPolicy, Push, PushReceiver, PushStream,
    RegisterCommand, Role, Subscription,
};
use crate::service::RetryPolicy;

/// One telemetry stream.
struct Telemetry {
    shared: Arc<Shared>,
    context: Context,
    reader: Reader,
    stream: PushStream,
    pushed: PushReceiver,
    granted: AccessGrant,
    /// When the client must have sent its settings. `None` once it has.
    settings_due: Option<Instant>,
    state: StreamState,
}

enum StreamState {
    Open,
    /// Everything is sent except for the trailers.
    Ending(Code, String),
    Ended,
}

/// The answer stream. The connection polls it, so it needs no task of its own.
pub(super) fn serve(shared: Arc<Shared>, context: Context, reader: Reader) -> Response<Body> {
    let (stream, pushed) = PushStream::open();
    let settings_due = Some(Instant::now() + shared.limits.timeout);
    let telemetry = Telemetry {
        shared,
        context,
        reader,
        stream,
        pushed,
        granted: AccessGrant::default(),
        settings_due,
        state: StreamState::Open,
    };
    wire::streaming(futures::stream::unfold(telemetry, async |mut telemetry| {
        telemetry.next_frame().await.map(|frame| (frame, telemetry))
    }))
}

impl Telemetry {
    async fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        while matches!(self.state, StreamState::Open) {
            let draining = self.shared.processor.draining().clone();
            let read = tokio::select! {
                read = self.reader.next::<pb::TelemetryCommand>() => read,
                Some(push) = self.pushed.recv() => match telemetry_command(push) {
                    Some(command) => return Some(Frame::data(wire::encode(&command))),
                    None => continue,
                },
                () = draining.cancelled() => Ok(None),
                () = settings_missing(self.settings_due) => {
                    let message = "the settings of the client did not arrive in time".to_owned();
                    self.state = StreamState::Ending(Code::DeadlineExceeded, message);
                    continue;
                }
                revoked = self.granted.revoked() => {
                    // A client whose token has expired opens another stream with a new one, and keeps its leases.
                    if !revoked.is_expiry {
                        self.shared.processor.access_revoked(&self.context, &self.stream);
                    }
                    return Some(Frame::data(wire::encode(&self.end_with(&revoked.reason))));
                }
            };
            match read {
                Ok(Some(command)) => {
                    if let Some(answer) = self.answer(command).await {
                        return Some(Frame::data(wire::encode(&answer)));
                    }
                }
                Ok(None) => self.state = StreamState::Ending(Code::Ok, String::new()),
                Err(Refusal::Status(code, message)) => self.state = StreamState::Ending(code, message),
                // The client has reset the stream, so trailers can't be sent.
                Err(Refusal::Http(..) | Refusal::Reset(_)) => self.state = StreamState::Ended,
            }
        }
        match std::mem::replace(&mut self.state, StreamState::Ended) {
            StreamState::Ending(code, message) => Some(wire::trailers(code, &message)),
            StreamState::Open | StreamState::Ended => None,
        }
    }

    async fn answer(&mut self, command: pb::TelemetryCommand) -> Option<pb::TelemetryCommand> {
        // All other commands are replies for which this proxy does not wait.
        let Some(Command::Settings(settings)) = command.command else { return None };
        let command = RegisterCommand { settings: client_settings(&settings), stream: self.stream.clone() };
        match self.shared.processor.begin(&self.context, command).await {
            Ok((policy, granted)) => {
                self.granted = granted;
                self.settings_due = None;
                let settings = overwrite(settings, policy, self.shared.processor.limits());
                Some(pb::TelemetryCommand {
                    status: Some(status::ok()),
                    command: Some(Command::Settings(settings)),
                })
            }
            // Clients treat a stream that ends with a gRPC error as a mistake in their settings. So these errors are
            // sent as the status of a command.
            Err(error)
                if matches!(error.kind, ErrorKind::Busy | ErrorKind::ClientIdRequired)
                    || error.kind.is_access_refusal() =>
            {
                Some(self.end_with(&error))
            }
            Err(error) => {
                let client_error = (40_000..50_000).contains(&i32::from(status::code(error.kind)));
                let code = if client_error { Code::InvalidArgument } else { Code::Internal };
                let message = format!("process client telemetryCommand failed. {error}");
                self.state = StreamState::Ending(code, message);
                None
            }
        }
    }

    /// Ends the stream without a gRPC error, after a command with the status of this refusal, which is returned.
    fn end_with(&mut self, error: &Error) -> pb::TelemetryCommand {
        self.state = StreamState::Ending(Code::Ok, String::new());
        pb::TelemetryCommand { status: Some(status::of(error)), command: None }
    }
}

/// A stream without settings serves nobody, and strangers could open as many as there may be calls.
async fn settings_missing(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.shared.processor.stream_ended(&self.context, &self.stream);
    }
}

/// The command for a request of the server. `None` if the protocol has no such command.
fn telemetry_command(push: Push) -> Option<pb::TelemetryCommand> {
    let command = match push {
        Push::RecoverTransaction { delivery, transaction_id } => {
            let message = Some(message::delivered(*delivery, None, BodyDigest::Md5));
            Command::RecoverOrphanedTransactionCommand(pb::RecoverOrphanedTransactionCommand {
                message,
                transaction_id,
            })
        }
        Push::LiteUnsubscribed(lite_topic) => {
            Command::NotifyUnsubscribeLiteCommand(pb::NotifyUnsubscribeLiteCommand { lite_topic })
        }
        Push::Reply(_) => return None,
    };
    Some(pb::TelemetryCommand { status: None, command: Some(command) })
}

/// The settings that a client has sent.
fn client_settings(settings: &pb::Settings) -> ClientSettings {
    let timeout = settings.request_timeout.as_ref().map(|timeout| convert::millis(Some(timeout)));
    ClientSettings {
        kind: kind(settings.client_type.unwrap_or_default()),
        request_timeout: timeout.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis),
        role: match &settings.pub_sub {
            None => Role::None,
            Some(PubSub::Publishing(publishing)) => {
                Role::Publishing(publishing.topics.iter().map(|topic| topic.name.clone()).collect())
            }
            Some(PubSub::Subscription(subscription)) => {
                let entries = subscription.subscriptions.iter().cloned();
                let subscriptions = entries.map(|entry| Subscription {
                    topic: convert::name(entry.topic),
                    expression: convert::expression(entry.expression),
                });
                Role::Subscribing {
                    group: convert::name(subscription.group.clone()),
                    subscriptions: subscriptions.collect(),
                }
            }
        },
    }
}

fn kind(number: i32) -> ClientKind {
    match pb::ClientType::try_from(number) {
        Ok(pb::ClientType::Unspecified) => ClientKind::Unspecified,
        Ok(pb::ClientType::Producer) => ClientKind::Producer,
        Ok(pb::ClientType::PushConsumer) => ClientKind::PushConsumer,
        Ok(pb::ClientType::SimpleConsumer) => ClientKind::SimpleConsumer,
        Ok(pb::ClientType::PullConsumer) => ClientKind::PullConsumer,
        Ok(pb::ClientType::LitePushConsumer) => ClientKind::LitePushConsumer,
        Ok(pb::ClientType::LiteSimpleConsumer) => ClientKind::LiteSimpleConsumer,
        Err(_) => ClientKind::Unknown(number),
    }
}

/// The client's settings, overwritten with the values that the server decides.
fn overwrite(mut settings: pb::Settings, policy: ClientPolicy, limits: &Limits) -> pb::Settings {
    settings.metric = Some(pb::Metric::default());
    match (&mut settings.pub_sub, policy) {
        (Some(PubSub::Publishing(publishing)), ClientPolicy::Producer(policy)) => {
            publishing.max_body_size = i32::try_from(limits.body_bytes).unwrap_or(i32::MAX);
            publishing.validate_message_type = true;
            let ProducerPolicy { max_attempts, retry } = policy;
            settings.backoff_policy = Some(pb::RetryPolicy { max_attempts, strategy: Some(strategy(retry)) });
        }
        (Some(PubSub::Subscription(subscription)), ClientPolicy::Consumer(policy)) => {
            subscription.fifo = Some(policy.fifo);
            subscription.receive_batch_size = i32::try_from(policy.receive_batch).ok();
            subscription.long_polling_timeout = Some(convert::duration(policy.polling));
            subscription.lite_subscription_quota = Some(policy.lite_quota);
            subscription.max_lite_topic_size = i32::try_from(policy.lite_topic_bytes).ok();
            settings.backoff_policy = Some(pb::RetryPolicy {
                max_attempts: policy.max_attempts,
                strategy: Some(strategy(policy.retry)),
            });
        }
        // Unreachable: the processor chooses the policy by the kind of the settings.
        (Some(_) | None, _) => {}
    }
    settings
}

fn strategy(retry: RetryPolicy) -> Strategy {
    match retry {
        RetryPolicy::Customized(pauses) => Strategy::CustomizedBackoff(pb::CustomizedBackoff {
            next: pauses.into_iter().map(convert::duration).collect(),
        }),
        RetryPolicy::Exponential { initial, max, multiplier } => {
            Strategy::ExponentialBackoff(pb::ExponentialBackoff {
                initial: Some(convert::duration(initial)),
                max: Some(convert::duration(max)),
                multiplier,
            })
        }
    }
}
