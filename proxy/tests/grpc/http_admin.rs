//! Administration over HTTP.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::access::Guarded;
use crate::http::{Answer, call, post, proxy};
use crate::support::Proxy;

async fn get(proxy: &Proxy, path: &str) -> Value {
    let answer = call(proxy.address, (Method::GET, path), &[], "").await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
    answer.json()
}

async fn change(proxy: &Proxy, method: Method, path: &str, body: Value) -> Answer {
    call(proxy.address, (method, path), &[("content-type", "application/json")], body.to_string()).await
}

#[tokio::test]
async fn topics_and_groups_are_made_changed_and_deleted() {
    let proxy = proxy().await;
    let topic = json!({"name": "orders", "type": "fifo", "queues": 2, "retention": "7d"});
    assert_eq!(post(proxy.address, "/v1/topics", topic.clone()).await.status, StatusCode::CREATED);
    assert_eq!(post(proxy.address, "/v1/topics", topic).await.problem().0, 409);
    let changed =
        change(&proxy, Method::PATCH, "/v1/topics/orders", json!({"retention": null, "perm": "r"})).await;
    assert_eq!(changed.status, StatusCode::NO_CONTENT, "{changed:?}");
    let orders = get(&proxy, "/v1/topics/orders").await;
    assert_eq!(
        (&orders["type"], &orders["perm"], &orders["write_queues"]),
        (&json!("fifo"), &json!("r"), &json!(2))
    );
    assert_eq!(orders.get("retention"), None);
    let endless = json!({"retention": "18446744073709551615s"});
    let refused = change(&proxy, Method::PATCH, "/v1/topics/orders", endless).await;
    assert_eq!(refused.problem().0, 400);
    assert!(
        refused.json()["detail"].to_string().contains("the longest duration is 100 years"),
        "{refused:?}"
    );

    let group = json!({"name": "billing", "fifo": true, "retry": ["1s", "5s"]});
    assert_eq!(post(proxy.address, "/v1/groups", group).await.status, StatusCode::CREATED);
    let changed = change(&proxy, Method::PATCH, "/v1/groups/billing", json!({"max_retries": 3})).await;
    assert_eq!(changed.status, StatusCode::NO_CONTENT, "{changed:?}");
    let billing = get(&proxy, "/v1/groups/billing").await;
    assert_eq!(
        (&billing["fifo"], &billing["max_retries"], &billing["retry"]),
        (&json!(true), &json!(3), &json!(["1s", "5s"]))
    );
    for (list, path, name) in [("topics", "/v1/topics", "orders"), ("groups", "/v1/groups", "billing")] {
        let names = get(&proxy, path).await;
        assert!(names[list].as_array().expect("a list").iter().any(|entry| entry["name"] == name), "{names}");
        let deleted = call(proxy.address, (Method::DELETE, &format!("{path}/{name}")), &[], "").await;
        assert_eq!(deleted.status, StatusCode::NO_CONTENT);
        let gone = call(proxy.address, (Method::DELETE, &format!("{path}/{name}")), &[], "").await;
        assert_eq!(gone.problem().0, 404);
    }
}

#[tokio::test]
async fn what_is_stored_and_consumed_is_shown() {
    let proxy = proxy().await;
    post(proxy.address, "/v1/topics", json!({"name": "t", "queues": 1})).await;
    for number in 0..3 {
        let message = json!({"text": number.to_string(), "keys": [format!("k{number}")]});
        post(proxy.address, "/v1/topics/t/messages", message).await;
    }
    call(proxy.address, (Method::POST, "/v1/groups/g/topics/t/receive?max=1"), &[], "").await;
    let found = get(&proxy, "/v1/topics/t/messages?key=k1").await;
    assert_eq!((&found["messages"][0]["text"], &found["finished"]), (&json!("1"), &json!(true)));
    assert_eq!(get(&proxy, "/v1/topics/t/messages?offset=2").await["messages"][0]["offset"], 2);
    assert_eq!(get(&proxy, "/v1/topics/t/stats").await["queues"][0]["next_offset"], 3);
    assert_eq!(get(&proxy, "/v1/topic-stats").await["topics"][0]["messages"], 3);
    let progress = get(&proxy, "/v1/groups/g/stats").await;
    let queue = &progress["topics"][0]["queues"][0];
    assert_eq!((&queue["lag"], &queue["in_flight"]), (&json!(3), &json!(1)));
    assert_eq!(get(&proxy, "/v1/group-stats").await["groups"][0]["lag"], 3);
    let reset = post(proxy.address, "/v1/groups/g/reset", json!({"topic": "t", "to": "latest"})).await;
    assert_eq!(reset.json()["queues"][0]["offset"], 3);
    assert_eq!(get(&proxy, "/v1/groups/g/stats?topic=t").await["topics"][0]["queues"][0]["lag"], 0);
    assert_eq!(get(&proxy, "/v1/store").await["topics"][0]["name"], "t");
    assert_eq!(get(&proxy, "/v1/clients").await["truncated"], false);
}

#[tokio::test]
async fn administration_needs_rights_of_its_own_and_has_an_address_if_configured() {
    let (guarded, secrets) =
        Guarded::start(&[("ops", &[&["Cluster:*", "list"]]), ("shop", &[&["Topic:*", "all"]])]).await;
    for (user, secret, path, expected) in [
        ("ops", &secrets[0], "/v1/topics", 200),
        ("ops", &secrets[0], "/v1/store", 403),
        ("shop", &secrets[1], "/v1/topics", 403),
        ("shop", &secrets[0], "/v1/topics", 401),
    ] {
        let text =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{user}:{secret}"));
        let authorization = format!("Basic {text}");
        let headers = [("authorization", authorization.as_str())];
        let answer = call(guarded.proxy.address, (Method::GET, path), &headers, "").await;
        assert_eq!(answer.status.as_u16(), expected, "{user} {path}");
    }

    let proxy = Proxy::configured(|config| {
        config.http.enabled = true;
        config.admin_listen = Some("127.0.0.1:0".to_owned());
    })
    .await;
    let admin = proxy.admin_address.expect("an address");
    for (address, path, expected) in [
        (admin, "/v1/topics", 200),
        (admin, "/v1/groups/g/topics/t/receive", 404),
        (proxy.address, "/v1/topics", 404),
    ] {
        assert_eq!(call(address, (Method::GET, path), &[], "").await.status.as_u16(), expected, "{path}");
    }
}

#[tokio::test]
async fn the_description_names_what_is_served() {
    let proxy = proxy().await;
    let description = get(&proxy, "/openapi.json").await;
    assert!(
        description["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")),
        "{description}"
    );
    let paths = description["paths"].as_object().expect("paths");
    assert!(paths.contains_key("/v1/topics/{topic}/messages") && paths.contains_key("/v1/store"));
    for (path, methods) in paths {
        let path = path.replace("{topic}", "t").replace("{group}", "g");
        // HTTP says which methods there are.
        let refused = call(proxy.address, (Method::TRACE, &path), &[], "").await;
        let allowed = refused.headers["allow"].to_str().expect("text").to_lowercase();
        let mut served: Vec<_> = allowed.split(',').filter(|method| *method != "head").collect();
        served.sort_unstable();
        let described: Vec<_> = methods.as_object().expect("methods").keys().collect();
        assert_eq!(served, described, "{path}");
    }
}
