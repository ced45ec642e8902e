//! Access control: users are made by the commands, and sign as RocketMQ's clients do.

use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proxy::config::Config;
use rocketmq_thin_proxy::remoting::RemotingCommand;
use serde_json::Value;
use sha1::Sha1;
use tempfile::TempDir;
use tonic::Request;

use crate::admin::{self, text};
use crate::classic::{Classic, code as classic_code, send as classic_send};
use crate::http::call;
use crate::metrics::scrape;
use crate::support::{Proxy, code, message, receive_as, receive_request, request};

/// A proxy with a file of users.
pub(crate) struct Guarded {
    pub(crate) proxy: Proxy,
    pub(crate) file: PathBuf,
    _folder: TempDir,
}

/// Runs a command that needs no proxy.
pub(crate) fn offline(file: &Path, arguments: &[&str]) -> Value {
    let output = Program::new(env!("CARGO_BIN_EXE_rocketmq-thin-proxy"))
        .args(arguments)
        .args(["--json", "--access-file"])
        .arg(file)
        .output()
        .expect("the binary");
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

impl Guarded {
    /// A proxy that knows these users, each with these policies.
    pub(crate) async fn start(users: &[(&str, &[&[&str]])]) -> (Self, Vec<String>) {
        Self::start_with(users, |_| {}).await
    }

    /// The same, with further settings.
    pub(crate) async fn start_with(
        users: &[(&str, &[&[&str]])],
        change: impl FnOnce(&mut Config),
    ) -> (Self, Vec<String>) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("access.toml");
        let mut secrets = Vec::new();
        for (user, policies) in users {
            let added = offline(&file, &["user", "add", user]);
            secrets.push(added["secret"].as_str().expect("a secret").to_owned());
            for policy in *policies {
                offline(&file, &[&["acl", "add", user], *policy].concat());
            }
        }
        let access = file.clone();
        let proxy = Proxy::configured(|config| {
            config.access.file = Some(access);
            config.remoting.enabled = true;
            config.http.enabled = true;
            change(config);
        })
        .await;
        (Self { proxy, file, _folder: folder }, secrets)
    }
}

fn mac(secret: &str, signed: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.chain_update(signed).finalize().into_bytes().to_vec()
}

pub(crate) fn signed<T>(mut request: Request<T>, user: &str, secret: &str) -> Request<T> {
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let signature = hex::encode(mac(secret, time.as_bytes()));
    let text =
        format!("MQv2-HMAC-SHA1 Credential={user}, SignedHeaders=x-mq-date-time, Signature={signature}");
    request.metadata_mut().insert("authorization", text.parse().expect("a header"));
    request.metadata_mut().insert("x-mq-date-time", time.parse().expect("a header"));
    request
}

/// A command of the remoting protocol, signed as Apache's clients do.
pub(crate) fn signed_command(command: RemotingCommand, user: &str, secret: &str) -> RemotingCommand {
    let command = command.field("AccessKey", user);
    let values = command.fields.values().map(|value| value.as_bytes());
    let content: Vec<_> = values.chain([command.body.as_ref()]).collect();
    let signature = STANDARD.encode(mac(secret, &content.concat()));
    command.field("Signature", signature)
}

#[tokio::test]
async fn users_do_what_they_may_and_nothing_else() {
    let (guarded, secrets) = Guarded::start(&[
        ("shop", &[&["Topic:orders", "pub"]]),
        ("billing", &[&["Topic:orders", "sub"], &["Group:billing*", "sub"]]),
    ])
    .await;
    let (shop, billing) = (secrets[0].as_str(), secrets[1].as_str());
    let mut client = guarded.proxy.client().await;
    let order = || request(pb::SendMessageRequest { messages: vec![message("orders", "1", "one")] });
    for (wrong, text) in [
        (order(), "username cannot be null."),
        (signed(order(), "shop", "guess"), "check signature failed."),
        (
            signed(order(), "billing", billing),
            "User:billing has no permission to access Topic:orders from 127.0.0.1, no matched policies.",
        ),
    ] {
        let status = client.send_message(wrong).await.expect("an answer").into_inner().status;
        let status = status.expect("a status");
        assert_eq!((status.code(), status.message.as_str()), (pb::Code::Unauthorized, text));
    }
    let sent = client.send_message(signed(order(), "shop", shop)).await.expect("an answer").into_inner();
    assert_eq!(code(sent.status), pb::Code::Ok);

    for (user, secret, group, expected) in [
        ("billing", billing, "billing-eu", pb::Code::Ok),
        ("billing", billing, "audit", pb::Code::Unauthorized),
        ("shop", shop, "billing-eu", pb::Code::Unauthorized),
    ] {
        let wanted = signed(request(receive_request("orders", group)), user, secret);
        assert_eq!(receive_as(&mut client, wanted).await.status.code(), expected, "{user} {group}");
    }
}

