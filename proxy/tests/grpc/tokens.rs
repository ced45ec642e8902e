//! Session tokens: an issuer of the tests makes them, good ones and forged ones.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proxy::layer::IssuerConfig;
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::access::{Guarded, offline};
use crate::classic::{Classic, code as classic_code, send as classic_send};
use crate::http::call;
use crate::support::{code, message, receive_as, receive_request, request};
use crate::telemetry;

const ISSUER: &str = "https://login.example/";

/// Someone with a key.
struct Signer {
    id: &'static str,
    key: EcdsaKeyPair,
}

fn part(json: &str) -> String {
    URL_SAFE_NO_PAD.encode(json)
}

fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_secs()).expect("a number") + seconds
}

/// What a good token says.
fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "mq", "sub": "billing", "exp": seconds_from_now(600), "nbf": seconds_from_now(-1)})
}

/// The same with another value.
fn but(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[claim] = value;
    claims
}

impl Signer {
    fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random);
        Self { id, key: key.expect("a key") }
    }

    /// Its public key.
    fn jwk(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": self.id, "x": x, "y": y})
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "ES256", "typ": "JWT", "kid": self.id}).to_string(), &claims.to_string())
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A proxy that trusts an issuer.
struct Trusting {
    guarded: Guarded,
    keys: PathBuf,
    _folder: TempDir,
}

/// A configured issuer whose keys are there.
fn issuer(keys: &str) -> IssuerConfig {
    let text = format!("issuer = '{ISSUER}'\naudiences = ['mq']\n{keys}");
    IssuerConfig { leeway: Duration::ZERO, ..toml::from_str(&text).expect("an issuer") }
}

impl Trusting {
    async fn start(signer: &Signer) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = folder.path().join("keys.json");
        std::fs::write(&keys, json!({"keys": [signer.jwk()]}).to_string()).expect("written");
        let issuer = issuer(&format!("keys_file = '{}'", keys.display()));
        Self { guarded: guarded(issuer).await, keys, _folder: folder }
    }

    /// What is said to a send over gRPC.
    async fn send(&self, token: &str) -> pb::Status {
        let order = pb::SendMessageRequest { messages: vec![message("orders", "1", "one")] };
        let sent = self.guarded.proxy.client().await.send_message(with(request(order), token)).await;
        sent.expect("an answer").into_inner().status.expect("a status")
    }

    /// Sends until the keys that have signed the token are there.
    async fn send_until_accepted(&self, token: &str) {
        while self.send(token).await.code() != pb::Code::Ok {}
    }

    /// The status and text of the answer to a send over HTTP.
    async fn post(&self, token: &str) -> (u16, String) {
        let bearer = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", &bearer)];
        let send = (Method::POST, "/v1/topics/orders/messages");
        let answer = call(self.guarded.proxy.address, send, &headers, r#"{"text": "a"}"#).await;
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        (answer.status.as_u16(), detail)
    }
}

/// A proxy with a user whom tokens of the issuer may name.
async fn guarded(issuer: IssuerConfig) -> Guarded {
    let rights: &[&[&str]] = &[&["Topic:orders", "pub,sub"], &["Group:billing", "sub"]];
    let users: [(&str, &[&[&str]]); 1] = [("billing", rights)];
    Guarded::start_with(&users, |config| config.access.issuers.push(issuer)).await.0
}

fn with<T>(mut request: tonic::Request<T>, token: &str) -> tonic::Request<T> {
    request.metadata_mut().insert("x-mq-session-token", token.parse().expect("a header"));
    request
}

#[tokio::test]
async fn a_token_tells_who_the_user_is_over_all_protocols() {
    let signer = Signer::new("k1");
    let trusting = Trusting::start(&signer).await;
    let token = signer.token(&claims());
    assert_eq!(trusting.send(&token).await.code(), pb::Code::Ok);
    assert_eq!(trusting.post(&token).await.0, 200);
    let mut classic = Classic::connect(trusting.guarded.proxy.address).await;
    let order = classic_send("orders", 0, &[("UNIQ_KEY", "id")], "body").field("AccessKey", "any");
    let sent = classic.call(order.field("SecurityToken", &token)).await;
    assert_eq!(sent.code, classic_code::SUCCESS, "{:?}", sent.remark);

    // It says who, and policies say what.
    let mut client = trusting.guarded.proxy.client().await;
    let other = pb::SendMessageRequest { messages: vec![message("audit", "1", "one")] };
    let refused = client.send_message(with(request(other), &token)).await.expect("an answer").into_inner();
    let refused = refused.status.expect("a status").message;
    assert!(refused.starts_with("User:billing has no permission to access Topic:audit"), "{refused}");
    let several = signer.token(&but("aud", json!(["other", "mq"])));
    assert_eq!(trusting.send(&several).await.code(), pb::Code::Ok);
}

