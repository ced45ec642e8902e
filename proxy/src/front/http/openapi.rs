//! The routes, and their description in OpenAPI, which is generated from the handlers.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::routing::get;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::config::HttpConfig;
use super::problem::Problem;
use super::shared::Shared;
use super::{admin, events, receive, send, settle};
use crate::front::served_entry::ServedEntry;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "RocketMQ thin proxy",
        description = "Sending, receiving and settling messages of RocketMQ, and administration.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "messages", description = "Sending, receiving and settling messages"),
        (name = "administration", description = "Administering topics, groups, messages, clients, users and quotas"),
    )
)]
struct Description;

/// The routes of a port, with a description of these routes.
pub(super) fn router(served: &ServedEntry, config: &HttpConfig) -> Router<Arc<Shared>> {
    let (router, description) = routes(served).split_for_parts();
    let description = Arc::new(description.to_json().unwrap_or_default());
    let router = router
        .route(
            "/openapi.json",
            get(async move || {
                ([(header::CONTENT_TYPE, "application/json")], description.as_str().to_owned())
            }),
        )
        .fallback(async |uri: Uri| {
            Problem::http(StatusCode::NOT_FOUND, format!("there is no resource {}", uri.path()))
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Problem::http(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not support {method}", uri.path()))
        });
    #[cfg(feature = "console")]
    let router = match served.administration && config.console {
        true => router.merge(super::console::router()),
        false => router,
    };
    match cors(config) {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

fn routes(served: &ServedEntry) -> OpenApiRouter<Arc<Shared>> {
    let mut description = Description::openapi();
    let basic = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Basic).build());
    description.components.get_or_insert_default().add_security_scheme("basic", basic);
    // Credentials are optional: without access control, they are not needed.
    description.security =
        Some(vec![SecurityRequirement::default(), SecurityRequirement::new("basic", [""; 0])]);
    let mut router = OpenApiRouter::with_openapi(description);
    if served.messaging {
        router = router
            .routes(routes!(send::send))
            .routes(routes!(send::recall))
            .routes(routes!(send::end_transaction))
            .routes(routes!(receive::receive, events::stream))
            .routes(routes!(settle::ack))
            .routes(routes!(settle::nack))
            .routes(routes!(settle::extend))
            .routes(routes!(settle::dead_letter));
    }
    if served.administration {
        router = router.merge(admin::routes());
    }
    router
}

fn cors(config: &HttpConfig) -> Option<CorsLayer> {
    let origins = &config.cors_origins;
    if origins.is_empty() {
        return None;
    }
    let origins = match origins.iter().any(|origin| origin == "*") {
        true => AllowOrigin::any(),
        false => AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
    };
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let headers = [header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT];
    let own = ["x-rocketmq-client-id", "x-rocketmq-namespace", "x-rocketmq-tag", "x-rocketmq-keys"];
    let headers = headers.into_iter().chain(own.into_iter().map(HeaderName::from_static));
    let cors = CorsLayer::new().allow_origin(origins).allow_methods(methods);
    Some(cors.allow_headers(headers.collect::<Vec<_>>()).max_age(std::time::Duration::from_secs(3600)))
}