#[tokio::test]
async fn classic_clients_sign_their_requests() {
    let (guarded, secrets) = Guarded::start(&[("shop", &[&["Topic:orders", "pub"]])]).await;
    let mut client = Classic::connect(guarded.proxy.address).await;
    let order = || classic_send("orders", 0, &[("UNIQ_KEY", "id")], "body");
    assert_eq!(client.call(order()).await.code, classic_code::NO_PERMISSION);
    let sent = client.call(signed_command(order(), "shop", &secrets[0])).await;
    assert_eq!(sent.code, classic_code::SUCCESS, "{:?}", sent.remark);
    let changed = signed_command(order(), "shop", &secrets[0]).body("another body".as_bytes());
    assert_eq!(client.call(changed).await.remark.as_deref(), Some("check signature failed."));
    // What no command of the processor carries out is guarded, too.
    for administration in [202, 206, 17, 203, 28] {
        let refused = client.call(signed_command(
            RemotingCommand::request(administration).field("topic", "orders").field("consumerGroup", "g"),
            "shop",
            &secrets[0],
        ));
        assert_eq!(refused.await.code, classic_code::NO_PERMISSION, "{administration}");
    }
    // Clients try what the server supports.
    let unknown = client.call(signed_command(RemotingCommand::request(9999), "shop", &secrets[0])).await;
    assert_eq!(unknown.code, classic_code::NOT_SUPPORTED);
}

#[tokio::test]
async fn a_classic_consumer_has_its_filter_checked_by_the_rights_of_a_consumer() {
    let (guarded, secrets) =
        Guarded::start(&[("billing", &[&["Topic:orders", "sub"], &["Group:billing", "sub"]])]).await;
    let mut client = Classic::connect(guarded.proxy.address).await;
    for (group, expected) in [("billing", classic_code::SUCCESS), ("audit", classic_code::NO_PERMISSION)] {
        let body = serde_json::json!({
            "clientId": "c",
            "group": group,
            "subscriptionData": {"topic": "orders", "subString": "a > 1", "expressionType": "SQL92"},
        });
        let check = RemotingCommand::request(46).body(body.to_string());
        let answer = client.call(signed_command(check, "billing", &secrets[0])).await;
        assert_eq!(answer.code, expected, "{group}: {:?}", answer.remark);
    }
}

