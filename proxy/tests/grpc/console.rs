//! The console: its files, their headers, and where they are served. What it does in a browser is tested in `tests/console`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::access::Guarded;
use crate::http::{Answer, call, post};
use crate::support::Proxy;

async fn proxy() -> Proxy {
    Proxy::configured(|config| {
        config.http.enabled = true;
        config.http.console = true;
    })
    .await
}

async fn get(proxy: &Proxy, path: &str) -> Answer {
    call(proxy.address, (Method::GET, path), &[], "").await
}

#[tokio::test]
async fn the_page_may_load_nothing_from_elsewhere_and_run_nothing_else() {
    let proxy = proxy().await;
    for (path, content_type) in [
        ("/console/", "text/html; charset=utf-8"),
        ("/console/index.html", "text/html; charset=utf-8"),
        ("/console/style.css", "text/css; charset=utf-8"),
        ("/console/icon.svg", "image/svg+xml"),
        ("/console/app.js", "text/javascript; charset=utf-8"),
        ("/console/views/topics.js", "text/javascript; charset=utf-8"),
    ] {
        let file = get(&proxy, path).await;
        assert_eq!(file.status, StatusCode::OK, "{path}");
        assert_eq!(file.headers["content-type"], content_type, "{path}");
        for (name, expected) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-cache"),
        ] {
            assert_eq!(file.headers[name], expected, "{path}");
        }
        let policy = file.headers["content-security-policy"].to_str().expect("text");
        for directive in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self'",
            "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.split("; ").any(|part| part == directive), "{directive}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !file.headers.contains_key("set-cookie"));
    }
    let moved = get(&proxy, "/console").await;
    assert_eq!(
        (moved.status, &moved.headers["location"]),
        (StatusCode::PERMANENT_REDIRECT, &"/console/".parse().expect("a header"))
    );
    for path in ["/console/nothing.js", "/console/../Cargo.toml", "/console/views/", "/console/%2e%2e/mod.rs"]
    {
        assert_eq!(get(&proxy, path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let changed = call(proxy.address, (Method::POST, "/console/"), &[], "").await;
    assert_eq!(changed.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn it_is_served_if_configured_and_where_administration_is() {
    let without = crate::http::proxy().await;
    assert_eq!(get(&without, "/console/").await.status, StatusCode::NOT_FOUND);

    let separate = Proxy::configured(|config| {
        config.http.enabled = true;
        config.http.console = true;
        config.admin_listen = Some("127.0.0.1:0".to_owned());
    })
    .await;
    let admin = separate.admin_address.expect("an address");
    for (address, expected) in [(admin, StatusCode::OK), (separate.address, StatusCode::NOT_FOUND)] {
        assert_eq!(call(address, (Method::GET, "/console/"), &[], "").await.status, expected);
    }
}

#[tokio::test]
async fn its_files_need_no_user_and_its_data_do() {
    let (guarded, _) = Guarded::start_with(&[("ops", &[])], |config| config.http.console = true).await;
    let address = guarded.proxy.address;
    assert_eq!(call(address, (Method::GET, "/console/"), &[], "").await.status, StatusCode::OK);
    for path in
        ["/v1/topics", "/v1/topic-stats", "/v1/groups", "/v1/clients", "/v1/quotas", "/v1/topics/t/messages"]
    {
        assert_eq!(
            call(address, (Method::GET, path), &[], "").await.status,
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
    }
}

#[tokio::test]
async fn quotas_are_set_listed_and_removed_and_bodies_are_cut() {
    let proxy = proxy().await;
    let quota = json!({"name": "slow", "per": "client", "send_messages_per_second": 5, "burst": "2s"});
    assert_eq!(post(proxy.address, "/v1/quotas", quota).await.status, StatusCode::NO_CONTENT);
    let wrong = json!({"name": "none", "per": "client"});
    assert_eq!(post(proxy.address, "/v1/quotas", wrong).await.problem().0, 400);
    let listed = get(&proxy, "/v1/quotas").await.json();
    assert_eq!(
        listed["quotas"],
        json!([{
            "name": "slow", "per": "client", "send_messages_per_second": 5, "burst": "2s", "on_excess": "refuse",
            "max_delay": "1s", "refused": 0, "delayed": 0,
        }])
    );
    for expected in [StatusCode::NO_CONTENT, StatusCode::NOT_FOUND] {
        let removed = call(proxy.address, (Method::DELETE, "/v1/quotas/slow"), &[], "").await;
        assert_eq!(removed.status, expected);
    }

    post(proxy.address, "/v1/topics", json!({"name": "t", "queues": 1})).await;
    post(proxy.address, "/v1/topics/t/messages", json!({"text": "0123456789"})).await;
    let found = get(&proxy, "/v1/topics/t/messages?max_body=4").await.json();
    let message = &found["messages"][0];
    assert_eq!((&message["text"], &message["body_bytes"]), (&json!("0123"), &json!(10)));
}

#[tokio::test]
async fn users_are_listed_without_their_secrets_to_who_may_do_everything() {
    let (guarded, secrets) = Guarded::start(&[
        ("ops", &[&["Cluster:*", "all"]]),
        ("reader", &[&["Cluster:*", "list"], &["Topic:orders", "sub", "--from", "10.0.0.0/8", "--deny"]]),
    ])
    .await;
    let as_user = async |user: usize| {
        let text = STANDARD.encode(format!("{}:{}", ["ops", "reader"][user], secrets[user]));
        let headers = [("authorization", format!("Basic {text}"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        call(guarded.proxy.address, (Method::GET, "/v1/users"), &headers, "").await
    };
    assert_eq!(as_user(1).await.status, StatusCode::FORBIDDEN);
    let policy = |(number, user): (u32, &str), resource: &str, actions: &[&str], effect: &str| json!({"number": number, "user": user, "resource": resource, "actions": actions, "effect": effect, "from": []});
    let user = |name: &str, policies: Value| json!({"name": name, "type": "normal", "enabled": true, "certificates": [], "policies": policies});
    let mut denied = policy((3, "reader"), "Topic:orders", &["sub"], "deny");
    denied["from"] = json!(["10.0.0.0/8"]);
    assert_eq!(
        as_user(0).await.json()["users"],
        json!([
            user("ops", json!([policy((1, "ops"), "Cluster:*", &["all"], "allow")])),
            user("reader", json!([policy((2, "reader"), "Cluster:*", &["list"], "allow"), denied])),
        ])
    );
    assert_eq!(get(&proxy().await, "/v1/users").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn lite_topics_are_listed_and_looked_at() {
    let proxy = proxy().await;
    post(proxy.address, "/v1/topics", json!({"name": "rooms", "type": "lite"})).await;
    for room in ["b", "a"] {
        post(proxy.address, "/v1/topics/rooms/messages", json!({"text": "hello", "lite_topic": room})).await;
    }
    let listed = get(&proxy, "/v1/topics/rooms/lite-topics").await.json();
    let names: Vec<_> =
        listed["lite_topics"].as_array().expect("a list").iter().map(|lite| &lite["name"]).collect();
    assert_eq!((names, listed.get("next")), (vec![&json!("a"), &json!("b")], None));
    assert_eq!(
        get(&proxy, "/v1/topics/rooms/lite-topics?after=a").await.json()["lite_topics"][0]["name"],
        "b"
    );
    assert_eq!(
        get(&proxy, "/v1/topics/rooms/stats?lite_topic=a").await.json()["queues"][0]["next_offset"],
        1
    );
}
