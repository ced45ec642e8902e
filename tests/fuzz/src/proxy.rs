//! A running proxy with its embedded broker, and connections to it.

use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use h2::client::SendRequest;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderValue, Request, StatusCode};
use prost::Message;
use rocketmq_thin_proto::v2 as pb;
use rocketmq_thin_proxy::app::App;
use rocketmq_thin_proxy::backend::embedded::Flush;
use rocketmq_thin_proxy::config::{Config, GroupSpec, TopicSpec};
use sha2::Sha256;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::classic::Classic;
use crate::http::Http;
use crate::token::{Credentials, Signer};

/// A call that takes longer than this hangs.
const LONGEST: Duration = Duration::from_secs(10);
const KEY: &str = "key";
const MAC_BYTES: usize = 12;
const SCOPE_BYTES: usize = 6;

/// The calls of the contract. New ones come last, so that the corpus keeps its meaning.
const METHODS: [&str; 17] = [
    "QueryRoute",
    "QueryAssignment",
    "SendMessage",
    "ReceiveMessage",
    "AckMessage",
    "ChangeInvisibleDuration",
    "ForwardMessageToDeadLetterQueue",
    "Heartbeat",
    "NotifyClientTermination",
    "Telemetry",
    "EndTransaction",
    "PullMessage",
    "RecallMessage",
    "SyncLiteSubscription",
    "UpdateOffset",
    "GetOffset",
    "QueryOffset",
];

static PROXY: LazyLock<Mutex<Proxy>> = LazyLock::new(|| Mutex::new(Proxy::start(|_| {})));
/// A proxy with access control.
static GUARDED: LazyLock<Mutex<(Signer, Proxy)>> = LazyLock::new(|| {
    let signer = Signer::new();
    let mut proxy = Proxy::start(|config| signer.configure(config));
    assert!(proxy.accepts(&signer.valid()), "a valid token is refused");
    Mutex::new((signer, proxy))
});
static PANICKED: AtomicBool = AtomicBool::new(false);

struct Proxy {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
    classic: Classic,
    http: Http,
    _data: TempDir,
}

/// Sends what a classic client may send.
pub(crate) fn classic(input: &[u8]) {
    let mut proxy = PROXY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Proxy { runtime, classic, .. } = &mut *proxy;
    let ended = runtime.block_on(async { timeout(LONGEST, classic.exchange(input)).await });
    assert!(ended.is_ok(), "a classic request hangs");
    assert!(!PANICKED.load(Ordering::Relaxed), "the proxy panicked in a classic request");
}

/// Sends an HTTP request.
pub(crate) fn http(input: &[u8]) {
    let mut proxy = PROXY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Proxy { runtime, http, .. } = &mut *proxy;
    let ended = runtime.block_on(async { timeout(LONGEST, http.exchange(input)).await });
    assert!(ended.is_ok(), "an HTTP request hangs");
    assert!(!PANICKED.load(Ordering::Relaxed), "the proxy panicked in an HTTP request");
}

/// Sends credentials with a request that needs them.
pub(crate) fn authenticate(input: &[u8]) {
    let mut guarded = GUARDED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (signer, proxy) = &mut *guarded;
    let Some((credentials, is_forged)) = signer.credentials(input) else { return };
    let accepted = proxy.accepts(&credentials);
    assert!(!PANICKED.load(Ordering::Relaxed), "the proxy panicked in a request with credentials");
    assert!(!(accepted && is_forged), "forged credentials are accepted");
}

/// Calls the method that the first byte chooses with the rest as the request.
pub(crate) fn call(input: &[u8]) {
    let Some((choice, request)) = input.split_first() else { return };
    send(METHODS[usize::from(*choice) % METHODS.len()], request);
}

/// Settles under a handle. The first byte chooses the call, and whether the handle gets a seal.
pub(crate) fn settle(input: &[u8]) {
    let Some((choice, text)) = input.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    let handle = if choice & 4 == 0 { sealed(&text) } else { text.into_owned() };
    let resource = |name: &str| Some(pb::Resource { name: name.to_owned(), ..Default::default() });
    let (topic, group) = (resource("t"), resource("g"));
    match choice & 3 {
        0 => {
            let entry = pb::AckMessageEntry { receipt_handle: handle, ..Default::default() };
            send("AckMessage", &pb::AckMessageRequest { topic, group, entries: vec![entry] }.encode_to_vec());
        }
        1 => {
            let invisible_duration = Some(prost_types::Duration { seconds: 30, nanos: 0 });
            let receipt_handle = handle;
            let change = pb::ChangeInvisibleDurationRequest {
                topic,
                group,
                receipt_handle,
                invisible_duration,
                ..Default::default()
            };
            send("ChangeInvisibleDuration", &change.encode_to_vec());
        }
        _ => {
            let receipt_handle = handle;
            let forward = pb::ForwardMessageToDeadLetterQueueRequest {
                topic,
                group,
                receipt_handle,
                max_delivery_attempts: 1,
                ..Default::default()
            };
            send("ForwardMessageToDeadLetterQueue", &forward.encode_to_vec());
        }
    }
}

