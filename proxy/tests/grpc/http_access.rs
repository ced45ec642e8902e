//! Access control and origins over HTTP.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::access::{Guarded, offline};
use crate::http::{Answer, call, open};
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

/// What an operation needs: an action on a resource each, and a request that works. `{topic}` is `orders`, and `{group}` is
/// `billing`.
struct Needed {
    rights: &'static [(&'static str, &'static str)],
    query: &'static str,
    body: Option<Value>,
}

/// The rights that each operation of the description needs. One that is not listed here fails the test.
fn needed(operation: &str) -> Needed {
    const LIST: &[(&str, &str)] = &[("Cluster:*", "list")];
    const GET: &[(&str, &str)] = &[("Cluster:*", "get")];
    const UPDATE: &[(&str, &str)] = &[("Cluster:*", "update")];
    const DELETE: &[(&str, &str)] = &[("Cluster:*", "delete")];
    const PUT: &[(&str, &str)] = &[("Cluster:*", "create"), ("Cluster:*", "update")];
    const EVERYTHING: &[(&str, &str)] = &[
        ("Cluster:*", "create"),
        ("Cluster:*", "update"),
        ("Cluster:*", "delete"),
        ("Cluster:*", "get"),
        ("Cluster:*", "list"),
    ];
    // A super user's, which no policy gives.
    const SUPER: &[(&str, &str)] = &[("Super", "user")];
    const SEND: &[(&str, &str)] = &[("Topic:orders", "pub")];
    const CONSUME: &[(&str, &str)] = &[("Topic:orders", "sub"), ("Group:billing", "sub")];
    let handles = || Some(json!({"handles": ["HANDLE"]}));
    let (rights, query, body) = match operation {
        "listTopics" | "listGroups" | "listClients" | "listQuotas" | "listTopicStats" | "listGroupStats"
        | "listLiteTopics" | "describeTopic" | "describeGroup" => (LIST, "", None),
        "storeStats" | "topicStats" | "groupStats" | "traceMessage" => (GET, "", None),
        "readMessages" => (GET, "?offset=0", None),
        "updateTopic" | "updateGroup" => (UPDATE, "", Some(json!({}))),
        "resetGroup" => (UPDATE, "", Some(json!({"topic": "orders", "to": "latest"}))),
        "resendDeadLetters" => (UPDATE, "", Some(json!({"next": 1}))),
        "deleteTopic" | "deleteGroup" | "removeQuota" => (DELETE, "", None),
        "createTopic" | "createGroup" => (PUT, "", Some(json!({"name": "new"}))),
        "setQuota" => (PUT, "", Some(json!({"name": "q", "per": "client", "requests_per_second": 1}))),
        "listUsers" => (EVERYTHING, "", None),
        "explainAccess" => (EVERYTHING, "?resource=Topic:orders&action=pub", None),
        "addUser" => (SUPER, "", Some(json!({"name": "new"}))),
        "addPolicy" => {
            (SUPER, "", Some(json!({"user": "new", "resource": "Topic:orders", "actions": ["pub"]})))
        }
        "updateUser" | "setUserSecret" => (SUPER, "", Some(json!({}))),
        "removeUser" | "removePolicy" => (SUPER, "", None),
        "sendMessages" => (SEND, "", Some(json!({"text": "a"}))),
        "recallMessage" => (SEND, "", Some(json!({"recall_handle": "x"}))),
        "endTransaction" => {
            (SEND, "", Some(json!({"message_id": "m", "transaction_id": "t", "decision": "commit"})))
        }
        "receiveMessages" | "streamMessages" => (CONSUME, "?wait=0s", None),
        "ackMessages" | "deadLetterMessages" => (CONSUME, "", handles()),
        "nackMessages" => (CONSUME, "", handles()),
        "extendLeases" => (CONSUME, "", Some(json!({"handles": ["HANDLE"], "invisible": "60s"}))),
        other => panic!("{other}: which rights does it need?"),
    };
    Needed { rights, query, body }
}

/// All rights but this one.
fn without((resource, action): (&str, &str)) -> Vec<[String; 2]> {
    let all = [("Cluster", "create,update,delete,get,list"), ("Topic", "pub,sub"), ("Group", "sub")];
    let kind = resource.split(':').next();
    let rights = all.into_iter().filter_map(|(of, actions)| {
        let left: Vec<_> = actions.split(',').filter(|it| kind != Some(of) || *it != action).collect();
        (!left.is_empty()).then(|| [format!("{of}:*"), left.join(",")])
    });
    rights.collect()
}

