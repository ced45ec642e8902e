//! One attempt of one request.

use std::{
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
    connection::Connection,
    credentials::Version,
    failure::{self, Origin},
    identity::Identity,
    link::Link,
    operation::{Heartbeat, Operation, invoke},
};
use crate::error::{Error, ErrorKind};

/// How old the latest answer on a connection may be before a heartbeat has to prove that it is alive.
const PROBE_AGE: Duration = Duration::from_secs(9);

/// Sends the requests of one protocol client.
#[derive(Clone, Debug)]
pub(crate) struct Rpc {
    identity: Arc<Identity>,
}

/// What a receive stream held before it ended.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) status: Option<v2::Status>,
    pub(crate) messages: Vec<v2::Message>,
    /// When the server began to deliver, by its clock.
    pub(crate) delivered_at: Option<SystemTime>,
}

/// A connection of a link.
#[derive(Clone, Copy)]
struct Path<'a> {
    link: &'a Link,
    connection: &'a Arc<Connection>,
}

impl Path<'_> {
    /// The error of a request that was refused or that broke.
    fn refused(self, origin: &Origin, status: Status) -> Error {
        if failure::is_answer(&status) {
            self.connection.answered();
        }
        failed(self.link, origin.transport(status))
    }

    /// Notes that a request that began at `start` got no answer in time.
    fn timed_out(self, start: Instant) {
        self.link.timed_out(self.connection, start);
    }
}

/// An open telemetry stream; it ends when this is dropped.
pub(crate) struct Telemetry {
    rpc: Rpc,
    origin: Origin,
    version: Version,
    incoming: Streaming<v2::TelemetryCommand>,
    link: Arc<Link>,
    slot: super::PollSlot,
}