// A handle of topic `t` and group `g` that says this, sealed with the proxy's key.
fn sealed(text: &str) -> String {
    let mac = || Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).expect("HMAC takes any key");
    let scope = mac().chain_update(b"t\0g").finalize().into_bytes();
    let text = format!("{}.{text}", URL_SAFE_NO_PAD.encode(&scope[..SCOPE_BYTES]));
    let seal = mac().chain_update(text.as_bytes()).finalize().into_bytes();
    format!("1{}.{text}", URL_SAFE_NO_PAD.encode(&seal[..MAC_BYTES]))
}

fn send(method: &str, request: &[u8]) {
    // An earlier input that broke something has been reported.
    let proxy = PROXY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let answered =
        proxy.runtime.block_on(async { timeout(LONGEST, answer(&proxy.sender, method, &[], request)).await });
    assert!(answered.is_ok(), "{method} hangs");
    assert!(!PANICKED.load(Ordering::Relaxed), "the proxy panicked in {method}");
}

impl Proxy {
    fn start(change: impl FnOnce(&mut Config)) -> Self {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            PANICKED.store(true, Ordering::Relaxed);
            before(panic);
        }));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let data = tempfile::tempdir().expect("a folder");
        let (sender, address) = runtime.block_on(async {
            let mut config = Config { listen: "127.0.0.1:0".to_owned(), ..Config::default() };
            config.backend.embedded.data_dir = data.path().to_owned();
            config.backend.embedded.flush = Flush::Async;
            config.backend.embedded.auto_create_topics = false;
            config.backend.embedded.auto_create_groups = false;
            config.topics = vec![TopicSpec { name: "t".to_owned(), ..TopicSpec::default() }];
            config.remoting.enabled = true;
            config.groups = vec![GroupSpec::named("g")];
            config.handle_key = Some(KEY.to_owned());
            config.limits.min_polling = Duration::from_millis(1);
            config.limits.max_polling = Duration::from_millis(1);
            config.http.enabled = true;
            change(&mut config);
            let app = App::start(config).await.expect("a proxy");
            let address = app.address().expect("an address");
            tokio::spawn(app.run(std::future::pending()));
            let stream = TcpStream::connect(address).await.expect("a connection");
            let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
            tokio::spawn(connection);
            (sender, address)
        });
        let proxy =
            Self { runtime, sender, classic: Classic::new(address), http: Http::new(address), _data: data };
        let topic = Some(pb::Resource { name: "t".to_owned(), ..Default::default() });
        let system_properties =
            Some(pb::SystemProperties { message_id: "m".to_owned(), ..Default::default() });
        let message = pb::Message { topic, system_properties, body: "body".into(), ..Default::default() };
        let first = pb::SendMessageRequest { messages: vec![message] };
        proxy.runtime.block_on(answer(&proxy.sender, "SendMessage", &[], &first.encode_to_vec()));
        proxy
    }

    /// Whether a request that needs credentials is answered with these.
    fn accepts(&mut self, credentials: &Credentials) -> bool {
        let Self { runtime, sender, classic, http, .. } = self;
        let attempt = async {
            match credentials {
                Credentials::Grpc(headers) => {
                    let topic = Some(pb::Resource { name: "t".to_owned(), ..Default::default() });
                    let query = pb::QueryRouteRequest { topic, ..Default::default() }.encode_to_vec();
                    let answer = answer(sender, "QueryRoute", headers, &query).await;
                    let answer =
                        answer.get(5..).and_then(|answer| pb::QueryRouteResponse::decode(answer).ok());
                    let status = answer.and_then(|answer| answer.status);
                    status.is_some_and(|status| status.code() == pb::Code::Ok)
                }
                Credentials::Http(authorization) => {
                    let Ok(authorization) = HeaderValue::from_bytes(authorization) else { return false };
                    let list = Request::get("/v1/topics").header("authorization", authorization);
                    let list = list.body(Bytes::new().into()).expect("a request");
                    http.send(list).await == Some(StatusCode::OK)
                }
                Credentials::Classic(fields) => classic.lists_topics(fields).await,
            }
        };
        runtime.block_on(async { timeout(LONGEST, attempt).await }).expect("an answer in time")
    }
}

/// Sends one request with these headers, and reads its answer, whatever it is.
async fn answer(
    sender: &SendRequest<Bytes>,
    method: &str,
    headers: &[(&str, Vec<u8>)],
    message: &[u8],
) -> Vec<u8> {
    let path = format!("http://proxy/apache.rocketmq.v2.MessagingService/{method}");
    let mut request = Request::post(path).header("content-type", "application/grpc");
    request = request.header("x-mq-client-id", "fuzz").header("x-mq-client-version", "5.0.7");
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            request = request.header(*name, value);
        }
    }
    let request = request.body(()).expect("a request");
    let mut sender = sender.clone().ready().await.expect("the connection lasts");
    let (answer, mut body) = sender.send_request(request, false).expect("the connection lasts");
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    // The call may be over before all is sent.
    let _ = body.send_data([&[0][..], &length, message].concat().into(), true);
    let mut read = Vec::new();
    let Ok(answer) = answer.await else { return read };
    let mut answer = answer.into_body();
    while let Some(Ok(data)) = answer.data().await {
        let _ = answer.flow_control().release_capacity(data.len());
        read.extend_from_slice(&data);
    }
    read
}
