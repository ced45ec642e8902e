//! Accepting connections that can be cut one by one or all at once.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::state::State;

/// Connections waiting to be picked up by the gRPC server.
const BACKLOG: usize = 64;

/// Accepts connections and holds what is needed to cut them.
#[derive(Debug)]
pub(super) struct Acceptor {
    open: Arc<Mutex<CancellationToken>>,
    accepting: JoinHandle<()>,
}

impl Acceptor {
    pub(super) fn start(
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        state: Arc<State>,
    ) -> (Self, ReceiverStream<io::Result<Connection>>) {
        let open = Arc::new(Mutex::new(CancellationToken::new()));
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let accepting = tokio::spawn(accept(listener, tls, (Arc::clone(&open), sender, state)));
        (Self { open, accepting }, ReceiverStream::new(receiver))
    }

    pub(super) fn drop_connections(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *open).cancel();
    }

    pub(super) fn stop(&self) {
        self.accepting.abort();
        self.drop_connections();
    }
}

type Handover = (Arc<Mutex<CancellationToken>>, mpsc::Sender<io::Result<Connection>>, Arc<State>);

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, (open, sender, state): Handover) {
    while let Ok((stream, _)) = listener.accept().await {
        state.note_connection();
        let _ = stream.set_nodelay(true);
        let cut = open.lock().unwrap_or_else(PoisonError::into_inner).child_token();
        let (tls, sender) = (tls.clone(), sender.clone());
        tokio::spawn(async move {
            let stream = match tls {
                None => Stream::Plain(stream),
                // A failed handshake is the client's to report.
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => Stream::Tls(Box::new(stream)),
                    Err(_) => return,
                },
            };
            let cancelled = Box::pin(cut.clone().cancelled_owned());
            let _ = sender.send(Ok(Connection { stream, cut: Cut(cut), cancelled })).await;
        });
    }
}

/// Cuts the connection that a request came over.
#[derive(Debug, Clone)]
pub(super) struct Cut(CancellationToken);

impl Cut {
    pub(super) fn cut(&self) {
        self.0.cancel();
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that fails as soon as it is cut.
pub(super) struct Connection {
    stream: Stream,
    cut: Cut,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connection {
    fn alive(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match Future::poll(self.cancelled.as_mut(), context) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Cut;

    fn connect_info(&self) -> Cut {
        self.cut.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.alive(context)?;
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.alive(context)?;
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