impl Telemetry {
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The next command of the server; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<v2::TelemetryCommand>, Error> {
        match self.incoming.message().await {
            Ok(command) => {
                self.slot.connection().answered();
                let status = command.as_ref().and_then(|command| command.status.as_ref());
                self.rpc.check_credentials(&self.origin, status, self.version)?;
                Ok(command)
            }
            Err(status) => {
                let error = failed(&self.link, self.origin.transport(status));
                Err(self.rpc.judged(error, self.version))
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

    /// A topic or group under the client's namespace.
    pub(crate) fn resource(&self, name: impl Into<String>) -> v2::Resource {
        v2::Resource { resource_namespace: self.identity.namespace().to_owned(), name: name.into() }
    }

    /// Sends one request over `link` and waits at most `limit` for the response.
    pub(crate) async fn unary<O: Operation>(
        &self,
        link: &Link,
        body: O::Request,
        limit: Duration,
    ) -> Result<(Origin, O::Response), Error> {
        let deadline = crate::options::deadline(Instant::now(), limit);
        self.credentials(O::NAME, deadline).await?;
        let connection = link.for_call(deadline).await.map_err(|error| error.during(O::NAME))?;
        self.unary_over::<O>(Path { link, connection: &connection }, body, deadline).await
    }

    async fn unary_over<O: Operation>(
        &self,
        path: Path<'_>,
        body: O::Request,
        deadline: Instant,
    ) -> Result<(Origin, O::Response), Error> {
        let Path { link, connection } = path;
        let start = Instant::now();
        let (origin, mut request, version) = self.request(O::NAME, link, body);
        request.set_timeout(deadline.saturating_duration_since(start));
        let span = debug_span!(
            "rpc",
            operation = O::NAME,
            endpoint = &*origin.endpoint,
            request_id = origin.request_id.as_str()
        );
        let answer =
            timeout_at(deadline.into(), invoke::<O>(connection.caller(), request)).instrument(span).await;
        match answer {
            Ok(Ok(response)) => {
                connection.answered();
                link.answered(response.metadata());
                let response = response.into_inner();
                self.check_credentials(&origin, O::status(&response), version)?;
                Ok((origin, response))
            }
            Ok(Err(status)) => Err(self.judged(path.refused(&origin, status), version)),
            Err(_) => {
                path.timed_out(start);
                Err(failed(link, origin.timeout()))
            }
        }
    }

    /// Sends a heartbeat over `link`, and one over each further connection that has been silent for long.
    ///
    /// A connection can be dead without an error, for instance if a firewall has forgotten it. Heartbeats find
    /// that out, because two of them that time out close the connection.
    pub(crate) async fn heartbeat(
        &self,
        link: &Link,
        request: v2::HeartbeatRequest,
        limit: Duration,
    ) -> Result<(Origin, v2::HeartbeatResponse), Error> {
        let deadline = crate::options::deadline(Instant::now(), limit);
        let silent = link.to_probe(PROBE_AGE);
        let probes = silent.iter().map(|connection| {
            self.unary_over::<Heartbeat>(Path { link, connection }, request.clone(), deadline)
        });
        let probes = futures::future::join_all(probes);
        let (result, probes) = tokio::join!(self.unary::<Heartbeat>(link, request.clone(), limit), probes);
        for error in probes.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "a heartbeat over a further connection failed");
        }
        result
    }

    /// Opens a long poll and gathers what arrives.
    ///
    /// Messages that arrived before the stream broke or the time was up are returned: they are hidden from
    /// others by now, so that dropping them would only delay them.
    pub(crate) async fn receive(
        &self,
        link: &Link,
        body: v2::ReceiveMessageRequest,
        limit: Duration,
    ) -> Result<(Origin, Received), Error> {
        let deadline = crate::options::deadline(Instant::now(), limit);
        self.credentials("receive", deadline).await?;
        let slot = link.for_poll(deadline).await.map_err(|error| error.during("receive"))?;
        let connection = slot.connection();
        let path = Path { link, connection };
        let start = Instant::now();
        let (origin, mut request, version) = self.request("receive", link, body);
        request.metadata_mut().insert(BODY_DIGEST, MetadataValue::from_static("CRC32"));
        request.set_timeout(deadline.saturating_duration_since(start));
        let span = debug_span!("rpc", operation = "receive", endpoint = &*origin.endpoint);
        let mut received = Received::default();
        let gather = async {
            let mut stub = connection.stub();
            let mut stream = stub.receive_message(request).await?.into_inner();
            gather(&mut stream, connection, &mut received).await
        };
        let result = timeout_at(deadline.into(), gather.instrument(span)).await;
        let error = match result {
            Ok(Ok(())) => None,
            Ok(Err(status)) => Some(self.judged(path.refused(&origin, status), version)),
            Err(_) => {
                path.timed_out(start);
                Some(failed(link, origin.timeout()))
            }
        };
        match error {
            Some(error) if received.messages.is_empty() => Err(error),
            Some(_) => Ok((origin, received)),
            None => {
                link.reached();
                self.check_credentials(&origin, received.status.as_ref(), version)?;
                Ok((origin, received))
            }
        }
    }

    /// Opens a telemetry stream with `commands`, and waits at most until `deadline` for the server's headers.
    pub(crate) async fn telemetry(
        &self,
        link: &Arc<Link>,
        commands: impl futures::Stream<Item = v2::TelemetryCommand> + Send + 'static,
        deadline: Instant,
    ) -> Result<Telemetry, Error> {
        self.credentials("telemetry", deadline).await?;
        let (origin, request, version) = self.request("telemetry", link, commands);
        let slot = link.for_poll(deadline).await.map_err(|error| error.during("telemetry"))?;
        let start = Instant::now();
        let mut stub = slot.connection().stub();
        match timeout_at(deadline.into(), stub.telemetry(request)).await {
            Ok(Ok(response)) => {
                slot.connection().answered();
                let incoming = response.into_inner();
                Ok(Telemetry { rpc: self.clone(), origin, version, incoming, link: link.clone(), slot })
            }
            Ok(Err(status)) => {
                let error = Path { link, connection: slot.connection() }.refused(&origin, status);
                Err(self.judged(error, version))
            }
            Err(_) => {
                link.timed_out(slot.connection(), start);
                Err(origin.error(ErrorKind::Timeout, "the server sent no settings in time"))
            }
        }
    }

    /// Waits for credentials that no server has refused.
    async fn credentials(&self, operation: &'static str, deadline: Instant) -> Result<(), Error> {
        self.identity.credentials().ready(deadline).await.map_err(|error| error.during(operation))
    }

    /// The error of a response whose status refuses the credentials.
    fn check_credentials(
        &self,
        origin: &Origin,
        status: Option<&v2::Status>,
        version: Version,
    ) -> Result<(), Error> {
        match status.filter(|status| status.code() == v2::Code::Unauthorized) {
            None => Ok(()),
            Some(_) => origin.check(status).map_err(|error| self.judged(error, version)).map(drop),
        }
    }

    /// Makes the error of a request retryable if it may succeed with other credentials than those of `version`.
    fn judged(&self, error: Error, version: Version) -> Error {
        let again =
            error.kind() == ErrorKind::Unauthenticated && self.identity.credentials().refused(version);
        if again { error.with_retryable(true) } else { error }
    }

    /// Sends metrics to the collector behind `link`.
    pub(crate) async fn export_metrics(
        &self,
        link: &Link,
        body: otlp::ExportMetricsServiceRequest,
        deadline: Instant,
    ) -> Result<(), Error> {
        const OPERATION: &str = "export_metrics";
        let connection = link.for_call(deadline).await.map_err(|error| error.during(OPERATION))?;
        let (origin, mut request, _) = self.request(OPERATION, link, body);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        match timeout_at(deadline.into(), connection.collector().export(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(origin.transport(status)),
            Err(_) => Err(origin.timeout()),
        }
    }

    /// A request with its metadata, and which credentials signed it.
    fn request<T>(&self, operation: &'static str, link: &Link, body: T) -> (Origin, Request<T>, Version) {
        let request_id = new_id();
        let mut request = Request::new(body);
        let (metadata, version) = self.identity.metadata(&request_id);
        *request.metadata_mut() = metadata;
        (Origin { operation, endpoint: link.name().clone(), request_id }, request, version)
    }
}

async fn gather(
    stream: &mut Streaming<v2::ReceiveMessageResponse>,
    connection: &Connection,
    received: &mut Received,
) -> Result<(), Status> {
    while let Some(response) = stream.message().await? {
        connection.answered();
        match response.content {
            Some(Content::Status(status)) => received.status = Some(status),
            Some(Content::Message(message)) => received.messages.push(message),
            Some(Content::DeliveryTimestamp(time)) => received.delivered_at = time.try_into().ok(),
            None => {}
        }
    }
    Ok(())
}

/// A random UUID. From the thread's own generator: the system's would cost a system call for each request.
pub(crate) fn new_id() -> String {
    Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

/// Remembers which addresses have failed. A refusal by the server itself does not count.
fn failed(link: &Link, error: Error) -> Error {
    if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Tls) {
        link.failed(&error);
    }
    error
}
