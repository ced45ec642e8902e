//! Users and policies in the catalog of the embedded broker, which administrators change while the proxy runs.

use std::convert::Infallible;
use std::process::Output;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rocketmq_thin_proto::{thin, v2 as pb};
use rocketmq_thin_proxy::app::App;
use rocketmq_thin_proxy::config::Config;
use rocketmq_thin_proxy::remoting::RemotingCommand;
use rocketmq_thin_proxy::remoting::response::POLICY_NOT_EXIST;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_stream::wrappers::ReceiverStream;

use crate::access::{Guarded, offline, signed, signed_command};
use crate::admin::{run, text};
use crate::classic::{Classic, code};
use crate::http::{Answer, call};
use crate::support::{Proxy, receive_as, receive_request, request};

fn with_catalog(config: &mut Config) {
    config.access.catalog = true;
    config.http.enabled = true;
}

/// A proxy with a new catalog, and the secret of its first user.
async fn proxy() -> (Proxy, String) {
    let mut proxy = Proxy::configured(with_catalog).await;
    let secret = proxy.first_secret.take().expect("a first user");
    (proxy, secret)
}

fn basic(user: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{secret}")))
}

async fn ask((proxy, who): (&Proxy, &str), method: Method, path: &str, body: Option<Value>) -> Answer {
    let mut headers = vec![("authorization", who)];
    headers.extend(body.is_some().then_some(("content-type", "application/json")));
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    call(proxy.address, (method, path), &headers, body).await
}

async fn add(proxy: &Proxy, who: &str, user: Value) -> String {
    let added = ask((proxy, who), Method::POST, "/v1/users", Some(user)).await;
    assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
    added.json()["secret"].as_str().expect("a secret").to_owned()
}

async fn sends(proxy: &Proxy, who: &str) -> StatusCode {
    let path = "/v1/topics/orders/messages";
    ask((proxy, who), Method::POST, path, Some(json!({"text": "a"}))).await.status
}

/// Runs a command as this user, and returns what it prints.
async fn command(proxy: &Proxy, (user, secret): (&str, &str), arguments: &[&str], input: &str) -> Output {
    let arguments = [arguments, &["--access-key", user, "--secret-key", secret, "--json"]].concat();
    run(proxy, &arguments, input).await
}

