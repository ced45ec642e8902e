//! Gathers what is written at the same time.
//!
//! HTTP/2 sends a request as several frames, and the task that has the body runs after the one that writes the
//! connection. Written at once, each frame would cost a system call, and wake the server.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is gathered at most, in bytes.
const MOST: usize = 64 * 1024;

/// A stream whose flush first lets the tasks run that are ready, so that what they write goes out with the rest.
pub(super) struct WriteBuffer<T> {
    inner: T,
    gathered: Vec<u8>,
    /// How much of it is written.
    written: usize,
    /// Whether the other tasks had their turn.
    waited: bool,
}

impl<T: AsyncWrite + Unpin> WriteBuffer<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, gathered: Vec::new(), written: 0, waited: false }
    }

    /// Waits until there is room, and returns how much.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.gathered.len() >= MOST {
            ready!(self.poll_write_out(cx))?;
        }
        Poll::Ready(Ok(MOST - self.gathered.len()))
    }

    /// Writes everything that is gathered.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.gathered.len() {
            let rest = &self.gathered[self.written..];
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.gathered.clear();
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
        self.gathered.extend_from_slice(&bytes[..count]);
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
            self.gathered.extend_from_slice(&slice[..count]);
            left -= count;
        }
        Poll::Ready(Ok(room - left))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.gathered.is_empty() {
            if !self.waited {
                self.waited = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            ready!(self.poll_write_out(cx))?;
        }
        self.waited = false;
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

    /// Takes at most this many bytes at a time, and counts the writes.
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
    async fn what_is_written_before_the_turn_of_the_others_is_over_goes_out_together() {
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
        let bytes: Vec<u8> = (0..3 * MOST).map(|n| (n % 251) as u8).collect();
        for part in bytes.chunks(7001) {
            buffer.write_all(part).await.unwrap();
            assert!(buffer.gathered.len() <= MOST);
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
