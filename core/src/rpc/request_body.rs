//! A request body that lets hyper set END_STREAM on its last frame.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tonic::Status;

/// A body that reports its end together with its last frame.
///
/// Otherwise hyper sends an extra empty DATA frame.
pub(super) struct RequestBody {
    inner: tonic::body::Body,
    next: Option<Result<Frame<Bytes>, Status>>,
    ended: bool,
}

impl RequestBody {
    pub(super) fn new(inner: tonic::body::Body) -> Self {
        Self { inner, next: None, ended: false }
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        self.ended = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match self.next.take() {
            Some(frame) => Some(frame),
            None => ready!(self.poll_inner(cx)),
        };
        if frame.is_some()
            && let Poll::Ready(next) = self.poll_inner(cx)
        {
            self.next = next;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none() && (self.ended || self.inner.is_end_stream())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::{
        StreamExt,
        stream::{self, BoxStream},
    };

    use super::*;

    struct Frames(BoxStream<'static, Result<Frame<Bytes>, Status>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.0.poll_next_unpin(cx)
        }
    }

    fn frames(parts: &[Result<&'static str, ()>]) -> Vec<Result<Frame<Bytes>, Status>> {
        let frame = |part: &Result<&'static str, ()>| match part {
            Ok(text) => Ok(Frame::data(Bytes::from_static(text.as_bytes()))),
            Err(()) => Err(Status::cancelled("given up")),
        };
        parts.iter().map(frame).collect()
    }

    fn body(
        frames: impl stream::Stream<Item = Result<Frame<Bytes>, Status>> + Send + 'static,
    ) -> RequestBody {
        RequestBody::new(tonic::body::Body::new(Frames(frames.boxed())))
    }

    async fn next(body: &mut RequestBody) -> Option<Result<Bytes, Status>> {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
        Some(frame.map(|frame| frame.into_data().unwrap()))
    }

    #[tokio::test]
    async fn the_last_frame_is_known_to_be_the_last() {
        let mut body = body(stream::iter(frames(&[Ok("a"), Ok("b")])));
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "a");
        assert!(!body.is_end_stream());
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "b");
        assert!(body.is_end_stream());
        assert!(next(&mut body).await.is_none());
    }

    #[tokio::test]
    async fn a_stream_that_goes_on_does_not_hold_back_what_is_there() {
        let mut body = body(stream::iter(frames(&[Ok("a")])).chain(stream::pending()));
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "a");
        assert!(!body.is_end_stream());
        assert!(futures::poll!(std::pin::pin!(next(&mut body))).is_pending());
    }

    #[tokio::test]
    async fn an_error_comes_after_what_was_before_it() {
        let mut body = body(stream::iter(frames(&[Ok("a"), Err(())])));
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "a");
        assert!(!body.is_end_stream());
        assert!(next(&mut body).await.unwrap().is_err());
        assert!(body.is_end_stream());
    }
}
