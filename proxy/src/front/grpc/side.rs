//! The services beside the hot one, on the same port: health, reflection (v1 and v1alpha), administration.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use rocketmq_thin_proto::DESCRIPTORS;
use rocketmq_thin_proto::thin::admin_server::AdminServer;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower_service::Service;

use super::admin::Administration;
use crate::processor::{Health, Processor};

/// The hot service, as the health service names it.
const MESSAGING: &str = "apache.rocketmq.v2.MessagingService";

const SERVICES: [&str; 4] = [
    "rocketmq.thin.v1.Admin",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// Tells whether the messaging service as a whole, and each cluster (`cluster/NAME`), can do its work.
async fn report(reporter: HealthReporter, mut health: watch::Receiver<Health>) {
    let status = |well: bool| if well { ServingStatus::Serving } else { ServingStatus::NotServing };
    while health.changed().await.is_ok() {
        let clusters = health.borrow_and_update().clone();
        for (cluster, missing) in &clusters {
            let name = if cluster.is_empty() { "default" } else { cluster };
            reporter.set_service_status(format!("cluster/{name}"), status(missing.is_none())).await;
        }
        let well = clusters.values().all(Option::is_none);
        reporter.set_service_status(MESSAGING, status(well)).await;
    }
}

/// Generated services behind one router.
#[derive(Clone)]
pub(super) struct SideServices {
    routes: Routes,
}

impl SideServices {
    pub(super) fn new(processor: &Arc<Processor>) -> Self {
        // The overall status is what a balancer asks for: as long as this process answers, it serves, and be it by
        // telling clients what is missing.
        let reporter = HealthReporter::new();
        let health = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
        tokio::spawn(report(reporter, processor.health()));
        let mut routes =
            Routes::new(AdminServer::new(Administration::new(processor.clone()))).add_service(health);
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        match (reflection().build_v1(), reflection().build_v1alpha()) {
            (Ok(v1), Ok(v1alpha)) => routes = routes.add_service(v1).add_service(v1alpha),
            (Err(error), _) | (_, Err(error)) => tracing::warn!(%error, "no reflection"),
        }
        Self { routes: routes.prepare() }
    }

    /// Answers a call of one of these services; of no other, and then returns what was asked for.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, String> {
        let path = request.uri().path().trim_start_matches('/');
        let service = path.split_once('/').map_or(path, |(service, _)| service);
        if !SERVICES.contains(&service) {
            return Err(path.to_owned());
        }
        match self.routes.clone().call(request).await {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }
}
