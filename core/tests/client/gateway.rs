//! A gateway in front of the test server, which can answer requests itself.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tonic::{
    body::Body,
    codegen::{
        Service,
        http::{Request, Response, StatusCode, header::CONTENT_TYPE},
    },
    server::NamedService,
};

/// Returns the HTTP status with which the gateway refuses a request of an RPC; `None` to forward the request.
pub(crate) type Refusal = Arc<dyn Fn(&str) -> Option<StatusCode> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Gateway<S> {
    inner: S,
    refusal: Refusal,
}

impl<S> Gateway<S> {
    pub(crate) fn new(inner: S, refusal: Refusal) -> Self {
        Self { inner, refusal }
    }
}

impl<S: NamedService> NamedService for Gateway<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Gateway<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let rpc = request.uri().path().rsplit('/').next().unwrap_or_default();
        let Some(status) = (self.refusal)(rpc) else { return Box::pin(self.inner.call(request)) };
        let page = "<html><body>The gateway speaks</body></html>".to_owned();
        let mut response = Response::new(Body::new(page));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, "text/html".parse().unwrap());
        Box::pin(async { Ok(response) })
    }
}
