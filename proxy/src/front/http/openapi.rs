//! The routes, and their description in OpenAPI, which is generated from the handlers.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::routing::get;
use serde_json::{Map, Value, json};
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::{OpenApi, openapi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::config::HttpConfig;
use super::problem::Problem;
use super::shared::Shared;
use super::{admin, events, receive, send, settle};
use crate::front::route_addresses::ServedEntry;

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
    let description = Arc::new(describe(&description).to_string());
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

/// The description as JSON, with the constraints that the types of handlers do not express.
fn describe(description: &openapi::OpenApi) -> Value {
    let mut description = serde_json::to_value(description).unwrap_or_default();
    bound_integers(&mut description);
    for (name, constraints) in constraints() {
        let schema = description.pointer_mut(&format!("/components/schemas/{name}"));
        if let (Some(Value::Object(schema)), Value::Object(constraints)) = (schema, constraints) {
            schema.extend(constraints);
        }
    }
    description
}

/// Adds the range of integers, which their format only names.
fn bound_integers(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            // Only unsigned integers have a minimum and no maximum.
            let is_unsigned = members.contains_key("minimum");
            let bounds: Option<(Value, Value)> = match members.get("format").and_then(Value::as_str) {
                Some("int32") if is_unsigned => Some((0.into(), u32::MAX.into())),
                Some("int32") => Some((i32::MIN.into(), i32::MAX.into())),
                Some("int64") if is_unsigned => Some((0.into(), u64::MAX.into())),
                Some("int64") => Some((i64::MIN.into(), i64::MAX.into())),
                _ => None,
            };
            if let Some((minimum, maximum)) = bounds {
                members.entry("minimum").or_insert(minimum);
                members.entry("maximum").or_insert(maximum);
            }
            members.values_mut().for_each(bound_integers);
        }
        Value::Array(values) => values.iter_mut().for_each(bound_integers),
        _ => {}
    }
}

/// Constraints on several members of an object together, by the name of its schema.
fn constraints() -> [(&'static str, Value); 3] {
    let only = |present: &str, kind: &str, absent: &[&str]| {
        let mut properties: Map<_, _> =
            absent.iter().map(|name| ((*name).to_owned(), json!({"type": "null"}))).collect();
        properties.insert(present.to_owned(), json!({"type": kind}));
        json!({"required": [present], "properties": properties})
    };
    let message = json!({
        "oneOf": [only("text", "string", &["body"]), only("body", "string", &["text"])],
        "not": {
            "required": ["deliver_at", "delay"],
            "properties": {"deliver_at": {"type": "string"}, "delay": {"type": "string"}},
        },
    });
    let resend = json!({
        "oneOf": [only("next", "integer", &["id", "from"]), only("id", "string", &["next"])],
    });
    let event = json!({
        "not": {"required": ["data", "data_base64"]},
        "propertyNames": {"pattern": "^([a-z0-9]+|data_base64)$"},
        "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
    });
    [("NewMessage", message), ("Resend", resend), ("CloudEvent", event)]
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

#[cfg(test)]
mod tests;