#[tokio::test]
async fn changes_are_in_force_at_once_and_last() {
    let (proxy, secret) = proxy().await;
    let admin = basic("admin", &secret);
    let shop = basic("shop", &add(&proxy, &admin, json!({"name": "shop"})).await);
    assert_eq!(sends(&proxy, &shop).await, StatusCode::FORBIDDEN);
    let policy =
        json!({"user": "shop", "resource": "topic:ord*", "actions": ["pub"], "from": ["127.0.0.0/8"]});
    let policy = ask((&proxy, &admin), Method::POST, "/v1/policies", Some(policy)).await;
    assert_eq!(policy.status, StatusCode::CREATED, "{policy:?}");
    assert_eq!(policy.json()["resource"], "Topic:ord*");
    assert_eq!(sends(&proxy, &shop).await, StatusCode::OK);

    let proxy = Proxy::in_directory(proxy.stop().await, with_catalog).await;
    assert!(proxy.first_secret.is_none(), "there are users");
    assert_eq!(sends(&proxy, &shop).await, StatusCode::OK);
    let listed = ask((&proxy, &admin), Method::GET, "/v1/users", None).await;
    assert_eq!(listed.json()["source"], "catalog");
    assert_eq!(listed.json()["users"][1]["policies"][0], policy.json());
    assert!(!text(&listed.body).contains("secret"), "{}", text(&listed.body));
    let question = "/v1/users/shop/access?resource=Topic:orders&action=pub&from=127.0.0.1";
    let verdict = ask((&proxy, &admin), Method::GET, question, None).await.json();
    assert_eq!(verdict, json!({"allowed": true, "why": "this policy decides", "policy": policy.json()}));

    let disable = json!({"enabled": false});
    let changed = ask((&proxy, &admin), Method::PATCH, "/v1/users/shop", Some(disable)).await;
    assert_eq!(changed.status, StatusCode::NO_CONTENT);
    assert_eq!(sends(&proxy, &shop).await, StatusCode::UNAUTHORIZED);
    ask((&proxy, &admin), Method::PATCH, "/v1/users/shop", Some(json!({"enabled": true}))).await;
    assert_eq!(sends(&proxy, &shop).await, StatusCode::OK);
    let renewed = ask((&proxy, &admin), Method::POST, "/v1/users/shop/secret", Some(json!({}))).await.json();
    assert_eq!(sends(&proxy, &shop).await, StatusCode::UNAUTHORIZED);
    let shop = basic("shop", renewed["secret"].as_str().expect("a secret"));
    assert_eq!(sends(&proxy, &shop).await, StatusCode::OK);
    let removal = format!("/v1/policies/{}", policy.json()["number"]);
    assert_eq!(ask((&proxy, &admin), Method::DELETE, &removal, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(sends(&proxy, &shop).await, StatusCode::FORBIDDEN);
    assert_eq!(ask((&proxy, &admin), Method::DELETE, &removal, None).await.status, StatusCode::NOT_FOUND);
    let removed = ask((&proxy, &admin), Method::DELETE, "/v1/users/shop", None).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    let proxy = Proxy::in_directory(proxy.stop().await, with_catalog).await;
    assert_eq!(sends(&proxy, &shop).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn only_super_users_change_users_and_the_last_one_stays() {
    let (proxy, secret) = proxy().await;
    let admin = basic("admin", &secret);
    let ops = basic("ops", &add(&proxy, &admin, json!({"name": "ops"})).await);
    let all = json!({"user": "ops", "resource": "*", "actions": ["all"]});
    ask((&proxy, &admin), Method::POST, "/v1/policies", Some(all.clone())).await;
    assert_eq!(ask((&proxy, &ops), Method::GET, "/v1/users", None).await.status, StatusCode::OK);
    for (method, path, body) in [
        (Method::POST, "/v1/users", Some(json!({"name": "me", "type": "super"}))),
        (Method::PATCH, "/v1/users/ops", Some(json!({"type": "super"}))),
        (Method::POST, "/v1/users/admin/secret", Some(json!({"secret": "mine"}))),
        (Method::DELETE, "/v1/users/admin", None),
        (Method::POST, "/v1/policies", Some(all)),
        (Method::DELETE, "/v1/policies/1", None),
    ] {
        let refused = ask((&proxy, &ops), method.clone(), path, body.clone()).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{method} {path}");
        let refused = ask((&proxy, &basic("ops", "guess")), method, path, body).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    for (method, body) in [
        (Method::DELETE, None),
        (Method::PATCH, Some(json!({"enabled": false}))),
        (Method::PATCH, Some(json!({"type": "normal"}))),
    ] {
        let refused = ask((&proxy, &admin), method, "/v1/users/admin", body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        let detail = refused.json()["detail"].as_str().expect("a text").to_owned();
        assert!(detail.starts_with("admin is the last enabled super user"), "{detail}");
    }
    add(&proxy, &admin, json!({"name": "root", "type": "super"})).await;
    let removed = ask((&proxy, &admin), Method::DELETE, "/v1/users/admin", None).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    assert_eq!(ask((&proxy, &admin), Method::GET, "/v1/users", None).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_can_not_be_is_refused_and_changes_nothing() {
    let (proxy, secret) = proxy().await;
    let admin = basic("admin", &secret);
    add(&proxy, &admin, json!({"name": "shop", "certificates": ["shop.example"]})).await;
    let before = ask((&proxy, &admin), Method::GET, "/v1/users", None).await.json();
    let long = "x".repeat(256);
    for (path, body, expected) in [
        ("/v1/users", json!({"name": "shop"}), StatusCode::CONFLICT),
        ("/v1/users", json!({"name": ""}), StatusCode::BAD_REQUEST),
        ("/v1/users", json!({"name": "a:b"}), StatusCode::BAD_REQUEST),
        ("/v1/users", json!({"name": "a/b"}), StatusCode::BAD_REQUEST),
        ("/v1/users", json!({"name": "a\nb"}), StatusCode::BAD_REQUEST),
        ("/v1/users", json!({"name": long}), StatusCode::BAD_REQUEST),
        ("/v1/users", json!({"name": "a", "secret": ""}), StatusCode::BAD_REQUEST),
        ("/v1/users", json!({"name": "a", "secret": long}), StatusCode::BAD_REQUEST),
        ("/v1/users", json!({"name": "a", "type": "root"}), StatusCode::BAD_REQUEST),
        ("/v1/users", json!({"name": "a", "certificates": ["shop.example"]}), StatusCode::BAD_REQUEST),
        ("/v1/users", json!({"name": "a", "certificates": vec!["x"; 101]}), StatusCode::BAD_REQUEST),
        ("/v1/users/nobody/secret", json!({}), StatusCode::NOT_FOUND),
        (
            "/v1/policies",
            json!({"user": "nobody", "resource": "*", "actions": ["pub"]}),
            StatusCode::NOT_FOUND,
        ),
        (
            "/v1/policies",
            json!({"user": "shop", "resource": "orders", "actions": ["pub"]}),
            StatusCode::BAD_REQUEST,
        ),
        ("/v1/policies", json!({"user": "shop", "resource": "*", "actions": []}), StatusCode::BAD_REQUEST),
        (
            "/v1/policies",
            json!({"user": "shop", "resource": "*", "actions": ["fly"]}),
            StatusCode::BAD_REQUEST,
        ),
        (
            "/v1/policies",
            json!({"user": "shop", "resource": "*", "actions": ["pub"], "from": ["home"]}),
            StatusCode::BAD_REQUEST,
        ),
    ] {
        let refused = ask((&proxy, &admin), Method::POST, path, Some(body.clone())).await;
        assert_eq!(refused.status, expected, "{path} {body}");
        assert!(!text(&refused.body).contains(&long), "{body}");
    }
    assert_eq!(ask((&proxy, &admin), Method::GET, "/v1/users", None).await.json(), before);
}

#[tokio::test]
async fn the_subcommands_change_the_users_of_a_running_proxy() {
    let (proxy, secret) = proxy().await;
    let admin = ("admin", secret.as_str());
    let done = async |arguments: &[&str], input: &str| -> Value {
        let output = command(&proxy, admin, arguments, input).await;
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let added = done(&["user", "add", "billing", "--secret-stdin"], "open sesame\n").await;
    assert_eq!(added, json!({"user": "billing"}), "the secret is not repeated");
    done(&["acl", "add", "billing", "Topic:orders", "pub,sub"], "").await;
    let group = done(&["acl", "add", "billing", "Group:*", "sub"], "").await;
    let number = group[0]["number"].to_string();
    assert_eq!(done(&["acl", "list", "--user", "billing"], "").await.as_array().map(Vec::len), Some(2));
    let verdict = done(&["acl", "test", "billing", "Group:audit", "sub"], "").await;
    assert_eq!((&verdict["allowed"], &verdict["policy"]), (&json!(true), &group[0]));
    let users = done(&["user", "list"], "").await;
    assert_eq!(
        users[1],
        json!({"name": "billing", "type": "normal", "enabled": true, "policies": 2, "certificates": []})
    );

    // What the user holds ends with the right to it.
    let mut client = proxy.client().await;
    let opened = sends(&proxy, &basic("billing", "open sesame")).await;
    assert_eq!(opened, StatusCode::OK);
    let wanted = || signed(request(receive_request("orders", "audit")), "billing", "open sesame");
    let first = receive_as(&mut client, wanted()).await;
    assert_eq!((first.status.code(), first.messages.len()), (pb::Code::Ok, 1));
    let waiting = tokio::spawn({
        let (mut client, wanted) = (client.clone(), wanted());
        async move { receive_as(&mut client, wanted).await.status }
    });
    done(&["acl", "remove", &number], "").await;
    assert_eq!(waiting.await.expect("an answer").code(), pb::Code::Unauthorized);
    done(&["user", "disable", "billing"], "").await;
    assert_eq!(sends(&proxy, &basic("billing", "open sesame")).await, StatusCode::UNAUTHORIZED);
    done(&["user", "enable", "billing"], "").await;
    done(&["user", "certificates", "billing", "billing.example"], "").await;
    done(&["user", "remove", "billing"], "").await;
    let refused = command(&proxy, admin, &["user", "remove", "billing"], "").await;
    assert_eq!(
        text(&refused.stderr).trim_end(),
        "error: user billing does not exist; `user list` lists the users"
    );
    let refused = command(&proxy, ("admin", "guess"), &["user", "list"], "").await;
    assert!(text(&refused.stderr).starts_with("error: check signature failed."), "{}", text(&refused.stderr));
}

#[tokio::test]
async fn a_proxy_whose_users_are_elsewhere_says_where() {
    let mut secret = Value::Null;
    let (guarded, _) = Guarded::start_with(&[("ops", &[&["*", "all"]])], |config| {
        let file = config.access.file.as_ref().expect("a file");
        secret = offline(file, &["user", "add", "root", "--super"])["secret"].take();
    })
    .await;
    let root = ("root", secret.as_str().expect("a secret"));
    let listed = command(&guarded.proxy, root, &["acl", "list"], "").await;
    assert!(text(&listed.stdout).contains("ops"), "{}", text(&listed.stderr));
    let refused = command(&guarded.proxy, root, &["user", "add", "a"], "").await;
    let refused = text(&refused.stderr);
    assert!(refused.starts_with("error: the users of this proxy are in a file (access.file)"), "{refused}");

    let open = Proxy::configured(|config| config.http.enabled = true).await;
    let refused = ask((&open, &basic("a", "b")), Method::POST, "/v1/users", Some(json!({"name": "a"}))).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert!(text(&refused.body).contains("without access control everybody may do everything"));
}

#[tokio::test]
async fn classic_tools_change_users_and_policies() {
    let (proxy, secret) = proxy().await;
    let mut tool = Classic::connect(proxy.address).await;
    let mut ask = async |command: RemotingCommand| tool.call(signed_command(command, "admin", &secret)).await;
    let user = |code| RemotingCommand::request(code).field("username", "shop");
    let of_shop = |code| RemotingCommand::request(code).field("subject", "User:shop");
    let acl = |decision| {
        json!({"subject": "User:shop", "policies": [{"entries": [
            {"resource": "topic:orders", "actions": ["Pub", "SUB"], "sourceIps": ["127.0.0.1"], "decision": decision},
            {"resource": "Cluster:DefaultCluster", "actions": ["All"], "decision": "Allow"},
        ]}]})
        .to_string()
    };
    let info = json!({"username": "shop", "password": "open sesame", "userType": "Normal"}).to_string();
    assert_eq!(ask(user(3001)).await.code, code::SYSTEM_ERROR, "there is no body");
    assert_eq!(ask(user(3001).body(info.clone())).await.code, code::SUCCESS);
    assert_ne!(ask(user(3001).body(info)).await.code, code::SUCCESS);
    assert_eq!(ask(of_shop(3006).body(acl("Allow"))).await.code, code::SUCCESS);
    let shop = basic("shop", "open sesame");
    assert_eq!(sends(&proxy, &shop).await, StatusCode::OK);
    let told: Value = serde_json::from_slice(&ask(of_shop(3009)).await.body).expect("JSON");
    assert_eq!(
        told["policies"],
        json!([{"policyType": "Custom", "entries": [
            {"resource": "Topic:orders", "actions": ["Pub", "Sub"], "sourceIps": ["127.0.0.1/32"], "decision": "Allow"},
            {"resource": "Cluster:*", "actions": ["All"], "decision": "Allow"},
        ]}])
    );
    // The policies for the same resources are replaced.
    assert_eq!(ask(of_shop(3007).body(acl("Deny"))).await.code, code::SUCCESS);
    assert_eq!(sends(&proxy, &shop).await, StatusCode::FORBIDDEN);
    let told: Value = serde_json::from_slice(&ask(RemotingCommand::request(3010)).await.body).expect("JSON");
    assert_eq!((&told[0]["subject"], told.as_array().map(Vec::len)), (&json!("User:shop"), Some(1)));
    assert_eq!(told[0]["policies"][0]["entries"].as_array().map(Vec::len), Some(2));
    assert_eq!(ask(of_shop(3008).field("resource", "Topic:orders")).await.code, code::SUCCESS);
    assert_eq!(ask(of_shop(3008)).await.code, code::SUCCESS);
    assert_eq!(ask(of_shop(3008)).await.code, POLICY_NOT_EXIST);
    assert!(ask(of_shop(3009)).await.body.is_empty());

    let disable = json!({"username": "shop", "userStatus": "disable"}).to_string();
    assert_eq!(ask(user(3002).body(disable)).await.code, code::SUCCESS);
    let told = ask(user(3004)).await;
    assert_eq!(
        serde_json::from_slice::<Value>(&told.body).expect("JSON"),
        json!({"username": "shop", "userType": "Normal", "userStatus": "disable"})
    );
    let all: Value = serde_json::from_slice(&ask(RemotingCommand::request(3005)).await.body).expect("JSON");
    assert_eq!(all.as_array().map(Vec::len), Some(2));
    assert_eq!(ask(user(3003)).await.code, code::SUCCESS);
    assert!(ask(user(3004)).await.body.is_empty());
    let last = ask(RemotingCommand::request(3003).field("username", "admin")).await;
    assert!(last.remark.expect("a text").contains("the last enabled super user"));
    let stranger = tool.call(user(3003)).await;
    assert_eq!(stranger.code, code::NO_PERMISSION);
}

#[tokio::test]
async fn users_without_their_key_are_not_let_in() {
    let (proxy, _) = proxy().await;
    let data = proxy.stop().await;
    std::fs::remove_file(data.path().join("access.key")).expect("the key");
    let mut config = Config { listen: "127.0.0.1:0".to_owned(), ..Config::default() };
    config.backend.embedded.data_dir = data.path().to_owned();
    with_catalog(&mut config);
    let error = App::start(config).await.err().expect("an error").to_string();
    assert!(error.contains("access.key: it does not exist"), "{error}");
}

#[tokio::test]
async fn whoever_lost_the_right_while_sending_a_change_has_lost_it() {
    let (proxy, secret) = proxy().await;
    let admin = basic("admin", &secret);
    let former = add(&proxy, &admin, json!({"name": "former", "type": "super"})).await;
    let stream = TokioIo::new(TcpStream::connect(proxy.address).await.expect("a connection"));
    let connecting = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
    let (mut sender, connection) = connecting.await.expect("HTTP/2");
    tokio::spawn(connection);

    let friend = thin::User { name: "friend".to_owned(), super_: true, enabled: true, ..Default::default() };
    let wanted = thin::AddUserRequest { user: Some(friend), secret: None };
    let wanted = wanted.encode_to_vec();
    let length = u32::try_from(wanted.len()).expect("short").to_be_bytes();
    let mut frame = [&[0], &length[..], &wanted].concat();
    let rest = frame.split_off(frame.len() / 2);
    let (parts, body) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(2);
    let (metadata, ..) = signed(tonic::Request::new(()), "former", &former).into_parts();
    let mut request = http::Request::post(format!("http://{}/rocketmq.thin.v1.Admin/AddUser", proxy.address));
    *request.headers_mut().expect("headers") = metadata.into_headers();
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    let request = request.body(StreamBody::new(ReceiverStream::new(body)).boxed()).expect("a request");
    let answer = sender.send_request(request);
    parts.send(Ok(Frame::data(frame.into()))).await.expect("sent");
    // The proxy has seen the first one when it answers this.
    let other = http::Request::get(format!("http://{}/openapi.json", proxy.address));
    let other = other.body(Empty::new().boxed()).expect("a request");
    assert_eq!(sender.send_request(other).await.expect("an answer").status(), StatusCode::OK);
    let removed = ask((&proxy, &admin), Method::DELETE, "/v1/users/former", None).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    parts.send(Ok(Frame::data(rest.into()))).await.expect("sent");
    drop(parts);
    let answer = answer.await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.headers()["grpc-status"], "7", "{answer:?}");
    let listed = ask((&proxy, &admin), Method::GET, "/v1/users", None).await.json();
    assert_eq!(listed["users"].as_array().expect("users").len(), 1, "{listed}");
}
