//! Explains why a connection could not be opened, and what to do about it.

use std::{
    error::Error as StdError,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::Mutex;
use rustls::{AlertDescription, CertificateError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::codegen::http::{Uri, uri::Scheme};

use super::{failure::root_cause, retry};
use crate::{
    error::{Error, ErrorKind},
    options::Address,
};

/// How many of a server's first bytes are recorded.
const MAX_GREETING_BYTES: usize = 64;

/// The steps of connecting.
#[derive(Clone, Copy, Debug)]
pub(super) enum ConnectStep {
    Tcp,
    Tls,
    Http2,
}

/// The first bytes that a server sent on a connection, shared with the stream that records them.
#[derive(Clone, Debug, Default)]
pub(super) struct Greeting(Arc<Mutex<FirstBytes>>);

#[derive(Debug, Default)]
struct FirstBytes {
    bytes: Vec<u8>,
    /// The error of TLS, if there was one. With TLS 1.3, a server refuses a client certificate only after the handshake.
    tls: Option<rustls::Error>,
}

/// A stream that records the first bytes that are read from it.
pub(super) struct GreetingRecorder<T> {
    inner: T,
    greeting: Greeting,
    /// Whether enough bytes are recorded.
    full: bool,
}

impl<T> GreetingRecorder<T> {
    pub(super) fn new(inner: T, greeting: Greeting) -> Self {
        Self { inner, greeting, full: false }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for GreetingRecorder<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if !self.full {
            let read = &buffer.filled()[before..];
            let mut kept = self.greeting.0.lock();
            let room = MAX_GREETING_BYTES - kept.bytes.len();
            kept.bytes.extend_from_slice(&read[..read.len().min(room)]);
            if let Poll::Ready(Err(error)) = &result
                && let Some(tls) = tls_error(error)
            {
                kept.tls = Some(tls.clone());
            }
            let full = kept.bytes.len() == MAX_GREETING_BYTES;
            drop(kept);
            self.full = full;
        }
        result
    }
}

impl<T: AsyncRead + Unpin> GreetingRecorder<T> {
    /// Reads after a failed write. A server that refuses a client sends the reason and closes the connection; if the
    /// client is still writing, the write fails, and the reason would not be read otherwise.
    fn read_reason<R>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if matches!(written, Poll::Ready(Err(_))) && !self.full {
            let _ = Pin::new(self).poll_read(cx, &mut ReadBuf::new(&mut [0; MAX_GREETING_BYTES]));
        }
        written
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for GreetingRecorder<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.read_reason(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.read_reason(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.read_reason(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// The error if a step of connecting timed out.
pub(super) fn timed_out(address: &Address, step: ConnectStep) -> Error {
    let message = match step {
        ConnectStep::Tcp => "connect timed out: nothing answers at this address",
        ConnectStep::Tls => {
            "connect timed out: the server accepted the connection, but did not answer in TLS"
        }
        ConnectStep::Http2 => {
            "connect timed out: the server accepted the connection, but did not answer in HTTP/2"
        }
    };
    error(ErrorKind::Unavailable, address, message)
}

/// The error if no TCP connection could be opened.
pub(super) fn tcp_failure(address: &Address, cause: impl StdError + Send + Sync + 'static) -> Error {
    if is_timeout(&cause) {
        return timed_out(address, ConnectStep::Tcp).with_source(cause);
    }
    let reason = root_cause(&cause).to_string();
    let (absent, message) = match io_kind(&cause) {
        Some(io::ErrorKind::ConnectionRefused) => {
            (true, format!("nothing listens at this address: {reason}"))
        }
        Some(_) => (false, reason),
        None => (true, format!("the host can't be found: {reason}")),
    };
    let error = error(ErrorKind::Unavailable, address, message).with_source(cause);
    if absent { error.absent() } else { error }
}

/// The error if the TLS handshake failed.
pub(super) fn tls_failure(address: &Address, cause: io::Error) -> Error {
    match tls_error(&cause).cloned() {
        Some(tls) => tls_refusal(address, &tls).with_source(cause),
        None => {
            let message =
                format!("the connection broke in the TLS handshake; does the server speak TLS? ({cause})");
            error(ErrorKind::Unavailable, address, message).with_source(cause).absent()
        }
    }
}

/// The TLS error in an I/O error.
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// The error if TLS ended with `cause`.
fn tls_refusal(address: &Address, cause: &rustls::Error) -> Error {
    let message = match tls_advice(cause) {
        Some(advice) => format!("{advice} ({cause})"),
        None => cause.to_string(),
    };
    error(ErrorKind::Tls, address, message)
}

/// What to do about a failed handshake.
fn tls_advice(error: &rustls::Error) -> Option<&'static str> {
    match error {
        rustls::Error::InvalidMessage(_) => {
            Some("the server does not speak TLS at this port; use http:// or turn TLS off")
        }
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            Some("the server does not offer HTTP/2, so it is not a gRPC server")
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            Some("the server requires a client certificate; give one with its key")
        }
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied,
        ) => Some("the server does not accept the client's certificate"),
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            Some("the server refused the TLS handshake; it may require a client certificate")
        }
        rustls::Error::InvalidCertificate(error) => certificate_advice(error),
        _ => None,
    }
}

fn certificate_advice(error: &CertificateError) -> Option<&'static str> {
    Some(match error {
        // `BadSignature` means an authority with the name of a trusted one, but another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the server's certificate is not signed by a trusted authority; give the certificate of the authority that signed it as the CA"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate is for another name; connect by a name that it contains, or give that name as the TLS server name"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet; check this machine's clock"
        }
        // The type of this error is not public.
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "the server's certificate is that of a certificate authority; create it with basicConstraints=CA:FALSE, or sign a server certificate with it"
        }
        _ => return None,
    })
}

