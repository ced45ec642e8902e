//! One HTTP/2 connection.

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
    body::Body,
    client::Grpc,
    codegen::{
        Service, StdError,
        http::{Request, Response, StatusCode, Uri},
    },
};

use super::{
    diagnosis::{self, FirstBytes, Greeting},
    failure::CallFailure,
    request_body::RequestBody,
    write_buffer::WriteBuffer,
};
use crate::{error::Error, options::Address};

/// Servers may end a connection that pings more often than every five minutes. A dead connection is noticed
/// sooner, by calls that time out.
const PING_INTERVAL: Duration = Duration::from_secs(300);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Room for a receive of 32 large bodies without waiting for window updates.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Servers send the messages of a receive in parts of up to this size, each of which is read at once.
const FRAME: u32 = 64 * 1024;
/// A larger response is an error.
const MAX_RESPONSE: usize = 64 * 1024 * 1024;

/// The generated client over one connection.
pub(crate) type Stub = MessagingServiceClient<Caller>;

/// One open connection.
pub(crate) struct Connection {
    sender: SendRequest<RequestBody>,
    origin: Uri,
    tasks: Tasks,
    /// How many streams the server allows at the same time.
    max_streams: watch::Receiver<usize>,
    /// Long polls under way.
    polls: AtomicUsize,
    silence: Mutex<Silence>,
    opened_at: Instant,
}

/// What calls tell about whether the server still answers.
#[derive(Debug)]
struct Silence {
    last_answer: Instant,
    /// When the first call after that timed out.
    first_timeout: Option<Instant>,
    last_probe: Instant,
}

impl Connection {
    /// Makes `io` an HTTP/2 connection, and waits for the server's settings.
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
            .max_frame_size(FRAME)
            // Shows when the server's settings have arrived: they always set it.
            .initial_max_send_streams(0)
            .handshake(TokioIo::new(WriteBuffer::new(FirstBytes::new(io, greeting.clone()))))
            .await
            .map_err(|error| diagnosis::no_http2(address, &origin, &greeting, Some(error)))?;
        let (limit, mut max_streams) = watch::channel(0);
        let Tasks { closed, progress } = tasks.clone();
        // Not by `Tasks`, whose tasks wake this one: it would wake itself for ever.
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
        let silence = Silence { last_answer: now, first_timeout: None, last_probe: now };
        let polls = AtomicUsize::new(0);
        Ok(Self { sender, origin, tasks, max_streams, polls, silence: Mutex::new(silence), opened_at: now })
    }

    /// What sends requests over this connection.
    pub(super) fn caller(self: &Arc<Self>) -> Caller {
        Caller(self.clone())
    }

    /// The generated client over this connection.
    pub(super) fn stub(self: &Arc<Self>) -> Stub {
        MessagingServiceClient::with_origin(Caller(self.clone()), self.origin.clone())
            .max_decoding_message_size(MAX_RESPONSE)
    }

    /// The generated client of a collector of metrics over this connection.
    pub(super) fn collector(self: &Arc<Self>) -> MetricsServiceClient<Caller> {
        MetricsServiceClient::with_origin(Caller(self.clone()), self.origin.clone())
    }

    /// Whether new requests can be sent.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed() && !self.tasks.closed.is_cancelled()
    }

    /// Closes the connection at once. Calls under way fail.
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

    /// Long polls under way.
    pub(super) fn polls(&self) -> &AtomicUsize {
        &self.polls
    }

    /// Notes that the server answered something.
    pub(super) fn answered(&self) {
        let mut silence = self.silence.lock();
        silence.last_answer = Instant::now();
        silence.first_timeout = None;
    }

    /// Notes that a call that began at `start` got no answer in time. Returns whether the connection is dead.
    ///
    /// It is dead if the server has not answered anything since two calls began, of which one began after the
    /// other had timed out. One slow call, or several at the same time, prove nothing.
    pub(super) fn timed_out(&self, start: Instant) -> bool {
        self.silence.lock().timed_out(start, Instant::now())
    }

    /// Whether a call has to show that the server still answers, because nothing did for `age`.
    pub(super) fn begin_probe(&self, age: Duration) -> bool {
        let mut silence = self.silence.lock();
        let due = silence.last_answer.max(silence.last_probe).elapsed() >= age;
        if due {
            silence.last_probe = Instant::now();
        }
        due
    }
}

impl Silence {
    fn timed_out(&mut self, start: Instant, now: Instant) -> bool {
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

/// Sends requests over a connection.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Arc<Connection>);

impl Caller {
    /// A client of any service at the other end.
    pub(super) fn grpc(self) -> Grpc<Self> {
        let origin = self.0.origin.clone();
        Grpc::with_origin(self, origin).max_decoding_message_size(MAX_RESPONSE)
    }
}

impl Service<Request<Body>> for Caller {
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

/// Refuses a response that did not come from a gRPC server, before its body is read as one.
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
        let silence = || Silence { last_answer: start, first_timeout: None, last_probe: start };

        let mut dead = silence();
        assert!(!dead.timed_out(at(10), at(13)));
        assert!(dead.timed_out(at(20), at(23)));

        // Calls that ran at the same time count as one.
        let mut busy = silence();
        assert!(!busy.timed_out(at(1), at(4)));
        assert!(!busy.timed_out(at(2), at(5)));
        assert!(busy.timed_out(at(4), at(7)));

        // Something was answered while the call ran.
        let mut slow = Silence { last_answer: at(2), ..silence() };
        assert!(!slow.timed_out(at(1), at(4)));
        assert!(!slow.timed_out(at(3), at(6)));
    }
}
