//! Sends one request over a connection: metadata, deadline, tracing span, and the error if it fails.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rocketmq_thin_proto::{
    BODY_DIGEST, otlp,
    v2::{self, receive_message_response::Content},
};
use tokio::time::timeout_at;
use tonic::{Request, Status, Streaming, metadata::MetadataValue};
use tracing::{Instrument, debug_span};
use uuid::Builder;

use super::{
    channel::Channel,
    connection::Connection,
    credentials::Version,
    failure::{self, CallContext},
    identity::Identity,
    method::{Heartbeat, RpcMethod},
};
use crate::error::{Error, ErrorKind};

/// How long a connection may be silent before a heartbeat is sent over it, to check that it is alive.
const PROBE_AFTER_SILENCE: Duration = Duration::from_secs(9);

/// Sends the requests of one client id: of a producer, a consumer, or the route cache.
#[derive(Clone, Debug)]
pub(crate) struct Rpc {
    identity: Arc<Identity>,
}

/// The content of a receive stream until it ended.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) status: Option<v2::Status>,
    pub(crate) messages: Vec<v2::Message>,
    /// When the server began to deliver, by its clock.
    pub(crate) delivered_at: Option<SystemTime>,
    /// When the first part of the response arrived.
    pub(crate) started: Option<Instant>,
}

/// A channel, and the one of its connections that a request uses.
#[derive(Clone, Copy)]
struct ChannelConnection<'a> {
    channel: &'a Channel,
    connection: &'a Arc<Connection>,
}

impl ChannelConnection<'_> {
    /// Records the failure of a request, and returns its error.
    fn failure(self, call: &CallContext, status: Status) -> Error {
        if failure::is_answer(&status) {
            self.connection.record_answer();
        }
        record_failure(self.channel, call.transport(status))
    }

    /// Records that a request that began at `start` timed out.
    fn record_timeout(self, start: Instant) {
        self.channel.record_timeout(self.connection, start);
    }
}

/// An open telemetry stream. Dropping it closes the stream.
pub(crate) struct Telemetry {
    rpc: Rpc,
    call: CallContext,
    version: Version,
    incoming: Streaming<v2::TelemetryCommand>,
    channel: Arc<Channel>,
    slot: super::PollSlot,
}

impl Telemetry {
    pub(crate) fn call(&self) -> &CallContext {
        &self.call
    }

    /// Waits for the next command of the server; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<v2::TelemetryCommand>, Error> {
        match self.incoming.message().await {
            Ok(command) => {
                self.slot.connection().record_answer();
                let status = command.as_ref().and_then(|command| command.status.as_ref());
                self.rpc.check_credentials(&self.call, status, self.version)?;
                Ok(command)
            }
            Err(status) => {
                let error = record_failure(&self.channel, self.call.transport(status));
                Err(self.rpc.retry_with_new_credentials(error, self.version))
            }
        }
    }
}

