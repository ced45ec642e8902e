//! One attempt of one request.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rocketmq_thin_proto::v2::{self, receive_message_response::Content};
use tokio::time::timeout;
use tonic::{Request, Streaming};
use tracing::{Instrument, debug_span};
use uuid::Builder;

use super::{failure::Origin, identity::Identity, link::Link, operation::Operation};
use crate::error::{Error, ErrorKind};

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
        let (origin, mut request) = self.request(O::NAME, link, body);
        request.set_timeout(limit);
        let span = debug_span!(
            "rpc",
            operation = O::NAME,
            endpoint = &*origin.endpoint,
            request_id = origin.request_id.as_str()
        );
        let answer = timeout(limit, O::invoke(link.stub(), request)).instrument(span).await;
        match answer {
            Ok(Ok(response)) => {
                link.answered(response.metadata());
                Ok((origin, response.into_inner()))
            }
            Ok(Err(status)) => Err(failed(link, origin.transport(status))),
            Err(_) => Err(failed(link, origin.timeout())),
        }
    }

    /// Opens a long poll and gathers what comes.
    ///
    /// What has arrived when the stream breaks or time is up still counts: those messages are hidden from
    /// all others by now, so throwing them away would only delay them.
    pub(crate) async fn receive(
        &self,
        link: &Link,
        body: v2::ReceiveMessageRequest,
        limit: Duration,
    ) -> Result<(Origin, Received), Error> {
        let deadline = crate::options::deadline(Instant::now(), limit);
        let (origin, mut request) = self.request("receive", link, body);
        request.set_timeout(limit);
        let span = debug_span!("rpc", operation = "receive", endpoint = &*origin.endpoint);
        let mut stub = link.stub();
        let gather = async {
            let mut stream =
                match tokio::time::timeout_at(deadline.into(), stub.receive_message(request)).await {
                    Ok(Ok(response)) => response.into_inner(),
                    Ok(Err(status)) => return Err(origin.transport(status)),
                    Err(_) => return Err(origin.timeout()),
                };
            let mut received = Received::default();
            match tokio::time::timeout_at(deadline.into(), gather(&mut stream, &mut received)).await {
                Ok(Ok(())) => {}
                Ok(Err(status)) if received.messages.is_empty() => return Err(origin.transport(status)),
                Err(_) if received.messages.is_empty() => return Err(origin.timeout()),
                Ok(Err(_)) | Err(_) => {}
            }
            Ok(received)
        };
        match gather.instrument(span).await {
            Ok(received) => {
                link.reached();
                Ok((origin, received))
            }
            Err(error) => Err(failed(link, error)),
        }
    }

    /// A request with its metadata.
    pub(crate) fn request<T>(&self, operation: &'static str, link: &Link, body: T) -> (Origin, Request<T>) {
        // From the thread's own generator: asking the system each time costs a call into it.
        let request_id = Builder::from_random_bytes(rand::random()).into_uuid().to_string();
        let mut request = Request::new(body);
        *request.metadata_mut() = self.identity.metadata(&request_id);
        (Origin { operation, endpoint: link.name().clone(), request_id }, request)
    }
}

async fn gather(
    stream: &mut Streaming<v2::ReceiveMessageResponse>,
    received: &mut Received,
) -> Result<(), tonic::Status> {
    while let Some(response) = stream.message().await? {
        match response.content {
            Some(Content::Status(status)) => received.status = Some(status),
            Some(Content::Message(message)) => received.messages.push(message),
            // Only tells the server's clock; nothing here depends on it.
            Some(Content::DeliveryTimestamp(_)) | None => {}
        }
    }
    Ok(())
}

/// Remembers which addresses are in trouble; a refusal by gRPC itself is no trouble of the address.
fn failed(link: &Link, error: Error) -> Error {
    if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Tls) {
        link.failed();
    }
    error
}
