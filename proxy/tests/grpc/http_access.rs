//! Access control and origins over HTTP.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use serde_json::json;

use crate::access::Guarded;
use crate::http::{Answer, call};
use crate::support::Proxy;

async fn send(guarded: &Guarded, authorization: Option<&str>) -> Answer {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(authorization.map(|text| ("authorization", text)));
    let body = json!({"text": "a"}).to_string();
    call(guarded.proxy.address, (Method::POST, "/v1/topics/orders/messages"), &headers, body).await
}

#[tokio::test]
async fn users_of_http_do_what_they_may_and_nothing_else() {
    let (guarded, secrets) = Guarded::start(&[
        ("shop", &[&["Topic:orders", "pub"]]),
        ("billing", &[&["Topic:orders", "sub"], &["Group:billing*", "sub"]]),
    ])
    .await;
    let encoded = |user: &str, secret: &str| STANDARD.encode(format!("{user}:{secret}"));
    let shop = encoded("shop", &secrets[0]);
    for scheme in ["Basic", "Bearer", "basic"] {
        assert_eq!(
            send(&guarded, Some(&format!("{scheme} {shop}"))).await.status,
            StatusCode::OK,
            "{scheme}"
        );
    }
    let wrong = |text: &str| format!("Basic {text}");
    for authorization in [
        None,
        Some(wrong(&encoded("shop", "guess"))),
        Some(wrong(&encoded("shop", &secrets[1]))),
        Some(wrong(&encoded("nobody", &secrets[0]))),
        Some(wrong(&STANDARD.encode("shop"))),
        Some(wrong("?")),
        Some(format!("Digest {shop}")),
        Some("Basic".to_owned()),
    ] {
        let refused = send(&guarded, authorization.as_deref()).await;
        assert_eq!(refused.problem(), (401, "Unauthenticated".to_owned(), 40100), "{authorization:?}");
        assert!(refused.headers["www-authenticate"].to_str().expect("text").starts_with("Basic "));
    }
    let billing = format!("Basic {}", encoded("billing", &secrets[1]));
    let refused = send(&guarded, Some(&billing)).await;
    assert_eq!(refused.problem(), (403, "Unauthenticated".to_owned(), 40100));
    for (path, expected) in [
        ("/v1/groups/billing-eu/topics/orders/receive", 200),
        ("/v1/groups/audit/topics/orders/receive", 403),
        ("/v1/groups/billing-eu/topics/others/receive", 403),
    ] {
        let received =
            call(guarded.proxy.address, (Method::POST, path), &[("authorization", &billing)], "").await;
        assert_eq!(received.status.as_u16(), expected, "{path}");
    }
}

#[tokio::test]
async fn pages_of_configured_origins_may_send_requests() {
    let proxy = Proxy::configured(|config| {
        config.http.enabled = true;
        config.http.cors_origins = vec!["https://shop.example".to_owned()];
    })
    .await;
    for (origin, allowed) in [("https://shop.example", true), ("https://evil.example", false)] {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        let path = "/v1/topics/t/messages";
        let preflight = call(proxy.address, (Method::OPTIONS, path), &headers, "").await;
        let allows = preflight.headers.get("access-control-allow-origin").map(|value| value == origin);
        assert_eq!(allows.is_some_and(|allows| allows), allowed, "{origin}");
        // Browsers send this without asking.
        let simple = [("origin", origin), ("content-type", "text/plain")];
        let sent = call(proxy.address, (Method::POST, path), &simple, "hello").await;
        let expected = if allowed { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(sent.status, expected, "{origin}");
    }
}
