//! The gRPC services besides messaging, which use generated code: health, reflection (v1 and v1alpha) and
//! administration.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use rocketmq_thin_proto::thin::admin_server::AdminServer;
use rocketmq_thin_proto::{DESCRIPTORS, v2};
use tokio::sync::watch;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower_service::Service;

use super::admin::{self, Administration};
use super::admin_log::LogAdministration;
use super::admin_rights;
use super::{metadata, wire};
use crate::context::Origin;
use crate::front::port::Charge;
use crate::front::route_addresses::ServedEntry;
use crate::log_level::LogControl;
use crate::processor::{Health, Processor};

/// The largest request to a generated service in bytes, with all its messages.
const MAX_REQUEST_BYTES: usize = 4 << 20;

/// The messaging service's name in health checks.
const MESSAGING: &str = "apache.rocketmq.v2.MessagingService";

/// The service and the method of a call whose answer does not end by itself.
const WATCH: (&str, &str) = ("grpc.health.v1.Health", "Watch");
const ADMINISTRATION: [&str; 2] = ["rocketmq.thin.v1.Admin", "apache.rocketmq.v2.Admin"];
const SERVICES: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// Reports the health of the messaging service and of each cluster (`cluster/NAME`) to the health service.
async fn report_health(reporter: HealthReporter, mut health: watch::Receiver<Health>) {
    let status = |healthy: bool| if healthy { ServingStatus::Serving } else { ServingStatus::NotServing };
    while health.changed().await.is_ok() {
        let clusters = health.borrow_and_update().clone();
        for (cluster, missing) in &clusters {
            let name = if cluster.is_empty() { "default" } else { cluster };
            reporter.set_service_status(format!("cluster/{name}"), status(missing.is_none())).await;
        }
        let healthy = clusters.values().all(Option::is_none);
        reporter.set_service_status(MESSAGING, status(healthy)).await;
    }
}

pin_project! {
    /// The body of a request to a generated service. Its bytes are charged to the budget of the connection, and its time
    /// is limited.
    struct ChargedBody {
        #[pin]
        body: Incoming,
        charge: Arc<Mutex<Charge>>,
        evicted: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
        timeout: Pin<Box<Sleep>>,
    }

    impl PinnedDrop for ChargedBody {
        fn drop(this: Pin<&mut Self>) {
            // Nothing more is read, so there is nothing to evict. If it was evicted before, the reader has got the error.
            let _ = this.charge.lock().completed();
        }
    }
}

pin_project! {
    /// The body of an answer of a generated service. It counts as a call until it is sent or abandoned.
    struct CountedBody {
        #[pin]
        body: Body,
        charge: Arc<Mutex<Charge>>,
        // For an answer without an end of its own: the proxy begins to shut down.
        draining: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
        ended: bool,
    }
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let Some(draining) = this.draining else { return Poll::Pending };
        std::task::ready!(draining.as_mut().poll(cx));
        *this.ended = true;
        Poll::Ready(Some(Ok(wire::trailers(Code::Unavailable, "the proxy is shutting down"))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}

impl ChargedBody {
    fn new(body: Incoming, charge: Arc<Mutex<Charge>>, timeout: Duration) -> Self {
        Self { body, charge, evicted: None, timeout: Box::pin(tokio::time::sleep(timeout)) }
    }
}

impl http_body::Body for ChargedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let exhausted = |_| {
            Status::resource_exhausted(
                "the request is too large, or it arrived too slowly and its memory was needed for others",
            )
        };
        let Poll::Ready(frame) = this.body.poll_frame(cx) else {
            let charge = this.charge;
            let evicted =
                this.evicted.get_or_insert_with(|| Box::pin(charge.lock().incomplete().cancelled_owned()));
            if evicted.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Some(Err(exhausted(()))));
            }
            let late = || Status::deadline_exceeded("the request did not arrive in time");
            return this.timeout.as_mut().poll(cx).map(|()| Some(Err(late())));
        };
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(|error| Status::cancelled(error.to_string()))?;
        let mut charge = this.charge.lock();
        let bytes = charge.bytes() + frame.data_ref().map_or(0, Bytes::len);
        if bytes > MAX_REQUEST_BYTES {
            return Poll::Ready(Some(Err(exhausted(()))));
        }
        charge.set(bytes).map_err(|_| exhausted(()))?;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// The generated services behind one router.
#[derive(Clone)]
pub(super) struct OtherServices {
    processor: Arc<Processor>,
    routes: Routes,
    services: Vec<&'static str>,
    /// The time that the body of a request may take to arrive.
    timeout: Duration,
}

impl OtherServices {
    pub(super) fn new(
        processor: &Arc<Processor>,
        served: &ServedEntry,
        log: &Arc<LogControl>,
        timeout: Duration,
    ) -> Self {
        let administration = served.administration.then_some(log);
        // The overall status, which load balancers read, is SERVING as long as the process answers. A proxy without its
        // brokers can still report to clients what is missing.
        let reporter = HealthReporter::new();
        let health = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
        tokio::spawn(report_health(reporter, processor.health()));
        let mut routes = Routes::new(health);
        if let Some(log) = administration {
            let log = v2::admin_server::AdminServer::new(LogAdministration(log.clone()));
            let administration = AdminServer::new(Administration::new(processor.clone()));
            routes = routes.add_service(administration).add_service(log);
        }
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        match (reflection().build_v1(), reflection().build_v1alpha()) {
            (Ok(v1), Ok(v1alpha)) => routes = routes.add_service(v1).add_service(v1alpha),
            (Err(error), _) | (_, Err(error)) => tracing::warn!(%error, "failed to set up reflection"),
        }
        let services = SERVICES
            .into_iter()
            .chain(administration.map_or([].as_slice(), |_| &ADMINISTRATION).iter().copied());
        Self { processor: processor.clone(), routes: routes.prepare(), services: services.collect(), timeout }
    }

    /// Answers a call to one of these services. Returns the path as the error if it belongs to another service.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        origin: &Origin,
        charge: Charge,
    ) -> Result<Response<Body>, String> {
        let path = request.uri().path().trim_start_matches('/');
        let (service, method) = path.split_once('/').unwrap_or((path, ""));
        if !self.services.contains(&service) {
            return Err(path.to_owned());
        }
        let draining = ((service, method) == WATCH).then(|| self.processor.draining().clone());
        let administrator =
            ADMINISTRATION.contains(&service).then(|| metadata::administrator(request.headers(), origin));
        let right = admin_rights::right_for(method);
        let refused = || {
            let administrator = administrator.as_ref()?;
            let refusal = self.processor.administer(administrator, right).err()?;
            Some(admin::refused(refusal).into_http())
        };
        if let Some(refused) = refused() {
            return Ok(refused);
        }
        let charge = Arc::new(Mutex::new(charge));
        let mut request = request.map(|body| Body::new(ChargedBody::new(body, charge.clone(), self.timeout)));
        if administrator.is_some() {
            let (parts, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(status) => return Ok(status.into_http()),
            };
            // The sender may have lost the right while the body was on its way.
            if let Some(refused) = refused() {
                return Ok(refused);
            }
            request = Request::from_parts(parts, Body::new(Full::new(body)));
        }
        let response = match self.routes.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let draining = draining.map(|draining| Box::pin(draining.cancelled_owned()));
        Ok(response.map(|body| Body::new(CountedBody { body, charge, draining, ended: false })))
    }
}