/// The error if the server does not offer HTTP/2 over TLS.
pub(super) fn no_http2_over_tls(address: &Address) -> Error {
    error(
        ErrorKind::Protocol,
        address,
        "the server does not offer HTTP/2 over TLS, so it is not a gRPC server",
    )
}

/// The error if a connection ended before the server's HTTP/2 settings arrived. `origin` says whether it uses TLS.
pub(super) fn no_http2(
    address: &Address,
    origin: &Uri,
    greeting: &Greeting,
    cause: Option<hyper::Error>,
) -> Error {
    let first = greeting.0.lock();
    let error = match &first.tls {
        Some(tls) => tls_refusal(address, tls),
        None if first.bytes.is_empty() && origin.scheme() == Some(&Scheme::HTTPS) => error(
            ErrorKind::Unavailable,
            address,
            "the server closed the connection after the TLS handshake; it may require a client certificate",
        )
        .absent(),
        None => unexpected_greeting(address, &first.bytes),
    };
    drop(first);
    match cause {
        Some(cause) => error.with_source(cause),
        None => error,
    }
}

/// The error if the server's first bytes are not the settings of HTTP/2.
fn unexpected_greeting(address: &Address, bytes: &[u8]) -> Error {
    const TLS_ALERT: u8 = 21;
    const TLS_HANDSHAKE: u8 = 22;
    match bytes {
        [] => error(
            ErrorKind::Unavailable,
            address,
            "the server closed the connection at once: it is not a RocketMQ proxy, or it requires TLS (use https://)",
        )
        .absent(),
        [TLS_ALERT | TLS_HANDSHAKE, 3, ..] => {
            error(ErrorKind::Tls, address, "the server speaks TLS at this port; use https:// or turn TLS on")
        }
        // A settings frame is shorter than 64 KiB, so the first byte of its length is zero.
        [0, ..] => {
            error(ErrorKind::Unavailable, address, "the connection ended before the server's settings came")
        }
        _ => {
            let text = String::from_utf8_lossy(bytes);
            let line = text.lines().next().unwrap_or_default();
            let protocol = if text.starts_with("HTTP/1") || text.starts_with('<') {
                "the server speaks HTTP/1"
            } else {
                "the server does not speak HTTP/2"
            };
            let message = format!("{protocol} at this port, so it is not a gRPC server: it sent {line:?}");
            error(ErrorKind::Protocol, address, message)
        }
    }
}