impl Rpc {
    pub(crate) fn new(identity: Identity) -> Self {
        Self { identity: Arc::new(identity) }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The name of a topic or group, with the client's namespace.
    pub(crate) fn resource(&self, name: impl Into<String>) -> v2::Resource {
        v2::Resource { resource_namespace: self.identity.namespace().to_owned(), name: name.into() }
    }

    /// Sends one request over `channel` and waits at most `limit` for the response.
    pub(crate) async fn unary<M: RpcMethod>(
        &self,
        channel: &Channel,
        body: M::Request,
        limit: Duration,
    ) -> Result<(CallContext, M::Response), Error> {
        let deadline = crate::options::deadline(Instant::now(), limit);
        self.wait_for_credentials(M::NAME, deadline).await?;
        let connection = channel.for_call(deadline).await.map_err(|error| error.during(M::NAME))?;
        self.unary_over::<M>(ChannelConnection { channel, connection: &connection }, body, deadline).await
    }

    async fn unary_over<M: RpcMethod>(
        &self,
        over: ChannelConnection<'_>,
        body: M::Request,
        deadline: Instant,
    ) -> Result<(CallContext, M::Response), Error> {
        let ChannelConnection { channel, connection } = over;
        let start = Instant::now();
        let (call, mut request, version) = self.request(M::NAME, channel, body);
        request.set_timeout(deadline.saturating_duration_since(start));
        let span = debug_span!(
            "rpc",
            operation = M::NAME,
            endpoint = &*call.endpoint,
            request_id = call.request_id.as_str()
        );
        let answer =
            timeout_at(deadline.into(), connection.service().call::<M>(request)).instrument(span).await;
        match answer {
            Ok(Ok(response)) => {
                connection.record_answer();
                channel.record_answer(response.metadata());
                let response = response.into_inner();
                self.check_credentials(&call, M::status(&response), version)?;
                Ok((call, response))
            }
            Ok(Err(status)) => Err(self.retry_with_new_credentials(over.failure(&call, status), version)),
            Err(_) => {
                over.record_timeout(start);
                Err(record_failure(channel, call.timeout()))
            }
        }
    }

    /// Sends a heartbeat over the main connection of `channel`, and over each further connection that has been silent for
    /// [`PROBE_AFTER_SILENCE`].
    ///
    /// A connection can be dead without an error, for instance because a firewall has dropped it. Two heartbeats that
    /// time out close such a connection.
    pub(crate) async fn heartbeat(
        &self,
        channel: &Channel,
        request: v2::HeartbeatRequest,
        limit: Duration,
    ) -> Result<(CallContext, v2::HeartbeatResponse), Error> {
        let deadline = crate::options::deadline(Instant::now(), limit);
        let silent = channel.begin_probes(PROBE_AFTER_SILENCE);
        let probes = silent.iter().map(|connection| {
            self.unary_over::<Heartbeat>(ChannelConnection { channel, connection }, request.clone(), deadline)
        });
        let probes = futures::future::join_all(probes);
        let (result, probes) = tokio::join!(self.unary::<Heartbeat>(channel, request.clone(), limit), probes);
        for error in probes.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "a heartbeat over a further connection failed");
        }
        result
    }

    /// Sends a long poll, and collects its messages.
    ///
    /// Returns the messages that arrived even if the stream breaks or times out, or `stopped` is ready. They are leased to
    /// this consumer, so dropping them would only delay them. Returns `None` if it is stopped before the first message.
    pub(crate) async fn receive(
        &self,
        channel: &Channel,
        body: v2::ReceiveMessageRequest,
        end: ReceiveEnd<'_, impl Future<Output = ()> + Send>,
    ) -> Result<Option<(CallContext, Received)>, Error> {
        let ReceiveEnd { limit, stopped } = end;
        let deadline = crate::options::deadline(Instant::now(), limit);
        self.wait_for_credentials("receive", deadline).await?;
        let slot = channel.for_poll(deadline).await.map_err(|error| error.during("receive"))?;
        let connection = slot.connection();
        let over = ChannelConnection { channel, connection };
        let start = Instant::now();
        let (call, mut request, version) = self.request("receive", channel, body);
        request.metadata_mut().insert(BODY_DIGEST, MetadataValue::from_static("CRC32"));
        request.set_timeout(deadline.saturating_duration_since(start));
        let span = debug_span!("rpc", operation = "receive", endpoint = &*call.endpoint);
        let mut received = Received::default();
        let gather = async {
            let mut stub = connection.stub();
            let mut stream = stub.receive_message(request).await?.into_inner();
            gather(&mut stream, connection, &mut received).await
        };
        let result = tokio::select! {
            biased;
            result = timeout_at(deadline.into(), gather.instrument(span)) => result,
            () = stopped => return Ok((!received.messages.is_empty()).then_some((call, received))),
        };
        let error = match result {
            Ok(Ok(())) => None,
            Ok(Err(status)) => Some(self.retry_with_new_credentials(over.failure(&call, status), version)),
            Err(_) => {
                over.record_timeout(start);
                Some(record_failure(channel, call.timeout()))
            }
        };
        match error {
            Some(error) if received.messages.is_empty() => Err(error),
            Some(_) => Ok(Some((call, received))),
            None => {
                channel.record_success();
                self.check_credentials(&call, received.status.as_ref(), version)?;
                Ok(Some((call, received)))
            }
        }
    }

    /// Opens a telemetry stream that sends `commands`. Waits until `deadline` for the server's headers.
    pub(crate) async fn telemetry(
        &self,
        channel: &Arc<Channel>,
        commands: impl futures::Stream<Item = v2::TelemetryCommand> + Send + 'static,
        deadline: Instant,
    ) -> Result<Telemetry, Error> {
        self.wait_for_credentials("telemetry", deadline).await?;
        let (call, request, version) = self.request("telemetry", channel, commands);
        let slot = channel.for_poll(deadline).await.map_err(|error| error.during("telemetry"))?;
        let start = Instant::now();
        let mut stub = slot.connection().stub();
        match timeout_at(deadline.into(), stub.telemetry(request)).await {
            Ok(Ok(response)) => {
                slot.connection().record_answer();
                let incoming = response.into_inner();
                Ok(Telemetry { rpc: self.clone(), call, version, incoming, channel: channel.clone(), slot })
            }
            Ok(Err(status)) => {
                let error =
                    ChannelConnection { channel, connection: slot.connection() }.failure(&call, status);
                Err(self.retry_with_new_credentials(error, version))
            }
            Err(_) => {
                channel.record_timeout(slot.connection(), start);
                Err(call.error(ErrorKind::Timeout, "the server sent no settings in time"))
            }
        }
    }

    /// Waits for credentials that no server has refused.
    async fn wait_for_credentials(&self, operation: &'static str, deadline: Instant) -> Result<(), Error> {
        self.identity.credentials().ready(deadline).await.map_err(|error| error.during(operation))
    }

    /// Returns an error if the status of a response refuses the credentials.
    fn check_credentials(
        &self,
        call: &CallContext,
        status: Option<&v2::Status>,
        version: Version,
    ) -> Result<(), Error> {
        match status.filter(|status| status.code() == v2::Code::Unauthorized) {
            None => Ok(()),
            Some(_) => {
                call.check(status).map_err(|error| self.retry_with_new_credentials(error, version)).map(drop)
            }
        }
    }

    /// Makes an error retryable if the server refused the credentials of `version` and newer ones exist or are requested.
    fn retry_with_new_credentials(&self, error: Error, version: Version) -> Error {
        let again =
            error.kind() == ErrorKind::Unauthenticated && self.identity.credentials().record_refusal(version);
        if again { error.with_retryable(true) } else { error }
    }

    /// Sends metrics to the collector behind `channel`.
    pub(crate) async fn export_metrics(
        &self,
        channel: &Channel,
        body: otlp::ExportMetricsServiceRequest,
        deadline: Instant,
    ) -> Result<(), Error> {
        const OPERATION: &str = "export_metrics";
        let connection = channel.for_call(deadline).await.map_err(|error| error.during(OPERATION))?;
        let (call, mut request, _) = self.request(OPERATION, channel, body);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        match timeout_at(deadline.into(), connection.collector().export(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(call.transport(status)),
            Err(_) => Err(call.timeout()),
        }
    }

    /// Creates a request with its metadata. Also returns the version of the credentials that signed it.
    fn request<T>(
        &self,
        operation: &'static str,
        channel: &Channel,
        body: T,
    ) -> (CallContext, Request<T>, Version) {
        let request_id = new_id();
        let mut request = Request::new(body);
        let (metadata, version) = self.identity.metadata(&request_id);
        *request.metadata_mut() = metadata;
        (CallContext { operation, endpoint: channel.name().clone(), request_id }, request, version)
    }
}

/// When a receive returns what has arrived.
pub(crate) struct ReceiveEnd<'a, F> {
    /// At most after this time.
    pub(crate) limit: Duration,
    /// At the latest when this is ready.
    pub(crate) stopped: Pin<&'a mut F>,
}

/// Reads a receive stream to its end.
async fn gather(
    stream: &mut Streaming<v2::ReceiveMessageResponse>,
    connection: &Connection,
    received: &mut Received,
) -> Result<(), Status> {
    while let Some(response) = stream.message().await? {
        connection.record_answer();
        received.started.get_or_insert_with(Instant::now);
        match response.content {
            Some(Content::Status(status)) => received.status = Some(status),
            Some(Content::Message(message)) => received.messages.push(message),
            Some(Content::DeliveryTimestamp(time)) => received.delivered_at = time.try_into().ok(),
            None => {}
        }
    }
    Ok(())
}

/// A random UUID. Uses the generator of the thread, because the system's generator takes a system call each time.
pub(crate) fn new_id() -> String {
    Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

/// Records that an address failed, unless the server itself refused the request. Returns the error.
fn record_failure(channel: &Channel, error: Error) -> Error {
    if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Tls) {
        channel.record_failure(&error);
    }
    error
}
