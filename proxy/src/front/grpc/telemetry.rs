//! Telemetry: a client's settings, answered with the server's values written over the client's.
//!
//! The only call whose refusals are gRPC statuses.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proto::v2::retry_policy::Strategy;
use rocketmq_thin_proto::v2::settings::PubSub;
use rocketmq_thin_proto::v2::telemetry_command::Command;
use tokio::sync::mpsc;
use tonic::Code;

use super::wire::{self, Body, Reader, Refusal};
use super::{Shared, convert, message, status};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::layer::Operation;
use crate::processor::{ClientKind, ClientSettings, ConsumerPolicy, Limits, Push, PushStream, Role};
use crate::service::RetryPolicy;

/// What producers are told about sending again.
const PRODUCER_ATTEMPTS: i32 = 3;
const PRODUCER_BACKOFF_INITIAL: Duration = Duration::from_millis(10);
const PRODUCER_BACKOFF_MAX: Duration = Duration::from_secs(1);
const PRODUCER_BACKOFF_MULTIPLIER: f32 = 2.0;

struct Session {
    shared: Arc<Shared>,
    context: Result<Context, Error>,
    reader: Reader,
    stream: PushStream,
    pushed: mpsc::Receiver<Push>,
    state: State,
}

enum State {
    Open,
    /// Only the trailers are left.
    Ending(Code, String),
    Ended,
}

/// The answer stream: driven by the connection, without a task of its own.
pub(super) fn serve(shared: Arc<Shared>, context: Result<Context, Error>, reader: Reader) -> Response<Body> {
    let (stream, pushed) = PushStream::open();
    let session = Session { shared, context, reader, stream, pushed, state: State::Open };
    wire::streaming(futures::stream::unfold(session, async |mut session| {
        session.next_frame().await.map(|frame| (frame, session))
    }))
}

impl Session {
    async fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        while matches!(self.state, State::Open) {
            let draining = self.shared.processor.draining().clone();
            let read = tokio::select! {
                read = self.reader.next::<pb::TelemetryCommand>() => read,
                Some(push) = self.pushed.recv() => return Some(Frame::data(wire::encode(&telemetry_command(push)))),
                () = draining.cancelled() => Ok(None),
            };
            match read {
                Ok(Some(command)) => {
                    if let Some(answer) = self.answer(command).await {
                        return Some(Frame::data(wire::encode(&answer)));
                    }
                }
                Ok(None) => self.state = State::Ending(Code::Ok, String::new()),
                Err(Refusal::Status(code, message)) => self.state = State::Ending(code, message),
                // The client is gone; nobody reads an end.
                Err(Refusal::Http(..) | Refusal::Reset(_)) => self.state = State::Ended,
            }
        }
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Ending(code, message) => Some(wire::trailers(code, &message)),
            State::Open | State::Ended => None,
        }
    }

    async fn answer(&mut self, command: pb::TelemetryCommand) -> Option<pb::TelemetryCommand> {
        let context = match &self.context {
            Ok(context) => context,
            Err(error) => {
                self.state = State::Ending(Code::Ok, String::new());
                return Some(pb::TelemetryCommand { status: Some(status::of(error)), command: None });
            }
        };
        // Everything else is a reply to commands that this proxy does not send.
        let Some(Command::Settings(settings)) = command.command else { return None };
        let work = pin!(self.shared.processor.register(context, domain(&settings), &self.stream));
        match self.shared.layers.run(context, Operation::Register, work).await {
            Ok(policy) => Some(pb::TelemetryCommand {
                status: Some(status::ok()),
                command: Some(Command::Settings(overwrite(settings, policy, self.shared.processor.limits()))),
            }),
            // Clients take a refused stream for a mistake of theirs; this one should come again.
            Err(error) if error.kind == ErrorKind::Busy => {
                self.state = State::Ending(Code::Ok, String::new());
                Some(pb::TelemetryCommand { status: Some(status::of(&error)), command: None })
            }
            Err(error) => {
                let client_error = (40_000..50_000).contains(&i32::from(status::code(error.kind)));
                let code = if client_error { Code::InvalidArgument } else { Code::Internal };
                let message = format!("process client telemetryCommand failed. {error}");
                self.state = State::Ending(code, message);
                None
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Ok(context) = &self.context {
            self.shared.processor.stream_ended(context, &self.stream);
        }
    }
}

/// What the server says on its own account.
fn telemetry_command(push: Push) -> pb::TelemetryCommand {
    let command = match push {
        Push::RecoverTransaction { delivery, transaction_id } => {
            let message = Some(message::delivered(*delivery, None));
            Command::RecoverOrphanedTransactionCommand(pb::RecoverOrphanedTransactionCommand {
                message,
                transaction_id,
            })
        }
        Push::LiteUnsubscribed(lite_topic) => {
            Command::NotifyUnsubscribeLiteCommand(pb::NotifyUnsubscribeLiteCommand { lite_topic })
        }
    };
    pb::TelemetryCommand { status: None, command: Some(command) }
}

fn domain(settings: &pb::Settings) -> ClientSettings {
    let timeout = settings.request_timeout.as_ref().map(|timeout| convert::millis(Some(timeout)));
    ClientSettings {
        kind: kind(settings.client_type.unwrap_or_default()),
        request_timeout: timeout.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis),
        role: match &settings.pub_sub {
            None => Role::None,
            Some(PubSub::Publishing(publishing)) => {
                Role::Publishing(publishing.topics.iter().map(|topic| topic.name.clone()).collect())
            }
            Some(PubSub::Subscription(subscription)) => Role::Subscription(
                convert::name(subscription.group.clone()),
                subscription
                    .subscriptions
                    .iter()
                    .cloned()
                    .map(|entry| (convert::name(entry.topic), convert::expression(entry.expression)))
                    .collect(),
            ),
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

/// The client's settings with what the server decides written over them.
fn overwrite(mut settings: pb::Settings, policy: Option<ConsumerPolicy>, limits: &Limits) -> pb::Settings {
    settings.metric = Some(pb::Metric::default());
    match (&mut settings.pub_sub, policy) {
        (Some(PubSub::Publishing(publishing)), _) => {
            publishing.max_body_size = i32::try_from(limits.body_bytes).unwrap_or(i32::MAX);
            publishing.validate_message_type = true;
            settings.backoff_policy = Some(pb::RetryPolicy {
                max_attempts: PRODUCER_ATTEMPTS,
                strategy: Some(Strategy::ExponentialBackoff(pb::ExponentialBackoff {
                    initial: Some(convert::duration(PRODUCER_BACKOFF_INITIAL)),
                    max: Some(convert::duration(PRODUCER_BACKOFF_MAX)),
                    multiplier: PRODUCER_BACKOFF_MULTIPLIER,
                })),
            });
        }
        (Some(PubSub::Subscription(subscription)), Some(policy)) => {
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
        (Some(PubSub::Subscription(_)), None) | (None, _) => {}
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
