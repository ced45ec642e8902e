//! Buffers writes to a connection, so that several frames share a system call.
//!
//! HTTP/2 sends a request as several frames, and the task that provides the body runs after the task that writes to the
//! connection. Without a buffer, each frame would take a system call and wake the server.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The maximum size of the buffer, in bytes.
const MAX_BUFFERED: usize = 64 * 1024;

/// A stream that buffers writes. A flush first yields to other tasks that are ready, so that their writes are included.
pub(super) struct WriteBuffer<T> {
    inner: T,
    buffered: Vec<u8>,
    /// How many bytes of the buffer are written.
    written: usize,
    /// Whether the current flush has yielded to other tasks.
    yielded: bool,
}

impl<T: AsyncWrite + Unpin> WriteBuffer<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, buffered: Vec::new(), written: 0, yielded: false }
    }

    /// Waits until the buffer has room, and returns how many bytes.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffered.len() >= MAX_BUFFERED {
            ready!(self.poll_write_out(cx))?;
        }
        Poll::Ready(Ok(MAX_BUFFERED - self.buffered.len()))
    }

    /// Writes the whole buffer to the stream.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.buffered.len() {
            let rest = &self.buffered[self.written..];
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.buffered.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WriteBuffer<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WriteBuffer<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let room = ready!(self.poll_room(cx))?;
        let count = bytes.len().min(room);
        self.buffered.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = ready!(self.poll_room(cx))?;
        let mut left = room;
        for slice in slices {
            let count = slice.len().min(left);
            self.buffered.extend_from_slice(&slice[..count]);
            left -= count;
        }
        Poll::Ready(Ok(room - left))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.buffered.is_empty() {
            if !self.yielded {
                self.yielded = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            ready!(self.poll_write_out(cx))?;
        }
        self.yielded = false;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Accepts at most `width` bytes per write, and counts the writes.
    struct Narrow {
        width: usize,
        writes: usize,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.width);
            self.writes += 1;
            self.taken.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn buffer(width: usize) -> WriteBuffer<Narrow> {
        WriteBuffer::new(Narrow { width, writes: 0, taken: Vec::new() })
    }

    #[tokio::test]
    async fn writes_of_tasks_that_are_ready_share_a_system_call() {
        let mut buffer = buffer(usize::MAX);
        buffer.write_all(b"head").await.unwrap();
        let mut flush = Box::pin(buffer.flush());
        assert!(futures::poll!(&mut flush).is_pending());
        drop(flush);
        buffer.write_all(b"body").await.unwrap();
        buffer.flush().await.unwrap();
        assert_eq!((buffer.inner.writes, buffer.inner.taken.as_slice()), (1, &b"headbody"[..]));
    }

    #[tokio::test]
    async fn all_arrives_in_order_through_a_narrow_stream() {
        let mut buffer = buffer(1000);
        let bytes: Vec<u8> = (0..3 * MAX_BUFFERED).map(|n| (n % 251) as u8).collect();
        for part in bytes.chunks(7001) {
            buffer.write_all(part).await.unwrap();
            assert!(buffer.buffered.len() <= MAX_BUFFERED);
        }
        buffer.shutdown().await.unwrap();
        assert_eq!(buffer.inner.taken, bytes);
    }

    #[tokio::test]
    async fn both_directions_pass_through() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut buffer = WriteBuffer::new(near);
        buffer.write_all(b"question").await.unwrap();
        buffer.flush().await.unwrap();
        let mut question = [0; 8];
        far.read_exact(&mut question).await.unwrap();
        far.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        buffer.read_exact(&mut answer).await.unwrap();
        assert_eq!((&question, &answer), (b"question", b"answer"));
    }
}