#[tokio::test]
async fn every_operation_needs_its_rights_and_no_others() {
    let described =
        call(crate::http::proxy().await.address, (Method::GET, "/openapi.json"), &[], "").await.json();
    let mut operations = Vec::new();
    for (path, methods) in described["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let id = operation["operationId"].as_str().expect("an id").to_owned();
            if operation["tags"][0] != "description" {
                let method: Method = method.to_uppercase().parse().expect("a method");
                operations.push((id, method, path.clone()));
            }
        }
    }
    assert!(operations.len() > 30, "{operations:?}");

    // A user for each set of rights, and one for each right that has all others.
    let mut users: Vec<(String, Vec<[String; 2]>)> = Vec::new();
    for (id, ..) in &operations {
        let rights = needed(id).rights;
        users.push((
            exactly(rights),
            rights
                .iter()
                .filter(|(on, _)| *on != "Super")
                .map(|(on, action)| [(*on).to_owned(), (*action).to_owned()])
                .collect(),
        ));
        users.extend(rights.iter().map(|right| (exactly(&[*right]).replace("only", "but"), without(*right))));
    }
    users.sort();
    users.dedup();
    let policies: Vec<Vec<Vec<&str>>> = users
        .iter()
        .map(|(_, rights)| rights.iter().map(|right| right.iter().map(String::as_str).collect()).collect())
        .collect();
    let policies: Vec<Vec<&[&str]>> =
        policies.iter().map(|policies| policies.iter().map(Vec::as_slice).collect()).collect();
    let wanted: Vec<_> = users
        .iter()
        .zip(&policies)
        .map(|((name, _), policies)| (name.as_str(), policies.as_slice()))
        .collect();
    let mut super_secret = String::new();
    let (guarded, secrets) = Guarded::start_with(&wanted, |config| {
        let file = config.access.file.as_deref().expect("a file");
        offline(file, &["user", "remove", "only-Super-user"]);
        let added = offline(file, &["user", "add", "only-Super-user", "--super"]);
        added["secret"].as_str().expect("a secret").clone_into(&mut super_secret);
    })
    .await;
    let authorization = |user: &str| {
        let at = users.iter().position(|(name, _)| name == user).expect("a user");
        let secret = if user == "only-Super-user" { &super_secret } else { &secrets[at] };
        format!("Basic {}", STANDARD.encode(format!("{user}:{secret}")))
    };
    let handle = handle_of_a_delivery(&guarded, &authorization).await;
    let status = async |(id, method, path): &(String, Method, String), user: &str| {
        let Needed { query, body, .. } = needed(id);
        let path = path
            .replace("{topic}", "orders")
            .replace("{group}", "billing")
            .replace("{quota}", "q")
            .replace("{id}", "0")
            .replace("{number}", "999")
            .replace("{user}", "only-Topic-pub");
        let body = body.map(|body| body.to_string().replace("HANDLE", &handle)).unwrap_or_default();
        let authorization = authorization(user);
        let accept = if id == "streamMessages" { "text/event-stream" } else { "application/json" };
        let request = Request::builder().method(method.clone()).uri(format!("{path}{query}"));
        let request = request.header("host", "proxy").header("accept", accept);
        let request =
            request.header("content-type", "application/json").header("authorization", authorization);
        // The body of the answer is not read: streams have no end.
        open(guarded.proxy.address, request.body(Full::from(body)).expect("a request")).await.status()
    };
    for operation in &operations {
        for right in needed(&operation.0).rights {
            let user = exactly(&[*right]).replace("only", "but");
            assert_eq!(status(operation, &user).await, StatusCode::FORBIDDEN, "{} by {user}", operation.0);
        }
    }
    for operation in &operations {
        let user = exactly(needed(&operation.0).rights);
        let status = status(operation, &user).await;
        assert!(![401, 403].contains(&status.as_u16()), "{} by {user}: {status}", operation.0);
    }
}

/// The name of a user who has these rights only.
fn exactly(rights: &[(&str, &str)]) -> String {
    let named: Vec<_> = rights
        .iter()
        .map(|(on, action)| format!("{}-{action}", on.split(':').next().unwrap_or_default()))
        .collect();
    format!("only-{}", named.join("-"))
}

async fn handle_of_a_delivery(guarded: &Guarded, authorization: &impl Fn(&str) -> String) -> String {
    let (sender, receiver) = (authorization("only-Topic-pub"), authorization("only-Topic-sub-Group-sub"));
    assert_eq!(send(guarded, Some(&sender)).await.status, StatusCode::OK);
    let receive = (Method::POST, "/v1/groups/billing/topics/orders/receive");
    let received = call(guarded.proxy.address, receive, &[("authorization", &receiver)], "").await.json();
    received["messages"][0]["handle"].as_str().expect("a handle").to_owned()
}