#[tokio::test]
async fn guesses_from_a_host_are_soon_not_verified_in_any_protocol_and_others_go_on() {
    let may_send: &[&[&str]] = &[&["Topic:orders", "pub"]];
    let (guarded, secrets) = Guarded::start_with(&[("shop", may_send), ("billing", may_send)], |config| {
        config.access.failures_per_minute = 3;
        config.metrics.listen = Some("127.0.0.1:0".to_owned());
    })
    .await;
    let order = || request(pb::SendMessageRequest { messages: vec![message("orders", "1", "one")] });
    let mut honest = guarded.proxy.client().await;
    let mut send = async |is_honest: bool, secret: &str| {
        // A guesser connects again for each guess.
        let mut guesser = guarded.proxy.client().await;
        let client = if is_honest { &mut honest } else { &mut guesser };
        let sent = client.send_message(signed(order(), "shop", secret)).await.expect("an answer");
        let status = sent.into_inner().status.expect("a status");
        (status.code(), status.message)
    };
    assert_eq!(send(true, &secrets[0]).await.0, pb::Code::Ok);
    let refused = |text: &str| (pb::Code::Unauthorized, text.to_owned());
    for guess in ["1", "2", "3"] {
        assert_eq!(send(false, guess).await, refused("check signature failed."));
    }
    let too_many = |text: &str| text.starts_with("too many wrong secrets; try again in ");
    let (code, text) = send(false, "4").await;
    assert!(code == pb::Code::Unauthorized && too_many(&text), "{code:?}: {text}");

    // Not even the right secret is verified.
    let classic_order = || classic_send("orders", 0, &[("UNIQ_KEY", "id")], "body");
    let mut classic = Classic::connect(guarded.proxy.address).await;
    let answer = classic.call(signed_command(classic_order(), "shop", &secrets[0])).await;
    assert_eq!(answer.code, classic_code::NO_PERMISSION);
    assert!(answer.remark.as_deref().is_some_and(too_many), "{:?}", answer.remark);
    let basic = format!("Basic {}", STANDARD.encode(format!("shop:{}", secrets[0])));
    let headers = [("authorization", basic.as_str()), ("content-type", "application/json")];
    let path = (Method::POST, "/v1/topics/orders/messages");
    let answer = call(guarded.proxy.address, path, &headers, r#"{"text": "a"}"#).await;
    assert_eq!(answer.problem(), (401, "Unauthenticated".to_owned(), 40100));
    assert!(answer.json()["detail"].as_str().is_some_and(too_many), "{answer:?}");

    // A connection that has sent the right secret goes on, and so does another user behind the same address.
    assert_eq!(send(true, &secrets[0]).await.0, pb::Code::Ok);
    let answer = classic.call(signed_command(classic_order(), "billing", &secrets[1])).await;
    assert_eq!(answer.code, classic_code::SUCCESS, "{:?}", answer.remark);
    let refusals = r#"rocketmq_thin_proxy_refusals_total{reason="too_many_failures"}"#;
    assert_eq!(scrape(&guarded.proxy).await.value(refusals), 3.0);
}

#[tokio::test]
async fn administrators_sign_in() {
    let (guarded, secrets) =
        Guarded::start(&[("ops", &[&["Cluster:*", "list,create,update"]]), ("shop", &[&["Topic:*", "all"]])])
            .await;
    let run = async |user: &str, secret: &str, arguments: &[&str]| {
        let signed = ["--access-key", user, "--secret-key", secret];
        admin::run(&guarded.proxy, &[arguments, &signed].concat(), "").await
    };
    let unsigned = admin::run(&guarded.proxy, &["topic", "list"], "").await;
    assert!(!unsigned.status.success());
    assert!(text(&unsigned.stderr).contains("--access-key"), "{}", text(&unsigned.stderr));
    assert!(!run("shop", &secrets[1], &["topic", "list"]).await.status.success());
    let created = run("ops", &secrets[0], &["topic", "create", "orders"]).await;
    assert!(created.status.success(), "{}", text(&created.stderr));
    let listed = run("ops", &secrets[0], &["topic", "list"]).await;
    assert!(text(&listed.stdout).contains("orders"));
    let deleted = run("ops", &secrets[0], &["topic", "delete", "orders"]).await;
    assert!(text(&deleted.stderr).contains("User:ops has no permission to access Cluster:*"));
}

#[tokio::test]
async fn a_users_quota_counts_what_they_signed_and_only_administrators_change_it() {
    let may_send: &[&[&str]] = &[&["Topic:*", "pub"]];
    let (guarded, secrets) = Guarded::start(&[
        ("shop", may_send),
        ("billing", may_send),
        ("ops", &[&["Cluster:*", "list,create,update"]]),
    ])
    .await;
    let run = async |user: usize, arguments: &[&str]| {
        let signed = ["--access-key", ["shop", "billing", "ops"][user], "--secret-key", &secrets[user]];
        admin::run(&guarded.proxy, &[arguments, &signed].concat(), "").await
    };
    let set = ["quota", "set", "users", "--per", "user", "--send-bytes-per-second", "1"];
    assert!(text(&run(0, &set).await.stderr).contains("User:shop has no permission"));
    assert!(run(2, &set).await.status.success());
    let mut client = guarded.proxy.client().await;
    let mut send = async |user: usize| {
        let order = message("orders", "1", &"x".repeat(1000));
        let order = request(pb::SendMessageRequest { messages: vec![order] });
        let order = signed(order, ["shop", "billing"][user], &secrets[user]);
        code(client.send_message(order).await.expect("an answer").into_inner().status)
    };
    assert_eq!(send(0).await, pb::Code::Ok);
    assert_eq!(send(0).await, pb::Code::TooManyRequests);
    assert_eq!(send(1).await, pb::Code::Ok);
    assert!(run(2, &["quota", "list"]).await.status.success());
    let removed = run(2, &["quota", "remove", "users"]).await;
    assert!(text(&removed.stderr).contains("User:ops has no permission"), "{}", text(&removed.stderr));
}

#[test]
fn changes_that_are_made_at_the_same_time_are_all_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.toml");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let file = &file;
            scope.spawn(move || offline(file, &["user", "add", &format!("user{number}")]));
        }
    });
    let listed = offline(&file, &["user", "list"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(8), "{listed}");
}

#[test]
fn acl_test_names_the_policy_that_decides() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.toml");
    offline(&file, &["user", "add", "billing"]);
    offline(&file, &["acl", "add", "billing", "Topic:*", "sub"]);
    offline(&file, &["acl", "add", "billing", "Topic:secret*", "all", "--deny"]);
    offline(&file, &["acl", "add", "billing", "Topic:orders", "pub", "--from", "10.0.0.0/8"]);
    offline(&file, &["acl", "add", "billing", "Group:audit", "sub"]);
    for (resource, action, from, allowed, policy) in [
        ("Topic:orders", "sub", "10.1.2.3", true, Some(1)),
        ("Topic:orders", "pub", "10.1.2.3", true, Some(3)),
        ("Topic:orders", "pub", "192.168.0.1", false, None),
        ("Topic:secrets", "sub", "10.1.2.3", false, Some(2)),
        ("Group:billing", "sub", "10.1.2.3", false, None),
        ("Topic:%RETRY%audit", "pub", "10.1.2.3", true, Some(4)),
        ("Topic:%DLQ%billing", "sub", "10.1.2.3", false, None),
    ] {
        let verdict = offline(&file, &["acl", "test", "billing", resource, action, "--from", from]);
        assert_eq!(verdict["allowed"], allowed, "{resource} {action}: {verdict}");
        assert_eq!(verdict["policy"]["number"].as_u64(), policy, "{resource} {action}: {verdict}");
    }
    let listed = offline(&file, &["user", "list"]);
    assert_eq!(listed[0]["policies"], 4);
    assert!(!listed.to_string().contains("v1."), "no secret is listed");
}