/// The error if the address can't be used at all.
pub(super) fn unusable_address(address: &Address, reason: &str) -> Error {
    Error::new(ErrorKind::InvalidOptions, "connect", format!("the endpoint can't be used: {reason}"))
        .with_endpoint(address.to_string())
}

fn error(kind: ErrorKind, address: &Address, message: impl Into<String>) -> Error {
    Error::new(kind, "connect", message)
        .with_retryable(retry::is_retryable("connect", kind, None))
        .with_endpoint(address.to_string())
        .unreached()
}

/// Whether none of the IP addresses of a host has answered in its part of the time.
fn is_timeout(error: &(dyn StdError + 'static)) -> bool {
    root_cause(error).downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// The kind of the I/O error at the end of a chain of errors.
fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    let error = root_cause(error).downcast_ref::<io::Error>()?;
    // A failed resolution of a host name has no OS error code.
    error.raw_os_error().map(|_| error.kind())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn the_first_bytes_show_which_protocol_a_server_speaks() {
        let address = Address::new("h", 1);
        for (bytes, kind, retryable, text) in [
            (&b""[..], ErrorKind::Unavailable, true, "https://"),
            (b"\x15\x03\x01\x00\x02\x02\x46", ErrorKind::Tls, false, "https://"),
            (b"HTTP/1.1 400 Bad Request\r\n", ErrorKind::Protocol, false, "HTTP/1"),
            (b"<!DOCTYPE HTML>\n<html>", ErrorKind::Protocol, false, "HTTP/1"),
            (b"+OK POP3 ready\r\n", ErrorKind::Protocol, false, "POP3"),
            (b"\x00\x00\x12\x04", ErrorKind::Unavailable, true, "settings"),
        ] {
            let error = unexpected_greeting(&address, bytes);
            assert_eq!((error.kind(), error.retryable()), (kind, retryable), "{error}");
            assert!(error.message().contains(text), "{error}");
        }
    }

    /// A connection that the server has closed after it sent these bytes.
    struct Closed(&'static [u8]);

    impl AsyncRead for Closed {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            buffer.put_slice(self.0);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Closed {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn the_reason_of_a_refusal_is_read_after_a_failed_write() {
        let greeting = Greeting::default();
        let mut stream = GreetingRecorder::new(Closed(b"HTTP/1.1 400"), greeting.clone());
        stream.write_all(b"PRI").await.unwrap_err();
        assert_eq!(greeting.0.lock().bytes, b"HTTP/1.1 400");
    }

    #[test]
    fn the_error_of_a_connection_that_ends_says_what_to_do_about_tls() {
        let address = Address::new("h", 1);
        for (origin, text) in
            [("http://h", "use https://"), ("https://h", "may require a client certificate")]
        {
            let error = no_http2(&address, &Uri::from_static(origin), &Greeting::default(), None);
            assert!(error.message().contains(text), "{error}");
        }
    }

    #[test]
    fn the_error_of_a_refused_certificate_says_what_to_do() {
        for (error, text) in [
            (CertificateError::UnknownIssuer, "as the CA"),
            (CertificateError::NotValidForName, "another name"),
            (CertificateError::Expired, "expired"),
        ] {
            let cause = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::InvalidCertificate(error));
            let error = tls_failure(&Address::new("h", 1), cause);
            assert_eq!((error.kind(), error.retryable()), (ErrorKind::Tls, false));
            assert!(error.message().contains(text), "{error}");
        }
    }
}
