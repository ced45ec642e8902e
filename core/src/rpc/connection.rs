//! One HTTP/2 connection, and how it is found to be dead.

use std::{
    fmt,
    pin::pin,
    sync::{Arc, atomic::AtomicUsize},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{future::BoxFuture, task::AtomicWaker};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
    header::{CONTENT_TYPE, HeaderValue, USER_AGENT},
    rt::Executor,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use rocketmq_thin_proto::{
    otlp::metrics_service_client::MetricsServiceClient, v2::messaging_service_client::MessagingServiceClient,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    body::Body,
    client::Grpc,
    codegen::{
        Service, StdError,
        http::{Request, Response, StatusCode, Uri, uri::PathAndQuery},
    },
};

use super::{
    codec::SizedCodec,
    diagnosis::{self, Greeting, GreetingRecorder},
    failure::CallFailure,
    method::RpcMethod,
    request_body::RequestBody,
    write_buffer::WriteBuffer,
};
use crate::{error::Error, options::Address};

/// Servers may close a connection that pings more often than every five minutes. Calls that time out detect a dead
/// connection sooner.
const PING_INTERVAL: Duration = Duration::from_secs(300);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Large enough for 32 messages of 32 KiB to arrive without waiting for window updates.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// The maximum size of the frames that servers send.
const MAX_FRAME_SIZE: u32 = 64 * 1024;
/// The maximum size of a response. A larger one is an error.
const MAX_RESPONSE_SIZE: usize = 64 * 1024 * 1024;

/// The generated client of the messaging service over one connection.
pub(crate) type Stub = MessagingServiceClient<ConnectionService>;

/// One open connection.
pub(crate) struct Connection {
    sender: SendRequest<RequestBody>,
    origin: Uri,
    tasks: Tasks,
    /// How many streams the server allows at the same time.
    max_streams: watch::Receiver<usize>,
    /// How many long polls and telemetry streams are open.
    polls: AtomicUsize,
    liveness: Mutex<Liveness>,
    opened_at: Instant,
}

/// Tracks whether the server still answers, from the results of calls.
#[derive(Debug)]
struct Liveness {
    last_answer: Instant,
    /// When the first call after the last answer timed out.
    first_timeout: Option<Instant>,
    last_probe: Instant,
}

impl Connection {
    /// Opens an HTTP/2 connection over `io`, and waits for the server's settings.
    pub(super) async fn open(
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        address: &Address,
        origin: Uri,
    ) -> Result<Self, Error> {
        let greeting = Greeting::default();
        let tasks = Tasks::default();
        let (sender, connection) = Builder::new(tasks.clone())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME_SIZE)
            // The server's settings always change this, which shows when they have arrived.
            .initial_max_send_streams(0)
            .handshake(TokioIo::new(WriteBuffer::new(GreetingRecorder::new(io, greeting.clone()))))
            .await
            .map_err(|error| diagnosis::no_http2(address, &origin, &greeting, Some(error)))?;
        let (limit, mut max_streams) = watch::channel(0);
        let Tasks { closed, progress } = tasks.clone();
        // Not spawned with `Tasks`, whose tasks wake this one: it would wake itself forever.
        tokio::spawn(closed.run_until_cancelled_owned(async move {
            let mut connection = pin!(connection);
            let result = std::future::poll_fn(|cx| {
                if *limit.borrow() == 0 {
                    progress.register(cx.waker());
                }
                let done = connection.as_mut().poll(cx);
                let streams = connection.current_max_send_streams();
                limit.send_if_modified(|limit| std::mem::replace(limit, streams) != streams);
                done
            });
            if let Err(error) = result.await {
                tracing::debug!(%error, "a connection ended");
            }
        }));
        if max_streams.wait_for(|streams| *streams > 0).await.is_err() {
            return Err(diagnosis::no_http2(address, &origin, &greeting, None));
        }
        let now = Instant::now();
        let liveness = Liveness { last_answer: now, first_timeout: None, last_probe: now };
        let polls = AtomicUsize::new(0);
        Ok(Self { sender, origin, tasks, max_streams, polls, liveness: Mutex::new(liveness), opened_at: now })
    }

    /// The service that sends requests over this connection.
    pub(super) fn service(self: &Arc<Self>) -> ConnectionService {
        ConnectionService(self.clone())
    }

    /// The generated client of the messaging service over this connection.
    pub(super) fn stub(self: &Arc<Self>) -> Stub {
        MessagingServiceClient::with_origin(ConnectionService(self.clone()), self.origin.clone())
            .max_decoding_message_size(MAX_RESPONSE_SIZE)
    }

    /// The generated client of a metrics collector over this connection.
    pub(super) fn collector(self: &Arc<Self>) -> MetricsServiceClient<ConnectionService> {
        MetricsServiceClient::with_origin(ConnectionService(self.clone()), self.origin.clone())
    }

    /// Whether new requests can be sent.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.tasks.closed.is_cancelled()
    }

    /// Closes the connection at once. Calls in flight fail.
    pub(super) fn close(&self) {
        self.tasks.closed.cancel();
    }

    /// How many streams the server allows at the same time.
    pub(super) fn max_streams(&self) -> usize {
        *self.max_streams.borrow()
    }

    pub(super) fn opened_at(&self) -> Instant {
        self.opened_at
    }

    /// How many long polls and telemetry streams are open.
    pub(super) fn polls(&self) -> &AtomicUsize {
        &self.polls
    }

    /// Records that the server has answered.
    pub(super) fn record_answer(&self) {
        let mut liveness = self.liveness.lock();
        liveness.last_answer = Instant::now();
        liveness.first_timeout = None;
    }

    /// Records that a call that began at `start` timed out. Returns whether the connection is dead.
    ///
    /// The connection is dead if two calls timed out one after the other and nothing was answered since the first began.
    /// One slow call, or several at the same time, are not enough.
    pub(super) fn record_timeout(&self, start: Instant) -> bool {
        self.liveness.lock().record_timeout(start, Instant::now())
    }

    /// Whether the connection must be probed, because it has been silent for `age`. If so, counts the probe as sent now.
    pub(super) fn begin_probe(&self, age: Duration) -> bool {
        let mut liveness = self.liveness.lock();
        let due = liveness.last_answer.max(liveness.last_probe).elapsed() >= age;
        if due {
            liveness.last_probe = Instant::now();
        }
        due
    }
}