#[tokio::test]
async fn forged_stale_and_foreign_tokens_are_refused() {
    let signer = Signer::new("k1");
    let trusting = Trusting::start(&signer).await;
    let stranger = Signer::new("k1");
    let good = signer.token(&claims());
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let (header, content) = signed.split_once('.').expect("three parts");
    let public = signer.key.public_key().as_ref();
    let symmetric = format!("{}.{content}", part(r#"{"alg":"HS256","kid":"k1"}"#));
    let mac = Hmac::<Sha256>::new_from_slice(public).expect("any length").chain_update(&symmetric);
    let symmetric = format!("{symmetric}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
    let text = claims().to_string();
    let twice = text.replacen('{', r#"{"aud":"mq","#, 1);
    let with_header = |header: &str| signer.sign(header, &text);
    for (token, refusal) in [
        (format!("{}.{content}.", part(r#"{"alg":"none"}"#)), "can't be read"),
        (format!("{}.{content}.{signature}", part(r#"{"alg":"None","kid":"k1"}"#)), "can't be read"),
        (symmetric, "is signed with an algorithm that is not allowed"),
        (stranger.token(&claims()), "has a wrong signature"),
        (Signer::new("k2").token(&claims()), "is signed with an unknown key"),
        (
            signer.token(&but("iss", json!("https://evil.example/"))),
            "the issuer of the session token is unknown",
        ),
        (signer.token(&but("iss", json!([ISSUER]))), "can't be read"),
        (signer.token(&but("aud", json!("other"))), "is for another audience"),
        (signer.token(&but("aud", json!([]))), "is for another audience"),
        (signer.token(&but("aud", Value::Null)), "has no aud"),
        (signer.token(&but("exp", json!(seconds_from_now(-5)))), "has expired"),
        (signer.token(&but("exp", Value::Null)), "has no exp"),
        (signer.token(&but("exp", json!("tomorrow"))), "has no exp"),
        (signer.token(&but("nbf", json!(seconds_from_now(60)))), "is not valid yet"),
        (signer.token(&but("sub", json!("root"))), "User:root is not found."),
        (signer.token(&but("sub", json!(7))), "has no user name in the claim sub"),
        (with_header(r#"{"alg":"ES256","kid":"k1","crit":["exp"]}"#), "can't be read"),
        (with_header(r#"{"alg":"ES256","kid":"k1","crit":[]}"#), "can't be read"),
        (with_header(r#"{"alg":"ES256","kid":"k1","alg":"ES256"}"#), "can't be read"),
        (with_header(r#"{"alg":"ES256","kid":"k1","b64":false,"crit":["b64"]}"#), "can't be read"),
        (with_header(r#"{"alg":"ES384","kid":"k1"}"#), "is signed with an unknown key"),
        (signer.sign(r#"{"alg":"ES256","kid":"k1"}"#, &twice), "can't be read"),
        (good[..good.len() - 2].to_owned(), "has a wrong signature"),
        (signed.to_owned(), "can't be read"),
        (format!("{header}..{signature}"), "can't be read"),
        ("a.b.c".to_owned(), "can't be read"),
        ("...".to_owned(), "can't be read"),
        (signer.token(&but("padding", json!("x".repeat(4600)))), "is longer than 6144 bytes"),
    ] {
        let status = trusting.send(&token).await;
        assert_eq!(status.code(), pb::Code::Unauthorized, "{token}");
        assert!(status.message.contains(refusal), "{}, not {refusal}: {token}", status.message);
        let (answer, detail) = trusting.post(&token).await;
        assert!(answer == 401 && detail.contains(refusal), "{answer} {detail}: {token}");
    }
    assert_eq!(trusting.send(&good).await.code(), pb::Code::Ok, "the good one is good");
}

#[tokio::test]
async fn what_a_token_opened_ends_when_it_expires() {
    let signer = Signer::new("k1");
    let trusting = Trusting::start(&signer).await;
    let token = signer.token(&but("exp", json!(seconds_from_now(8))));
    let mut client = trusting.guarded.proxy.client().await;
    let (commands, requests) = tokio::sync::mpsc::channel(1);
    commands.send(telemetry::consumer("billing")).await.expect("sent");
    let opened = request(tokio_stream::wrappers::ReceiverStream::new(requests));
    let mut stream = client.telemetry(with(opened, &token)).await.expect("a stream").into_inner();
    assert_eq!(code(stream.message().await.expect("no failure").expect("settings").status), pb::Code::Ok);
    let wanted = with(request(receive_request("orders", "billing")), &token);
    let waited = receive_as(&mut client, wanted).await.status;
    assert_eq!(waited.message, "the session token has expired.");
    let last = stream.message().await.expect("no failure").expect("a last command").status.expect("a status");
    assert_eq!(
        (last.code(), last.message.as_str()),
        (pb::Code::Unauthorized, "the session token has expired.")
    );
    assert!(stream.message().await.expect("no failure").is_none(), "the stream ends");
    assert_eq!(trusting.send(&token).await.message, "the session token has expired.");
}

#[tokio::test]
async fn keys_are_rotated_and_users_disabled_without_a_restart() {
    let (old, new) = (Signer::new("k1"), Signer::new("k2"));
    let trusting = Trusting::start(&old).await;
    let token = old.token(&claims());
    let mut client = trusting.guarded.proxy.client().await;
    let mut waits = async |token: &str| {
        receive_as(&mut client, with(request(receive_request("orders", "billing")), token))
            .await
            .status
            .message
    };
    let (ended, ()) = tokio::join!(waits(&token), async {
        assert_eq!(trusting.send(&token).await.code(), pb::Code::Ok);
    });
    assert_eq!(ended, "OK", "a message came");

    // A file with a mistake changes nothing.
    std::fs::write(&trusting.keys, r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#).expect("written");
    let (ended, ()) = tokio::join!(waits(&token), async {
        std::fs::write(&trusting.keys, json!({"keys": [new.jwk()]}).to_string()).expect("written");
    });
    assert_eq!(ended, "the key of the session token was withdrawn.");
    assert!(trusting.send(&token).await.message.contains("an unknown key"));
    let token = new.token(&claims());
    let (ended, ()) = tokio::join!(waits(&token), async {
        assert_eq!(trusting.send(&token).await.code(), pb::Code::Ok);
        offline(&trusting.guarded.file, &["user", "disable", "billing"]);
    });
    assert!(["OK", "User:billing is disabled."].contains(&ended.as_str()), "{ended}");
    assert_eq!(waits(&token).await, "User:billing is disabled.");
}

#[tokio::test]
async fn keys_that_an_issuer_publishes_are_fetched_again_when_one_is_missing() {
    let (old, new) = (Signer::new("k1"), Signer::new("k2"));
    let published = Arc::new(Mutex::new(json!({"keys": [old.jwk()]})));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let site = tokio::spawn(publish(listener, published.clone()));
    let guarded = guarded(issuer(&format!("keys_url = 'http://{address}/keys'"))).await;
    let trusting =
        Trusting { guarded, keys: PathBuf::new(), _folder: tempfile::tempdir().expect("a folder") };

    let token = old.token(&claims());
    trusting.send_until_accepted(&token).await;
    let mut client = trusting.guarded.proxy.client().await;
    let mut receive = async || {
        let wanted = with(request(receive_request("orders", "billing")), &token);
        receive_as(&mut client, wanted).await.status.message
    };
    assert_eq!(receive().await, "OK");
    *published.lock().expect("not poisoned") = json!({"keys": [new.jwk()]});
    let other = new.token(&claims());
    let (ended, ()) = tokio::join!(receive(), trusting.send_until_accepted(&other));
    assert!(["OK", "the key of the session token was withdrawn."].contains(&ended.as_str()), "{ended}");
    assert!(trusting.send(&token).await.message.contains("an unknown key"));
    site.abort();
    // What is known stays when the issuer is away.
    assert_eq!(trusting.send(&other).await.code(), pb::Code::Ok);
}

/// Answers each request with what is published.
async fn publish(listener: tokio::net::TcpListener, published: Arc<Mutex<Value>>) {
    loop {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let _ = socket.read(&mut [0; 1024]).await;
        let body = published.lock().expect("not poisoned").to_string();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let _ = socket.write_all(answer.as_bytes()).await;
    }
}