impl Liveness {
    fn record_timeout(&mut self, start: Instant, now: Instant) -> bool {
        if start <= self.last_answer {
            return false;
        }
        match self.first_timeout {
            Some(first) => start >= first,
            None => {
                self.first_timeout = Some(now);
                false
            }
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("origin", &self.origin)
            .field("polls", &self.polls)
            .finish_non_exhaustive()
    }
}

/// Runs the tasks of a connection until it is closed.
#[derive(Clone, Default)]
struct Tasks {
    closed: CancellationToken,
    /// Woken whenever a task made progress, until the server's settings have arrived.
    progress: Arc<AtomicWaker>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let tasks = self.clone();
        tokio::spawn(async move {
            let mut task = pin!(task);
            let watched = std::future::poll_fn(|cx: &mut Context<'_>| {
                let done = task.as_mut().poll(cx);
                tasks.progress.wake();
                done
            });
            tasks.closed.run_until_cancelled(watched).await
        });
    }
}

/// The tower service that sends requests over a connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionService(Arc<Connection>);

impl ConnectionService {
    /// A gRPC client for any service of the server.
    pub(super) fn grpc(self) -> Grpc<Self> {
        let origin = self.0.origin.clone();
        Grpc::with_origin(self, origin).max_decoding_message_size(MAX_RESPONSE_SIZE)
    }

    /// Sends one request.
    pub(super) async fn call<M: RpcMethod>(
        self,
        request: tonic::Request<M::Request>,
    ) -> Result<tonic::Response<M::Response>, Status> {
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        grpc.unary(request, PathAndQuery::from_static(M::PATH), SizedCodec::default()).await
    }
}

impl Service<Request<Body>> for ConnectionService {
    type Response = Response<Incoming>;
    type Error = StdError;
    type Future = BoxFuture<'static, Result<Self::Response, StdError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        const AGENT: HeaderValue =
            HeaderValue::from_static(concat!("rocketmq-thin/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, AGENT);
        let closed = self.0.tasks.closed.clone();
        let response = self.0.sender.clone().send_request(request.map(RequestBody::new));
        Box::pin(async move {
            match response.await {
                Ok(response) => check_http(response),
                Err(_) if closed.is_cancelled() => Err(CallFailure::Replaced.into()),
                Err(error) if error.is_canceled() => Err(CallFailure::NotSent.into()),
                Err(error) => Err(error.into()),
            }
        })
    }
}

/// Refuses a response that is not from a gRPC server, before its body is decoded.
fn check_http(response: Response<Incoming>) -> Result<Response<Incoming>, StdError> {
    let headers = response.headers();
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let grpc = headers.contains_key("grpc-status") || content_type.starts_with("application/grpc");
    if grpc || (response.status() == StatusCode::OK && content_type.is_empty()) {
        return Ok(response);
    }
    Err(CallFailure::Http { status: response.status(), content_type: content_type.to_owned() }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_timeouts_one_after_the_other_mean_a_dead_connection() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let liveness = || Liveness { last_answer: start, first_timeout: None, last_probe: start };

        let mut dead = liveness();
        assert!(!dead.record_timeout(at(10), at(13)));
        assert!(dead.record_timeout(at(20), at(23)));

        // Calls that ran at the same time count as one.
        let mut busy = liveness();
        assert!(!busy.record_timeout(at(1), at(4)));
        assert!(!busy.record_timeout(at(2), at(5)));
        assert!(busy.record_timeout(at(4), at(7)));

        // The server answered another call while this one ran.
        let mut slow = Liveness { last_answer: at(2), ..liveness() };
        assert!(!slow.record_timeout(at(1), at(4)));
        assert!(!slow.record_timeout(at(3), at(6)));
    }
}
